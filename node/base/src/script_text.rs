//! The text of a script as editors on different systems write it, in one form: UTF-8, no byte-order mark, and lines that
//! end with a line feed.
//!
//! Two files that differ only in these would be two artifacts, with a diff of every line. Never here: the language of a
//! script.

use std::borrow::Cow;

/// The byte-order mark, which some editors write at the beginning of UTF-8.
const BOM: char = '\u{feff}';

/// A script's text in the normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normal<'a> {
    pub text: Cow<'a, str>,
    /// What was changed, in words for people. None when the text was in the normal form.
    pub note: Option<&'static str>,
}

/// Why bytes are no script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoText {
    #[error("the script is UTF-16 text, which begins with a byte-order mark; a script is UTF-8 text")]
    Utf16,
    #[error("the script is not UTF-8 text: byte {at} begins no character")]
    Other { at: usize },
}

/// The text of a file with a script, before it is brought into the normal form.
///
/// # Errors
/// [`NoText`] when the bytes are not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<&str, NoText> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(NoText::Utf16);
    }
    std::str::from_utf8(bytes).map_err(|error| NoText::Other { at: error.valid_up_to() })
}

/// The normal form of a script.
pub fn normal(text: &str) -> Normal<'_> {
    let bare = text.strip_prefix(BOM).unwrap_or(text);
    let (marked, returns) = (bare.len() < text.len(), bare.contains('\r'));
    let note = match (marked, returns) {
        (false, false) => None,
        (true, false) => Some("the script's byte-order mark was removed"),
        (false, true) => Some("the script's line ends were made line feeds"),
        (true, true) => Some("the script's byte-order mark was removed, and its line ends were made line feeds"),
    };
    let text = if returns { bare.replace("\r\n", "\n").replace('\r', "\n").into() } else { bare.into() };
    Normal { text, note }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_the_normal_form_stays_as_it_is_without_a_note() {
        for text in ["", "a = 1\n", "a\nb", "\u{fffe}"] {
            assert_eq!(normal(text), Normal { text: text.into(), note: None });
        }
    }

    #[test]
    fn line_ends_and_the_mark_are_normalised_with_a_note() {
        for (text, expected, word) in [
            ("a\r\nb\r\n", "a\nb\n", "line ends"),
            ("a\rb\r\r\n", "a\nb\n\n", "line ends"),
            ("\u{feff}a\n", "a\n", "mark"),
            ("\u{feff}a\r\n", "a\n", "mark"),
        ] {
            let found = normal(text);
            assert_eq!(found.text, expected, "{text:?}");
            assert!(found.note.unwrap().contains(word), "{text:?}");
            assert_eq!(normal(&found.text).note, None, "once is enough");
        }
    }

    #[test]
    fn bytes_in_another_encoding_are_refused_with_its_name() {
        assert_eq!(decode(b"\xff\xfea\0"), Err(NoText::Utf16));
        assert_eq!(decode(b"\xfe\xff\0a"), Err(NoText::Utf16));
        assert_eq!(decode(b"a = \xe4"), Err(NoText::Other { at: 4 }));
        assert_eq!(decode("ä".as_bytes()), Ok("ä"));
    }
}
