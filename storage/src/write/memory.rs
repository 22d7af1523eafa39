//! What a batch leaves in memory for the next one.
//!
//! Most records touch what others touched just before them: their parent's row, their publisher's
//! counters, their task. These stay decoded, so that an insertion asks the database for little. One
//! writer alone changes the store, so what is remembered is what is written, provided that every
//! batch is: after one that is not, all of it must be forgotten.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use spore_protocol::{NodeId, RecordId, Status, TaskId};

use super::{series::Tails, timeline::Stretch};
use crate::{
    error::{Result, StoreError},
    keys::{ClassKey, Listing},
    values::{ClassState, NodeState, Publisher, Row, TaskState},
};

/// Rows remembered, of some 500 bytes each. The tests know few, and want some to be forgotten.
const ROWS: usize = if cfg!(test) { 8 } else { 32_768 };
/// Entries of every other kind, of some 200 bytes each: the nodes of a large network in its busy tasks.
const ENTRIES: usize = if cfg!(test) { 8 } else { 16_384 };

/// All that is remembered.
#[derive(Default)]
pub struct Memory {
    pub(super) rows: Rows,
    pub(super) tasks: Known<TaskId, TaskState>,
    pub(super) classes: Known<(TaskId, ClassKey), ClassState>,
    pub(super) nodes: Known<(Option<TaskId>, NodeId), NodeState>,
    /// Under their keys.
    pub(super) publishers: Known<Vec<u8>, Publisher>,
    pub(super) tails: Tails,
    pub(super) stretches: HashMap<Listing, Stretch>,
    /// A stretch of numbers, and all uses of words in it.
    pub(super) words: Option<(u64, HashMap<String, Vec<u8>>)>,
    /// Whether a task has a name so long that what is remembered cannot be counted by its number.
    pub(super) large: bool,
}

impl Memory {
    /// Forgets what is too much. Nothing of it may be unwritten.
    pub(super) fn trim(&mut self) {
        // Every class and publisher that a batch touches has a row in it.
        if self.rows.large || self.large {
            *self = Self::default();
        }
        self.rows.trim(ROWS);
        self.tasks.trim();
        self.classes.trim();
        self.nodes.trim();
        self.publishers.trim();
        if self.tails.len() > ENTRIES {
            self.tails.clear();
        }
        if self.stretches.len() > ENTRIES {
            self.stretches.clear();
        }
    }
}

/// Decoded values, each with whether the batch under way touched it.
pub(super) struct Known<K, V> {
    values: HashMap<K, (V, bool)>,
    touched: Vec<K>,
}

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), touched: Vec::new() }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Known<K, V> {
    /// A value, read with `read` if it is not known, and written at the end of the batch.
    pub fn touch(&mut self, key: K, read: impl FnOnce(&K) -> Result<V>) -> Result<&mut V> {
        if !self.values.contains_key(&key) {
            let value = read(&key)?;
            self.values.insert(key.clone(), (value, false));
        }
        let (value, touched) = self.values.get_mut(&key).ok_or_else(|| StoreError::corrupt("it was just read"))?;
        if !*touched {
            *touched = true;
            self.touched.push(key);
        }
        Ok(value)
    }

    /// What was touched since the last time, with its value.
    pub fn take_touched(&mut self) -> Vec<(K, V)> {
        let mut all = Vec::with_capacity(self.touched.len());
        for key in std::mem::take(&mut self.touched) {
            if let Some((value, touched)) = self.values.get_mut(&key) {
                *touched = false;
                all.push((key, value.clone()));
            }
        }
        all
    }

    fn trim(&mut self) {
        if self.values.len() > ENTRIES {
            self.values.clear();
        }
    }
}

/// Rows by number, and the numbers by id. Without texts, which no rule asks for.
#[derive(Default)]
pub(super) struct Rows {
    by_number: BTreeMap<u64, Row>,
    numbers: HashMap<RecordId, u64>,
    /// Whether one has a name so long that what is remembered cannot be counted by its number.
    large: bool,
}

/// Bytes of a device's name, of a class's, or of a task's and its metric's together, beyond which nothing
/// that bears it is remembered: anybody can sign names of many MiB.
const MAX_NAME: usize = 256;

/// Whether a task's names are so long that it is not to be remembered.
pub(super) fn is_large(task: &TaskState) -> bool {
    task.manifest.as_ref().is_some_and(|manifest| manifest.name.len() + manifest.metric.len() > MAX_NAME)
}

impl Rows {
    pub fn get(&self, number: u64) -> Option<&Row> {
        self.by_number.get(&number)
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut Row> {
        self.by_number.get_mut(&number)
    }

    pub fn number_of(&self, id: &RecordId) -> Option<u64> {
        self.numbers.get(id).copied()
    }

    pub fn insert(&mut self, row: Row) {
        let s = &row.summary;
        self.large |= s.class.as_str().len() > MAX_NAME || s.gpu_model.len() > MAX_NAME;
        self.numbers.insert(row.summary.id, row.number());
        self.by_number.insert(row.number(), row);
    }

    /// The rows that others are most likely to build on stay: keeps, the last to arrive.
    fn trim(&mut self, most: usize) {
        if self.by_number.len() <= most {
            return;
        }
        self.by_number.retain(|_, row| row.summary.status == Status::Keep);
        if self.by_number.len() > most / 2 {
            let first = self.by_number.keys().rev().nth(most / 2).copied();
            self.by_number = self.by_number.split_off(&first.unwrap_or_default());
        }
        self.numbers = self.by_number.iter().map(|(number, row)| (row.summary.id, *number)).collect();
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::{Goal, TaskManifest, VerifiedObject, fixtures};

    use super::*;
    use crate::{
        store::Store,
        tests::objects::{identity, manifest, record, sign},
        write::Batch,
    };

    #[test]
    fn nothing_with_a_name_of_many_bytes_is_remembered() {
        for (gpu_model, remembered) in [("CPU".to_owned(), true), ("x".repeat(5000), false)] {
            let mut made = record(1, None, None, 2.0, 1);
            made.gpu_model = gpu_model;
            let made = sign(1, &made);
            let place = spore_protocol::lineage::place(made.id().into(), &made, None).unwrap();
            let mut memory = Memory::default();
            memory.rows.insert(Row::of(made.id().into(), &made, place, 1, 7, 0));
            memory.trim();
            assert_eq!(memory.rows.get(7).is_some(), remembered);
        }
    }

    #[test]
    fn no_task_with_a_name_of_many_bytes_is_remembered() {
        for (metric, remembered) in [("val_bpb".to_owned(), 1), ("x".repeat(5000), 0)] {
            let named = TaskManifest { metric, ..manifest(1, Goal::Minimize).object().clone() };
            let named: VerifiedObject = fixtures::sign(&identity(1), &named).into();
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            let mut batch = Batch::new(store.database()).unwrap();
            batch.insert(&named, 1).unwrap();
            let finished = batch.finish().unwrap();
            assert_eq!(finished.memory.tasks.values.len(), remembered, "one that came");
            store.database().commit(finished.view.entries()).unwrap();

            let mut batch = Batch::new(store.database()).unwrap();
            assert!(batch.task(&named.id().into()).unwrap().manifest.is_some());
            assert_eq!(batch.finish().unwrap().memory.tasks.values.len(), remembered, "one that was read");
        }
    }

    #[test]
    fn what_is_touched_is_read_once_and_written_once_a_batch() {
        let mut known: Known<u8, u8> = Known::default();
        *known.touch(1, |_| Ok(5)).unwrap() += 1;
        *known.touch(1, |_| panic!("it is known")).unwrap() += 1;
        assert_eq!(known.take_touched(), [(1, 7)]);
        assert_eq!(known.take_touched(), []);
        *known.touch(1, |_| panic!("it is known")).unwrap() += 1;
        assert_eq!(known.take_touched(), [(1, 8)]);
    }
}
