//! Reads the reply of a language model: a script in a fenced block or edits of the parent's, and two lines of reasoning.
//!
//! Pure. Never here: running the script.

use spore_base::script_text;
use spore_protocol::artifact;

use super::{
    reasoning,
    reply::{Answer, Finish},
};

/// Most bytes of a script: what the language takes.
const MAX_SCRIPT_BYTES: usize = artifact::starlark::FORMAT.max_bytes;
/// Most characters of a description.
const MAX_DESCRIPTION: usize = 300;
/// Most characters of a hypothesis.
const MAX_HYPOTHESIS: usize = 1000;
/// Signs of the shortest fence.
const FENCE: usize = 3;
/// The lines around the two parts of an edit.
const SEARCH: &str = "<<<<<<< SEARCH";
const DIVIDER: &str = "=======";
const REPLACE: &str = ">>>>>>> REPLACE";
/// Most edits of one answer: more are a new script.
const MAX_EDITS: usize = 32;

/// The content of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptReply {
    pub script: String,
    pub description: String,
    pub hypothesis: String,
}

/// Reads an answer. One that was cut off holds no script, even where what is left of it could be run: its description
/// is of another script.
///
/// `parent` is the script that edits change.
///
/// # Errors
/// What is missing, in words for the language model.
pub fn of(answer: &Answer, parent: &str) -> Result<ScriptReply, String> {
    match answer.finish {
        Finish::Whole => read(&answer.text, parent),
        Finish::Cut => Err(cut_off(answer.usage.answer)),
        Finish::Withheld => Err("your answer was withheld: answer with the script alone".into()),
    }
}

fn cut_off(tokens: Option<u64>) -> String {
    let after = tokens.map(|tokens| format!(" after {tokens} tokens")).unwrap_or_default();
    format!("your answer was cut off{after}: reason less, and give the whole script in one ``` block")
}

/// Reads a reply: edits of the parent's script, or, of the fenced blocks after the reasoning, the last one that calls
/// `train`.
///
/// # Errors
/// What is missing, in words for the language model.
pub fn read(reply: &str, parent: &str) -> Result<ScriptReply, String> {
    let visible = reasoning::without(reply);
    if reasoning::is_unfinished(reply) {
        return Err("your answer holds nothing but reasoning: give the whole script in one ``` block after it".into());
    }
    let visible = script_text::normal(&visible).text;
    let (edits, rest) = edits(&visible)?;
    let (blocks, prose) = blocks(&rest);
    let script = if edits.is_empty() {
        if blocks.is_empty() {
            return Err("your answer holds no script: give the whole script in one ``` block".into());
        }
        let called = blocks.into_iter().rfind(|block| declares(block));
        called.ok_or("no block of your answer calls train(...): give the whole script in one ``` block")?
    } else {
        edited(parent, &edits)?
    };
    if script.len() > MAX_SCRIPT_BYTES {
        return Err(format!("the script is {} bytes long; at most {MAX_SCRIPT_BYTES} are allowed", script.len()));
    }
    let labelled = |label: &str, most: usize| {
        let text = prose.iter().find_map(|line| after_label(line, label)).unwrap_or_default();
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

/// The edits of a reply, old lines and new ones, and the reply without them.
fn edits(text: &str) -> Result<(Vec<(String, String)>, String), String> {
    let (mut edits, mut rest) = (Vec::new(), String::new());
    // The parts of the edit that is open.
    let mut open: Option<(String, Option<String>)> = None;
    for line in text.lines() {
        open = match (open, line.trim_end()) {
            (None, SEARCH) => Some((String::new(), None)),
            (None, _) => {
                rest.push_str(line);
                rest.push('\n');
                None
            }
            (Some((old, None)), DIVIDER) => Some((old, Some(String::new()))),
            (Some((old, Some(new))), REPLACE) => {
                edits.push((old, new));
                None
            }
            (Some((mut old, mut new)), _) => {
                let part = new.as_mut().unwrap_or(&mut old);
                part.push_str(line);
                part.push('\n');
                Some((old, new))
            }
        };
    }
    if open.is_some() {
        return Err(format!("an edit of your answer is not closed: end it with a line {REPLACE}"));
    }
    if edits.len() > MAX_EDITS {
        return Err(format!("your answer has more than {MAX_EDITS} edits: give the whole script in one ``` block"));
    }
    Ok((edits, rest))
}

/// The parent's script after the edits, one after the other.
fn edited(parent: &str, edits: &[(String, String)]) -> Result<String, String> {
    let mut script = script_text::normal(parent).text.into_owned();
    for (old, new) in edits {
        let shown = one_line(old, 80);
        match script.matches(old.as_str()).count() {
            _ if old.trim().is_empty() => return Err("an edit searches for nothing: give the old lines".into()),
            1 => script = script.replacen(old.as_str(), new, 1),
            0 => return Err(format!("the lines \"{shown}\" are not in the script: copy them exactly")),
            times => {
                return Err(format!(
                    "the lines \"{shown}\" are in the script {times} times: give more lines around them"
                ));
            }
        }
    }
    Ok(script_text::normal(&script).text.into_owned())
}

/// The text as one line of at most `most` characters, without control characters.
pub fn one_line(text: &str, most: usize) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(most).collect()
}

/// The fenced blocks that are not empty, and the lines outside of them. A block that is not closed ends with the text,
/// or with the next fence that names a language. Each is a script's text in the normal form.
fn blocks(text: &str) -> (Vec<String>, Vec<&str>) {
    let (mut blocks, mut prose) = (Vec::new(), Vec::new());
    let mut open: Option<(Fence<'_>, String)> = None;
    for line in text.lines() {
        open = match (open, fence(line)) {
            (None, Some(fence)) => Some((fence, String::new())),
            (None, None) => {
                prose.push(line);
                None
            }
            (Some((begun, block)), Some(fence)) if fence.closes(&begun) => {
                blocks.push(block);
                None
            }
            // The model forgot to close the block before.
            (Some((begun, block)), Some(fence)) if fence.sign == begun.sign && !fence.language.is_empty() => {
                blocks.push(block);
                Some((fence, String::new()))
            }
            (Some((begun, mut block)), _) => {
                block.push_str(line);
                block.push('\n');
                Some((begun, block))
            }
        };
    }
    blocks.extend(open.map(|(_, block)| block));
    blocks.retain(|block| !block.trim().is_empty());
    let normal = |block: String| script_text::normal(&block).text.into_owned();
    (blocks.into_iter().map(normal).collect(), prose)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence<'a> {
    sign: char,
    length: usize,
    /// What follows the signs, such as `python`.
    language: &'a str,
}

impl Fence<'_> {
    fn closes(&self, begun: &Fence<'_>) -> bool {
        self.sign == begun.sign && self.length >= begun.length && self.language.is_empty()
    }
}

/// The fence that a line is, if it is one: three or more backticks or tildes.
fn fence(line: &str) -> Option<Fence<'_>> {
    let bare = line.trim_start();
    let sign = bare.chars().next().filter(|sign| matches!(sign, '`' | '~'))?;
    let rest = bare.trim_start_matches(sign);
    let length = bare.len() - rest.len();
    (length >= FENCE && !rest.contains(sign)).then_some(Fence { sign, length, language: rest.trim() })
}

/// Whether a line of the block calls `train`. A comment does not.
fn declares(block: &str) -> bool {
    block.lines().any(|line| {
        let code = line.split('#').next().unwrap_or_default();
        code.match_indices("train").any(|(at, word)| {
            let before = code.get(..at).unwrap_or_default().chars().next_back();
            let after = code.get(at + word.len()..).unwrap_or_default().trim_start();
            after.starts_with('(') && !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
        })
    })
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

    fn read(reply: &str) -> Result<ScriptReply, String> {
        super::read(reply, "")
    }

    fn script(reply: &str) -> String {
        read(reply).unwrap().script
    }

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
        assert_eq!(script("```star\ntrain(1)"), "train(1)\n");
        assert_eq!(script("```\nx = 1\n```python\ntrain(1)\n```"), "train(1)\n");
    }

    #[test]
    fn missing_parts_are_reported_or_filled_in() {
        assert!(read("I cannot help with that.").unwrap_err().contains("holds no script"));
        assert!(read("```\n\n```").is_err());
        assert!(read("```\nx = 1\n```").unwrap_err().contains("calls train"));
        assert!(read(&format!("```\ntrain()\n{}\n```", "#".repeat(70_000))).unwrap_err().contains("65536"));
        assert_eq!(read("HYPOTHESIS: a\n```\ntrain()\n```").unwrap().description, "a");
        assert_eq!(read("```\ntrain()\n```").unwrap().description, "a change without a description");
    }

    #[test]
    fn script_in_reasoning_is_never_the_answer() {
        let wrong = format!("```\n{}train(wrong)\n```", "x = 1\n".repeat(50));
        let right = "Description: right\n```\ntrain(right)\n```";
        for reasoning in ["<think>\nDescription: wrong\nHERE\n</think>\n", "<thought>HERE</thought>", "HERE</think>"] {
            let reply = reasoning.replace("HERE", &wrong) + right;
            let answer = read(&reply).unwrap();
            assert_eq!((answer.script.as_str(), answer.description.as_str()), ("train(right)\n", "right"), "{reply}");
        }
        let open_fence = format!("<think>\n```\nan open fence\n</think>\n{right}");
        assert_eq!(script(&open_fence), "train(right)\n");
        assert!(read(&format!("<think>\n{wrong}")).unwrap_err().contains("nothing but reasoning"));
    }

    #[test]
    fn edits_change_the_lines_that_stand_once_in_the_parent() {
        let parent = "a = 1\nb = 2\nb = 2\ntrain(a)\n";
        let edit = |old: &str, new: &str| {
            super::read(&format!("DESCRIPTION: d\n```\n{SEARCH}\n{old}\n{DIVIDER}\n{new}\n{REPLACE}\n```\n"), parent)
        };
        let reply = edit("a = 1", "a = 3\nc = 4").unwrap();
        assert_eq!(
            (reply.script.as_str(), reply.description.as_str()),
            ("a = 3\nc = 4\nb = 2\nb = 2\ntrain(a)\n", "d")
        );
        for (old, told) in [("b = 2", "2 times"), ("x = 1", "not in the script"), (" ", "searches for nothing")] {
            let error = edit(old, "z").unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let open = format!("{SEARCH}\na = 1\n{DIVIDER}\n");
        assert!(super::read(&open, parent).unwrap_err().contains("not closed"));
        let many = format!("{SEARCH}\na = 1\n{DIVIDER}\na = 2\n{REPLACE}\n").repeat(MAX_EDITS + 1);
        assert!(super::read(&many, parent).unwrap_err().contains("edits"));
    }

    #[test]
    fn last_block_that_calls_train_is_the_script() {
        let reply = "```\ntrain(1)\n```\n```\ntrain(2)\n```\n```\n# train(3)\nretrain(4)\nx.train(5)\n```";
        assert_eq!(script(reply), "train(2)\n");
        assert_eq!(
            script("~~~~\ntrain (\n  1)\n~~~\n~~~~"),
            "train (\n  1)\n~~~\n",
            "a longer fence holds a shorter one"
        );
    }

    #[test]
    fn script_has_line_feeds_and_no_byte_order_mark() {
        assert_eq!(script("```\r\n\u{feff}x = 1\r\ntrain(x)\r\n```\r\n"), "x = 1\ntrain(x)\n");
    }

    #[test]
    fn texts_become_one_bounded_line() {
        assert_eq!(one_line("a\u{1b}[31m\tb\r\n c", 100), "a [31m b c");
        assert_eq!(one_line(&"ä".repeat(10), 3), "äää");
    }
}
