//! The values of the database: CBOR through the protocol's codec, or a few fixed bytes.
//!
//! These are formats on disk: a change of any of them is a new [`crate::columns::SCHEMA`].

mod awards;
mod bytes;
mod dropped;
mod object;
mod row;
mod work;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use spore_protocol::{
    Goal, HardwareClass, Kind, NodeId, ObjectId, RecordId, Reject, Status, TaskId,
    cbor::{self, ByteBuf},
    terms::Terms,
};

pub use awards::{Award, Awards, deed_of_rank};
pub use dropped::DroppedEntry;
pub use object::{
    decode_object, decode_stored, encode_object, encode_record, encode_stored, stored_kind, stored_record, stored_text,
};
pub use row::{BetterChildren, GraphPoint, Placing, RecordRow, Verdicts};
pub use work::{SEEDS, StandingState, UNKNOWN, Work, WorkMark, decode_seeds, encode_seeds, level_of, tier};

use crate::{
    error::{Damage, Result},
    keys::ActivityRank,
    types::{Counts, WhyDropped},
};

/// Most bytes of a value: more than an object of the protocol's largest size.
const MAX_VALUE: usize = 32 << 20;

pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    Ok(cbor::encode(value)?)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    Ok(cbor::decode(bytes, MAX_VALUE)?)
}

/// A number of eight bytes.
pub fn number(bytes: &[u8]) -> Result<u64> {
    Ok(bytes.try_into().map(u64::from_be_bytes).map_err(|_| Damage::Value("a number is not 8 bytes"))?)
}

/// An entry of the change log, without its sequence number, which is the key. For a record only the kind: [`Placing`]
/// has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEntry {
    Record,
    Other(Kind, ObjectId, Option<TaskId>),
}

impl LogEntry {
    pub fn of(kind: Kind, id: ObjectId, task: Option<TaskId>) -> Self {
        if kind == Kind::Experiment { Self::Record } else { Self::Other(kind, id, task) }
    }

    pub fn encode(self) -> Vec<u8> {
        let mut w = bytes::ValueWriter::default();
        match self {
            Self::Record => w.byte(Kind::Experiment.code()),
            Self::Other(kind, id, task) => {
                w.byte(kind.code());
                w.fixed(&id.0);
                w.optional(task.map(|task| task.0));
            }
        }
        w.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = bytes::ValueReader(bytes);
        match Kind::from_code(r.byte()?) {
            Some(Kind::Experiment) => Ok(Self::Record),
            Some(kind) => Ok(Self::Other(kind, ObjectId(r.fixed()?), r.optional()?.map(TaskId))),
            None => Err(Damage::Value("the change log names an unknown kind").into()),
        }
    }
}

/// The fields of a manifest that the rules need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestFacts {
    pub name: String,
    pub metric: String,
    pub goal: Goal,
    pub created_by: NodeId,
    pub timestamp: u64,
    pub terms: Terms,
}

/// Counts of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub experiments: u64,
    pub keeps: u64,
    pub discards: u64,
    pub crashes: u64,
    /// Records whose result holds locally.
    pub verified: u64,
    /// Records on the local frontiers of all classes.
    pub frontier: u64,
    pub global_frontier: u64,
    pub claims: u64,
    /// Records on the reference's frontier. 0 in the counters of a class.
    pub reference: u64,
}

impl Counters {
    /// Takes the lists of records that became strays from the totals.
    pub fn without_lists_of(&mut self, gone: &Self) {
        self.frontier = self.frontier.saturating_sub(gone.frontier);
        self.global_frontier = self.global_frontier.saturating_sub(gone.global_frontier);
        self.claims = self.claims.saturating_sub(gone.claims);
        self.reference = self.reference.saturating_sub(gone.reference);
    }

    /// Counts one more record.
    pub fn add(&mut self, status: Status) {
        self.experiments += 1;
        match status {
            Status::Keep => self.keeps += 1,
            Status::Discard => self.discards += 1,
            Status::Crash => self.crashes += 1,
        }
    }

    /// Counts one record less.
    pub fn remove(&mut self, status: Status) {
        let of_status = match status {
            Status::Keep => &mut self.keeps,
            Status::Discard => &mut self.discards,
            Status::Crash => &mut self.crashes,
        };
        *of_status = of_status.saturating_sub(1);
        self.experiments = self.experiments.saturating_sub(1);
    }

    /// Counts a record whose result held or not `before`, and holds or not `after`.
    pub fn reverify(&mut self, before: bool, after: bool) {
        self.verified = recount(self.verified, before, after);
    }
}

/// A counter after one item was counted or not `before`, and is counted or not `after`.
pub fn recount(count: u64, before: bool, after: bool) -> u64 {
    (count + u64::from(after)).saturating_sub(u64::from(before))
}

/// A task and its counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    pub manifest: Option<ManifestFacts>,
    /// The signer of the record that has the task's id: the founder of a legacy task.
    pub founder: Option<NodeId>,
    pub root: Option<RecordId>,
    /// The terms that bind its records: the manifest's, or those of the root of a legacy task without a manifest.
    pub terms: Option<Terms>,
    /// Without strays.
    pub counted: Counters,
    /// Nodes with a record that is comparable, no stray, and holds locally.
    pub confirmed_signers: u64,
    pub strays: u64,
    /// Nodes that published in the task, also strays only.
    pub nodes: u64,
    pub activity: Option<ActivityRank>,
}

impl TaskState {
    /// Whether nothing of the task is stored.
    pub fn is_bare(&self) -> bool {
        *self == Self { activity: self.activity, ..Self::default() }
    }

    pub fn goal(&self) -> Goal {
        self.manifest.as_ref().map_or(Goal::Minimize, |manifest| manifest.goal)
    }

    /// The node whose roots precede all others. In a legacy task it is the founder, so that nobody can take the task
    /// over with a parentless record of an earlier timestamp.
    pub fn creator(&self) -> Option<NodeId> {
        self.manifest.as_ref().map(|manifest| manifest.created_by).or(self.founder)
    }
}

/// One hardware class of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassState {
    pub class: HardwareClass,
    pub counted: Counters,
    /// All records of the class in the task, with strays.
    #[serde(default)]
    pub records: u64,
}

/// What a node published in one class, in a task or in all tasks, with strays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publisher {
    pub class: HardwareClass,
    pub experiments: u64,
    /// Unix seconds of the oldest and the newest record.
    pub first: u64,
    pub last: u64,
}

/// What a node did, in a task or in all tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// Records published, with strays.
    pub experiments: u64,
    /// Its measurements that count.
    pub verifications: u64,
    /// None without deeds, and in the state for one task.
    pub reputation: Option<f64>,
    /// In the state for one task: records that are comparable, no strays, and hold locally.
    #[serde(default)]
    pub confirmed: u64,
}

/// Totals, and the next arrival numbers for pending and refused records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// All records, with strays. Frontiers and claims are the sums of those of all tasks.
    pub counted: Counters,
    pub tasks: u64,
    pub controls: u64,
    /// Control events about a record that is not stored yet.
    #[serde(default)]
    pub early: u64,
    pub profiles: u64,
    pub pending: u64,
    pub pending_bytes: u64,
    pub next_pending: u64,
    pub refused: u64,
    pub next_refused: u64,
    /// Objects that were dropped and are remembered.
    #[serde(default)]
    pub dropped: u64,
    /// Of these, those that an operator dropped.
    #[serde(default)]
    pub dropped_by_operator: u64,
    #[serde(default)]
    pub next_dropped: u64,
}

impl Totals {
    /// Objects that were dropped for this reason and are remembered.
    pub const fn dropped_for(&self, why: WhyDropped) -> u64 {
        match why {
            WhyDropped::Room => self.dropped.saturating_sub(self.dropped_by_operator),
            WhyDropped::Operator => self.dropped_by_operator,
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            experiments: self.counted.experiments,
            keeps: self.counted.keeps,
            discards: self.counted.discards,
            crashes: self.counted.crashes,
            verified: self.counted.verified,
            tasks: self.tasks,
            controls: self.controls,
            profiles: self.profiles,
            pending: self.pending,
            frontier: self.counted.frontier,
            claims: self.counted.claims,
        }
    }
}

/// A range of a list that nodes compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    pub count: u64,
    /// The sum of the ids as little-endian numbers, modulo 2^256, as set reconciliation calculates it.
    pub sum: [u8; 32],
}

impl Bucket {
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        let mut carry = 0u16;
        for (byte, more) in self.sum.iter_mut().zip(other.sum) {
            let [low, high] = (u16::from(*byte) + u16::from(more) + carry).to_le_bytes();
            (*byte, carry) = (low, high.into());
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        self.count = self.count.saturating_sub(other.count);
        let mut borrow = false;
        for (byte, less) in self.sum.iter_mut().zip(other.sum) {
            let (first, under) = byte.overflowing_sub(less);
            let (second, again) = first.overflowing_sub(borrow.into());
            (*byte, borrow) = (second, under || again);
        }
    }

    pub fn of(id: &ObjectId) -> Self {
        Self { count: 1, sum: id.0 }
    }

    pub fn encode(&self) -> Vec<u8> {
        [self.count.to_be_bytes().as_slice(), &self.sum].concat()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = bytes::ValueReader(bytes);
        Ok(Self { count: r.whole()?, sum: r.fixed()? })
    }
}

/// A record that waits for its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingEntry {
    pub order: u64,
    pub received_at: u64,
    pub parent: RecordId,
    /// The record as [`encode_object`] makes it.
    pub object: ByteBuf,
}

/// Why a record was refused by the lineage rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineageFault {
    Task,
    Depth { expected: u64, actual: u64 },
}

impl LineageFault {
    /// None when the record was refused for another reason.
    pub fn of(reject: &Reject) -> Option<Self> {
        match reject {
            Reject::TaskMismatch => Some(Self::Task),
            Reject::DepthMismatch { expected, actual } => Some(Self::Depth { expected: *expected, actual: *actual }),
            _ => None,
        }
    }

    pub fn reject(self) -> Reject {
        match self {
            Self::Task => Reject::TaskMismatch,
            Self::Depth { expected, actual } => Reject::DepthMismatch { expected, actual },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn subtracting_an_added_bucket_restores_the_sum(a in any::<[u8; 32]>(), b in any::<[u8; 32]>()) {
            let (mut both, b) = (Bucket::of(&ObjectId(a)), Bucket::of(&ObjectId(b)));
            both.add(&b);
            prop_assert_eq!(Bucket::decode(&both.encode()).unwrap(), both);
            both.subtract(&b);
            prop_assert_eq!(both, Bucket::of(&ObjectId(a)));
        }
    }
}
