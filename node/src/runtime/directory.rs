//! Watches the data directory of a running node: that it is still the node's own, and that commands can find the node.
//!
//! A directory that is moved away or replaced is not the node's any more, and nothing may be written to its path. A
//! `node.json` that somebody removed is written again.

use std::{path::PathBuf, time::Duration};

use spore_base::warnings::{WarningTopic, Warnings};
use spore_storage::Store;
use tokio::time::{MissedTickBehavior, interval};

use super::error::NodeFailure;
use crate::data_dir::{DataDir, RunningNode};

/// Time between two looks, of two system calls each. The database writes by path, so the time is short.
const INTERVAL: Duration = Duration::from_secs(1);

/// The data directory of a running node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DirectoryWatch {
    pub store: Store,
    pub data: DataDir,
    /// What `node.json` must say.
    pub node: RunningNode,
    pub warnings: Warnings,
}

impl DirectoryWatch {
    /// Keeps `node.json` in place. Resolves when the directory is no longer at its path.
    pub async fn keep(&self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let watch = self.clone();
            // A thread that ended early says nothing about the directory.
            if !tokio::task::spawn_blocking(move || watch.look()).await.unwrap_or(true) {
                return;
            }
        }
    }

    /// Whether the directory is still at its path.
    pub async fn is_here(&self) -> bool {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.is_here()).await.unwrap_or(true)
    }

    /// Removes `node.json`.
    pub fn forget(&self) {
        self.data.forget_node(&self.node);
    }

    /// The failure of a node whose directory is gone.
    pub fn lost(&self) -> NodeFailure {
        NodeFailure::DirectoryLost(PathBuf::from(self.data.root()))
    }

    fn look(&self) -> bool {
        if !self.store.is_here() {
            return false;
        }
        if !self.data.is_announced(&self.node) {
            match self.data.announce_node(&self.node) {
                Ok(()) => {
                    tracing::info!("node.json was missing or changed; it is written again");
                    self.warnings.clear(WarningTopic::Announcement);
                }
                Err(error) => self.warnings.set(
                    WarningTopic::Announcement,
                    format!("node.json cannot be written, so commands do not find this node: {error}"),
                ),
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(root: PathBuf) -> DirectoryWatch {
        let node = RunningNode { pid: std::process::id(), address: "127.0.0.1:1".into(), explorer: false, started: 1 };
        let data = DataDir::new(&root);
        data.create().unwrap();
        DirectoryWatch { store: Store::open(&root).unwrap(), data, node, warnings: Warnings::default() }
    }

    #[test]
    fn missing_file_is_written_again_and_not_into_a_directory_that_took_the_place() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("dir");
        let watch = watch(root.clone());
        assert!(watch.look() && watch.data.is_announced(&watch.node));
        std::fs::remove_file(root.join("node.json")).unwrap();
        assert!(watch.look() && watch.data.is_announced(&watch.node));
        std::fs::rename(&root, parent.path().join("moved")).unwrap();
        std::fs::create_dir(&root).unwrap();
        assert!(!watch.look());
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0, "nothing was written there");
    }
}
