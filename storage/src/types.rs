//! What the store answers: plain values, made afresh from a snapshot, never written back.

use std::{collections::HashMap, fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};
use spore_protocol::{
    Cid, EventId, Goal, HardwareClass, Kind, NodeId, ObjectId, Record, RecordId, Reject, Signed, Status, TaskId,
    TaskManifest, Verdict, VerifiedObject,
};

use crate::{columns::Column, error::StoreError};

/// One object that became part of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// Grows by one with each object stored here; a local fact.
    pub sequence: u64,
    pub kind: Kind,
    pub id: ObjectId,
    /// None for profiles, and for control events that name no task and no known record.
    pub task_id: Option<TaskId>,
}

/// What [`crate::Store::insert`] did with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// Stored now.
    New,
    /// The object was stored already, or it is a profile older than the one in force.
    Known,
    /// Kept on disk until its parent is stored.
    Pending { missing: RecordId },
    /// Invalid by the lineage rules.
    Rejected(Reject),
    /// Not stored, and not decided: the store could not be read or written for this object.
    Failed(StoreError),
}

/// What one insertion did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InsertReport {
    /// One for each object given, in the same order.
    pub outcomes: Vec<(ObjectId, InsertOutcome)>,
    /// Every object stored now, also those that were pending before.
    pub changes: Vec<Change>,
    /// Objects pending from earlier insertions that turned out to be invalid.
    pub late_rejects: Vec<(ObjectId, Reject)>,
    /// Pending objects that were dropped, oldest first, to keep within the bounds.
    pub dropped_pending: u64,
}

impl InsertReport {
    /// Corrects the outcome of each object that was reported as pending and is decided by now: its parent came later in
    /// the same insertion. `resolved` has the decided records, with why they were refused.
    pub(crate) fn settle(&mut self, resolved: &HashMap<ObjectId, Option<Reject>>) {
        for (id, outcome) in &mut self.outcomes {
            if !matches!(outcome, InsertOutcome::Pending { .. }) {
                continue;
            }
            match resolved.get(id) {
                Some(None) => *outcome = InsertOutcome::New,
                Some(Some(reject)) => {
                    *outcome = InsertOutcome::Rejected(reject.clone());
                    self.late_rejects.retain(|(late, _)| late != id);
                }
                None => {}
            }
        }
    }

    /// Adds objects that could not be inserted.
    pub(crate) fn fail(&mut self, objects: &[VerifiedObject], error: &StoreError) {
        self.outcomes.extend(objects.iter().map(|object| (object.id(), InsertOutcome::Failed(error.clone()))));
    }
}

/// Which records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    All,
    Task(TaskId),
    /// Published by this node.
    Node(NodeId),
}

/// Which set two nodes compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncScope {
    Records(TaskId),
    Controls(TaskId),
    Tasks,
    Profiles,
}

/// Where a listing goes on. Opaque text to everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    length: u8,
    bytes: [u8; Self::MOST],
}

impl Cursor {
    /// Bytes in the longest one: of a series, timestamp, id and number.
    const MOST: usize = 48;

    /// From a key's bytes behind its prefix; longer ones than any listing has are none.
    pub(crate) fn of(rest: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MOST];
        bytes.get_mut(..rest.len())?.copy_from_slice(rest);
        Some(Self { length: u8::try_from(rest.len()).ok()?, bytes })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.bytes()))
    }
}

/// Text that no listing gave out as a cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this program: take the one that the previous page gave")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bytes = hex::decode(text).map_err(|_| BadCursor)?;
        Self::of(&bytes).filter(|cursor| cursor.length > 0).ok_or(BadCursor)
    }
}

/// Which way to go through a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From its beginning on: the best, the newest, or the least id.
    #[default]
    Forward,
    Backward,
}

/// Which part of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What was seen last: the page begins behind it, in this direction. None: from the end of the
    /// listing where the direction begins.
    pub after: Option<Cursor>,
    pub direction: Direction,
    /// At most [`MAX_PAGE`] are given.
    pub limit: usize,
}

/// Longest page: one that takes some 10 ms to read.
pub const MAX_PAGE: usize = 5_000;

impl Span {
    /// The first page.
    pub const fn first(limit: usize) -> Self {
        Self { after: None, direction: Direction::Forward, limit }
    }

    /// The page behind a cursor.
    pub const fn after(cursor: Cursor, limit: usize) -> Self {
        Self { after: Some(cursor), direction: Direction::Forward, limit }
    }

    /// The page before a cursor, nearest first.
    pub const fn before(cursor: Cursor, limit: usize) -> Self {
        Self { after: Some(cursor), direction: Direction::Backward, limit }
    }
}

/// Part of a listing, in the order of the direction asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Of the first item: where to turn round.
    pub first: Option<Cursor>,
    /// Of the last item, where there is more behind it.
    pub next: Option<Cursor>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { items: Vec::new(), first: None, next: None }
    }
}

/// A record without its diff, with what is known of it here.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordSummary {
    pub id: RecordId,
    /// Derived from the lineage for version 1 records.
    pub task_id: TaskId,
    pub parent: Option<RecordId>,
    pub depth: u64,
    pub status: Status,
    pub class: HardwareClass,
    /// The task's metric; 0 in crash records.
    pub metric: f64,
    pub node_id: NodeId,
    /// Unix seconds, the signer's claim.
    pub timestamp: u64,
    /// Unix seconds, when it came here.
    pub received_at: u64,
    pub sequence: u64,
    pub num_steps: u64,
    pub num_params: u64,
    pub peak_vram_mb: f64,
    /// Seconds.
    pub time_budget: u64,
    pub code_cid: Option<Cid>,
    pub gpu_model: String,
    pub description: String,
    pub hypothesis: String,
    pub agent_model: String,
    pub version: u64,
    pub verdict: Verdict,
    /// On the frontier of its hardware class.
    pub on_frontier: bool,
    /// On the frontier where a child of any class counts.
    pub on_frontier_blind: bool,
    /// Descends from a root that is not the task's.
    pub stray: bool,
    /// A legacy record whose depth is not its parent's plus one.
    pub odd_depth: bool,
}

/// A record in full.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordView {
    pub signed: Signed<Record>,
    pub summary: RecordSummary,
}

/// One hardware class of a task. Stray records are not counted.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassView {
    pub class: HardwareClass,
    pub experiment_count: u64,
    pub keep_count: u64,
    pub discard_count: u64,
    pub crash_count: u64,
    /// Records whose result holds.
    pub verified_count: u64,
    pub frontier_size: u64,
    pub best: Option<(RecordId, f64)>,
}

/// A task. Counts leave stray records out, except `node_count` and `stray_count`.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    pub task_id: TaskId,
    /// None for legacy tasks, and while it has not come yet.
    pub manifest: Option<Signed<TaskManifest>>,
    /// Founded by a version 1 record without a parent.
    pub legacy: bool,
    pub name: String,
    pub metric: String,
    /// Minimize while the manifest is unknown.
    pub goal: Goal,
    pub root: Option<RecordId>,
    pub experiment_count: u64,
    pub keep_count: u64,
    pub discard_count: u64,
    pub crash_count: u64,
    /// Records whose result holds: verified or upheld.
    pub verified_count: u64,
    /// Records under another root than the task's.
    pub stray_count: u64,
    /// Nodes that published any record of the task.
    pub node_count: u64,
    /// Unix seconds of the newest record, or of the manifest where there is none.
    pub last_activity: u64,
    /// In order of their names.
    pub classes: Vec<ClassView>,
    /// Of the class-blind frontier.
    pub frontier_size: u64,
    /// Of the class-blind frontier.
    pub best: Option<(RecordId, f64)>,
}

/// What a node did.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStats {
    pub node_id: NodeId,
    /// Records published.
    pub experiment_count: u64,
    /// Its measurements of others' records that count.
    pub verification_count: u64,
    /// Classes that it published in.
    pub classes: Vec<HardwareClass>,
    /// Unix seconds of its newest record or counted measurement; 0 without any.
    pub last_activity: u64,
    /// From -100 to 100, over all tasks; none for a node without deeds.
    pub reputation: Option<f64>,
}

/// One step of a best-so-far series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Improvement {
    pub id: RecordId,
    /// Unix seconds.
    pub timestamp: u64,
    pub metric: f64,
}

/// A measurement that counts in a record's verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub event_id: EventId,
    pub node: NodeId,
    /// Unix seconds.
    pub timestamp: u64,
    /// The event's type.
    pub kind: String,
    pub value: f64,
}

/// A record that waits for its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingView {
    pub id: RecordId,
    pub waits_for: RecordId,
    /// Unix seconds, when it came here.
    pub since: u64,
    /// Bytes kept of it.
    pub size: u64,
}

/// Totals over the whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All records, strays too.
    pub experiments: u64,
    pub keeps: u64,
    pub discards: u64,
    pub crashes: u64,
    /// Records whose result holds.
    pub verified: u64,
    pub tasks: u64,
    pub controls: u64,
    /// Nodes whose profile is known.
    pub profiles: u64,
    /// Records kept aside until their parents come.
    pub pending: u64,
    /// Sum of the class-blind frontiers of all tasks.
    pub frontier: u64,
}

/// A file of the database that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFile {
    pub column: String,
    /// Its name in the store's folder, where RocksDB tells it.
    pub file: Option<String>,
    pub why: String,
}

impl DamagedFile {
    /// Of a reason for which a part of a column cannot be read.
    pub(crate) fn in_column(column: Column, why: String) -> Self {
        Self { column: column.name().into(), file: file_in(&why), why }
    }

    /// Of a reason for which the database does not open.
    pub(crate) fn of_database(why: String) -> Self {
        Self { column: "(all)".into(), file: file_in(&why), why }
    }
}

impl fmt::Display for DamagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}, file {}: {}", self.column, self.file.as_deref().unwrap_or("unknown"), self.why)
    }
}

/// The file that a message of RocksDB is about.
fn file_in(message: &str) -> Option<String> {
    let words = message.split(|c: char| c.is_whitespace() || "(),:;".contains(c));
    let paths = words.filter(|word| [".sst", ".log"].iter().any(|end| word.ends_with(end)));
    paths.filter_map(|path| Path::new(path).file_name()?.to_str()).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    #[test]
    fn file_is_found_in_a_message_of_rocksdb() {
        let message =
            "block checksum mismatch: stored = 1, computed = 2, type = 4  in /x/store/000012.sst offset 0 size 9";
        assert_eq!(super::file_in(message).as_deref(), Some("000012.sst"));
        assert_eq!(super::file_in("no file at all"), None);
    }
}
