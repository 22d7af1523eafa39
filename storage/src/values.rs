//! What lies under the keys: CBOR through the protocol's codec, or a few fixed bytes.
//!
//! These are formats on disk: a change of any of them is a new [`crate::columns::SCHEMA`].

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use spore_protocol::{
    Cid, Goal, HardwareClass, Kind, NodeId, ObjectId, Record, RecordId, SignedObject, Status, TaskId, Verdict,
    cbor::{self, Bytes},
    frontier::Candidate,
    lineage::{Parent, Place},
    verdict::Subject,
};

use crate::{
    error::{Result, StoreError},
    types::{Change, Counts, RecordSummary},
};

/// Largest value: an object of the protocol's largest size with its texts kept twice.
const MAX_VALUE: usize = 32 << 20;

pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    Ok(cbor::encode(value)?)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    Ok(cbor::decode(bytes, MAX_VALUE)?)
}

/// A number of eight bytes.
pub fn number(bytes: &[u8]) -> Result<u64> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| StoreError::corrupt("a number is not 8 bytes"))
}

/// An object: signature, then canonical bytes.
pub fn encode_object(object: &SignedObject) -> Vec<u8> {
    [object.signature().as_slice(), object.canonical()].concat()
}

pub fn decode_object(kind: Kind, bytes: &[u8]) -> Result<SignedObject> {
    let (signature, canonical) =
        bytes.split_first_chunk::<64>().ok_or_else(|| StoreError::corrupt("an object is cut short"))?;
    Ok(SignedObject::from_canonical(kind, canonical, *signature)?)
}

/// What a record says, less its diff, and where it stands: fixed once it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub id: RecordId,
    pub task_id: TaskId,
    pub parent: Option<RecordId>,
    pub depth: u64,
    pub status: Status,
    pub class: HardwareClass,
    pub metric: f64,
    pub node_id: NodeId,
    pub timestamp: u64,
    pub received_at: u64,
    pub sequence: u64,
    pub num_steps: u64,
    pub num_params: u64,
    pub peak_vram_mb: f64,
    pub time_budget: u64,
    pub code_cid: Option<Cid>,
    pub gpu_model: String,
    pub description: String,
    pub hypothesis: String,
    pub agent_model: String,
    pub version: u64,
    pub odd_depth: bool,
}

impl Facts {
    pub fn of(id: RecordId, record: &Record, place: Place, received_at: u64, sequence: u64) -> Self {
        Self {
            id,
            task_id: place.task_id,
            parent: record.parent,
            depth: record.depth,
            status: record.status,
            class: record.class(),
            metric: record.val_bpb,
            node_id: record.node_id,
            timestamp: record.timestamp,
            received_at,
            sequence,
            num_steps: record.num_steps,
            num_params: record.num_params,
            peak_vram_mb: record.peak_vram_mb,
            time_budget: record.time_budget,
            code_cid: record.code_cid,
            gpu_model: record.gpu_model.clone(),
            description: record.description.clone(),
            hypothesis: record.hypothesis.clone(),
            agent_model: record.agent_model.clone(),
            version: record.version,
            odd_depth: place.odd_depth,
        }
    }

    pub fn as_parent(&self) -> Parent {
        Parent { task_id: self.task_id, depth: self.depth }
    }

    pub fn candidate(&self) -> Candidate {
        Candidate {
            id: self.id,
            parent: self.parent,
            status: self.status,
            class: self.class.clone(),
            metric: self.metric,
            timestamp: self.timestamp,
        }
    }

    pub fn subject(&self) -> Subject {
        Subject {
            id: self.id,
            publisher: self.node_id,
            class: self.class.clone(),
            status: self.status,
            metric: self.metric,
        }
    }

    pub fn summary(self, standing: Standing) -> RecordSummary {
        RecordSummary {
            id: self.id,
            task_id: self.task_id,
            parent: self.parent,
            depth: self.depth,
            status: self.status,
            class: self.class,
            metric: self.metric,
            node_id: self.node_id,
            timestamp: self.timestamp,
            received_at: self.received_at,
            sequence: self.sequence,
            num_steps: self.num_steps,
            num_params: self.num_params,
            peak_vram_mb: self.peak_vram_mb,
            time_budget: self.time_budget,
            code_cid: self.code_cid,
            gpu_model: self.gpu_model,
            description: self.description,
            hypothesis: self.hypothesis,
            agent_model: self.agent_model,
            version: self.version,
            verdict: standing.verdict,
            on_frontier: standing.on_frontier,
            on_frontier_blind: standing.on_frontier_blind,
            stray: standing.stray,
            odd_depth: self.odd_depth,
        }
    }
}

/// What other objects decide about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub verdict: Verdict,
    pub on_frontier: bool,
    pub on_frontier_blind: bool,
    pub stray: bool,
}

const VERDICTS: [Verdict; 5] =
    [Verdict::Unverified, Verdict::Verified, Verdict::Disputed, Verdict::Upheld, Verdict::Rejected];

impl Standing {
    /// A record not yet joined to its task's tree.
    pub const APART: Self =
        Self { verdict: Verdict::Unverified, on_frontier: false, on_frontier_blind: false, stray: true };

    /// The verdict's number, then one bit for each flag.
    pub fn encode(self) -> Vec<u8> {
        let verdict = match self.verdict {
            Verdict::Unverified => 0,
            Verdict::Verified => 1,
            Verdict::Disputed => 2,
            Verdict::Upheld => 3,
            Verdict::Rejected => 4,
        };
        let flags = u8::from(self.on_frontier) | u8::from(self.on_frontier_blind) << 1 | u8::from(self.stray) << 2;
        vec![verdict, flags]
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let &[verdict, flags] = bytes else { return Err(StoreError::corrupt("a standing is not 2 bytes")) };
        let verdict = VERDICTS.get(usize::from(verdict)).copied();
        Ok(Self {
            verdict: verdict.ok_or_else(|| StoreError::corrupt("an unknown verdict"))?,
            on_frontier: flags & 1 != 0,
            on_frontier_blind: flags & 2 != 0,
            stray: flags & 4 != 0,
        })
    }
}

/// What the rules need of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestFacts {
    pub name: String,
    pub metric: String,
    pub goal: Goal,
    pub created_by: NodeId,
    pub timestamp: u64,
}

/// A task and its counters. All but `nodes` and `strays` leave strays out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    pub manifest: Option<ManifestFacts>,
    /// Who signed the record that bears the task's id: the founder of a legacy task.
    pub founder: Option<NodeId>,
    pub root: Option<RecordId>,
    pub experiments: u64,
    pub keeps: u64,
    pub discards: u64,
    pub crashes: u64,
    pub verified: u64,
    pub strays: u64,
    pub nodes: u64,
    pub frontier: u64,
}

impl TaskState {
    pub fn goal(&self) -> Goal {
        self.manifest.as_ref().map_or(Goal::Minimize, |manifest| manifest.goal)
    }

    /// Whose roots precede all others. The founder of a legacy task stands in for the creator, so
    /// that nobody can take the task over with a parentless record of an earlier timestamp.
    pub fn creator(&self) -> Option<NodeId> {
        self.manifest.as_ref().map(|manifest| manifest.created_by).or(self.founder)
    }

    /// The counter of a status.
    pub fn of_status(&mut self, status: Status) -> &mut u64 {
        match status {
            Status::Keep => &mut self.keeps,
            Status::Discard => &mut self.discards,
            Status::Crash => &mut self.crashes,
        }
    }
}

/// One hardware class of a task, strays left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassState {
    pub class: HardwareClass,
    pub experiments: u64,
    pub frontier: u64,
}

/// What a node published in one task and class, strays too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publisher {
    pub class: HardwareClass,
    pub experiments: u64,
    /// Unix seconds of the oldest and the newest.
    pub first: u64,
    pub last: u64,
}

/// Totals, and the numbers given out to pending records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub experiments: u64,
    pub verified: u64,
    pub tasks: u64,
    pub controls: u64,
    pub profiles: u64,
    pub frontier: u64,
    pub pending: u64,
    pub pending_bytes: u64,
    pub next_pending: u64,
}

impl Tally {
    pub fn counts(&self) -> Counts {
        Counts {
            experiments: self.experiments,
            verified: self.verified,
            tasks: self.tasks,
            controls: self.controls,
            profiles: self.profiles,
            pending: self.pending,
            frontier: self.frontier,
        }
    }
}

/// A record that waits for its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub order: u64,
    pub received_at: u64,
    pub parent: RecordId,
    /// As [`encode_object`] makes them.
    pub object: Bytes,
}

/// A change as it lies in the log, whose key is its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEntry(pub Kind, pub ObjectId, pub Option<TaskId>);

impl LogEntry {
    pub fn change(self, sequence: u64) -> Change {
        Change { sequence, kind: self.0, id: self.1, task_id: self.2 }
    }
}
