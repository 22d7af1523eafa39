//! A record as listings show it, and as a task's graph does: the two values that every record has
//! beside its object.

use spore_protocol::{
    Cid, HardwareClass, NodeId, ObjectId, Record, RecordId, Status, TaskId, Verdict,
    frontier::Candidate,
    lineage::{Parent, Place},
    verdict::Subject,
};

use super::bytes::{Reader, Writer};
use crate::{
    error::{Result, StoreError},
    keys::{ClassKey, Moment},
    types::RecordSummary,
};

/// What is kept of a record to be listed.
///
/// On disk: verdict, flags (class frontier 1, class-blind frontier 2, stray 4, odd depth 8),
/// status; id, signer, task; parent and script, each with a byte that tells whether there is one;
/// metric, peak memory; then LEB128 numbers: the parent's number, depth, timestamp, arrival, steps,
/// parameters, budget, version; then texts: device, description, hypothesis, agent. The class
/// follows from the device, and the sequence number is the key.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub summary: RecordSummary,
    /// The parent's sequence number here; 0 without one.
    pub parent_number: u64,
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
    all.get(usize::from(code)).copied().ok_or_else(|| StoreError::corrupt("an unknown verdict or status"))
}

impl Row {
    /// A record not yet joined to its task's tree.
    pub fn of(
        id: RecordId,
        record: &Record,
        place: Place,
        received_at: u64,
        sequence: u64,
        parent_number: u64,
    ) -> Self {
        let summary = RecordSummary {
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
            verdict: Verdict::Unverified,
            on_frontier: false,
            on_frontier_blind: false,
            stray: true,
            odd_depth: place.odd_depth,
        };
        Self { summary, parent_number }
    }

    pub fn encode(&self) -> Vec<u8> {
        let s = &self.summary;
        let mut w = Writer(Vec::with_capacity(256 + s.description.len() + s.hypothesis.len()));
        w.byte(verdict_code(s.verdict));
        w.byte(self.flags());
        w.byte(status_code(s.status));
        w.fixed(&s.id.0);
        w.fixed(&s.node_id.0);
        w.fixed(&s.task_id.0);
        w.optional(s.parent.map(|id| id.0));
        w.optional(s.code_cid.map(|cid| cid.0));
        w.float(s.metric);
        w.float(s.peak_vram_mb);
        for number in [self.parent_number, s.depth, s.timestamp, s.received_at] {
            w.number(number);
        }
        for number in [s.num_steps, s.num_params, s.time_budget, s.version] {
            w.number(number);
        }
        for text in [&s.gpu_model, &s.description, &s.hypothesis, &s.agent_model] {
            w.text(text);
        }
        w.0
    }

    pub fn decode(bytes: &[u8], sequence: u64) -> Result<Self> {
        let mut r = Reader(bytes);
        let verdict = of_code(&VERDICTS, r.byte()?)?;
        let flags = r.byte()?;
        let status = of_code(&STATUSES, r.byte()?)?;
        let (id, node_id, task_id) = (RecordId(r.fixed()?), NodeId(r.fixed()?), TaskId(r.fixed()?));
        let (parent, code_cid) = (r.optional()?.map(RecordId), r.optional()?.map(Cid));
        let (metric, peak_vram_mb) = (r.float()?, r.float()?);
        let (parent_number, depth, timestamp, received_at) = (r.number()?, r.number()?, r.number()?, r.number()?);
        let (num_steps, num_params, time_budget, version) = (r.number()?, r.number()?, r.number()?, r.number()?);
        let (gpu_model, description, hypothesis, agent_model) = (r.text()?, r.text()?, r.text()?, r.text()?);
        let summary = RecordSummary {
            id,
            task_id,
            parent,
            depth,
            status,
            class: HardwareClass::of(&gpu_model),
            metric,
            node_id,
            timestamp,
            received_at,
            sequence,
            num_steps,
            num_params,
            peak_vram_mb,
            time_budget,
            code_cid,
            gpu_model,
            description,
            hypothesis,
            agent_model,
            version,
            verdict,
            on_frontier: flags & 1 != 0,
            on_frontier_blind: flags & 2 != 0,
            stray: flags & 4 != 0,
            odd_depth: flags & 8 != 0,
        };
        Ok(Self { summary, parent_number })
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

    pub fn as_parent(&self) -> Parent {
        Parent { task_id: self.summary.task_id, depth: self.summary.depth }
    }

    pub fn candidate(&self) -> Candidate {
        let s = &self.summary;
        Candidate {
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

    pub fn point(&self, class: &ClassKey) -> Point {
        let s = &self.summary;
        Point {
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

/// What a task's graph shows of a record, in 35 bytes: number, parent's number (0 without one),
/// metric's bits, the first 8 bytes of the class's key, status, verdict, flags as in a [`Row`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub number: u64,
    pub parent: u64,
    pub metric: f64,
    pub class: [u8; 8],
    pub status: Status,
    pub verdict: Verdict,
    flags: u8,
}

impl Point {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer(Vec::with_capacity(35));
        w.fixed(&self.number.to_be_bytes());
        w.fixed(&self.parent.to_be_bytes());
        w.float(self.metric);
        w.fixed(&self.class);
        w.fixed(&[status_code(self.status), verdict_code(self.verdict), self.flags]);
        w.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader(bytes);
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
