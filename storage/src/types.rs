//! What the store answers: plain values made from a snapshot, never written back.

use std::{collections::HashMap, fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};
use spore_protocol::{
    Cid, Goal, HardwareClass, Kind, NodeId, ObjectId, Record, RecordId, Reject, Signed, Status, TaskId, TaskManifest,
    Verdict, VerifiedObject,
    terms::Flaw,
    verdict::{Assessment, Support},
};

use crate::{columns::Column, error::StoreError};

/// One object that became part of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// Grows by one with each object that is stored. Differs from node to node.
    pub sequence: u64,
    pub kind: Kind,
    pub id: ObjectId,
    /// None for profiles, and for control events that name no task and no stored record.
    pub task_id: Option<TaskId>,
}

/// Outcome of [`crate::Store::insert`] for one object.
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
    /// Records published by this node.
    Node(NodeId),
}

/// Which set of objects two nodes compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncScope {
    Records(TaskId),
    Controls(TaskId),
    Tasks,
    Profiles,
}

/// A place in a listing. Opaque text to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    length: u8,
    bytes: [u8; Self::MOST],
}

impl Cursor {
    /// Bytes of the longest cursor, that of a series: timestamp, id and number.
    const MOST: usize = 48;

    /// The bytes of a key after its prefix. None when they are longer than those of any listing.
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

/// The text is no cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of a listing")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bytes = hex::decode(text).map_err(|_| BadCursor)?;
        Self::of(&bytes).filter(|cursor| cursor.length > 0).ok_or(BadCursor)
    }
}

/// The direction of a page in its listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageDirection {
    /// From the beginning of the listing: the best, the newest, or the lowest id first.
    #[default]
    Forward,
    Backward,
}

/// Which part of a listing to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The last item seen. The page begins with the next item in this direction. None begins at the end of the
    /// listing where the direction begins.
    pub after: Option<Cursor>,
    pub direction: PageDirection,
    /// A page has at most [`MAX_PAGE`] items.
    pub limit: usize,
}

/// Most items of a page, which takes some 10 ms to read.
pub const MAX_PAGE: usize = 5_000;

impl Span {
    /// The first page.
    pub const fn first(limit: usize) -> Self {
        Self { after: None, direction: PageDirection::Forward, limit }
    }

    /// The page after a cursor.
    pub const fn after(cursor: Cursor, limit: usize) -> Self {
        Self { after: Some(cursor), direction: PageDirection::Forward, limit }
    }

    /// The page before a cursor, the nearest item first.
    pub const fn before(cursor: Cursor, limit: usize) -> Self {
        Self { after: Some(cursor), direction: PageDirection::Backward, limit }
    }
}

/// A part of a listing, in the direction of the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Cursor of the first item, for the previous page.
    pub first: Option<Cursor>,
    /// Cursor of the last item, if there are more items after it.
    pub next: Option<Cursor>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { items: Vec::new(), first: None, next: None }
    }
}

/// A record without its diff, with what the store knows about it.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordSummary {
    pub id: RecordId,
    /// From the lineage for version 1 records.
    pub task_id: TaskId,
    pub parent: Option<RecordId>,
    pub depth: u64,
    pub status: Status,
    pub class: HardwareClass,
    /// The task's metric; 0 in crash records.
    pub metric: f64,
    pub node_id: NodeId,
    /// Unix seconds, as the signer claims.
    pub timestamp: u64,
    /// Unix seconds of its arrival here.
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
    /// The local verdict: signers weigh by trust.
    pub verdict: Verdict,
    /// The global verdict: every signer weighs the same.
    pub global_verdict: Verdict,
    pub support: Support,
    /// Why the record is not comparable by its task's terms. None also for a stray, which is outside its task.
    pub flaw: Option<Flaw>,
    /// On the local frontier of its hardware class.
    pub on_frontier: bool,
    /// On the global frontier of its hardware class.
    pub on_global_frontier: bool,
    /// On the frontier of claims as the reference computes it, where children of any class count.
    pub on_reference_frontier: bool,
    /// Descends from a root that is not the task's.
    pub stray: bool,
    /// A legacy record whose depth is not its parent's depth plus one.
    pub odd_depth: bool,
}

impl RecordSummary {
    /// Whether the record is a keep that its task's terms allow to be compared with others.
    pub fn is_comparable_keep(&self) -> bool {
        self.status == Status::Keep && !self.stray && self.flaw.is_none()
    }

    /// Whether the record is on its class's list of claims: comparable, and neither confirmed nor rejected locally.
    pub fn is_claim(&self) -> bool {
        self.is_comparable_keep() && self.verdict.is_open()
    }
}

/// Both verdicts on a record, with what led to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub local: Assessment,
    pub global: Assessment,
}

/// A whole record.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordView {
    pub signed: Signed<Record>,
    pub summary: RecordSummary,
}

/// One hardware class of a task, without stray records.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassView {
    pub class: HardwareClass,
    pub experiment_count: u64,
    pub keep_count: u64,
    pub discard_count: u64,
    pub crash_count: u64,
    /// Records whose result holds locally.
    pub verified_count: u64,
    /// Of the local frontier.
    pub frontier_size: u64,
    pub global_frontier_size: u64,
    pub claims_count: u64,
    /// The first record of the local frontier, with its metric.
    pub best: Option<(RecordId, f64)>,
    /// The first record of the global frontier.
    pub best_global: Option<(RecordId, f64)>,
}

/// A task. Counts are without stray records, except `node_count` and `stray_count`.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    pub task_id: TaskId,
    /// None in legacy tasks, and while the manifest has not arrived.
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
    /// Records whose result holds locally: verified or upheld.
    pub verified_count: u64,
    /// Records that descend from another root than the task's.
    pub stray_count: u64,
    /// Nodes that published any record of the task.
    pub node_count: u64,
    /// Unix seconds of the newest record, or of the manifest when there is no record.
    pub last_activity: u64,
    /// In the order of their names.
    pub classes: Vec<ClassView>,
    /// Records on the local frontiers of all classes.
    pub frontier_size: u64,
    pub global_frontier_size: u64,
    pub claims_count: u64,
    /// Records on the frontier that the reference computes.
    pub reference_frontier_size: u64,
    /// The best of the classes' best records, with its metric.
    pub best: Option<(RecordId, f64)>,
    pub best_global: Option<(RecordId, f64)>,
    /// Nodes with a record that is comparable and holds locally.
    pub confirmed_signers: u64,
}

/// What a node did.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStats {
    pub node_id: NodeId,
    /// Records published.
    pub experiment_count: u64,
    /// Its measurements of other nodes' records that may count, one for each record.
    pub verification_count: u64,
    /// Hardware classes of its records.
    pub classes: Vec<HardwareClass>,
    /// Unix seconds of its newest record or counted measurement; 0 without any.
    pub last_activity: u64,
    /// From -100 to 100, over all tasks. None for a node without deeds.
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

/// A record that waits for its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingView {
    pub id: RecordId,
    pub waits_for: RecordId,
    /// Unix seconds of its arrival.
    pub since: u64,
    /// Bytes stored.
    pub size: u64,
}

/// Totals over the whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All records, with strays.
    pub experiments: u64,
    pub keeps: u64,
    pub discards: u64,
    pub crashes: u64,
    /// Records whose result holds locally.
    pub verified: u64,
    pub tasks: u64,
    pub controls: u64,
    /// Nodes whose profile is stored.
    pub profiles: u64,
    /// Records that wait for their parents.
    pub pending: u64,
    /// Sum of the local frontiers of all tasks and classes.
    pub frontier: u64,
    /// Sum of the claims of all tasks and classes.
    pub claims: u64,
}

/// A file of the database that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFile {
    pub column: String,
    /// The file's name in the store's folder, if RocksDB reports it.
    pub file: Option<String>,
    pub why: String,
}

impl DamagedFile {
    /// For the reason why a part of a column cannot be read.
    pub(crate) fn in_column(column: Column, why: String) -> Self {
        Self { column: column.name().into(), file: file_in(&why), why }
    }

    /// For the reason why the database cannot be opened.
    pub(crate) fn of_database(why: String) -> Self {
        Self { column: "(all)".into(), file: file_in(&why), why }
    }
}

impl fmt::Display for DamagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}, file {}: {}", self.column, self.file.as_deref().unwrap_or("unknown"), self.why)
    }
}

/// The file that a message of RocksDB names.
fn file_in(message: &str) -> Option<String> {
    let words = message.split(|c: char| c.is_whitespace() || "(),:;".contains(c));
    let paths = words.filter(|word| [".sst", ".log"].iter().any(|end| word.ends_with(end)));
    paths.filter_map(|path| Path::new(path).file_name()?.to_str()).map(str::to_owned).next()
}

/// Why an object was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhyDropped {
    /// The store was larger than its budget.
    Room,
    /// The operator asked for it.
    Operator,
}

impl WhyDropped {
    pub const fn code(self) -> u8 {
        match self {
            Self::Room => 0,
            Self::Operator => 1,
        }
    }
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
