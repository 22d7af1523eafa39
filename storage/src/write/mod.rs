//! One insertion: objects in, one batch out.
//!
//! A [`Batch`] reads its own writes, so parents, children and events may come together in any
//! order. Counters are kept decoded until [`Batch::finish`], which also judges each record that
//! something was said about, once. Nothing is on disk before the store commits the overlay.

mod control;
mod lineage;
mod pending;
mod record;
mod task;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use spore_protocol::{Kind, ObjectId, RecordId, Reject, SignedObject, TaskId};

use crate::{
    columns::Column,
    db::Source,
    error::Result,
    keys::{self, ClassKey},
    overlay::Overlay,
    read,
    types::{Change, Outcome},
    values::{self, ClassState, Facts, LogEntry, Standing, Tally, TaskState, encode},
};

/// An insertion under way.
pub struct Batch<'a> {
    view: Overlay<'a>,
    tally: Tally,
    /// The last one given.
    sequence: u64,
    tasks: BTreeMap<TaskId, TaskState>,
    classes: BTreeMap<(TaskId, ClassKey), ClassState>,
    /// Records whose events changed.
    unjudged: BTreeSet<RecordId>,
    changes: Vec<Change>,
    /// What became of records that were pending when the batch began or while it was made.
    resolved: HashMap<ObjectId, Option<Reject>>,
    late_rejects: Vec<(ObjectId, Reject)>,
    dropped_pending: u64,
}

/// A batch ready to be written.
pub struct Finished<'a> {
    pub view: Overlay<'a>,
    pub sequence: u64,
    pub changes: Vec<Change>,
    pub resolved: HashMap<ObjectId, Option<Reject>>,
    pub late_rejects: Vec<(ObjectId, Reject)>,
    pub dropped_pending: u64,
}

impl<'a> Batch<'a> {
    /// # Errors
    /// When the store cannot be read.
    pub fn new(below: &'a dyn Source) -> Result<Self> {
        Ok(Self {
            view: Overlay::new(below),
            tally: read::tally(below)?,
            sequence: read::sequence(below)?,
            tasks: BTreeMap::new(),
            classes: BTreeMap::new(),
            unjudged: BTreeSet::new(),
            changes: Vec::new(),
            resolved: HashMap::new(),
            late_rejects: Vec::new(),
            dropped_pending: 0,
        })
    }

    /// Adds one object, whose signature the caller vouches for.
    ///
    /// # Errors
    /// When the store cannot be read. What is wrong with the object is an [`Outcome`].
    pub fn insert(&mut self, object: &SignedObject, received_at: u64) -> Result<Outcome> {
        if self.view.has(Column::Objects, &keys::object(object.kind(), &object.id()))? {
            return Ok(Outcome::Known);
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
    pub fn replay_held(&mut self, order: u64) {
        self.tally.next_pending = order;
    }

    /// Judges, and writes the counters.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn finish(mut self) -> Result<Finished<'a>> {
        for id in std::mem::take(&mut self.unjudged) {
            self.judge(&id)?;
        }
        for (task, state) in std::mem::take(&mut self.tasks) {
            self.view.put(Column::Tasks, task.0.to_vec(), encode(&state)?);
        }
        for ((task, class), state) in std::mem::take(&mut self.classes) {
            self.view.put(Column::Classes, keys::task_class(&task, &class), encode(&state)?);
        }
        self.view.put(Column::Meta, keys::TALLY.to_vec(), encode(&self.tally)?);
        self.view.put(Column::Meta, keys::SEQUENCE.to_vec(), self.sequence.to_be_bytes().to_vec());
        Ok(Finished {
            view: self.view,
            sequence: self.sequence,
            changes: self.changes,
            resolved: self.resolved,
            late_rejects: self.late_rejects,
            dropped_pending: self.dropped_pending,
        })
    }

    /// Writes an object with its place in the log, and returns its sequence number.
    fn store_object(&mut self, object: &SignedObject, task_id: Option<TaskId>) -> Result<u64> {
        self.sequence += 1;
        let (kind, id, sequence) = (object.kind(), object.id(), self.sequence);
        self.view.put(Column::Objects, keys::object(kind, &id), values::encode_object(object));
        self.view.put(Column::Log, sequence.to_be_bytes().to_vec(), encode(&LogEntry(kind, id, task_id))?);
        if let Some(task) = task_id {
            self.view.put(Column::LogByTask, keys::task_sequence(&task, sequence), Vec::new());
        }
        self.changes.push(Change { sequence, kind, id, task_id });
        Ok(sequence)
    }

    /// A task's state, which exists from the first thing known of it.
    fn task(&mut self, id: &TaskId) -> Result<&mut TaskState> {
        if !self.tasks.contains_key(id) {
            let state = read::task_state(&self.view, id)?;
            if state.is_none() {
                self.tally.tasks += 1;
            }
            self.tasks.insert(*id, state.unwrap_or_default());
        }
        Ok(self.tasks.entry(*id).or_default())
    }

    /// The state of the record's class in its task.
    fn class(&mut self, facts: &Facts) -> Result<&mut ClassState> {
        let key = (facts.task_id, keys::class(&facts.class));
        if !self.classes.contains_key(&key) {
            let known = self.view.get(Column::Classes, &keys::task_class(&key.0, &key.1))?;
            if let Some(bytes) = known {
                self.classes.insert(key, values::decode(&bytes)?);
            }
        }
        let empty = || ClassState { class: facts.class.clone(), experiments: 0, frontier: 0 };
        Ok(self.classes.entry(key).or_insert_with(empty))
    }

    fn put_standing(&mut self, id: &RecordId, standing: Standing) {
        self.view.put(Column::Standing, id.0.to_vec(), standing.encode());
    }

    fn insert_profile(&mut self, profile: &spore_protocol::Signed<spore_protocol::NodeProfile>) -> Result<Outcome> {
        let key = profile.node_id.0.to_vec();
        if let Some(held) = self.view.get(Column::Profiles, &key)? {
            let (timestamp, id) = (keys::number_at(&held, 0)?, ObjectId(keys::last_id(&held)?));
            if (timestamp, id) > (profile.timestamp, profile.id()) {
                return Ok(Outcome::Known);
            }
            self.view.delete(Column::Objects, keys::object(Kind::Profile, &id));
        } else {
            self.tally.profiles += 1;
        }
        self.view.put(Column::Profiles, key, [profile.timestamp.to_be_bytes().as_slice(), &profile.id().0].concat());
        self.store_object(&SignedObject::Profile(profile.clone()), None)?;
        Ok(Outcome::New)
    }
}
