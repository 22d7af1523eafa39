//! Untrusted text in answers: names and descriptions, truncated.

use std::collections::HashMap;

use spore_protocol::NodeId;

use super::StoreView;
use crate::problem::ApiError;

/// Most bytes of a name in an answer. An object may hold 10 MiB, and an answer shows many objects.
pub(super) const MAX_NAME: usize = 256;
/// Most bytes of any other text of a profile or a manifest in an answer. The objects themselves hold the whole text.
pub(super) const MAX_TEXT: usize = 4096;

/// The first bytes of a text, at most `most` of them and no part of a character.
pub(super) fn truncated(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text).to_owned()
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
