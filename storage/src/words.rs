//! The words by which records are found.
//!
//! A word is a run of letters and digits (of any script), in lower case, cut to [`MAX_WORD`] bytes.
//! The first [`MAX_WORDS`] different words of a record's description and hypothesis are indexed.

use std::borrow::Cow;

/// Most different words of a record that are indexed: a few sentences. Otherwise a record of words only would need
/// more index than text.
pub const MAX_WORDS: usize = 32;
/// Most bytes of a word. Longer ones are mostly hashes and random text.
const MAX_WORD: usize = 24;

/// The words of a text, each as often as it occurs.
pub fn words(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(lower)
}

/// Most words are short and in lower case already, and are not copied.
fn lower(word: &str) -> Cow<'_, str> {
    if word.len() <= MAX_WORD && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return word.into();
    }
    let mut word = word.to_lowercase();
    word.truncate(word.floor_char_boundary(MAX_WORD));
    word.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_runs_of_letters_and_digits_of_bounded_length() {
        let nonsense = "x".repeat(99);
        let mut found: Vec<_> = words("Ein größerer ÄRMEL, lr=0.003").chain(words(&nonsense)).collect();
        let long = "x".repeat(MAX_WORD);
        let expected = ["0", "003", "ein", "größerer", "lr", long.as_str(), "ärmel"];
        found.sort();
        assert_eq!(found, expected);
        assert!(words(&"数学".repeat(20)).all(|word| word.len() <= MAX_WORD));
    }
}
