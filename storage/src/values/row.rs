//! A record as listings and the task graph show it: its object's fields, and what the store adds to them.

use spore_protocol::{
    Kind, ObjectId, Record, RecordId, Status, TaskId, Verdict,
    frontier::FrontierRecord,
    lineage::{ParentPlacement, Placement},
    verdict::Subject,
};

use super::bytes::{ValueReader, ValueWriter};
use crate::{
    error::{Damage, Result},
    keys::{ClassKey, Moment},
    types::{Change, RecordSummary},
};

/// A record as a listing shows it: fields of its object, and its [`Placing`].
#[derive(Clone, Debug, PartialEq)]
pub struct RecordRow {
    /// Without the diff.
    pub summary: RecordSummary,
    /// The parent's sequence number here; 0 without a parent.
    pub parent_number: u64,
}

/// What the store knows of a record that its object does not say.
///
/// On disk: verdict; flags (class frontier 1, class-blind frontier 2, stray 4, odd depth 8); id; task; then as LEB128
/// the parent's number and the time of arrival.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placing {
    pub verdict: Verdict,
    flags: u8,
    pub id: RecordId,
    pub task_id: TaskId,
    /// 0 without a parent.
    pub parent_number: u64,
    /// Unix seconds.
    pub received_at: u64,
}

impl Placing {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = ValueWriter(Vec::with_capacity(80));
        w.byte(verdict_code(self.verdict));
        w.byte(self.flags);
        w.fixed(&self.id.0);
        w.fixed(&self.task_id.0);
        w.number(self.parent_number);
        w.number(self.received_at);
        w.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = ValueReader(bytes);
        Ok(Self {
            verdict: of_code(&VERDICTS, r.byte()?)?,
            flags: r.byte()?,
            id: RecordId(r.fixed()?),
            task_id: TaskId(r.fixed()?),
            parent_number: r.number()?,
            received_at: r.number()?,
        })
    }

    /// The record's entry in the change log.
    pub fn change(&self, sequence: u64) -> Change {
        Change { sequence, kind: Kind::Experiment, id: self.id.into(), task_id: Some(self.task_id) }
    }
}

const STATUSES: [Status; 3] = Status::ALL;
const VERDICTS: [Verdict; 5] =
    [Verdict::Unverified, Verdict::Verified, Verdict::Disputed, Verdict::Upheld, Verdict::Rejected];

fn verdict_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Unverified => 0,
        Verdict::Verified => 1,
        Verdict::Disputed => 2,
        Verdict::Upheld => 3,
        Verdict::Rejected => 4,
    }
}

fn status_code(status: Status) -> u8 {
    match status {
        Status::Keep => 0,
        Status::Discard => 1,
        Status::Crash => 2,
    }
}

fn of_code<T: Copy>(all: &[T], code: u8) -> Result<T> {
    Ok(all.get(usize::from(code)).copied().ok_or(Damage::Value("a verdict or status is unknown"))?)
}

impl RecordRow {
    /// A record that is not joined to its task's tree yet, without its texts.
    pub fn of(
        id: RecordId,
        record: &Record,
        place: Placement,
        received_at: u64,
        sequence: u64,
        parent_number: u64,
    ) -> Self {
        let flags = 4 | u8::from(place.odd_depth) << 3;
        let verdict = Verdict::Unverified;
        let placing = Placing { verdict, flags, id, task_id: place.task_id, parent_number, received_at };
        let without_texts = Record {
            parent: record.parent,
            depth: record.depth,
            code_cid: record.code_cid,
            diff: String::new(),
            dataset_cid: String::new(),
            prepare_cid: String::new(),
            time_budget: record.time_budget,
            val_bpb: record.val_bpb,
            peak_vram_mb: record.peak_vram_mb,
            num_steps: record.num_steps,
            num_params: record.num_params,
            status: record.status,
            description: String::new(),
            hypothesis: String::new(),
            agent_model: String::new(),
            gpu_model: record.gpu_model.clone(),
            cuda_version: String::new(),
            torch_version: String::new(),
            node_id: record.node_id,
            task_id: record.task_id,
            timestamp: record.timestamp,
            version: record.version,
        };
        Self::new(without_texts, placing, sequence)
    }

    /// Only with what the rules need.
    pub fn without_texts(mut self) -> Self {
        let s = &mut self.summary;
        for text in [&mut s.description, &mut s.hypothesis, &mut s.agent_model, &mut s.gpu_model] {
            *text = String::new();
        }
        self
    }

    /// A row from a record's object and its placing.
    pub fn new(record: Record, placing: Placing, sequence: u64) -> Self {
        let flag = |bit: u8| placing.flags & bit != 0;
        let summary = RecordSummary {
            id: placing.id,
            task_id: placing.task_id,
            parent: record.parent,
            depth: record.depth,
            status: record.status,
            class: record.class(),
            metric: record.val_bpb,
            node_id: record.node_id,
            timestamp: record.timestamp,
            received_at: placing.received_at,
            sequence,
            num_steps: record.num_steps,
            num_params: record.num_params,
            peak_vram_mb: record.peak_vram_mb,
            time_budget: record.time_budget,
            code_cid: record.code_cid,
            gpu_model: record.gpu_model,
            description: record.description,
            hypothesis: record.hypothesis,
            agent_model: record.agent_model,
            version: record.version,
            verdict: placing.verdict,
            on_frontier: flag(1),
            on_frontier_blind: flag(2),
            stray: flag(4),
            odd_depth: flag(8),
        };
        Self { summary, parent_number: placing.parent_number }
    }

    pub fn placing(&self) -> Placing {
        let s = &self.summary;
        Placing {
            verdict: s.verdict,
            flags: self.flags(),
            id: s.id,
            task_id: s.task_id,
            parent_number: self.parent_number,
            received_at: s.received_at,
        }
    }

    fn flags(&self) -> u8 {
        let s = &self.summary;
        u8::from(s.on_frontier)
            | u8::from(s.on_frontier_blind) << 1
            | u8::from(s.stray) << 2
            | u8::from(s.odd_depth) << 3
    }

    pub fn number(&self) -> u64 {
        self.summary.sequence
    }

    pub fn moment(&self) -> Moment {
        let s = &self.summary;
        Moment { timestamp: s.timestamp, id: ObjectId(s.id.0), number: s.sequence }
    }

    pub fn as_parent(&self) -> ParentPlacement {
        ParentPlacement { task_id: self.summary.task_id, depth: self.summary.depth }
    }

    pub fn candidate(&self) -> FrontierRecord {
        let s = &self.summary;
        FrontierRecord {
            id: s.id,
            parent: s.parent,
            status: s.status,
            class: s.class.clone(),
            metric: s.metric,
            timestamp: s.timestamp,
        }
    }

    pub fn subject(&self) -> Subject {
        let s = &self.summary;
        Subject { id: s.id, publisher: s.node_id, class: s.class.clone(), status: s.status, metric: s.metric }
    }

    pub fn point(&self, class: &ClassKey) -> GraphPoint {
        let s = &self.summary;
        GraphPoint {
            number: s.sequence,
            parent: self.parent_number,
            metric: s.metric,
            class: class.first_chunk().copied().unwrap_or_default(),
            status: s.status,
            verdict: s.verdict,
            flags: self.flags(),
        }
    }
}

/// What a task's graph shows of a record, in 35 bytes: number, parent's number (0 without a parent), the metric's
/// bits, the first 8 bytes of the class's key, status, verdict, flags as in [`Placing`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphPoint {
    pub number: u64,
    pub parent: u64,
    pub metric: f64,
    pub class: [u8; 8],
    pub status: Status,
    pub verdict: Verdict,
    flags: u8,
}

impl GraphPoint {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = ValueWriter(Vec::with_capacity(35));
        w.fixed(&self.number.to_be_bytes());
        w.fixed(&self.parent.to_be_bytes());
        w.float(self.metric);
        w.fixed(&self.class);
        w.fixed(&[status_code(self.status), verdict_code(self.verdict), self.flags]);
        w.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = ValueReader(bytes);
        Ok(Self {
            number: r.whole()?,
            parent: r.whole()?,
            metric: r.float()?,
            class: r.fixed()?,
            status: of_code(&STATUSES, r.byte()?)?,
            verdict: of_code(&VERDICTS, r.byte()?)?,
            flags: r.byte()?,
        })
    }

    pub fn on_frontier(&self) -> bool {
        self.flags & 1 != 0
    }

    pub fn stray(&self) -> bool {
        self.flags & 4 != 0
    }
}
