//! The changes of a task's graph since an earlier look, found by the task's entries in the change log.
//!
//! Each change of a graph belongs to an entry of the task: a record adds itself and may take its parent off a frontier,
//! and a control event may change the verdict of its record, and with it the parent's place. A new root, a manifest or
//! the level of a signer may change every record: the reader then gets the whole graph.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
};

use spore_protocol::{Kind, SignedObject, Status, TaskId};

use super::{
    graph::{GraphChanges, index},
    tasks::{moved, task_sequence},
};
use crate::{
    columns::Column,
    db::{DbSnapshot, KeyOrder, KeyReader},
    error::{Damage, Result},
    keys,
    lookup::{number_of, placing},
    store::Store,
    values::{self, LogEntry, RecordRow},
};

/// Entries of the change log that are followed. Each takes up to four reads by key: with more entries, the scan that
/// reads the whole graph of a usual task is faster.
const MAX_ENTRIES: usize = 2_000;

/// Bytes of objects that are read, some KiB each. Without this bound, the largest objects that can be signed would
/// make a small request read gigabytes.
const MAX_BYTES: usize = 16 << 20;

impl Store {
    /// The records of a task that were added or changed after `since`, the sequence number of an earlier graph.
    /// None if only the whole graph shows the changes: after a new root or a manifest, after thousands of changes, or if
    /// the task never had this sequence number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn graph_changes(&self, task: &TaskId, since: u64) -> Result<Option<GraphChanges>> {
        let view = self.view();
        let sequence = task_sequence(&view, task)?;
        if since > sequence || moved(&view, task)? > since {
            return Ok(None);
        }
        let Some(entries) = entries_after(&view, task, since)? else { return Ok(None) };
        let mut changed = Changed { view, task: *task, rows: BTreeMap::new(), bytes: 0 };
        for entry in entries {
            if !changed.follow(entry)? {
                return Ok(None);
            }
        }
        changed.into_graph(sequence).map(Some)
    }
}

/// The sequence numbers of the task's entries after `since`; none if there are too many.
fn entries_after(view: &DbSnapshot<'_>, task: &TaskId, since: u64) -> Result<Option<Vec<u64>>> {
    let mut entries = Vec::new();
    let from = keys::task_sequence(task, since.saturating_add(1));
    view.walk(Column::LogByTask, &task.0, Some(&from), KeyOrder::Ascending, &mut |key, _| {
        entries.push(keys::last_number(key)?);
        Ok(if entries.len() > MAX_ENTRIES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(if entries.len() > MAX_ENTRIES { None } else { Some(entries) })
}

/// The records that may have changed.
struct Changed<'a> {
    view: DbSnapshot<'a>,
    task: TaskId,
    /// By sequence number, without their texts.
    rows: BTreeMap<u64, RecordRow>,
    /// Of the objects read so far.
    bytes: usize,
}

impl Changed<'_> {
    /// Collects the records that an entry of the log may have changed; false if that may be all of them, or if they are
    /// too large to be read.
    fn follow(&mut self, number: u64) -> Result<bool> {
        let entry = self.view.get(Column::Log, &keys::number(number))?;
        let entry = entry.ok_or(Damage::NoEntry { column: Column::Log.name(), number })?;
        match LogEntry::decode(&entry)? {
            LogEntry::Record => self.record(number),
            LogEntry::Other(Kind::Control, ..) => self.event(number),
            LogEntry::Other(Kind::Task, ..) => Ok(false),
            LogEntry::Other(..) => Ok(true),
        }
    }

    fn record(&mut self, number: u64) -> Result<bool> {
        let task = self.task;
        let Some(row) = self.row(number)? else { return Ok(false) };
        let s = &row.summary;
        if row.parent_number == 0 {
            // A parentless record that is a stray never moved the root, unless its signer is the task's founder.
            return Ok(s.stray && TaskId::from(s.id) != task);
        }
        self.with_parent(number)
    }

    /// Adds a record, and the parent that it may have taken off the frontier, or put back.
    fn with_parent(&mut self, number: u64) -> Result<bool> {
        let Some(row) = self.row(number)? else { return Ok(false) };
        let parent = if row.summary.status == Status::Keep { row.parent_number } else { 0 };
        Ok(parent == 0 || self.row(parent)?.is_some())
    }

    fn event(&mut self, number: u64) -> Result<bool> {
        let Some(object) = self.object(number)? else { return Ok(false) };
        let SignedObject::Control(event) = values::decode_stored(&object)? else {
            return Err(Damage::WrongKind { number, expected: Kind::Control }.into());
        };
        let Some(record) = event.experiment_id() else { return Ok(true) };
        // An event may come before its record, which then has an entry of its own, perhaps in another task.
        let Some(record) = number_of(&self.view, Kind::Experiment, &record.into())? else { return Ok(true) };
        Ok(placing(&self.view, record)?.task_id != self.task || self.with_parent(record)?)
    }

    /// A record's row, read once; none if it exceeds the bytes that may be read.
    fn row(&mut self, number: u64) -> Result<Option<&RecordRow>> {
        if !self.rows.contains_key(&number) {
            let Some(object) = self.object(number)? else { return Ok(None) };
            let row = RecordRow::new(values::stored_record(&object)?, placing(&self.view, number)?, number);
            self.rows.insert(number, row.without_texts());
        }
        Ok(self.rows.get(&number))
    }

    /// An object as it is on disk; none if it exceeds the bytes that may be read.
    fn object(&mut self, number: u64) -> Result<Option<Vec<u8>>> {
        let object = self.view.get(Column::Objects, &keys::number(number))?;
        let object = object.ok_or(Damage::NoEntry { column: Column::Objects.name(), number })?;
        self.bytes = self.bytes.saturating_add(object.len());
        Ok(if self.bytes > MAX_BYTES { None } else { Some(object) })
    }

    fn into_graph(self, sequence: u64) -> Result<GraphChanges> {
        let mut rows: Vec<_> = self.rows.into_values().collect();
        rows.sort_unstable_by_key(|row| (row.summary.timestamp, row.summary.id));
        let mut graph = GraphChanges::empty(sequence);
        let mut classes = HashMap::new();
        for row in rows {
            let (point, s) = (row.point(&keys::class(&row.summary.class)), row.summary);
            let class = match classes.get(&s.class) {
                Some(class) => *class,
                None => {
                    let class = index(graph.class_names.len())?;
                    graph.class_names.push(s.class.clone());
                    classes.insert(s.class, class);
                    class
                }
            };
            graph.push(s.id, s.timestamp, &point, class);
            graph.parents.push(s.parent);
        }
        Ok(graph)
    }
}
