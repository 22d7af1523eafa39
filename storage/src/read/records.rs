//! Questions about records.

use std::ops::ControlFlow;

use spore_protocol::{
    ControlBody, ControlEvent, HardwareClass, Kind, NodeId, RecordId, Repeats, Signed, TaskId, frontier::FrontierKind,
};

use super::listing::IndexListing;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::Result,
    keys::{self, List, TimeList},
    lookup::{self, cut, event, number_of, placing, row_of, summaries},
    store::Store,
    types::{Cursor, Judgement, Page, RecordSummary, RecordView, Scope, Span},
    values::GraphPoint,
};

/// Most children that are looked at to count those of a class: some milliseconds.
const CHILDREN: usize = 10_000;
/// Events of one trusted signer about one record that are read for its repeats. A signer that goes on repeating puts up
/// to 64 results into one event.
const REPEATS_OF_ONE: usize = 64;

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

    /// The first `limit` records of a class's local frontier, the best first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn frontier(&self, task: &TaskId, class: &HardwareClass, limit: usize) -> Result<Vec<RecordSummary>> {
        let view = self.view();
        let prefix = List::Local(&keys::class(class)).prefix(task);
        let list = IndexListing { column: Column::Frontier, prefix: &prefix, order: KeyOrder::Ascending };
        summaries(&view, &list.head(&view, limit, |key, _| keys::last_number(key))?)
    }

    /// One list of a task's records, the best first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn listing(&self, task: &TaskId, kind: &FrontierKind, span: &Span) -> Result<Page<RecordSummary>> {
        let prefix = match kind {
            FrontierKind::Local(class) => List::Local(&keys::class(class)).prefix(task),
            FrontierKind::Global(class) => List::Global(&keys::class(class)).prefix(task),
            FrontierKind::Claims(class) => List::Claims(&keys::class(class)).prefix(task),
            FrontierKind::Reference => List::Reference.prefix(task),
        };
        listed(&self.view(), Column::Frontier, &prefix, KeyOrder::Ascending, span)
    }

    /// Claims of a class by their publishers in turn: of each of the next `publishers` nodes after `after`, in the
    /// order of their ids and beginning anew after the last, the best `each`. However many claims one node publishes,
    /// they keep nobody else's from being looked at.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn claims_in_turn(
        &self,
        task: &TaskId,
        class: &HardwareClass,
        after: Option<NodeId>,
        publishers: usize,
        each: usize,
    ) -> Result<Vec<RecordSummary>> {
        let view = self.view();
        let class = keys::class(class);
        let (all, mut turn, mut numbers) = (keys::claims_by_publisher(task, &class), Vec::new(), Vec::new());
        let (mut last, mut wrapped) = (after, after.is_none());
        while turn.len() < publishers {
            // No key of a publisher is as high.
            let from = last.map(|node| [all.as_slice(), &node.0, &[u8::MAX; 32]].concat());
            let next = view.first(Column::Frontier, &all, from.as_deref(), KeyOrder::Ascending)?;
            let next = next.map(|(key, _)| keys::id_at(&key, all.len()).map(NodeId)).transpose()?;
            match next {
                Some(node) if turn.contains(&node) => break,
                Some(node) => {
                    turn.push(node);
                    last = Some(node);
                    let prefix = List::ClaimsOf(&class, &node).prefix(task);
                    let list = IndexListing { column: Column::Frontier, prefix: &prefix, order: KeyOrder::Ascending };
                    numbers.extend(list.head(&view, each, |key, _| keys::last_number(key))?);
                }
                None if wrapped => break,
                None => (last, wrapped) = (None, true),
            }
        }
        summaries(&view, &numbers)
    }

    /// The records of a class in a task, the newest first, without strays.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn newest_in_class(&self, task: &TaskId, class: &HardwareClass, span: &Span) -> Result<Page<RecordSummary>> {
        let prefix = keys::task_class(task, &keys::class(class));
        listed(&self.view(), Column::ClassRecords, &prefix, KeyOrder::Descending, span)
    }

    /// How many children of a class a record has, but at most `at_most`. Children of other classes are looked at too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn children_count(&self, id: &RecordId, class: &HardwareClass, at_most: usize) -> Result<usize> {
        let view = self.view();
        let Some(parent) = number_of(&view, Kind::Experiment, &(*id).into())? else { return Ok(0) };
        let class = keys::class(class);
        let head = class.first_chunk::<8>().map(<[u8; 8]>::as_slice);
        let (mut count, mut seen) = (0, 0);
        view.each(Column::Children, &parent.to_be_bytes(), &mut |_, value| {
            seen += 1;
            count += usize::from(head == Some(value));
            let done = count >= at_most || seen >= CHILDREN;
            Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(count.min(at_most))
    }

    /// Both verdicts on a record, with what led to them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn judgement(&self, id: &RecordId) -> Result<Option<Judgement>> {
        let view = self.view();
        let Some(row) = row_of(&view, id)? else { return Ok(None) };
        let s = &row.summary;
        let level = lookup::standing(&view, &s.node_id, &keys::class(&s.class))?.level;
        let goal = lookup::task_state(&view, &s.task_id)?.unwrap_or_default().goal();
        Ok(Some(lookup::examine(&view, &row, goal, level)?.judge()))
    }

    /// The first `limit` control events about a record that a node signed, in (timestamp, id) order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events_of(&self, id: &RecordId, node: &NodeId, limit: usize) -> Result<Vec<Signed<ControlEvent>>> {
        let view = self.view();
        let prefix = keys::events(id, node);
        let list = IndexListing { column: Column::About, prefix: &prefix, order: KeyOrder::Ascending };
        list.head(&view, limit, |_, value| event(&view, keys::number_at(value, 0)?))
    }

    /// Results of a record's script with other seeds, as this node's own key and the keys that its operator trusts
    /// report them: the first [`REPEATS_OF_ONE`] events of each about the record that report some.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn repeats(&self, id: &RecordId) -> Result<Vec<Repeats>> {
        let mut repeats = Vec::new();
        for node in self.seeds()? {
            for event in self.events_of(id, &node, REPEATS_OF_ONE)? {
                if let ControlBody::Repeats(found) = &event.body {
                    repeats.push(found.clone());
                }
            }
        }
        Ok(repeats)
    }

    /// Whether a node signed a measurement of a record, whether it counts or not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn measured_by(&self, node: &NodeId, id: &RecordId) -> Result<bool> {
        let mut measured = false;
        self.view().each(Column::About, &keys::events(id, node), &mut |_, value| {
            measured = keys::is_measurement(value);
            Ok(if measured { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(measured)
    }

    /// Records whose local verdict is disputed, by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_disputes(&self) -> Result<Vec<RecordId>> {
        self.disputed(false, usize::MAX)
    }

    /// The next `limit` of the records whose local verdict is disputed, after `after` in the order of their ids,
    /// beginning anew after the last. At most one round of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_disputes_in_turn(&self, after: Option<RecordId>, limit: usize) -> Result<Vec<RecordId>> {
        let view = self.view();
        let prefix = [0];
        let list = IndexListing { column: Column::Disputes, prefix: &prefix, order: KeyOrder::Ascending };
        let id = |key: &[u8], _: &[u8]| keys::last_id(key).map(RecordId);
        let span = Span { after: after.and_then(|id| Cursor::of(&id.0)), ..Span::first(limit) };
        let mut ids = list.page(&view, &span, id)?.items;
        if after.is_some() {
            let rest = list.head(&view, limit.saturating_sub(ids.len()), id)?;
            ids.extend(rest.into_iter().filter(|id| after.is_some_and(|after| *id <= after)));
        }
        Ok(ids)
    }

    /// The first `limit` records whose global verdict is disputed, by id. Anybody can make it so.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn globally_disputed(&self, limit: usize) -> Result<Vec<RecordId>> {
        self.disputed(true, limit)
    }

    fn disputed(&self, global: bool, limit: usize) -> Result<Vec<RecordId>> {
        let prefix = [u8::from(global)];
        let list = IndexListing { column: Column::Disputes, prefix: &prefix, order: KeyOrder::Ascending };
        list.head(&self.view(), limit, |key, _| keys::last_id(key).map(RecordId))
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
