//! Questions about records.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use spore_protocol::{ControlEvent, HardwareClass, Kind, NodeId, RecordId, Signed, TaskId, verdict::Assessment};

use super::listing::IndexListing;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::Result,
    keys::{self, EventSet, TimeList},
    lookup::{self, cut, event, number_of, placing, row_of, summaries},
    store::Store,
    types::{CountedMeasurement, Cursor, Page, RecordSummary, RecordView, Scope, Span},
    values::{self, Evidence, GraphPoint, Publisher},
};

impl Store {
    /// A whole record. Its summary has the whole texts, too, which other summaries shorten.
    ///
    /// # Errors
    /// When the store cannot be read, as for all questions here.
    pub fn record(&self, id: &RecordId) -> Result<Option<RecordView>> {
        let view = self.view();
        let Some(signed) = lookup::record(&view, id)? else { return Ok(None) };
        Ok(row_of(&view, id)?.map(|row| RecordView { signed, summary: row.summary }))
    }

    /// A record without its diff and signature, from two small reads.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn summary(&self, id: &RecordId) -> Result<Option<RecordSummary>> {
        Ok(row_of(&self.view(), id)?.map(|row| cut(row.summary)))
    }

    /// The first `limit` children of a record, in (timestamp, id) order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn children(&self, id: &RecordId, limit: usize) -> Result<Vec<RecordId>> {
        let view = self.view();
        let Some(parent) = number_of(&view, Kind::Experiment, &(*id).into())? else { return Ok(Vec::new()) };
        let list = IndexListing { column: Column::Children, prefix: &parent.to_be_bytes(), order: KeyOrder::Ascending };
        list.head(&view, limit, |key, _| Ok(placing(&view, keys::last_number(key)?)?.id))
    }

    /// The children of a record, in (timestamp, id) order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn children_page(&self, id: &RecordId, span: &Span) -> Result<Page<RecordSummary>> {
        let view = self.view();
        let Some(parent) = number_of(&view, Kind::Experiment, &(*id).into())? else { return Ok(Page::default()) };
        listed(&view, Column::Children, &parent.to_be_bytes(), KeyOrder::Ascending, span)
    }

    /// At most `limit` ancestors of a record: its parent, the parent's parent, and so on to the root. The last one
    /// returned continues the list.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn ancestors(&self, id: &RecordId, limit: usize) -> Result<Vec<RecordId>> {
        let view = self.view();
        let mut ancestors = Vec::new();
        let number = number_of(&view, Kind::Experiment, &(*id).into())?;
        let mut next = number.map_or(Ok(0), |number| placing(&view, number).map(|at| at.parent_number))?;
        while next > 0 && ancestors.len() < limit {
            let at = placing(&view, next)?;
            ancestors.push(at.id);
            next = at.parent_number;
        }
        Ok(ancestors)
    }

    /// Records in descending order of (timestamp, id), from just below `before` on, and the cursor of the next page
    /// if there is one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recent(
        &self,
        scope: Scope,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<RecordSummary>, Option<Cursor>)> {
        let page = self.recent_page(scope, &Span { after: before, ..Span::first(limit) })?;
        Ok((page.items, page.next))
    }

    /// All records, a task's or a node's, in descending order of (timestamp, id).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recent_page(&self, scope: Scope, span: &Span) -> Result<Page<RecordSummary>> {
        let view = self.view();
        let prefix = TimeList::from(scope).prefix();
        if let Scope::Task(_) = scope {
            let list = IndexListing { column: Column::Timeline, prefix: &prefix, order: KeyOrder::Descending };
            return shown(&view, list.page(&view, span, |_, value| Ok(GraphPoint::decode(value)?.number))?);
        }
        listed(&view, Column::Timeline, &prefix, KeyOrder::Descending, span)
    }

    /// A task's records that have a metric, the best first, without strays.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn by_metric(&self, task: &TaskId, span: &Span) -> Result<Page<RecordSummary>> {
        listed(&self.view(), Column::Metrics, &task.0, KeyOrder::Ascending, span)
    }

    /// All records of a task, with strays, in (timestamp, id) order. [`Store::graph`] is much cheaper for charts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn task_summaries(&self, task: &TaskId) -> Result<Vec<RecordSummary>> {
        let view = self.view();
        let prefix = TimeList::TaskRecords(*task).prefix();
        let list = IndexListing { column: Column::Timeline, prefix: &prefix, order: KeyOrder::Ascending };
        summaries(&view, &list.head(&view, usize::MAX, |_, value| Ok(GraphPoint::decode(value)?.number))?)
    }

    /// The first `limit` records of a class's frontier, or of the class-blind one, the best first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn frontier(&self, task: &TaskId, class: Option<&HardwareClass>, limit: usize) -> Result<Vec<RecordSummary>> {
        let view = self.view();
        let prefix = keys::view(task, class.map(keys::class).as_ref());
        let list = IndexListing { column: Column::Frontier, prefix: &prefix, order: KeyOrder::Ascending };
        summaries(&view, &list.head(&view, limit, |key, _| keys::last_number(key))?)
    }

    /// A class's frontier, or the class-blind one, the best record first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn frontier_page(
        &self,
        task: &TaskId,
        class: Option<&HardwareClass>,
        span: &Span,
    ) -> Result<Page<RecordSummary>> {
        let prefix = keys::view(task, class.map(keys::class).as_ref());
        listed(&self.view(), Column::Frontier, &prefix, KeyOrder::Ascending, span)
    }

    /// The verdict on a record, with what led to it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn judgement(&self, id: &RecordId) -> Result<Option<Assessment>> {
        let view = self.view();
        row_of(&view, id)?.map(|row| lookup::judgement(&view, &row)).transpose()
    }

    /// The measurements that count in a record's verdict, in (timestamp, id) order, from one read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn evidence(&self, id: &RecordId) -> Result<Vec<CountedMeasurement>> {
        let view = self.view();
        let Some(number) = number_of(&view, Kind::Experiment, &(*id).into())? else { return Ok(Vec::new()) };
        let Some(bytes) = view.get(Column::Evidence, &keys::number(number))? else { return Ok(Vec::new()) };
        Ok(values::decode::<Evidence>(&bytes)?.measured())
    }

    /// The first `limit` control events about a record that a node signed, in (timestamp, id) order. The events of
    /// other signers are not read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events_of(&self, id: &RecordId, node: &NodeId, limit: usize) -> Result<Vec<Signed<ControlEvent>>> {
        let view = self.view();
        let mut events = Vec::new();
        view.each(Column::About, &keys::events(id, EventSet::All), &mut |_, value| {
            if events.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            let (number, signer) = keys::event_entry(value)?;
            if signer == *node {
                events.push(event(&view, number)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(events)
    }

    /// Records with an open dispute, by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_disputes(&self) -> Result<Vec<RecordId>> {
        let list = IndexListing { column: Column::Disputes, prefix: &[], order: KeyOrder::Ascending };
        list.head(&self.view(), usize::MAX, |key, _| keys::last_id(key).map(RecordId))
    }

    /// The nodes that published in a task and class before `timestamp` (Unix seconds).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn published_before(&self, task: &TaskId, class: &HardwareClass, timestamp: u64) -> Result<BTreeSet<NodeId>> {
        let mut nodes = BTreeSet::new();
        let prefix = keys::participants(Some(task));
        self.view().each(Column::Publishers, &prefix, &mut |key, value| {
            let publisher: Publisher = values::decode(value)?;
            if publisher.class == *class && publisher.first < timestamp {
                nodes.insert(NodeId(keys::id_at(key, prefix.len())?));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(nodes)
    }
}

/// A page of records from an index whose keys end with moments.
fn listed(
    source: &dyn KeyReader,
    column: Column,
    prefix: &[u8],
    order: KeyOrder,
    span: &Span,
) -> Result<Page<RecordSummary>> {
    shown(source, IndexListing { column, prefix, order }.page(source, span, |key, _| keys::last_number(key))?)
}

/// A page of records from a page of their numbers.
fn shown(source: &dyn KeyReader, page: Page<u64>) -> Result<Page<RecordSummary>> {
    let Page { items, first, next } = page;
    Ok(Page { items: summaries(source, &items)?, first, next })
}
