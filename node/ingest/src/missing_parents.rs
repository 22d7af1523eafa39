//! The missing parents of pending records, asked for in turn.
//!
//! A parent is only a claim. Somebody who signs many records with parents that do not exist must not keep an honest
//! record's parent from being asked for, so that no parent is asked for twice before every other one was.

use std::sync::{Arc, Mutex, PoisonError};

use spore_protocol::{Kind, RecordId};
use spore_storage::{Store, StoreError};

/// A position in the round through all missing parents. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MissingParents(Arc<Mutex<Option<RecordId>>>);

impl MissingParents {
    /// The next missing parents of the round, `limit` at most. Fewer at the end of the round, and where the operator
    /// dropped some, which are not taken again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next(&self, store: &Store, limit: usize) -> Result<Vec<RecordId>, StoreError> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parents = store.missing_parents_after(*last, limit)?;
        *last = parents.last().copied();
        let mut wanted = Vec::with_capacity(parents.len());
        for parent in parents {
            if !store.is_turned_away(Kind::Experiment, &parent.into())? {
                wanted.push(parent);
            }
        }
        Ok(wanted)
    }
}
