//! One insertion: objects in, one batch out.
//!
//! A [`InsertBatch`] reads its own writes, so parents, children and events may come together in any
//! order. Rows and counters are kept decoded until [`InsertBatch::finish`], which also judges each record
//! that something was said about, once, and after it, in the [`Memory`] that the next batch begins
//! with. Nothing is on disk before the store commits the overlay.

mod control;
mod deeds;
mod lineage;
mod memory;
mod pending;
mod profile;
mod record;
mod series;
mod task;
mod timeline;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use memory::Memory;

use spore_protocol::{HardwareClass, Kind, NodeId, ObjectId, Reject, SignedObject, TaskId};

use crate::{
    columns::Column,
    db::KeyReader,
    error::{Damage, Result},
    keys, lookup,
    overlay::Overlay,
    types::{Change, InsertOutcome},
    values::{self, ClassState, LogEntry, NodeState, RecordRow, TaskState, Totals, encode},
};

/// An insertion under way.
pub struct InsertBatch<'a> {
    view: Overlay<'a>,
    tally: Totals,
    /// The last one given, and the last one given before this batch.
    sequence: u64,
    begun_at: u64,
    /// The latest time of arrival told: by it, pending records grow old.
    now: u64,
    /// Rows, tasks, classes, nodes and publishers, read or changed here or before.
    memory: Memory,
    /// Rows that differ from what is written.
    changed_rows: BTreeSet<u64>,
    /// Records whose events changed, or what their verdict is worth.
    unjudged: BTreeSet<u64>,
    /// Uses of words, by block of numbers.
    words: HashMap<String, Vec<(u64, Vec<u8>)>>,
    /// Tasks whose newest records changed.
    rank_changed: BTreeSet<TaskId>,
    deed_changes: BTreeMap<NodeId, deeds::DeedChanges>,
    changes: Vec<Change>,
    /// Whether anything is to be written.
    dirty: bool,
    /// What became of records that were pending when the batch began or while it was made.
    resolved: HashMap<ObjectId, Option<Reject>>,
    late_rejects: Vec<(ObjectId, Reject)>,
    dropped_pending: u64,
    budget: pending::ReleaseBudget,
    unreleased: lookup::Unreleased,
    /// Whether nothing that waits is too old: see [`InsertBatch::keeping_expired`].
    keeps_expired: bool,
    /// Whether all that waits is kept: see [`InsertBatch::replay`].
    keeps_all: bool,
}

/// A batch ready to be written.
pub struct Finished<'a> {
    pub view: Overlay<'a>,
    /// For the next batch, if this one is written.
    pub memory: Memory,
    pub sequence: u64,
    pub changes: Vec<Change>,
    pub resolved: HashMap<ObjectId, Option<Reject>>,
    pub late_rejects: Vec<(ObjectId, Reject)>,
    pub dropped_pending: u64,
    /// What the next batch has to go on with.
    pub unreleased: lookup::Unreleased,
    /// Whether anything is to be written.
    pub dirty: bool,
}

impl<'a> InsertBatch<'a> {
    /// # Errors
    /// When the store cannot be read.
    pub fn new(below: &'a dyn KeyReader) -> Result<Self> {
        Self::after(below, Memory::default())
    }

    /// With what the batch before this one left, all of which is written.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn after(below: &'a dyn KeyReader, memory: Memory) -> Result<Self> {
        let sequence = lookup::sequence(below)?;
        Ok(Self {
            view: Overlay::new(below),
            tally: lookup::tally(below)?,
            sequence,
            begun_at: sequence,
            now: 0,
            memory,
            changed_rows: BTreeSet::new(),
            unjudged: BTreeSet::new(),
            words: HashMap::new(),
            rank_changed: BTreeSet::new(),
            deed_changes: BTreeMap::new(),
            changes: Vec::new(),
            dirty: false,
            resolved: HashMap::new(),
            late_rejects: Vec::new(),
            dropped_pending: 0,
            budget: pending::ALL_AT_ONCE,
            unreleased: lookup::Unreleased::new(),
            keeps_expired: false,
            keeps_all: false,
        })
    }

    /// Releases no more waiting records than are quickly written: [`Finished::unreleased`] is for the
    /// next batch to begin with.
    #[must_use]
    pub fn in_steps(self) -> Self {
        Self { budget: pending::ONE_STEP, ..self }
    }

    /// Drops nothing for its age where `spares` is true: a batch before this one left records that are to be
    /// released, whose parents came in time.
    #[must_use]
    pub fn keeping_expired(self, spares: bool) -> Self {
        Self { keeps_expired: spares, ..self }
    }

    /// Of a replay, in which no waiting record is too old or one too many: those that are here were
    /// acknowledged, and a parent that was lost may come later in the same replay.
    ///
    /// # Errors
    /// As [`InsertBatch::new`].
    pub fn replay(below: &'a dyn KeyReader) -> Result<Self> {
        Ok(Self { keeps_all: true, ..Self::new(below)? })
    }

    /// The last number given.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Adds one object, whose signature the caller vouches for.
    ///
    /// # Errors
    /// When the store cannot be read. What is wrong with the object is an [`InsertOutcome`].
    pub fn insert(&mut self, object: &SignedObject, received_at: u64) -> Result<InsertOutcome> {
        self.now = self.now.max(received_at);
        if self.view.has(Column::Ids, &keys::id(object.kind(), &object.id()))? {
            return Ok(InsertOutcome::Known);
        }
        match object {
            SignedObject::Experiment(record) => self.insert_record(record, received_at),
            SignedObject::Control(event) => self.insert_control(event),
            SignedObject::Task(manifest) => self.insert_manifest(manifest),
            SignedObject::Profile(profile) => self.insert_profile(profile),
        }
    }

    /// The number that the next object gets, for a replay of a log that has gaps.
    pub fn skip_to(&mut self, sequence: u64) {
        self.sequence = sequence.saturating_sub(1);
    }

    /// The arrival number that the next pending record gets, for a replay too.
    pub fn replay_pending(&mut self, order: u64) {
        self.tally.next_pending = order;
    }

    /// The arrival number that the next refused record gets, for a replay too.
    pub fn replay_refused(&mut self, order: u64) {
        self.tally.next_refused = order;
    }

    /// Writes a line of the log of an object that is no longer here: a profile since replaced.
    pub fn replay_line(&mut self, change: &Change) -> Result<()> {
        self.skip_to(change.sequence);
        self.log(change.kind, change.id, change.task_id)?;
        Ok(())
    }

    /// Judges, and writes the rows and counters.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn finish(mut self) -> Result<Finished<'a>> {
        self.expire()?;
        for number in std::mem::take(&mut self.unjudged) {
            self.judge(number)?;
        }
        self.update_reputations()?;
        self.write_rows()?;
        self.write_words()?;
        self.rank_tasks()?;
        for (task, state) in self.memory.tasks.take_touched() {
            self.view.put(Column::Tasks, task.0.to_vec(), encode(&state)?);
        }
        for ((task, class), state) in self.memory.classes.take_touched() {
            self.view.put(Column::Classes, keys::task_class(&task, &class), encode(&state)?);
        }
        self.write_nodes()?;
        for (key, publisher) in self.memory.publishers.take_touched() {
            self.view.put(Column::Publishers, key, encode(&publisher)?);
        }
        self.view.put(Column::Meta, keys::TALLY.to_vec(), encode(&self.tally)?);
        self.view.put(Column::Meta, keys::SEQUENCE.to_vec(), self.sequence.to_be_bytes().to_vec());
        self.memory.trim();
        Ok(Finished {
            view: self.view,
            memory: self.memory,
            sequence: self.sequence,
            changes: self.changes,
            resolved: self.resolved,
            late_rejects: self.late_rejects,
            dropped_pending: self.dropped_pending,
            unreleased: self.unreleased,
            dirty: self.dirty,
        })
    }

    /// Writes an object with its place in the log, and returns its sequence number.
    fn store_object(&mut self, object: &SignedObject, task_id: Option<TaskId>) -> Result<u64> {
        self.store(object.kind(), object.id(), values::encode_stored(object), task_id)
    }

    /// As [`InsertBatch::store_object`], of an object as it is to lie on disk.
    fn store(&mut self, kind: Kind, id: ObjectId, stored: Vec<u8>, task_id: Option<TaskId>) -> Result<u64> {
        let number = self.log(kind, id, task_id)?;
        self.view.put(Column::Ids, keys::id(kind, &id), keys::number(number));
        self.view.put(Column::Objects, keys::number(number), stored);
        self.changes.push(Change { sequence: number, kind, id, task_id });
        Ok(number)
    }

    fn log(&mut self, kind: Kind, id: ObjectId, task_id: Option<TaskId>) -> Result<u64> {
        self.dirty = true;
        self.sequence += 1;
        let number = self.sequence;
        self.view.put(Column::Log, keys::number(number), LogEntry::of(kind, id, task_id).encode());
        if let Some(task) = task_id {
            self.view.put(Column::LogByTask, keys::task_sequence(&task, number), Vec::new());
        }
        Ok(number)
    }

    /// A record's row, as it is by now.
    fn row(&mut self, number: u64) -> Result<&mut RecordRow> {
        if self.memory.rows.get(number).is_none() {
            self.memory.rows.insert(lookup::row(&self.view, number)?.without_texts());
        }
        // It was put there just now where it was not before.
        self.memory
            .rows
            .get_mut(number)
            .ok_or_else(|| Damage::NoEntry { column: Column::Records.name(), number }.into())
    }

    /// A record's row, to be changed.
    fn row_mut(&mut self, number: u64) -> Result<&mut RecordRow> {
        self.changed_rows.insert(number);
        self.row(number)
    }

    fn write_rows(&mut self) -> Result<()> {
        for number in std::mem::take(&mut self.changed_rows) {
            let Some(row) = self.memory.rows.get(number) else { continue };
            let point = row.point(&keys::class(&row.summary.class)).encode();
            let key = keys::timeline(keys::TimeList::TaskRecords(row.summary.task_id), &row.moment());
            self.view.put(Column::Records, keys::number(number), row.placing().encode());
            self.view.put(Column::Timeline, key, point);
        }
        Ok(())
    }

    /// A record uses a word; whether it is the first time that it says so.
    fn note_word(&mut self, word: &str, number: u64) -> bool {
        let (block, low) = keys::word_use(number);
        let Some(blocks) = self.words.get_mut(word) else {
            self.words.insert(word.to_owned(), vec![(block, vec![low])]);
            return true;
        };
        // Mostly the last one, but a repair gives numbers in any order.
        match blocks.iter_mut().rev().find(|(other, _)| *other == block) {
            Some((_, lows)) => {
                let first = lows.last() != Some(&low);
                if first {
                    lows.push(low);
                }
                first
            }
            None => {
                blocks.push((block, vec![low]));
                true
            }
        }
    }

    fn write_words(&mut self) -> Result<()> {
        // Nothing is written yet of a block that lies behind all numbers given before, and of the
        // one where they ended the batch before may remember all.
        let (begun, last) = (keys::word_use(self.begun_at).0, keys::word_use(self.sequence).0);
        let mut remembered = self.memory.words.take().filter(|(block, _)| *block == begun);
        let mut left = if last > begun { Some(HashMap::new()) } else { None };
        for (word, blocks) in std::mem::take(&mut self.words) {
            for (block, new) in blocks {
                let key = keys::word_uses(&word, block);
                let known = match &mut remembered {
                    _ if block > begun => None,
                    Some((_, uses)) if block == begun => uses.remove(&word),
                    _ => self.view.get(Column::Words, &key)?,
                };
                let mut uses = known.unwrap_or_default();
                uses.extend(new);
                // In order already, unless a repair gives old numbers again.
                uses.sort_unstable();
                uses.dedup();
                match (&mut left, &mut remembered) {
                    (Some(left), _) if block == last => drop(left.insert(word.clone(), uses.clone())),
                    (None, Some((_, all))) if block == last => drop(all.insert(word.clone(), uses.clone())),
                    _ => {}
                }
                self.view.put(Column::Words, key, uses);
            }
        }
        self.memory.words = left.map(|uses| (last, uses)).or(remembered);
        Ok(())
    }

    /// A task's state, which exists from the first thing known of it.
    fn task(&mut self, id: &TaskId) -> Result<&mut TaskState> {
        self.memory.tasks.touch(*id, |id| {
            let state = lookup::task_state(&self.view, id)?;
            if state.is_none() {
                self.tally.tasks += 1;
            }
            let state = state.unwrap_or_default();
            self.memory.large |= memory::is_large(&state);
            Ok(state)
        })
    }

    /// The state of a class in a task.
    fn class(&mut self, task: &TaskId, class: &HardwareClass) -> Result<&mut ClassState> {
        self.memory.classes.touch((*task, keys::class(class)), |(task, key)| {
            let known = self.view.get(Column::Classes, &keys::task_class(task, key))?;
            let empty = || Ok(ClassState { class: class.clone(), counted: values::Counters::default() });
            known.map_or_else(empty, |bytes| values::decode(&bytes))
        })
    }

    /// What a node did in a task, or at all.
    fn node(&mut self, task: Option<TaskId>, node: NodeId) -> Result<&mut NodeState> {
        self.memory.nodes.touch((task, node), |(task, node)| {
            let known = self.view.get(Column::Nodes, &keys::participant(task.as_ref(), node))?;
            Ok(known.map(|bytes| values::decode(&bytes)).transpose()?.unwrap_or_default())
        })
    }

    /// A node that did nothing, after all, is in no list.
    fn write_nodes(&mut self) -> Result<()> {
        for ((task, node), state) in self.memory.nodes.take_touched() {
            let key = keys::participant(task.as_ref(), &node);
            if state == NodeState::default() {
                self.view.delete(Column::Nodes, key);
            } else {
                self.view.put(Column::Nodes, key, encode(&state)?);
            }
        }
        Ok(())
    }
}
