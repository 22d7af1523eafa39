//! What the operator does not want to carry: signers and tasks. The ingest service refuses their objects from others,
//! which is no offence of the peer that sent them.
//!
//! Never here: the file of the list, and removing what is stored already.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use spore_protocol::{NodeId, SignedObject, TaskId};

/// Most signers and most tasks of a list, each: 32 bytes an entry, looked up for every object.
pub const BLOCKED: usize = 100_000;

/// A list of blocked signers and tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockList {
    pub signers: BTreeSet<NodeId>,
    pub tasks: BTreeSet<TaskId>,
}

impl BlockList {
    /// Whether an object is of a blocked signer, or says that it is of a blocked task. Version 1 records and some events
    /// name no task; of these only the signer counts.
    pub fn blocks(&self, object: &SignedObject) -> bool {
        if self.signers.is_empty() && self.tasks.is_empty() {
            return false;
        }
        let task = match object {
            SignedObject::Experiment(record) => record.task_id,
            SignedObject::Control(event) => event.claimed_task(),
            SignedObject::Task(manifest) => Some(manifest.id().into()),
            SignedObject::Profile(_) => None,
        };
        self.signers.contains(&object.signer()) || task.is_some_and(|task| self.tasks.contains(&task))
    }

    pub fn is_full(&self) -> bool {
        self.signers.len() >= BLOCKED || self.tasks.len() >= BLOCKED
    }
}

/// The list in force. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Blocks(Arc<RwLock<Arc<BlockList>>>);

impl Blocks {
    /// The list as it is now. Cheap.
    pub fn list(&self) -> Arc<BlockList> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the list.
    pub fn set(&self, list: BlockList) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::fixtures::{identity, manifest, record, sign};

    use super::*;

    #[test]
    fn list_blocks_objects_of_its_signers_and_tasks_only() {
        let object = SignedObject::Task(sign(&identity(1), &manifest(&identity(1))).into_signed());
        let task = TaskId::from(object.id());
        let of_task =
            SignedObject::Experiment(sign(&identity(2), &record(&identity(2), Some(task), None)).into_signed());
        let blocks = Blocks::default();
        assert!(!blocks.list().blocks(&object) && !blocks.list().blocks(&of_task));
        blocks.set(BlockList { signers: [identity(1).node_id()].into(), ..BlockList::default() });
        assert!(blocks.list().blocks(&object) && !blocks.list().blocks(&of_task));
        blocks.set(BlockList { tasks: [task].into(), ..BlockList::default() });
        assert!(blocks.list().blocks(&object) && blocks.list().blocks(&of_task));
    }
}
