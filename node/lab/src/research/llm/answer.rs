//! Reads the reply of a language model: a script in a fenced block, and two lines of reasoning.
//!
//! Pure. Never here: running the script.

use spore_protocol::artifact;

/// Most bytes of a script: what the language takes.
const MAX_SCRIPT_BYTES: usize = artifact::starlark::FORMAT.max_bytes;
/// Most characters of a description.
const MAX_DESCRIPTION: usize = 300;
/// Most characters of a hypothesis.
const MAX_HYPOTHESIS: usize = 1000;

/// The content of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptReply {
    pub script: String,
    pub description: String,
    pub hypothesis: String,
}

/// Reads a reply.
///
/// # Errors
/// What is missing, in words for the language model.
pub fn read(reply: &str) -> Result<ScriptReply, String> {
    let script = longest_block(reply).ok_or("your answer holds no script: give the whole script in one ``` block")?;
    if script.len() > MAX_SCRIPT_BYTES {
        return Err(format!("the script is {} bytes long; at most {MAX_SCRIPT_BYTES} are allowed", script.len()));
    }
    let labelled = |label: &str, most: usize| {
        let text = reply.lines().find_map(|line| after_label(line, label)).unwrap_or_default();
        one_line(text, most)
    };
    let hypothesis = labelled("hypothesis", MAX_HYPOTHESIS);
    let mut description = labelled("description", MAX_DESCRIPTION);
    if description.is_empty() {
        description = one_line(
            if hypothesis.is_empty() { "a change without a description" } else { &hypothesis },
            MAX_DESCRIPTION,
        );
    }
    Ok(ScriptReply { script, description, hypothesis })
}

/// The text as one line of at most `most` characters, without control characters.
pub fn one_line(text: &str, most: usize) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(most).collect()
}

/// The longest fenced block. A block that is not closed ends with the text.
fn longest_block(reply: &str) -> Option<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open: Option<String> = None;
    for line in reply.lines() {
        let fence = line.trim_start().starts_with("```");
        match (&mut open, fence) {
            (None, true) => open = Some(String::new()),
            (None, false) => {}
            (Some(_), true) => blocks.extend(open.take()),
            (Some(block), false) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    blocks.extend(open);
    blocks.into_iter().filter(|block| !block.trim().is_empty()).max_by_key(String::len)
}

/// The text after `LABEL:` at the beginning of a line. Case and markup are ignored.
fn after_label<'a>(line: &'a str, label: &str) -> Option<&'a str> {
    let bare = line.trim_start_matches(|c: char| c.is_whitespace() || "*#-_>".contains(c));
    let head = bare.get(..label.len())?;
    let rest = bare.get(label.len()..)?.trim_start_matches('*');
    head.eq_ignore_ascii_case(label).then(|| rest.strip_prefix(':'))?.map(|text| text.trim_start_matches('*').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_and_reasons_are_found_in_a_chatty_reply() {
        let reply = "Sure!\n**Hypothesis:** wider is better,\n- description: width 64 -> 96\nA snippet:\n```\nx = 1\n```\nAll of it:\n```python\nwidth = 96\ntrain(width)\n```\nGood luck.";
        let answer = read(reply).unwrap();
        assert_eq!(answer.script, "width = 96\ntrain(width)\n");
        assert_eq!(answer.hypothesis, "wider is better,");
        assert_eq!(answer.description, "width 64 -> 96");
    }

    #[test]
    fn unclosed_block_still_counts() {
        assert_eq!(read("```star\ntrain(1)").unwrap().script, "train(1)\n");
    }

    #[test]
    fn missing_parts_are_reported_or_filled_in() {
        assert!(read("I cannot help with that.").unwrap_err().contains("holds no script"));
        assert!(read("```\n\n```").is_err());
        assert!(read(&format!("```\n{}\n```", "#".repeat(70_000))).unwrap_err().contains("65536"));
        assert_eq!(read("HYPOTHESIS: a\n```\nx\n```").unwrap().description, "a");
        assert_eq!(read("```\nx\n```").unwrap().description, "a change without a description");
    }

    #[test]
    fn texts_become_one_bounded_line() {
        assert_eq!(one_line("a\u{1b}[31m\tb\r\n c", 100), "a [31m b c");
        assert_eq!(one_line(&"ä".repeat(10), 3), "äää");
    }
}
