//! Warnings of a running node that last: each stands in its status until what it warns of has passed.
//!
//! Never here: how a warning is displayed, or a command that would help.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What a warning is about. A node has at most one warning of each topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningTopic {
    /// Host names cannot be looked up.
    Dns,
    /// Another node signs with this node's key.
    Twin,
    /// The operating system allows few open files.
    Descriptors,
    /// The file by which commands find the node cannot be written.
    Announcement,
    /// The disk is nearly full.
    Disk,
    /// The store exceeds its budget, and nothing more may be dropped.
    Budget,
}

/// The warnings now. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<BTreeMap<WarningTopic, String>>>);

impl Warnings {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<WarningTopic, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the warning of a topic and logs it, unless it stands already.
    pub fn set(&self, topic: WarningTopic, text: impl Into<String>) {
        let text = text.into();
        let mut now = self.lock();
        if now.get(&topic) != Some(&text) {
            tracing::warn!("{text}");
            now.insert(topic, text);
        }
    }

    /// Removes the warning of a topic.
    pub fn clear(&self, topic: WarningTopic) {
        self.lock().remove(&topic);
    }

    /// All warnings, in the order of their topics.
    pub fn all(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_has_one_warning_until_it_is_cleared() {
        let warnings = Warnings::default();
        warnings.set(WarningTopic::Twin, "a");
        warnings.clone().set(WarningTopic::Twin, "b");
        warnings.set(WarningTopic::Dns, "c");
        assert_eq!(warnings.all(), ["c", "b"]);
        warnings.clear(WarningTopic::Twin);
        assert_eq!(warnings.all(), ["c"]);
    }
}
