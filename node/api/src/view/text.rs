//! Untrusted text in answers: names and descriptions, truncated. An answer about one object shows more of its texts than
//! a list of many.

use std::collections::HashMap;

use spore_protocol::NodeId;

use super::StoreView;
use crate::problem::ApiError;

/// Most bytes of a name in an answer. An object may hold 10 MiB, and an answer shows many objects.
pub(super) const MAX_NAME: usize = 256;
/// Most bytes of any other text of a profile or a manifest in an answer about that object alone. The object itself holds
/// the whole text.
pub(super) const MAX_TEXT: usize = 4096;
/// Most characters of any text but a name in a list or an event: three lines of a page. A list has up to 500 items, and
/// a stranger chooses all of their texts.
pub(super) const MAX_LISTED: usize = 300;

/// The first bytes of a text, at most `most` of them and no part of a character.
pub(super) fn truncated(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text).to_owned()
}

/// The first [`MAX_LISTED`] characters of a text, and an ellipsis where it goes on.
pub(super) fn listed(text: &str) -> String {
    match text.char_indices().nth(MAX_LISTED) {
        Some((end, _)) => format!("{}\u{2026}", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A text on one line without controls and characters that reorder or hide others, at most `most` characters.
pub fn plain_line(text: &str, most: usize) -> String {
    let shown = |c: &char| {
        !c.is_control()
            && !matches!(*c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}')
    };
    let line = text.replace(char::is_whitespace, " ");
    line.chars().filter(shown).take(most).collect::<String>().trim().to_owned()
}

/// How much of an object an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// An item among many.
    Listed,
    /// The object alone.
    Whole,
}

impl Extent {
    /// A text of a stranger, as far as it is shown.
    pub(super) fn of(self, text: &str) -> String {
        match self {
            Self::Listed => listed(text),
            Self::Whole => truncated(text, MAX_TEXT),
        }
    }
}

/// Display names that were looked up for one answer.
#[derive(Default)]
pub(super) struct DisplayNames(HashMap<NodeId, Option<String>>);

impl StoreView {
    /// The display name in a node's newest profile. None without a profile or a name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn display_name(&self, names: &mut DisplayNames, node: &NodeId) -> Result<Option<String>, ApiError> {
        if let Some(name) = names.0.get(node) {
            return Ok(name.clone());
        }
        let profile = self.store.profile(node)?;
        let name = profile.map(|profile| truncated(&profile.display_name, MAX_NAME)).filter(|name| !name.is_empty());
        names.0.insert(*node, name.clone());
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_a_list_has_three_hundred_characters_and_an_ellipsis_where_it_goes_on() {
        let whole = "\u{e9}".repeat(MAX_LISTED);
        assert_eq!(listed(&whole), whole);
        let shown = listed(&format!("{whole}x"));
        assert_eq!((shown.chars().count(), shown.ends_with('\u{2026}')), (MAX_LISTED + 1, true));
        assert_eq!(Extent::Whole.of(&"x".repeat(MAX_TEXT + 1)).len(), MAX_TEXT);
    }
}
