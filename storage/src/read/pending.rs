//! Questions about records that wait for their parents.

use std::ops::ControlFlow;

use spore_protocol::RecordId;

use super::{listing::List, tally};
use crate::{
    columns::Column,
    db::{Source, Way},
    error::{Result, StoreError},
    keys,
    store::Store,
    types::{Page, PendingView, Span},
    values::{self, Held},
};

impl Store {
    /// Whether the record waits here for its parent.
    ///
    /// # Errors
    /// When the store cannot be read, as for all questions here.
    pub fn is_pending(&self, id: &RecordId) -> Result<bool> {
        self.database().has(Column::Pending, &id.0)
    }

    /// Records that wait for their parents.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn pending_count(&self) -> Result<u64> {
        Ok(tally(self.database())?.pending)
    }

    /// The records that wait, in the order in which they came: the first is dropped first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn pending(&self, span: &Span) -> Result<Page<PendingView>> {
        let view = self.view();
        let list = List { column: Column::PendingByAge, prefix: &[], order: Way::Up };
        list.page(&view, span, |_, value| {
            let id = RecordId(keys::last_id(value)?);
            let bytes = view.get(Column::Pending, &id.0)?;
            let bytes = bytes.ok_or_else(|| StoreError::corrupt("a pending record is gone"))?;
            let held: Held = values::decode(&bytes)?;
            Ok(PendingView { id, waits_for: held.parent, since: held.received_at, size: held.object.0.len() as u64 })
        })
    }

    /// The parents that pending records wait for and that are not pending themselves: what to ask
    /// other nodes for.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn missing_parents(&self, limit: usize) -> Result<Vec<RecordId>> {
        let view = self.view();
        let mut missing = Vec::new();
        let mut last = None;
        let mut visit = |key: &[u8], _: &[u8]| {
            let parent = RecordId(keys::id_at(key, 0)?);
            if last != Some(parent) && !view.has(Column::Pending, &parent.0)? {
                if missing.len() >= limit {
                    return Ok(ControlFlow::Break(()));
                }
                missing.push(parent);
            }
            last = Some(parent);
            Ok::<_, StoreError>(ControlFlow::Continue(()))
        };
        view.each(Column::PendingByParent, &[], &mut visit)?;
        Ok(missing)
    }
}
