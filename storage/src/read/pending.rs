//! Questions about records that wait for their parents.

use std::ops::ControlFlow;

use spore_protocol::RecordId;

use super::listing::IndexListing;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys,
    lookup::tally,
    store::Store,
    types::{Page, PendingView, Span},
    values::{self, PendingEntry},
};

impl Store {
    /// Whether the record waits for its parent.
    ///
    /// # Errors
    /// When the store cannot be read, as for all questions here.
    pub fn is_pending(&self, id: &RecordId) -> Result<bool> {
        self.database().has(Column::Pending, &id.0)
    }

    /// How many records wait for their parents.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn pending_count(&self) -> Result<u64> {
        Ok(tally(self.database())?.pending)
    }

    /// The pending records in the order of their arrival. The first one is dropped first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn pending(&self, span: &Span) -> Result<Page<PendingView>> {
        let view = self.view();
        let list = IndexListing { column: Column::PendingByAge, prefix: &[], order: KeyOrder::Ascending };
        list.page(&view, span, |_, value| {
            let id = RecordId(keys::last_id(value)?);
            let bytes = view.get(Column::Pending, &id.0)?;
            let bytes = bytes.ok_or(Damage::NoPending(id))?;
            let held: PendingEntry = values::decode(&bytes)?;
            Ok(PendingView { id, waits_for: held.parent, since: held.received_at, size: held.object.len() as u64 })
        })
    }

    /// At most `limit` parents that pending records wait for and that are not pending themselves: what to ask other nodes
    /// for. In the order of their ids, from just above `after` on; after the highest id, the lowest follows. A caller that
    /// passes the last id of the previous answer gets every parent in turn, whatever ids untrusted records name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn missing_parents_after(&self, after: Option<RecordId>, limit: usize) -> Result<Vec<RecordId>> {
        let view = self.view();
        let mut missing = Vec::new();
        let mut gather = |from: Option<RecordId>, up_to: Option<RecordId>| {
            // Each pass has its own: the second one may begin at the id where the first one ended.
            let mut last = None;
            view.walk(
                Column::PendingByParent,
                &[],
                from.as_ref().map(|id| id.0.as_slice()),
                KeyOrder::Ascending,
                &mut |key, _| {
                    let parent = RecordId(keys::id_at(key, 0)?);
                    if missing.len() >= limit || up_to.is_some_and(|end| parent > end) {
                        return Ok(ControlFlow::Break(()));
                    }
                    if last != Some(parent) && from != Some(parent) && !view.has(Column::Pending, &parent.0)? {
                        missing.push(parent);
                    }
                    last = Some(parent);
                    Ok(ControlFlow::Continue(()))
                },
            )
        };
        gather(after, None)?;
        if after.is_some() {
            gather(None, after)?;
        }
        Ok(missing)
    }
}
