//! One insertion: objects in, one write batch out.
//!
//! An [`InsertBatch`] reads its own writes, so that parents, children and events may come together in any order. Rows
//! and counters stay decoded until [`InsertBatch::finish`] writes them, and judges each record with new measurements once.
//! Then they stay decoded in the [`WriteCache`] for the next batch. Nothing is on disk before the store commits the
//! overlay.

mod cache;
mod control;
mod deeds;
mod frontier;
mod levels;
mod lineage;
mod pending;
mod profile;
mod record;
mod removal;
mod series;
mod task;
mod timeline;
mod tombstones;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use cache::WriteCache;
#[cfg(test)]
pub use removal::LOOKED_AT;
pub use removal::{DropRules, Rivals};
pub use tombstones::MAX_DROPPED;

use spore_protocol::{HardwareClass, Kind, NodeId, ObjectId, Reject, SignedObject, TaskId};

use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys, lookup,
    overlay::Overlay,
    types::{Change, InsertOutcome, WhyDropped},
    values::{self, ClassState, LogEntry, NodeState, RecordRow, TaskState, Totals, encode},
};

/// An insertion in progress.
pub struct InsertBatch<'a> {
    view: Overlay<'a>,
    tally: Totals,
    /// The last sequence number used.
    sequence: u64,
    /// The last sequence number used before this batch.
    begun_at: u64,
    /// Newest time of arrival known. Pending records expire relative to it.
    now: u64,
    /// Rows, tasks, classes, nodes and publishers that this batch or an earlier one read or changed.
    cache: WriteCache,
    /// Numbers of rows that differ from what is written.
    changed_rows: BTreeSet<u64>,
    /// The trusted keys.
    seeds: BTreeSet<NodeId>,
    /// Numbers of records whose measurements or whose signers' levels changed.
    unjudged: BTreeSet<u64>,
    /// Numbers of records for which the same verdict may have other deeds now.
    unawarded: BTreeSet<u64>,
    /// What follows from new measurements and changed levels.
    levels: levels::LevelChanges,
    /// Tasks whose verdicts changed because of levels.
    moved: BTreeSet<TaskId>,
    /// Uses of words in this batch, by block of numbers.
    words: HashMap<String, Vec<(u64, Vec<u8>)>>,
    /// Tasks whose newest records changed.
    rank_changed: BTreeSet<TaskId>,
    deed_changes: BTreeMap<NodeId, deeds::DeedChanges>,
    changes: Vec<Change>,
    /// Whether there is anything to write.
    dirty: bool,
    /// Records that were pending and are decided now, with why they were refused.
    resolved: HashMap<ObjectId, Option<Reject>>,
    late_rejects: Vec<(ObjectId, Reject)>,
    dropped_pending: u64,
    /// The oldest pending record that this batch has not removed has this order or a later one.
    pending_from: u64,
    /// The same of the orders of dropped objects that are remembered.
    forgotten: BTreeMap<WhyDropped, u64>,
    /// Children that keep their parents off the reference's frontier: see [`removal`].
    pub(crate) rivals: removal::Rivals,
    budget: pending::ReleaseBudget,
    unreleased: lookup::Unreleased,
    /// Whether expired records are kept: see [`InsertBatch::keeping_expired`].
    keeps_expired: bool,
    /// Whether this batch continues what earlier ones left unsettled.
    continues: bool,
    /// Whether all pending records are kept: see [`InsertBatch::replay`].
    keeps_all: bool,
}

/// A batch that is ready to be written.
pub struct FinishedBatch<'a> {
    pub view: Overlay<'a>,
    /// For the next batch, if this one is written.
    pub cache: WriteCache,
    pub sequence: u64,
    pub changes: Vec<Change>,
    pub resolved: HashMap<ObjectId, Option<Reject>>,
    pub late_rejects: Vec<(ObjectId, Reject)>,
    pub dropped_pending: u64,
    /// Decided records whose waiting records the next batch has to release.
    pub unreleased: lookup::Unreleased,
    /// Whether there is anything to write.
    pub dirty: bool,
    /// Whether the next batch has to continue with [`InsertBatch::settle_left`].
    pub unsettled: bool,
}

impl<'a> InsertBatch<'a> {
    /// # Errors
    /// When the store cannot be read.
    pub fn new(below: &'a dyn KeyReader) -> Result<Self> {
        Self::after(below, WriteCache::default())
    }

    /// A batch after another one that left `cache` and was written.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn after(below: &'a dyn KeyReader, cache: WriteCache) -> Result<Self> {
        let sequence = lookup::sequence(below)?;
        Ok(Self {
            view: Overlay::new(below),
            tally: lookup::tally(below)?,
            sequence,
            begun_at: sequence,
            now: 0,
            cache,
            changed_rows: BTreeSet::new(),
            seeds: lookup::seeds(below)?,
            unjudged: BTreeSet::new(),
            unawarded: BTreeSet::new(),
            levels: levels::LevelChanges::default(),
            moved: BTreeSet::new(),
            words: HashMap::new(),
            rank_changed: BTreeSet::new(),
            deed_changes: BTreeMap::new(),
            changes: Vec::new(),
            dirty: false,
            resolved: HashMap::new(),
            late_rejects: Vec::new(),
            dropped_pending: 0,
            pending_from: 0,
            forgotten: BTreeMap::new(),
            rivals: removal::Rivals::default(),
            budget: pending::ALL_AT_ONCE,
            unreleased: lookup::Unreleased::new(),
            keeps_expired: false,
            continues: false,
            keeps_all: false,
        })
    }

    /// Releases no more pending records than can be written quickly. The next batch continues with
    /// [`FinishedBatch::unreleased`].
    #[must_use]
    pub fn in_steps(self) -> Self {
        Self { budget: pending::ONE_STEP, ..self }
    }

    /// Keeps expired records where `keeps` is true: an earlier batch left records to be released, whose parents
    /// arrived in time.
    #[must_use]
    pub fn keeping_expired(self, keeps: bool) -> Self {
        Self { keeps_expired: keeps, ..self }
    }

    /// A batch of a replay. No pending record expires or exceeds a limit: the records were acknowledged, and a parent
    /// that was lost may be inserted later in the replay.
    ///
    /// # Errors
    /// As [`InsertBatch::new`].
    pub fn replay(below: &'a dyn KeyReader) -> Result<Self> {
        Ok(Self { keeps_all: true, ..Self::new(below)? })
    }

    /// A batch of a replay, after another one that left `cache` and was written.
    ///
    /// # Errors
    /// As [`InsertBatch::new`].
    pub fn replay_after(below: &'a dyn KeyReader, cache: WriteCache) -> Result<Self> {
        Ok(Self { keeps_all: true, ..Self::after(below, cache)? })
    }

    /// The last sequence number used.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Adds one object. The caller has verified its signature.
    ///
    /// # Errors
    /// When the store cannot be read. Faults of the object are its [`InsertOutcome`].
    pub fn insert(&mut self, object: &SignedObject, received_at: u64) -> Result<InsertOutcome> {
        self.now = self.now.max(received_at);
        if self.view.has(Column::Ids, &keys::id(object.kind(), &object.id()))? {
            return Ok(InsertOutcome::Known);
        }
        if !self.may_return(object.kind(), &object.id())? {
            return Ok(InsertOutcome::Known);
        }
        match object {
            SignedObject::Experiment(record) => self.insert_record(record, received_at),
            SignedObject::Control(event) => self.insert_control(event),
            SignedObject::Task(manifest) => self.insert_manifest(manifest),
            SignedObject::Profile(profile) => self.insert_profile(profile),
        }
    }

    /// The next object gets this sequence number. For a replay of a change log with gaps.
    pub fn skip_to(&mut self, sequence: u64) {
        self.sequence = sequence.saturating_sub(1);
    }

    /// The next pending record gets this arrival number. For a replay.
    pub fn replay_pending(&mut self, order: u64) {
        self.tally.next_pending = order;
    }

    /// The next refused record gets this arrival number. For a replay.
    pub fn replay_refused(&mut self, order: u64) {
        self.tally.next_refused = order;
    }

    /// Adds an entry to the change log for an object that is no longer stored: a profile that was replaced.
    pub fn replay_line(&mut self, change: &Change) -> Result<()> {
        self.skip_to(change.sequence);
        self.log(change.kind, change.id, change.task_id)?;
        Ok(())
    }

    /// Judges records, and writes the rows and counters into the overlay.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn finish(mut self) -> Result<FinishedBatch<'a>> {
        self.expire()?;
        let complete = self.settle()?;
        self.judge_all()?;
        self.update_reputations()?;
        self.write_rows()?;
        self.write_words()?;
        self.rank_tasks()?;
        for (task, state) in self.cache.tasks.take_touched() {
            // Nothing of the task is left after a removal.
            if state == TaskState::default() {
                self.view.delete(Column::Tasks, task.0.to_vec());
                self.tally.tasks = self.tally.tasks.saturating_sub(1);
                continue;
            }
            self.view.put(Column::Tasks, task.0.to_vec(), encode(&state)?);
        }
        for ((task, class), state) in self.cache.classes.take_touched() {
            let key = keys::task_class(&task, &class);
            match state.records {
                0 => self.view.delete(Column::Classes, key),
                _ => self.view.put(Column::Classes, key, encode(&state)?),
            }
        }
        self.write_nodes()?;
        for (key, publisher) in self.cache.publishers.take_touched() {
            match publisher.experiments {
                0 => self.view.delete(Column::Publishers, key),
                _ => self.view.put(Column::Publishers, key, encode(&publisher)?),
            }
        }
        self.write_standings();
        for task in std::mem::take(&mut self.moved) {
            self.view.put(Column::Moved, task.0.to_vec(), keys::number(self.sequence));
        }
        let unsettled = !complete
            || self.continues && self.view.first(Column::Unsettled, &[], None, KeyOrder::Ascending)?.is_some();
        self.view.put(Column::Meta, keys::TALLY.to_vec(), encode(&self.tally)?);
        self.view.put(Column::Meta, keys::SEQUENCE.to_vec(), self.sequence.to_be_bytes().to_vec());
        self.cache.trim();
        Ok(FinishedBatch {
            view: self.view,
            cache: self.cache,
            sequence: self.sequence,
            changes: self.changes,
            resolved: self.resolved,
            late_rejects: self.late_rejects,
            dropped_pending: self.dropped_pending,
            unreleased: self.unreleased,
            dirty: self.dirty,
            unsettled,
        })
    }

    /// Writes an object with its entry in the change log. Returns its sequence number.
    fn store_object(&mut self, object: &SignedObject, task_id: Option<TaskId>) -> Result<u64> {
        self.store(object.kind(), object.id(), values::encode_stored(object), task_id)
    }

    /// As [`InsertBatch::store_object`], for an object that is encoded already.
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

    /// A record's row with the changes of this batch.
    fn row(&mut self, number: u64) -> Result<&mut RecordRow> {
        if self.cache.rows.get(number).is_none() {
            self.cache.rows.insert(lookup::row(&self.view, number)?.without_texts());
        }
        // The row was read just now, if it was not cached before.
        self.cache.rows.get_mut(number).ok_or_else(|| Damage::NoEntry { column: Column::Records.name(), number }.into())
    }

    /// A record's row, to be changed.
    fn row_mut(&mut self, number: u64) -> Result<&mut RecordRow> {
        self.changed_rows.insert(number);
        self.row(number)
    }

    fn write_rows(&mut self) -> Result<()> {
        for number in std::mem::take(&mut self.changed_rows) {
            let Some(row) = self.cache.rows.get(number) else { continue };
            let point = row.point(&keys::class(&row.summary.class)).encode();
            let key = keys::timeline(keys::TimeList::TaskRecords(row.summary.task_id), &row.moment());
            self.view.put(Column::Records, keys::number(number), row.placing().encode());
            self.view.put(Column::Timeline, key, point);
        }
        Ok(())
    }

    /// Notes that a record uses a word. True when this is its first use by the record.
    fn note_word(&mut self, word: &str, number: u64) -> bool {
        let (block, low) = keys::word_use(number);
        let Some(blocks) = self.words.get_mut(word) else {
            self.words.insert(word.to_owned(), vec![(block, vec![low])]);
            return true;
        };
        // Mostly the last block, but a repair uses numbers in any order.
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

    /// Adds the uses of words in this batch to the stored ones.
    fn write_words(&mut self) -> Result<()> {
        // Blocks after the last number used before are not stored yet. The block of that number may be cached.
        let (begun, last) = (keys::word_use(self.begun_at).0, keys::word_use(self.sequence).0);
        let mut cached_block = self.cache.words.take().filter(|(block, _)| *block == begun);
        let mut left = if last > begun { Some(HashMap::new()) } else { None };
        for (word, blocks) in std::mem::take(&mut self.words) {
            for (block, new) in blocks {
                let key = keys::word_uses(&word, block);
                let known = match &mut cached_block {
                    _ if block > begun => None,
                    Some((_, uses)) if block == begun => uses.remove(&word),
                    _ => self.view.get(Column::Words, &key)?,
                };
                let mut uses = known.unwrap_or_default();
                uses.extend(new);
                // In order already, unless a repair uses lower numbers again.
                uses.sort_unstable();
                uses.dedup();
                match (&mut left, &mut cached_block) {
                    (Some(left), _) if block == last => drop(left.insert(word.clone(), uses.clone())),
                    (None, Some((_, all))) if block == last => drop(all.insert(word.clone(), uses.clone())),
                    _ => {}
                }
                self.view.put(Column::Words, key, uses);
            }
        }
        self.cache.words = left.map(|uses| (last, uses)).or(cached_block);
        Ok(())
    }

    /// A task's state. The first thing known of a task creates it.
    fn task(&mut self, id: &TaskId) -> Result<&mut TaskState> {
        self.cache.tasks.touch(*id, |id| {
            let state = lookup::task_state(&self.view, id)?;
            if state.is_none() {
                self.tally.tasks += 1;
            }
            let state = state.unwrap_or_default();
            self.cache.large |= cache::is_large(&state);
            Ok(state)
        })
    }

    /// The state of a class in a task.
    fn class(&mut self, task: &TaskId, class: &HardwareClass) -> Result<&mut ClassState> {
        self.cache.classes.touch((*task, keys::class(class)), |(task, key)| {
            let known = self.view.get(Column::Classes, &keys::task_class(task, key))?;
            let empty = || Ok(ClassState { class: class.clone(), counted: values::Counters::default(), records: 0 });
            known.map_or_else(empty, |bytes| values::decode(&bytes))
        })
    }

    /// What a node did in a task, or in all tasks.
    fn node(&mut self, task: Option<TaskId>, node: NodeId) -> Result<&mut NodeState> {
        self.cache.nodes.touch((task, node), |(task, node)| {
            let known = self.view.get(Column::Nodes, &keys::participant(task.as_ref(), node))?;
            Ok(known.map(|bytes| values::decode(&bytes)).transpose()?.unwrap_or_default())
        })
    }

    /// A node whose deeds were all removed is in no list.
    fn write_nodes(&mut self) -> Result<()> {
        for ((task, node), state) in self.cache.nodes.take_touched() {
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
