//! Questions about records that wait for their parents.

use std::ops::ControlFlow;

use spore_protocol::{Kind, RecordId};

use super::{listing::List, number_of, refusal, tally};
use crate::{
    columns::Column,
    db::{Source, Way},
    error::{Result, StoreError},
    keys,
    store::Store,
    types::{Page, PendingView, Span},
    values::{self, Flaw, Held},
    write::Unreleased,
};

/// The decided records that others wait for all the same, with why they were refused.
pub fn unreleased(source: &dyn Source) -> Result<Unreleased> {
    let mut unreleased = Unreleased::new();
    let mut last = None;
    source.each(Column::PendingByParent, &[], &mut |key, _| {
        let parent = RecordId(keys::id_at(key, 0)?);
        if last.replace(parent) == Some(parent) {
            return Ok(ControlFlow::Continue(()));
        }
        let flaw = refusal(source, &parent)?;
        if flaw.is_some() || number_of(source, Kind::Experiment, &parent.into())?.is_some() {
            unreleased.push((parent, flaw.map(Flaw::reject)));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(unreleased)
}

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
            Ok(PendingView { id, waits_for: held.parent, since: held.received_at, size: held.object.len() as u64 })
        })
    }

    /// The parents that pending records wait for and that are not pending themselves: what to ask
    /// other nodes for. The least ids; [`Store::missing_parents_after`] comes round to all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn missing_parents(&self, limit: usize) -> Result<Vec<RecordId>> {
        self.missing_parents_after(None, limit)
    }

    /// As [`Store::missing_parents`], by id from just above `after` on, and round to it again from the least
    /// on. Who asks with the last one given asks for all in turn, whatever ids others make up.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn missing_parents_after(&self, after: Option<RecordId>, limit: usize) -> Result<Vec<RecordId>> {
        let view = self.view();
        let mut missing = Vec::new();
        let mut gather = |from: Option<RecordId>, up_to: Option<RecordId>| {
            // Each pass has its own: the second one begins where the first one may have ended.
            let mut last = None;
            view.walk(Column::PendingByParent, &[], from.as_ref().map(|id| id.0.as_slice()), Way::Up, &mut |key, _| {
                let parent = RecordId(keys::id_at(key, 0)?);
                if missing.len() >= limit || up_to.is_some_and(|end| parent > end) {
                    return Ok(ControlFlow::Break(()));
                }
                if last != Some(parent) && from != Some(parent) && !view.has(Column::Pending, &parent.0)? {
                    missing.push(parent);
                }
                last = Some(parent);
                Ok(ControlFlow::Continue(()))
            })
        };
        gather(after, None)?;
        if after.is_some() {
            gather(None, after)?;
        }
        Ok(missing)
    }
}
