//! Questions about records.

use std::{collections::BTreeSet, ops::ControlFlow};

use rocksdb::Direction;
use spore_protocol::{ControlEvent, HardwareClass, NodeId, RecordId, Signed, TaskId, verdict::Judgement};

use super::{facts, first_ids, indexed};
use crate::{
    columns::Column,
    db::Source,
    error::{Result, StoreError},
    keys,
    store::Store,
    types::{Cursor, RecordSummary, RecordView, Scope},
    values::{self, Publisher},
};

impl Store {
    /// A record in full.
    ///
    /// # Errors
    /// When the store cannot be read, as for all questions here.
    pub fn record(&self, id: &RecordId) -> Result<Option<RecordView>> {
        let view = self.view();
        let Some(signed) = super::record(&view, id)? else { return Ok(None) };
        Ok(Some(RecordView { signed, summary: indexed(&view, id)? }))
    }

    /// A record without its diff and signature: two small reads.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn summary(&self, id: &RecordId) -> Result<Option<RecordSummary>> {
        super::summary(&self.view(), id)
    }

    /// The records built on this one, by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn children(&self, id: &RecordId, limit: usize) -> Result<Vec<RecordId>> {
        first_ids(&self.view(), Column::Children, &id.0, limit)
    }

    /// The parent, its parent, and so on to the root.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn ancestors(&self, id: &RecordId, limit: usize) -> Result<Vec<RecordId>> {
        let view = self.view();
        let mut ancestors = Vec::new();
        let mut next = facts(&view, id)?.and_then(|facts| facts.parent);
        while let Some(id) = next
            && ancestors.len() < limit
        {
            ancestors.push(id);
            next = facts(&view, &id)?.and_then(|facts| facts.parent);
        }
        Ok(ancestors)
    }

    /// Newest first by (timestamp, id), from just below `before` on; with the cursor of the next
    /// page where there is one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recent(
        &self,
        scope: Scope,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<RecordSummary>, Option<Cursor>)> {
        let view = self.view();
        let prefix = keys::timeline_prefix(scope);
        let start = before.map(|cursor| keys::timeline(scope, cursor.timestamp, &cursor.id));
        let mut ids = Vec::new();
        let mut more = false;
        let mut visit = |key: &[u8], _: &[u8]| {
            if start.as_deref() == Some(key) {
                return Ok(ControlFlow::Continue(()));
            }
            if ids.len() >= limit {
                more = true;
                return Ok(ControlFlow::Break(()));
            }
            ids.push(RecordId(keys::last_id(key)?));
            Ok(ControlFlow::Continue(()))
        };
        match &start {
            Some(start) => view.each_from(Column::Timeline, &prefix, start, Direction::Reverse, &mut visit)?,
            None => view.each_back(Column::Timeline, &prefix, &mut visit)?,
        }
        let summaries = ids.iter().map(|id| indexed(&view, id)).collect::<Result<Vec<_>>>()?;
        let last = summaries.last().map(|last| Cursor { timestamp: last.timestamp, id: last.id });
        Ok((summaries, last.filter(|_| more)))
    }

    /// All records of a task, strays too, in (timestamp, id) order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn task_summaries(&self, task: &TaskId) -> Result<Vec<RecordSummary>> {
        let view = self.view();
        let ids = first_ids(&view, Column::Timeline, &keys::timeline_prefix(Scope::Task(*task)), usize::MAX)?;
        ids.iter().map(|id| indexed(&view, id)).collect()
    }

    /// A class's frontier, or the class-blind one, best first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn frontier(&self, task: &TaskId, class: Option<&HardwareClass>, limit: usize) -> Result<Vec<RecordSummary>> {
        let view = self.view();
        let prefix = keys::frontier_prefix(task, class.map(keys::class).as_ref());
        first_ids(&view, Column::Frontier, &prefix, limit)?.iter().map(|id| indexed(&view, id)).collect()
    }

    /// The verdict on a record, with what led to it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn judgement(&self, id: &RecordId) -> Result<Option<Judgement>> {
        let view = self.view();
        facts(&view, id)?.map(|facts| super::judgement(&view, &facts)).transpose()
    }

    /// The control events about a record, which need not be here, in (timestamp, id) order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events_about(&self, id: &RecordId) -> Result<Vec<Signed<ControlEvent>>> {
        super::events_about(&self.view(), id)
    }

    /// Records with an open dispute, by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_disputes(&self) -> Result<Vec<RecordId>> {
        first_ids(&self.view(), Column::Disputes, &[], usize::MAX)
    }

    /// The nodes that published in a task and class before `timestamp` (Unix seconds).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn published_before(&self, task: &TaskId, class: &HardwareClass, timestamp: u64) -> Result<BTreeSet<NodeId>> {
        let mut nodes = BTreeSet::new();
        self.view().each(Column::Publishers, &task.0, &mut |key, value| {
            let publisher: Publisher = values::decode(value)?;
            if publisher.class == *class && publisher.first < timestamp {
                nodes.insert(NodeId(keys::id_at(key, 32)?));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(nodes)
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
