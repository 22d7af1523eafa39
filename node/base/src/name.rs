//! Names that people give: of tasks, datasets and nodes. A name must look like what it is.
//!
//! Two names that differ in a character that nobody sees look alike, and a line end in a name breaks a table. So such
//! characters are refused in our own names, and marked in those of others.

/// Stands for a character that a terminal or a page does not show.
pub const MARK: char = '\u{fffd}';

/// Why a text is no good name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    #[error("it is empty")]
    Empty,
    #[error("it holds the invisible character U+{0:04X}")]
    Invisible(u32),
    #[error("it begins or ends with a blank")]
    Blank,
}

/// Checks a name that somebody gives here.
///
/// # Errors
/// What is wrong with the name.
pub fn check(name: &str) -> Result<(), NameFault> {
    if name.trim().is_empty() {
        return Err(NameFault::Empty);
    }
    if let Some(c) = name.chars().find(|c| is_invisible(*c)) {
        return Err(NameFault::Invisible(c.into()));
    }
    if name.trim() == name { Ok(()) } else { Err(NameFault::Blank) }
}

/// The name of an untrusted publisher on one line, with a mark for each character that cannot be seen.
pub fn marked(name: &str) -> String {
    name.chars().map(|c| if is_invisible(c) { MARK } else { c }).collect()
}

/// Whether a character has no shape of its own: controls and line ends, marks of direction, joiners, fillers, tags, and
/// blanks other than the usual one.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_characters_that_nobody_sees_are_refused() {
        for good in ["tiny-gpt", "Größe 12", "名前", "a b", "r\u{e9}sum\u{e9}"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, fault) in [
            ("", NameFault::Empty),
            (" ", NameFault::Empty),
            ("tiny-gpt\u{200b}", NameFault::Invisible(0x200b)),
            ("tiny\ngpt", NameFault::Invisible(0xa)),
            ("tiny\u{a0}gpt", NameFault::Invisible(0xa0)),
            ("\u{202e}tpg", NameFault::Invisible(0x202e)),
            ("tiny-gpt ", NameFault::Blank),
        ] {
            assert_eq!(check(bad), Err(fault), "{bad:?}");
        }
    }

    #[test]
    fn invisible_characters_of_others_are_marked() {
        assert_eq!(marked("tiny-gpt\u{200b}\n"), "tiny-gpt\u{fffd}\u{fffd}");
        assert_eq!(marked("tiny gpt"), "tiny gpt");
    }
}
