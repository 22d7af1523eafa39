//! Questions about records.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use spore_protocol::{ControlEvent, HardwareClass, Kind, NodeId, RecordId, Signed, TaskId, verdict::Assessment};

use super::{cut, event, listing::List, number_of, placing, row_of, summaries};
use crate::{
    columns::Column,
    db::{Source, Way},
    error::Result,
    keys::{self, Events, Listing},
    store::Store,
    types::{Cursor, MAX_PAGE, Measured, Page, RecordSummary, RecordView, Scope, Span},
    values::{self, Evidence, Point, Publisher},
};

impl Store {
    /// A record in full: also its summary has the whole texts, which others show the beginnings of.
    ///
    /// # Errors
    /// When the store cannot be read, as for all questions here.
    pub fn record(&self, id: &RecordId) -> Result<Option<RecordView>> {
        let view = self.view();
        let Some(signed) = super::record(&view, id)? else { return Ok(None) };
        Ok(row_of(&view, id)?.map(|row| RecordView { signed, summary: row.summary }))
    }

    /// A record without its diff and signature: two small reads.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn summary(&self, id: &RecordId) -> Result<Option<RecordSummary>> {
        Ok(row_of(&self.view(), id)?.map(|row| cut(row.summary)))
    }

    /// The first of the records built on this one, in (timestamp, id) order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn children(&self, id: &RecordId, limit: usize) -> Result<Vec<RecordId>> {
        let view = self.view();
        let Some(parent) = number_of(&view, Kind::Experiment, &(*id).into())? else { return Ok(Vec::new()) };
        let list = List { column: Column::Children, prefix: &parent.to_be_bytes(), order: Way::Up };
        list.head(&view, limit, |key, _| Ok(placing(&view, keys::last_number(key)?)?.id))
    }

    /// The records built on this one, in (timestamp, id) order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn children_page(&self, id: &RecordId, span: &Span) -> Result<Page<RecordSummary>> {
        let view = self.view();
        let Some(parent) = number_of(&view, Kind::Experiment, &(*id).into())? else { return Ok(Page::default()) };
        listed(&view, Column::Children, &parent.to_be_bytes(), Way::Up, span)
    }

    /// The parent, its parent, and so on to the root. To go on, ask with the last one given.
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
        let page = self.recent_page(scope, &Span { after: before, ..Span::first(limit) })?;
        Ok((page.items, page.next))
    }

    /// All records, a task's or a node's, the newest first by (timestamp, id).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recent_page(&self, scope: Scope, span: &Span) -> Result<Page<RecordSummary>> {
        let view = self.view();
        let prefix = Listing::from(scope).prefix();
        if let Scope::Task(_) = scope {
            let list = List { column: Column::Timeline, prefix: &prefix, order: Way::Down };
            return shown(&view, list.page(&view, span, |_, value| Ok(Point::decode(value)?.number))?);
        }
        listed(&view, Column::Timeline, &prefix, Way::Down, span)
    }

    /// A task's records that have a metric, the best first, strays left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn by_metric(&self, task: &TaskId, span: &Span) -> Result<Page<RecordSummary>> {
        listed(&self.view(), Column::Metrics, &task.0, Way::Up, span)
    }

    /// All records of a task, strays too, in (timestamp, id) order. For charts there is
    /// [`Store::graph`], which is far cheaper.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn task_summaries(&self, task: &TaskId) -> Result<Vec<RecordSummary>> {
        let view = self.view();
        let prefix = Listing::TaskRecords(*task).prefix();
        let list = List { column: Column::Timeline, prefix: &prefix, order: Way::Up };
        summaries(&view, &list.head(&view, usize::MAX, |_, value| Ok(Point::decode(value)?.number))?)
    }

    /// The first of a class's frontier, or of the class-blind one, best first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn frontier(&self, task: &TaskId, class: Option<&HardwareClass>, limit: usize) -> Result<Vec<RecordSummary>> {
        let view = self.view();
        let prefix = keys::view(task, class.map(keys::class).as_ref());
        let list = List { column: Column::Frontier, prefix: &prefix, order: Way::Up };
        summaries(&view, &list.head(&view, limit, |key, _| keys::last_number(key))?)
    }

    /// A class's frontier, or the class-blind one, best first.
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
        listed(&self.view(), Column::Frontier, &prefix, Way::Up, span)
    }

    /// The verdict on a record, with what led to it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn judgement(&self, id: &RecordId) -> Result<Option<Assessment>> {
        let view = self.view();
        row_of(&view, id)?.map(|row| super::judgement(&view, &row)).transpose()
    }

    /// The measurements that count in a record's verdict, in (timestamp, id) order: one read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn evidence(&self, id: &RecordId) -> Result<Vec<Measured>> {
        let view = self.view();
        let Some(number) = number_of(&view, Kind::Experiment, &(*id).into())? else { return Ok(Vec::new()) };
        let Some(bytes) = view.get(Column::Evidence, &keys::number(number))? else { return Ok(Vec::new()) };
        Ok(values::decode::<Evidence>(&bytes)?.measured())
    }

    /// The first control events about a record, which need not be here, in (timestamp, id) order: a page
    /// of [`Store::events_page`] as long as there are. For one node's there is [`Store::events_of`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events_about(&self, id: &RecordId) -> Result<Vec<Signed<ControlEvent>>> {
        Ok(self.events_page(id, &Span::first(MAX_PAGE))?.items)
    }

    /// The first `limit` control events about a record that a node signed, in (timestamp, id) order. Those
    /// of others are passed over unread.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events_of(&self, id: &RecordId, node: &NodeId, limit: usize) -> Result<Vec<Signed<ControlEvent>>> {
        let view = self.view();
        let mut events = Vec::new();
        view.each(Column::About, &keys::events(id, Events::All), &mut |_, value| {
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

    /// The control events about a record, in (timestamp, id) order. A page ends at 16 MiB, too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events_page(&self, id: &RecordId, span: &Span) -> Result<Page<Signed<ControlEvent>>> {
        let view = self.view();
        let prefix = keys::events(id, Events::All);
        let list = List { column: Column::About, prefix: &prefix, order: Way::Up };
        list.page_of(&view, span, |_, value| event(&view, keys::event_entry(value)?.0), |event| event.canonical().len())
    }

    /// Records with an open dispute, by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_disputes(&self) -> Result<Vec<RecordId>> {
        let list = List { column: Column::Disputes, prefix: &[], order: Way::Up };
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

/// A page of records out of an index whose keys end with moments.
fn listed(source: &dyn Source, column: Column, prefix: &[u8], order: Way, span: &Span) -> Result<Page<RecordSummary>> {
    shown(source, List { column, prefix, order }.page(source, span, |key, _| keys::last_number(key))?)
}

/// A page of records whose numbers are known.
fn shown(source: &dyn Source, page: Page<u64>) -> Result<Page<RecordSummary>> {
    let Page { items, first, next } = page;
    Ok(Page { items: summaries(source, &items)?, first, next })
}
