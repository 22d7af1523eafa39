//! A record as listings and the task graph show it: its object's fields, and what the store adds to them.

use spore_protocol::{
    Goal, Kind, ObjectId, Record, RecordId, Status, TaskId, Verdict,
    frontier::FrontierRecord,
    lineage::{ParentPlacement, Placement},
    terms::Flaw,
    verdict::{Subject, Support},
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
    pub better: BetterChildren,
}

/// Of a record's children of the same class that are comparable keeps and better, those that hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BetterChildren {
    pub local: u64,
    pub global: u64,
}

/// What the store knows of a record that its object does not say.
///
/// On disk: the verdicts (local in bits 0 to 2, global in bits 3 to 5; 64 if measurements are counted, 128 if children
/// are); flags (local frontier 1, reference's frontier 2, stray 4, odd depth 8, global frontier 16, flaw in the
/// upper three bits); id; task; as LEB128 the parent's number and the time of arrival; then, if there are any, four
/// bytes with the numbers of measurements, and as LEB128 the numbers of better children. A record that nobody
/// measured takes as many bytes as its two ids and ten more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placing {
    pub verdicts: Verdicts,
    flags: u8,
    pub id: RecordId,
    pub task_id: TaskId,
    /// 0 without a parent.
    pub parent_number: u64,
    /// Unix seconds.
    pub received_at: u64,
    pub support: Support,
    pub better: BetterChildren,
}

/// Both verdicts on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdicts {
    pub local: Verdict,
    pub global: Verdict,
}

impl Verdicts {
    fn code(self) -> u8 {
        verdict_code(self.local) | verdict_code(self.global) << 3
    }

    fn of(code: u8) -> Result<Self> {
        Ok(Self { local: of_code(&VERDICTS, code & 7)?, global: of_code(&VERDICTS, code >> 3 & 7)? })
    }
}

const SUPPORTED: u8 = 64;
const BEATEN: u8 = 128;

impl Placing {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = ValueWriter(Vec::with_capacity(88));
        let (supported, beaten) = (self.support != Support::default(), self.better != BetterChildren::default());
        w.byte(self.verdicts.code() | bit(supported, SUPPORTED) | bit(beaten, BEATEN));
        w.byte(self.flags);
        w.fixed(&self.id.0);
        w.fixed(&self.task_id.0);
        w.number(self.parent_number);
        w.number(self.received_at);
        if supported {
            let Support { trusted_for, trusted_against, unknown_for, unknown_against } = self.support;
            for count in [trusted_for, trusted_against, unknown_for, unknown_against] {
                // A window has 64 signers.
                w.byte(u8::try_from(count).unwrap_or(u8::MAX));
            }
        }
        if beaten {
            w.number(self.better.local);
            w.number(self.better.global);
        }
        w.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = ValueReader(bytes);
        let first = r.byte()?;
        let mut placing = Self {
            verdicts: Verdicts::of(first & !(SUPPORTED | BEATEN))?,
            flags: r.byte()?,
            id: RecordId(r.fixed()?),
            task_id: TaskId(r.fixed()?),
            parent_number: r.number()?,
            received_at: r.number()?,
            support: Support::default(),
            better: BetterChildren::default(),
        };
        if first & SUPPORTED != 0 {
            let [trusted_for, trusted_against, unknown_for, unknown_against] = r.fixed::<4>()?.map(u32::from);
            placing.support = Support { trusted_for, trusted_against, unknown_for, unknown_against };
        }
        if first & BEATEN != 0 {
            placing.better = BetterChildren { local: r.number()?, global: r.number()? };
        }
        flaw_of_code(placing.flags >> FLAW)?;
        Ok(placing)
    }

    /// The record's entry in the change log.
    pub fn change(&self, sequence: u64) -> Change {
        Change { sequence, kind: Kind::Experiment, id: self.id.into(), task_id: Some(self.task_id) }
    }
}

const LOCAL: u8 = 1;
const REFERENCE: u8 = 2;
const STRAY: u8 = 4;
const ODD_DEPTH: u8 = 8;
const GLOBAL: u8 = 16;
/// The first bit of the flaw's code.
const FLAW: u8 = 5;

fn bit(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn flaw_code(flaw: Option<Flaw>) -> u8 {
    flaw.map_or(0, Flaw::code)
}

fn flaw_of_code(code: u8) -> Result<Option<Flaw>> {
    match code {
        0 => Ok(None),
        _ => Ok(Some(Flaw::from_code(code).ok_or(Damage::Value("a flaw is unknown"))?)),
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
        let placing = Placing {
            verdicts: Verdicts { local: Verdict::Unverified, global: Verdict::Unverified },
            flags: STRAY | bit(place.odd_depth, ODD_DEPTH),
            id,
            task_id: place.task_id,
            parent_number,
            received_at,
            support: Support::default(),
            better: BetterChildren::default(),
        };
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
            verdict: placing.verdicts.local,
            global_verdict: placing.verdicts.global,
            support: placing.support,
            // The code was checked when the placing was decoded.
            flaw: flaw_of_code(placing.flags >> FLAW).unwrap_or_default(),
            on_frontier: flag(LOCAL),
            on_global_frontier: flag(GLOBAL),
            on_reference_frontier: flag(REFERENCE),
            stray: flag(STRAY),
            odd_depth: flag(ODD_DEPTH),
        };
        Self { summary, parent_number: placing.parent_number, better: placing.better }
    }

    pub fn placing(&self) -> Placing {
        let s = &self.summary;
        Placing {
            verdicts: self.verdicts(),
            flags: self.flags(),
            id: s.id,
            task_id: s.task_id,
            parent_number: self.parent_number,
            received_at: s.received_at,
            support: s.support,
            better: self.better,
        }
    }

    pub fn verdicts(&self) -> Verdicts {
        Verdicts { local: self.summary.verdict, global: self.summary.global_verdict }
    }

    fn flags(&self) -> u8 {
        let s = &self.summary;
        bit(s.on_frontier, LOCAL)
            | bit(s.on_reference_frontier, REFERENCE)
            | bit(s.stray, STRAY)
            | bit(s.odd_depth, ODD_DEPTH)
            | bit(s.on_global_frontier, GLOBAL)
            | flaw_code(s.flaw) << FLAW
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
            comparable: s.flaw.is_none(),
            local: s.verdict,
            global: s.global_verdict,
        }
    }

    /// What verdicts depend on. `goal` is that of the record's task.
    pub fn subject(&self, goal: Goal) -> Subject {
        let s = &self.summary;
        let (id, publisher, class) = (s.id, s.node_id, s.class.clone());
        Subject { id, publisher, class, status: s.status, metric: s.metric, timestamp: s.timestamp, goal }
    }

    pub fn point(&self, class: &ClassKey) -> GraphPoint {
        let s = &self.summary;
        GraphPoint {
            number: s.sequence,
            parent: self.parent_number,
            metric: s.metric,
            class: class.first_chunk().copied().unwrap_or_default(),
            status: s.status,
            verdicts: self.verdicts(),
            flags: self.flags(),
        }
    }
}

/// What a task's graph shows of a record, in 35 bytes: number, parent's number (0 without a parent), the metric's
/// bits, the first 8 bytes of the class's key, status, verdicts and flags as in [`Placing`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphPoint {
    pub number: u64,
    pub parent: u64,
    pub metric: f64,
    pub class: [u8; 8],
    pub status: Status,
    pub verdicts: Verdicts,
    flags: u8,
}

impl GraphPoint {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = ValueWriter(Vec::with_capacity(35));
        w.fixed(&self.number.to_be_bytes());
        w.fixed(&self.parent.to_be_bytes());
        w.float(self.metric);
        w.fixed(&self.class);
        w.fixed(&[status_code(self.status), self.verdicts.code(), self.flags]);
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
            verdicts: Verdicts::of(r.byte()?)?,
            flags: r.byte()?,
        })
    }

    pub fn on_frontier(&self) -> bool {
        self.flags & LOCAL != 0
    }

    pub fn stray(&self) -> bool {
        self.flags & STRAY != 0
    }

    /// Whether any measurement counts in a verdict.
    pub fn measured(&self) -> bool {
        self.verdicts.local != Verdict::Unverified || self.verdicts.global != Verdict::Unverified
    }

    /// Rejected locally, or not comparable.
    pub fn refused(&self) -> bool {
        self.verdicts.local == Verdict::Rejected || self.flags >> FLAW != 0
    }
}
