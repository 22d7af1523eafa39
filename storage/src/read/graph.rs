//! A task's graph in columns: what a chart draws, also for a million records.
//!
//! # Format, version 4
//!
//! Numbers are LEB128, signed numbers are zigzag, floats are little-endian, a text is its length in bytes and UTF-8.
//!
//! - `SPGR`, the version (1 byte), the content (1 byte: 0 the whole graph, 1 changes), the length of an id (1 byte);
//! - the cursor, a text: passed back as `since`, it gives what changed after this answer;
//! - the number of records, the number of classes, each class's name as a text;
//! - ids, their first bytes, in (timestamp, id) order: 8 bytes tell the records of a task apart, unless somebody made two
//!   records for that purpose ([`TaskGraph::id_length`]), and then ids are whole;
//! - parents. In a whole graph: the record's index minus its parent's index, signed, 0 without a parent. In changes:
//!   the parent's id in the same length, zero bytes without a parent;
//! - timestamps, each as its difference to the one before;
//! - metrics, 8 bytes each: the lowest byte of every metric, then the next byte of every metric, and so on, which
//!   compresses better than one metric after the other;
//! - states, 1 byte each: status in bits 0 and 1 (0 keep, 1 discard, 2 crash), 4 the result holds locally, 8 on its
//!   class's local frontier, 16 stray, 32 rejected locally or not comparable, 64 disputed locally;
//! - classes, each as an index into the names.
//!
//! A record takes about 22 bytes: 1.1 MB for 50,000.

use std::{
    collections::HashMap,
    io::{self, Write},
    ops::ControlFlow,
};

use spore_protocol::{HardwareClass, RecordId, Status, TaskId, Verdict};

use super::tasks::task_sequence;
use crate::{
    columns::Column,
    db::KeyReader,
    error::{Damage, Result},
    keys::{self, TimeList},
    store::Store,
    values::{self, ClassState, GraphPoint},
};

const MAGIC: &[u8; 4] = b"SPGR";
const VERSION: u8 = 4;
/// Bytes of an id that tell the records of a task apart. Two records that share them cost their maker some 2^32 hashes,
/// and a record that shares them with another's costs 2^64.
pub const SHORT_ID: u8 = 8;
/// Bytes of a whole id.
pub const WHOLE_ID: u8 = 32;

/// Records of a task in columns, strays too, in (timestamp, id) order: the whole graph, whose parents are indices
/// into these columns, or [`GraphChanges`].
#[derive(Clone, Debug, PartialEq)]
pub struct TaskGraph<Parent = u32> {
    /// The task's sequence number when the columns were read: see [`Store::task_sequence`].
    pub sequence: u64,
    /// The names that [`TaskGraph::classes`] indexes.
    pub class_names: Vec<HardwareClass>,
    pub ids: Vec<RecordId>,
    pub parents: Vec<Option<Parent>>,
    /// Unix seconds.
    pub timestamps: Vec<u64>,
    pub metrics: Vec<f64>,
    pub statuses: Vec<Status>,
    /// Indices into the names.
    pub classes: Vec<u32>,
    /// Whether the result holds locally.
    pub verified: Vec<bool>,
    /// On its class's local frontier.
    pub on_frontier: Vec<bool>,
    pub stray: Vec<bool>,
    /// Rejected locally, or not comparable by the task's terms.
    pub refused: Vec<bool>,
    /// Disputed locally: measurements that count disagree with the record.
    pub disputed: Vec<bool>,
}

/// The records that were added or changed since an earlier graph. A parent is named by its id: it may be outside these
/// columns.
pub type GraphChanges = TaskGraph<RecordId>;

/// How a graph names a record's parent.
pub trait ParentColumn: Sized {
    /// The content byte of a graph with such parents.
    const CONTENT: u8;

    /// Writes the parent of the record at `index`, an id by its first `length` bytes.
    ///
    /// # Errors
    /// Errors of `out`.
    fn write(parent: Option<&Self>, index: i64, length: u8, out: &mut dyn Write) -> io::Result<()>;
}

impl ParentColumn for u32 {
    const CONTENT: u8 = 0;

    fn write(parent: Option<&Self>, index: i64, _length: u8, out: &mut dyn Write) -> io::Result<()> {
        signed(out, parent.map_or(0, |parent| index - i64::from(*parent)))
    }
}

impl ParentColumn for RecordId {
    const CONTENT: u8 = 1;

    fn write(parent: Option<&Self>, _index: i64, length: u8, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(first(&parent.map_or([0; 32], |parent| parent.0), length))
    }
}

impl Store {
    /// A task's graph, from one scan of small values. Takes some 60 bytes of memory for each record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn graph(&self, task: &TaskId) -> Result<TaskGraph> {
        let view = self.view();
        let mut graph = TaskGraph::empty(task_sequence(&view, task)?);
        let mut classes = HashMap::new();
        view.each(Column::Classes, &task.0, &mut |key, value| {
            let head = keys::id_at(key, 32)?.first_chunk::<8>().copied().unwrap_or_default();
            classes.insert(head, index(graph.class_names.len())?);
            graph.class_names.push(values::decode::<ClassState>(value)?.class);
            Ok(ControlFlow::Continue(()))
        })?;
        let (mut indices, mut parents) = (HashMap::new(), Vec::new());
        view.each(Column::Timeline, &TimeList::TaskRecords(*task).prefix(), &mut |key, value| {
            let point = GraphPoint::decode(value)?;
            indices.insert(point.number, index(graph.ids.len())?);
            parents.push(point.parent);
            let class = classes.get(&point.class).copied();
            let class = class.ok_or(Damage::Value("a record's class is unknown"))?;
            graph.push(RecordId(keys::last_id(key)?), keys::time_before_id(key)?, &point, class);
            Ok(ControlFlow::Continue(()))
        })?;
        graph.parents = parents.iter().map(|parent| indices.get(parent).copied()).collect();
        Ok(graph)
    }
}

/// An index into a column.
pub(super) fn index(count: usize) -> Result<u32> {
    Ok(u32::try_from(count).map_err(|_| Damage::Value("a task has more than 2^32 records"))?)
}

impl<Parent> TaskGraph<Parent> {
    /// A graph without records.
    pub(super) fn empty(sequence: u64) -> Self {
        Self {
            sequence,
            class_names: Vec::new(),
            ids: Vec::new(),
            parents: Vec::new(),
            timestamps: Vec::new(),
            metrics: Vec::new(),
            statuses: Vec::new(),
            classes: Vec::new(),
            verified: Vec::new(),
            on_frontier: Vec::new(),
            stray: Vec::new(),
            refused: Vec::new(),
            disputed: Vec::new(),
        }
    }

    /// Adds a record to every column but the parents'.
    pub(super) fn push(&mut self, id: RecordId, timestamp: u64, point: &GraphPoint, class: u32) {
        self.ids.push(id);
        self.timestamps.push(timestamp);
        self.metrics.push(point.metric);
        self.statuses.push(point.status);
        self.classes.push(class);
        self.verified.push(point.verdicts.local.holds());
        self.on_frontier.push(point.on_frontier());
        self.stray.push(point.stray());
        self.refused.push(point.refused());
        self.disputed.push(point.verdicts.local == Verdict::Disputed);
    }
}

impl TaskGraph {
    /// Bytes by which the ids of this whole graph are told apart: [`SHORT_ID`], or [`WHOLE_ID`] when two records share
    /// those.
    pub fn id_length(&self) -> u8 {
        let mut heads: Vec<u64> =
            self.ids.iter().map(|id| id.0.first_chunk().copied().map_or(0, u64::from_be_bytes)).collect();
        heads.sort_unstable();
        if heads.is_sorted_by(|a, b| a < b) { SHORT_ID } else { WHOLE_ID }
    }
}

impl<Parent: ParentColumn> TaskGraph<Parent> {
    /// Writes the columns in the format that this module describes, with ids of `length` bytes ([`SHORT_ID`] or
    /// [`WHOLE_ID`]). `cursor` is the text by which the reader asks for what changes after this.
    ///
    /// # Errors
    /// Errors of `out`.
    pub fn write(&self, cursor: &str, length: u8, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&[VERSION, Parent::CONTENT, length])?;
        text(out, cursor)?;
        number(out, self.ids.len() as u64)?;
        number(out, self.class_names.len() as u64)?;
        for name in &self.class_names {
            text(out, name.as_str())?;
        }
        for id in &self.ids {
            out.write_all(first(&id.0, length))?;
        }
        for (index, parent) in (0i64..).zip(&self.parents) {
            Parent::write(parent.as_ref(), index, length, out)?;
        }
        let mut before = 0;
        for timestamp in &self.timestamps {
            // Never wraps around in ordered timestamps. Where it does, the reader's addition wraps back.
            number(out, timestamp.wrapping_sub(before))?;
            before = *timestamp;
        }
        for place in 0..size_of::<f64>() {
            let bytes: Vec<u8> =
                self.metrics.iter().filter_map(|metric| metric.to_le_bytes().get(place).copied()).collect();
            out.write_all(&bytes)?;
        }
        let verdicts = self.verified.iter().zip(&self.refused).zip(&self.disputed);
        let marks = self.on_frontier.iter().zip(&self.stray).zip(verdicts);
        for (status, ((on_frontier, stray), ((verified, refused), disputed))) in self.statuses.iter().zip(marks) {
            let status = match status {
                Status::Keep => 0,
                Status::Discard => 1,
                Status::Crash => 2,
            };
            let state = status
                | u8::from(*verified) << 2
                | u8::from(*on_frontier) << 3
                | u8::from(*stray) << 4
                | u8::from(*refused) << 5
                | u8::from(*disputed) << 6;
            out.write_all(&[state])?;
        }
        for class in &self.classes {
            number(out, u64::from(*class))?;
        }
        Ok(())
    }

    /// As [`TaskGraph::write`], in memory.
    pub fn to_bytes(&self, cursor: &str, length: u8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + 24 * self.ids.len());
        // Writing to memory does not fail.
        let _ = self.write(cursor, length, &mut bytes);
        bytes
    }
}

/// The first bytes of an id.
fn first(id: &[u8; 32], length: u8) -> &[u8] {
    id.get(..usize::from(length)).unwrap_or(id)
}

fn text(out: &mut dyn Write, text: &str) -> io::Result<()> {
    number(out, text.len() as u64)?;
    out.write_all(text.as_bytes())
}

fn number(out: &mut dyn Write, mut number: u64) -> io::Result<()> {
    let mut bytes = [0; 10];
    let mut length = 0;
    for byte in &mut bytes {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        length += 1;
        *byte = if number == 0 { low & 0x7f } else { low | 0x80 };
        if number == 0 {
            break;
        }
    }
    out.write_all(bytes.get(..length).unwrap_or_default())
}

fn signed(out: &mut dyn Write, value: i64) -> io::Result<()> {
    number(out, ((value << 1) ^ (value >> 63)).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns<Parent>(parents: Vec<Option<Parent>>) -> TaskGraph<Parent> {
        TaskGraph {
            sequence: 9,
            class_names: vec![HardwareClass::of("CPU")],
            ids: vec![RecordId([1; 32]), RecordId([2; 32])],
            parents,
            timestamps: vec![300, 301],
            metrics: vec![1.5, 2.0],
            statuses: vec![Status::Discard, Status::Keep],
            classes: vec![0, 0],
            verified: vec![false, true],
            on_frontier: vec![false, true],
            stray: vec![true, false],
            refused: vec![true, false],
            disputed: vec![false, true],
        }
    }

    /// What both contents write after the parents: 300 and one more second, metrics, states, classes.
    fn rest() -> Vec<u8> {
        let metrics: Vec<u8> =
            1.5f64.to_le_bytes().into_iter().zip(2.0f64.to_le_bytes()).flat_map(<[u8; 2]>::from).collect();
        [&[0xac, 0x02, 1], metrics.as_slice(), &[1 | 16 | 32, 4 | 8 | 64, 0, 0]].concat()
    }

    #[test]
    fn whole_graph_is_written_as_described() {
        let expected = [
            b"SPGR\x04\x00\x08\x03a-9\x02\x01\x03CPU".as_slice(),
            &[1; 8],
            &[2; 8],
            // The parent is the next record; no parent.
            &[1, 0],
            &rest(),
        ];
        assert_eq!(columns(vec![Some(1u32), None]).to_bytes("a-9", SHORT_ID), expected.concat());
    }

    #[test]
    fn changes_are_written_as_described() {
        for length in [SHORT_ID, WHOLE_ID] {
            let id = |byte: u8| vec![byte; usize::from(length)];
            let head = [b"SPGR\x04\x01".as_slice(), &[length], b"\x00\x02\x01\x03CPU"].concat();
            let expected = [head, id(1), id(2), id(7), id(0), rest()];
            let changes = columns(vec![Some(RecordId([7; 32])), None]);
            assert_eq!(changes.to_bytes("", length), expected.concat());
        }
    }

    #[test]
    fn ids_are_whole_when_two_records_share_the_first_bytes() {
        let mut graph = columns(vec![Some(1u32), None]);
        assert_eq!(graph.id_length(), SHORT_ID);
        let mut twin = [1; 32];
        twin[8] = 2;
        graph.ids = vec![RecordId([1; 32]), RecordId(twin)];
        assert_eq!(graph.id_length(), WHOLE_ID);
    }
}
