//! The parents that records wait for, asked for in turn.
//!
//! A parent is only a claim: whoever makes up many could otherwise have the same ones asked for
//! for ever, and an honest record's parent never.

use std::sync::{Arc, Mutex, PoisonError};

use spore_protocol::RecordId;
use spore_storage::{Store, StoreError};

/// A place in the round. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Missed(Arc<Mutex<Option<RecordId>>>);

impl Missed {
    /// The next `limit` of them, fewer where there are no more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next(&self, store: &Store, limit: usize) -> Result<Vec<RecordId>, StoreError> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = store.missing_parents_after(*last, limit)?;
        *last = missed.last().copied();
        Ok(missed)
    }
}
