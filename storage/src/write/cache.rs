//! Decoded values that one batch leaves for the next one.
//!
//! Most records touch what others touched just before them: their parent's row, their publisher's counters, their
//! task. These values stay decoded, so that an insertion reads little from the database. Only the writer changes the
//! store, so cached values are equal to the stored ones as long as every batch is written. After a batch that is not
//! written, the whole cache must be dropped.
//!
//! No benchmark has compared insertion with and without this cache yet, so its benefit is not known.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use spore_protocol::{NodeId, RecordId, Status, TaskId, terms::Terms};

use super::{series::Tails, timeline::BucketRange};
use crate::{
    error::{Damage, Result},
    keys::{ClassKey, TimeList},
    values::{ClassState, NodeState, Publisher, RecordRow, StandingState, TaskState},
};

/// Most rows cached, of some 500 bytes each. Few in tests, so that some are dropped.
const ROWS: usize = if cfg!(test) { 8 } else { 32_768 };
/// Most entries of each other kind, of some 200 bytes each: the nodes of a large network in its busy tasks.
const ENTRIES: usize = if cfg!(test) { 8 } else { 16_384 };

/// Everything cached.
#[derive(Default)]
pub struct WriteCache {
    pub(super) rows: CachedRows,
    pub(super) tasks: CachedValues<TaskId, TaskState>,
    pub(super) classes: CachedValues<(TaskId, ClassKey), ClassState>,
    pub(super) nodes: CachedValues<(Option<TaskId>, NodeId), NodeState>,
    /// By their keys in the database.
    pub(super) publishers: CachedValues<Vec<u8>, Publisher>,
    /// None for a signer that nothing is known about.
    pub(super) standings: CachedValues<(NodeId, ClassKey), Option<StandingState>>,
    /// Of records that enough signers without weight measured: the rank of the last one whose measurement is looked
    /// at. Those after it change nothing.
    pub(super) cutoffs: HashMap<u64, u64>,
    pub(super) tails: Tails,
    pub(super) bucket_ranges: HashMap<TimeList, BucketRange>,
    /// A block of numbers, and all uses of words in it.
    pub(super) words: Option<(u64, HashMap<String, Vec<u8>>)>,
    /// Whether a task has so long a name that the number of entries does not bound the memory.
    pub(super) large: bool,
}

impl WriteCache {
    /// Drops entries when there are too many. All of them must be written.
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
        self.standings.trim();
        if self.tails.len() > ENTRIES {
            self.tails.clear();
        }
        if self.cutoffs.len() > ENTRIES {
            self.cutoffs.clear();
        }
        if self.bucket_ranges.len() > ENTRIES {
            self.bucket_ranges.clear();
        }
    }
}

/// Decoded values, each with whether the current batch touched it.
pub(super) struct CachedValues<K, V> {
    values: HashMap<K, (V, bool)>,
    touched: Vec<K>,
}

impl<K, V> Default for CachedValues<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), touched: Vec::new() }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> CachedValues<K, V> {
    /// A value, which is read with `read` if it is not cached, and is written at the end of the batch.
    pub fn touch(&mut self, key: K, read: impl FnOnce(&K) -> Result<V>) -> Result<&mut V> {
        if !self.values.contains_key(&key) {
            let value = read(&key)?;
            self.values.insert(key.clone(), (value, false));
        }
        let (value, touched) = self.values.get_mut(&key).ok_or(Damage::Value("a value that was just read is gone"))?;
        if !*touched {
            *touched = true;
            self.touched.push(key);
        }
        Ok(value)
    }

    /// A value that is not to be changed.
    pub fn read(&mut self, key: K, read: impl FnOnce(&K) -> Result<V>) -> Result<&V> {
        if !self.values.contains_key(&key) {
            let value = read(&key)?;
            self.values.insert(key.clone(), (value, false));
        }
        let (value, _) = self.values.get(&key).ok_or(Damage::Value("a value that was just read is gone"))?;
        Ok(value)
    }

    /// The values touched since the last call.
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

/// Rows by number, and the numbers by id. Without texts, which no rule needs.
#[derive(Default)]
pub(super) struct CachedRows {
    by_number: BTreeMap<u64, RecordRow>,
    numbers: HashMap<RecordId, u64>,
    /// Whether a row has so long a name that the number of rows does not bound the memory.
    large: bool,
}

/// Most bytes of a device's name, of a class's, or of a task's and its metric's together, in a cached value. Anybody
/// can sign names of many MiB.
const MAX_NAME: usize = 256;

/// Whether a task's names are too long for the cache.
pub(super) fn is_large(task: &TaskState) -> bool {
    let terms = |terms: &Terms| terms.dataset_cid.len() + terms.prepare_cid.len();
    let bound = task.terms.as_ref().map(terms).unwrap_or_default();
    bound > MAX_NAME
        || task.manifest.as_ref().is_some_and(|m| m.name.len() + m.metric.len() + terms(&m.terms) > MAX_NAME)
}

impl CachedRows {
    pub fn get(&self, number: u64) -> Option<&RecordRow> {
        self.by_number.get(&number)
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut RecordRow> {
        self.by_number.get_mut(&number)
    }

    pub fn number_of(&self, id: &RecordId) -> Option<u64> {
        self.numbers.get(id).copied()
    }

    pub fn insert(&mut self, row: RecordRow) {
        let s = &row.summary;
        self.large |= s.class.as_str().len() > MAX_NAME || s.gpu_model.len() > MAX_NAME;
        self.numbers.insert(row.summary.id, row.number());
        self.by_number.insert(row.number(), row);
    }

    pub fn remove(&mut self, number: u64) {
        if let Some(row) = self.by_number.remove(&number) {
            self.numbers.remove(&row.summary.id);
        }
    }

    /// Keeps the rows that others are most likely to build on: keeps, the last to arrive.
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
        write::InsertBatch,
    };

    #[test]
    fn row_with_a_long_name_is_not_cached() {
        for (gpu_model, cached) in [("CPU".to_owned(), true), ("x".repeat(5000), false)] {
            let mut made = record(1, None, None, 2.0, 1);
            made.gpu_model = gpu_model;
            let made = sign(1, &made);
            let place = spore_protocol::lineage::place(made.id().into(), &made, None).unwrap();
            let mut cache = WriteCache::default();
            cache.rows.insert(RecordRow::of(made.id().into(), &made, place, 1, 7, 0));
            cache.trim();
            assert_eq!(cache.rows.get(7).is_some(), cached);
        }
    }

    #[test]
    fn task_with_a_long_name_is_not_cached() {
        for (metric, cached) in [("val_bpb".to_owned(), 1), ("x".repeat(5000), 0)] {
            let named = TaskManifest { metric, ..manifest(1, Goal::Minimize).object().clone() };
            let named: VerifiedObject = fixtures::sign(&identity(1), &named).into();
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            let mut batch = InsertBatch::new(store.database()).unwrap();
            batch.insert(&named, 1).unwrap();
            let finished = batch.finish().unwrap();
            assert_eq!(finished.cache.tasks.values.len(), cached, "a task that was inserted");
            store.database().commit(finished.view.entries()).unwrap();

            let mut batch = InsertBatch::new(store.database()).unwrap();
            assert!(batch.task(&named.id().into()).unwrap().manifest.is_some());
            assert_eq!(batch.finish().unwrap().cache.tasks.values.len(), cached, "a task that was read");
        }
    }

    #[test]
    fn touched_value_is_read_once_and_written_once_a_batch() {
        let mut known: CachedValues<u8, u8> = CachedValues::default();
        *known.touch(1, |_| Ok(5)).unwrap() += 1;
        *known.touch(1, |_| panic!("it is known")).unwrap() += 1;
        assert_eq!(known.take_touched(), [(1, 7)]);
        assert_eq!(known.take_touched(), []);
        *known.touch(1, |_| panic!("it is known")).unwrap() += 1;
        assert_eq!(known.take_touched(), [(1, 8)]);
    }
}
