//! A task's whole graph in columns: what a chart draws, of a hundred thousand records too.
//!
//! # Format, version 1
//! All in one piece; LEB128 numbers, signed ones zigzag; floats little-endian.
//! - `SPGR`, the version (1 byte), the number of records, the number of classes, then each class's
//!   name by length and UTF-8;
//! - ids, 32 bytes each, in (timestamp, id) order;
//! - for each record, how many places before it its parent stands; 0 where it has none;
//! - timestamps, each as its difference to the one before;
//! - metrics, 8 bytes each;
//! - states, 1 byte each: status in bits 0 and 1 (0 keep, 1 discard, 2 crash), 4 result holds, 8 on its
//!   class's frontier, 16 stray;
//! - classes, each as a place among the names.
//!
//! About 46 bytes a record: 2.3 MB for 50,000.

use std::{
    collections::HashMap,
    io::{self, Write},
    ops::ControlFlow,
};

use spore_protocol::{HardwareClass, RecordId, Status, TaskId};

use super::tasks::task_sequence;
use crate::{
    columns::Column,
    db::Source,
    error::{Result, StoreError},
    keys::{self, Listing},
    store::Store,
    values::{self, ClassState, Point},
};

const MAGIC: &[u8; 4] = b"SPGR";
const VERSION: u8 = 1;

/// A task's records in columns, strays too, in (timestamp, id) order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The task's sequence number when the columns were read: see [`Store::task_sequence`].
    pub sequence: u64,
    /// Named by [`Graph::classes`].
    pub class_names: Vec<HardwareClass>,
    pub ids: Vec<RecordId>,
    /// Places of the parents in these columns.
    pub parents: Vec<Option<u32>>,
    /// Unix seconds.
    pub timestamps: Vec<u64>,
    pub metrics: Vec<f64>,
    pub statuses: Vec<Status>,
    /// Places among the names.
    pub classes: Vec<u32>,
    /// Whether the result holds.
    pub verified: Vec<bool>,
    /// On its class's frontier.
    pub on_frontier: Vec<bool>,
    pub stray: Vec<bool>,
}

impl Store {
    /// A task's graph, from one scan of small values. Takes some 60 bytes of memory a record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn graph(&self, task: &TaskId) -> Result<Graph> {
        let view = self.view();
        let mut graph = Graph { sequence: task_sequence(&view, task)?, ..Graph::default() };
        let mut classes = HashMap::new();
        view.each(Column::Classes, &task.0, &mut |key, value| {
            let head = keys::id_at(key, 32)?.first_chunk::<8>().copied().unwrap_or_default();
            classes.insert(head, place(graph.class_names.len())?);
            graph.class_names.push(values::decode::<ClassState>(value)?.class);
            Ok(ControlFlow::Continue(()))
        })?;
        let (mut places, mut parents) = (HashMap::new(), Vec::new());
        view.each(Column::Timeline, &Listing::TaskRecords(*task).prefix(), &mut |key, value| {
            let point = Point::decode(value)?;
            places.insert(point.number, place(graph.ids.len())?);
            parents.push(point.parent);
            let class = classes.get(&point.class).copied();
            graph.push(key, &point, class.ok_or_else(|| StoreError::corrupt("a record's class is unknown"))?)?;
            Ok(ControlFlow::Continue(()))
        })?;
        graph.parents = parents.iter().map(|parent| places.get(parent).copied()).collect();
        Ok(graph)
    }
}

fn place(count: usize) -> Result<u32> {
    u32::try_from(count).map_err(|_| StoreError::corrupt("a task has over four thousand million records"))
}

impl Graph {
    fn push(&mut self, key: &[u8], point: &Point, class: u32) -> Result<()> {
        self.ids.push(RecordId(keys::last_id(key)?));
        self.timestamps.push(keys::time_before_id(key)?);
        self.metrics.push(point.metric);
        self.statuses.push(point.status);
        self.classes.push(class);
        self.verified.push(point.verdict.holds());
        self.on_frontier.push(point.on_frontier());
        self.stray.push(point.stray());
        Ok(())
    }

    /// Writes the columns in the format that this module describes.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&[VERSION])?;
        number(out, self.ids.len() as u64)?;
        number(out, self.class_names.len() as u64)?;
        for name in &self.class_names {
            number(out, name.as_str().len() as u64)?;
            out.write_all(name.as_str().as_bytes())?;
        }
        for id in &self.ids {
            out.write_all(&id.0)?;
        }
        for (at, parent) in (0i64..).zip(&self.parents) {
            signed(out, parent.map_or(0, |parent| at - i64::from(parent)))?;
        }
        let mut before = 0;
        for timestamp in &self.timestamps {
            // Wraps around as the reader's addition does: never in ordered timestamps.
            number(out, timestamp.wrapping_sub(before))?;
            before = *timestamp;
        }
        for metric in &self.metrics {
            out.write_all(&metric.to_le_bytes())?;
        }
        let marks = self.verified.iter().zip(&self.on_frontier).zip(&self.stray);
        for (status, ((verified, on_frontier), stray)) in self.statuses.iter().zip(marks) {
            let status = match status {
                Status::Keep => 0,
                Status::Discard => 1,
                Status::Crash => 2,
            };
            let state = status | u8::from(*verified) << 2 | u8::from(*on_frontier) << 3 | u8::from(*stray) << 4;
            out.write_all(&[state])?;
        }
        for class in &self.classes {
            number(out, u64::from(*class))?;
        }
        Ok(())
    }

    /// As [`Graph::write`], in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + 48 * self.ids.len());
        // Writing to memory does not fail.
        let _ = self.write(&mut bytes);
        bytes
    }
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

    #[test]
    fn the_format_is_as_described() {
        let graph = Graph {
            sequence: 9,
            class_names: vec![HardwareClass::of("CPU")],
            ids: vec![RecordId([1; 32]), RecordId([2; 32])],
            parents: vec![Some(1), None],
            timestamps: vec![300, 301],
            metrics: vec![1.5, 2.0],
            statuses: vec![Status::Discard, Status::Keep],
            classes: vec![0, 0],
            verified: vec![false, true],
            on_frontier: vec![false, true],
            stray: vec![true, false],
        };
        let expected = [
            b"SPGR\x01\x02\x01\x03CPU".as_slice(),
            &[1; 32],
            &[2; 32],
            // One place ahead, and no parent; 300, then one more.
            &[1, 0, 0xac, 0x02, 1],
            &1.5f64.to_le_bytes(),
            &2.0f64.to_le_bytes(),
            &[1 | 16, 4 | 8, 0, 0],
        ];
        assert_eq!(graph.to_bytes(), expected.concat());
    }
}
