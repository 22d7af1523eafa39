//! Leaves out the reasoning that some models write into their answer, between tags such as `<think>` and `</think>`.
//!
//! Pure. Reasoning quotes scripts that the model has given up, so nothing in it is the answer.

/// The names of tags around reasoning. With angle or square brackets, in any case.
const TAGS: [&str; 9] =
    ["think", "thinking", "thought", "thoughts", "reasoning", "reason", "reflection", "analysis", "scratchpad"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    opens: bool,
    /// Where the tag begins and ends, in bytes.
    start: usize,
    end: usize,
}

/// Most tags of one text. More than that is no reasoning, and looking at each costs time.
const MOST_TAGS: usize = 1000;
/// Most bytes between the brackets of a tag.
const MOST_TAG_BYTES: usize = 24;

/// The text without its reasoning.
///
/// Reasoning may be nested, and either tag may be missing: without the first, everything before the last closing tag is
/// reasoning, because some servers put the opening one into the question; without the last, everything to the end is.
/// A tag in backticks, or in a fenced block outside reasoning, is a quotation.
pub fn without(text: &str) -> String {
    let (mut kept, mut depth, mut from) = (String::new(), 0_usize, 0);
    let mut after_last_close = None;
    for tag in tags(text).take(MOST_TAGS) {
        if tag.opens {
            let before = text.get(from..tag.start).unwrap_or_default();
            if depth == 0 && is_in_fence(before) {
                continue;
            }
            if depth == 0 {
                kept.push_str(before);
            }
            depth += 1;
            after_last_close = None;
        } else {
            if depth == 0 {
                // Its opening tag was in the question, and an open fence before it does not matter.
                kept.clear();
            }
            depth = depth.saturating_sub(1);
            from = tag.end;
            after_last_close = Some(tag.end);
        }
    }
    match (depth, after_last_close) {
        (0, _) => kept.push_str(text.get(from..).unwrap_or_default()),
        // More tags open than close, and the last one closes: what follows it is meant for the reader.
        (_, Some(end)) => text.get(end..).unwrap_or_default().clone_into(&mut kept),
        // The reasoning never ends.
        (_, None) => {}
    }
    kept
}

/// Whether the text ends within reasoning.
pub fn is_unfinished(text: &str) -> bool {
    without(text).trim().is_empty() && !text.trim().is_empty()
}

/// The tags of a text that are not quoted, in their order. A quoted one has a backtick on both sides: one alone may be
/// the end of a fence.
fn tags(text: &str) -> impl Iterator<Item = Tag> {
    let brackets = text.match_indices(['<', '[']).map(|(start, _)| start);
    let ends = |part: Option<&str>| part.is_some_and(|part| part.ends_with('`'));
    let begins = |part: Option<&str>| part.is_some_and(|part| part.starts_with('`'));
    let quoted = move |tag: &Tag| ends(text.get(..tag.start)) && begins(text.get(tag.end..));
    brackets.filter_map(|start| tag_at(text, start)).filter(move |tag| !quoted(tag))
}

/// Whether a text ends within a fenced block.
fn is_in_fence(text: &str) -> bool {
    text.lines().filter(|line| line.trim_start().starts_with("```")).count() % 2 == 1
}

fn tag_at(text: &str, start: usize) -> Option<Tag> {
    let rest = text.get(start..)?;
    let close = if rest.starts_with('<') { b'>' } else { b']' };
    let inner = rest.get(1..)?;
    let (opens, name) = inner.strip_prefix('/').map_or((true, inner), |name| (false, name));
    let length = name.bytes().take(MOST_TAG_BYTES).position(|byte| byte == close)?;
    let word = name.get(..length)?.trim();
    // Square brackets are a tag only in capitals, as `[THINK]`: lists and indexes are written with them.
    let known = TAGS.iter().any(|tag| match close {
        b'>' => word.eq_ignore_ascii_case(tag),
        _ => word.chars().all(|c| c.is_ascii_uppercase()) && word.eq_ignore_ascii_case(tag),
    });
    let slash = usize::from(!opens);
    known.then_some(Tag { opens, start, end: start + 1 + slash + length + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_between_tags_is_left_out() {
        for (text, kept) in [
            ("a", "a"),
            ("<think>x</think>a", "a"),
            ("<Thought>x</thought >a", "a"),
            ("[THINK]x[/THINK]a", "a"),
            ("a<think>x</think>b<thinking>y</thinking>c", "abc"),
            ("<think>x<think>y</think>z</think>a", "a"),
            ("list[think] and a < b > c", "list[think] and a < b > c"),
        ] {
            assert_eq!(without(text), kept, "{text}");
        }
    }

    #[test]
    fn missing_tag_is_made_up_for() {
        assert_eq!(without("x</think>a"), "a", "the opening tag was in the question");
        assert_eq!(without("```\nx\n</think>a"), "a", "an open fence in it");
        assert_eq!(without("a<think>x"), "a");
        assert_eq!(without("<think>x<think>y</think>a"), "a", "one of two is closed");
        assert_eq!(without("<think>x</think>a<think>y"), "a");
        assert!(is_unfinished("<think>x\n```\ny\n```") && !is_unfinished("<think>x</think>a") && !is_unfinished(" "));
    }

    #[test]
    fn fence_within_reasoning_does_not_count_outside() {
        let text = "<think>\n```\nopen\n</think>\n```\nscript\n```\n";
        assert_eq!(without(text), "\n```\nscript\n```\n");
    }

    #[test]
    fn quoted_tag_is_no_tag() {
        for text in ["say `<think>` first", "```\n# <think>\ntrain()\n```\nb", "`</think>`"] {
            assert_eq!(without(text), text);
        }
        assert_eq!(without("<think>close with `</think>` later</think>a"), "a");
    }
}
