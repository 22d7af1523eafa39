//! Reads a script's text without parsing it, for two purposes: to bound the parser's recursion
//! before it runs, and to find the default of a `tune()` call in the text.
//!
//! Both work on a mask of the text, in which the bytes of strings and comments are replaced, so that
//! brackets and commas inside them do not count.

use std::ops::Range;

use super::error::ScriptError;
use super::limits::{BRACKET_DEPTH, ELIF_BRANCHES, STATEMENT_TOKENS};

/// Replaces every byte of a string literal in a mask.
const STRING: u8 = b'"';

/// The script, with each byte of a string literal replaced by `"` and each byte of a comment by a
/// blank. Newlines outside triple-quoted strings stay. As long as the script.
fn mask(script: &str) -> Vec<u8> {
    let bytes = script.as_bytes();
    let mut masked = bytes.to_vec();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let end = match byte {
            b'#' => comment_end(bytes, at),
            b'"' | b'\'' => string_end(bytes, at, *byte),
            _ => {
                at += 1;
                continue;
            }
        };
        let blot = if *byte == b'#' { b' ' } else { STRING };
        masked.iter_mut().take(end).skip(at).for_each(|out| *out = blot);
        at = end;
    }
    masked
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    bytes.iter().skip(start).position(|byte| *byte == b'\n').map_or(bytes.len(), |n| start + n)
}

/// The place after the closing quote. An unclosed string ends with its line, or with the text if it
/// has triple quotes.
fn string_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let triple = bytes.get(start + 1) == Some(&quote) && bytes.get(start + 2) == Some(&quote);
    let raw = start.checked_sub(1).and_then(|i| bytes.get(i)).is_some_and(|byte| matches!(byte, b'r' | b'R'));
    let mut at = start + if triple { 3 } else { 1 };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if !raw || bytes.get(at + 1) == Some(&quote) => at += 1,
            b'\n' if !triple => return at,
            byte if *byte == quote && !triple => return at + 1,
            byte if *byte == quote && bytes.get(at + 1) == Some(&quote) && bytes.get(at + 2) == Some(&quote) => {
                return at + 3;
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Refuses text whose nesting could exhaust the parser's stack.
pub(super) fn guard(script: &str) -> Result<(), ScriptError> {
    let masked = mask(script);
    let (mut line, mut depth, mut tokens, mut elifs) = (1_u32, 0_usize, 0_usize, 0_usize);
    let (mut previous, mut word) = (b'\n', Vec::new());
    for byte in masked.iter().copied().chain([b'\n']) {
        let in_word = byte.is_ascii_alphanumeric() || byte == b'_' || byte == STRING || byte >= 0x80;
        if in_word {
            if word.is_empty() {
                tokens += 1;
            }
            // Only `elif` matters, so the end of a longer word need not be kept.
            if word.len() < 8 {
                word.push(byte);
            }
        } else {
            elifs += usize::from(word == b"elif");
            word.clear();
        }
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'\n' if depth == 0 && previous != b'\\' => tokens = 0,
            _ => {}
        }
        tokens += usize::from(!in_word && !byte.is_ascii_whitespace());
        let refuse = |message: String| Err(ScriptError::At { line, message });
        if depth > BRACKET_DEPTH {
            return refuse(format!(
                "more than {BRACKET_DEPTH} brackets inside one another: use variables for the parts"
            ));
        }
        if tokens > STATEMENT_TOKENS {
            return refuse(format!("a statement of more than {STATEMENT_TOKENS} words and signs: split it up"));
        }
        if elifs > ELIF_BRANCHES {
            return refuse(format!("more than {ELIF_BRANCHES} elif branches: use a dict"));
        }
        line = line.saturating_add(u32::from(byte == b'\n'));
        previous = byte;
    }
    Ok(())
}

/// The byte range of the default in a `tune(name, default, ...)` call, if the default is a literal.
/// `call` is the byte range of the whole call.
pub(super) fn default_literal(script: &str, call: Range<usize>) -> Option<Range<usize>> {
    let masked = mask(script);
    let code = masked.get(call.clone())?;
    let open = code.iter().position(|byte| *byte == b'(')?;
    let (mut depth, mut start, mut position) = (0_usize, open + 1, 0_usize);
    for (at, byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        let ends = depth == 0 || (depth == 1 && *byte == b',');
        if !ends {
            continue;
        }
        let argument = trimmed(script, call.start + start..call.start + at)?;
        let value = match keyword(script, &argument) {
            Some(("default", value)) => Some(value),
            Some(_) => None,
            None => (position == 1).then_some(argument),
        };
        if let Some(value) = value {
            return is_literal(script.get(value.clone())?).then_some(value);
        }
        if depth == 0 {
            return None;
        }
        (start, position) = (at + 1, position + 1);
    }
    None
}

fn trimmed(script: &str, range: Range<usize>) -> Option<Range<usize>> {
    let text = script.get(range.clone())?;
    let start = range.start + (text.len() - text.trim_start().len());
    Some(start..start + text.trim().len())
}

/// The name, and the value's byte range in the script, of an argument `name = value`.
fn keyword<'s>(script: &'s str, argument: &Range<usize>) -> Option<(&'s str, Range<usize>)> {
    let text = script.get(argument.clone())?;
    let (name, _) = text.split_once('=')?;
    let name = name.trim_end();
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let value = argument.start + text.find('=')? + 1..argument.end;
    is_name.then_some((name, trimmed(script, value)?))
}

/// Whether the text is a number with an optional sign, one string in plain quotes, True or False.
fn is_literal(text: &str) -> bool {
    if matches!(text, "True" | "False") {
        return true;
    }
    let quoted = |quote: u8| {
        let bytes = text.as_bytes();
        !text.starts_with("\"\"\"")
            && !text.starts_with("'''")
            && bytes.first() == Some(&quote)
            && bytes.len() >= 2
            && string_end(bytes, 0, quote) == bytes.len()
    };
    if quoted(b'"') || quoted(b'\'') {
        return true;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(script: &str) -> Option<&str> {
        default_literal(script, 0..script.len()).map(|range| &script[range])
    }

    #[test]
    fn mask_hides_strings_and_comments() {
        let script = "a = '(#' # [\nb = \"\"\"\n)\n\"\"\" + r'\\'";
        let masked = mask(script);
        assert_eq!(masked.len(), script.len());
        assert!(!masked.iter().any(|byte| b"([)#".contains(byte)));
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        let script = format!("x = '{}'\n", "(".repeat(500));
        guard(&script).unwrap();
        assert!(guard(&"(".repeat(65)).unwrap_err().to_string().starts_with("line 1: more than 64 brackets"));
    }

    #[test]
    fn long_statements_are_refused_and_long_scripts_are_not() {
        guard(&"x = 1 + 2\n".repeat(5_000)).unwrap();
        let error = guard(&format!("y = 1\nx = 1{}", " + 1".repeat(2_000))).unwrap_err();
        assert_eq!(error.to_string(), "line 2: a statement of more than 2000 words and signs: split it up");
        let continued = format!("x = 1{}", " + \\\n1".repeat(2_000));
        assert!(guard(&continued).is_err());
        let ladder = format!("if a:\n  b()\n{}", "elif a:\n  b()\n".repeat(201));
        assert!(guard(&ladder).unwrap_err().to_string().contains("use a dict"));
    }

    #[test]
    fn default_is_found_by_position_or_name() {
        assert_eq!(literal("tune('lr', 3e-3, min=1e-4, max=1)"), Some("3e-3"));
        assert_eq!(literal("tune(\"a,b\", default = -2 ,choices=[-2, 4])"), Some("-2"));
        assert_eq!(literal("tune('act', 'relu', choices=['relu', 'gelu'])"), Some("'relu'"));
        assert_eq!(
            literal("tune('x',\n  # the default, (really)\n  True)"),
            None,
            "a comment inside the argument is not a literal"
        );
        assert_eq!(literal("tune(name='x', min=0, default=.5)"), Some(".5"));
        assert_eq!(literal("tune('x', 2 * 3)"), None);
        assert_eq!(literal("tune('x', inf)"), None);
        assert_eq!(literal("tune('x', 'a' + 'b')"), None);
        assert_eq!(literal("tune('x')"), None);
    }
}
