//! The digests of all tasks of the store, in 256 shards by the first byte of their ids.
//!
//! Two nodes that hold the same find that out with these alone. Reading them costs some two microseconds for each task
//! and each 256 objects, so they are kept, and only shards with changed tasks are read again.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use spore_protocol::Kind;
use spore_storage::{Store, StoreError, TaskDigest};

use crate::limits::{MAX_TASKS, SHARD_CHANGES, SHARDS_ANEW, SHARDS_SHARE};

/// The shards of one store. Cheap to clone; clones share what they know.
#[derive(Clone, Default)]
pub struct TaskShards(Arc<Mutex<Option<KnownShards>>>);

struct KnownShards {
    /// None for a shard without tasks.
    digests: Vec<Option<TaskDigest>>,
    /// The store's sequence number up to which all changes are in the digests.
    sequence: u64,
    /// When all of them were read.
    made: Instant,
    /// When the last changes were looked at, and how long reading them took.
    looked: Instant,
    took: Duration,
}

impl TaskShards {
    /// The digest of each of the 256 shards. Waits for another reader. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn digests(&self, store: &Store) -> Result<Vec<Option<TaskDigest>>, StoreError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let fresh = match known.take() {
            Some(known) if now.duration_since(known.looked) < known.took.saturating_mul(SHARDS_SHARE) => known,
            Some(known) if now.duration_since(known.made) < SHARDS_ANEW => known.with_changes(store)?,
            _ => KnownShards::read(store)?,
        };
        Ok(known.insert(fresh).digests.clone())
    }
}

impl KnownShards {
    fn read(store: &Store) -> Result<Self, StoreError> {
        let (sequence, made) = (store.sequence(), Instant::now());
        let digests = (0..=u8::MAX).map(|shard| digest(store, shard)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { digests, sequence, made, looked: made, took: made.elapsed() })
    }

    fn with_changes(mut self, store: &Store) -> Result<Self, StoreError> {
        let looked = Instant::now();
        let changes = store.changes_since(self.sequence, SHARD_CHANGES)?;
        if changes.len() == SHARD_CHANGES {
            return Self::read(store);
        }
        let counts = changes.iter().filter(|change| matches!(change.kind, Kind::Experiment | Kind::Control));
        let changed: BTreeSet<u8> = counts.filter_map(|change| change.task_id?.0.first().copied()).collect();
        for shard in changed {
            if let Some(known) = self.digests.get_mut(usize::from(shard)) {
                *known = digest(store, shard)?;
            }
        }
        self.sequence = changes.last().map_or(self.sequence, |last| last.sequence);
        Ok(Self { looked, took: looked.elapsed(), ..self })
    }
}

/// The digest of a shard, from all its tasks in the order of their ids.
fn digest(store: &Store, shard: u8) -> Result<Option<TaskDigest>, StoreError> {
    let (mut hash, mut after) = (Sha256::new(), None);
    loop {
        let tasks = store.task_digests(shard, after, MAX_TASKS)?;
        let Some((last, _)) = tasks.last() else { break };
        after = Some(*last);
        for (task, digest) in &tasks {
            hash.update(task.0);
            hash.update(digest);
        }
    }
    let whole: [u8; 32] = hash.finalize().into();
    Ok(after.and_then(|_| whole.first_chunk().copied()))
}

/// The shards of a peer that differ from our own.
pub fn differing(ours: &[Option<TaskDigest>], theirs: &[(u8, TaskDigest)]) -> Vec<u8> {
    let same = |shard: u8, digest: &TaskDigest| ours.get(usize::from(shard)).is_some_and(|own| *own == Some(*digest));
    theirs.iter().filter(|(shard, digest)| !same(*shard, digest)).map(|(shard, _)| *shard).collect()
}

#[cfg(test)]
mod tests {
    use spore_protocol::{Identity, TaskId};

    use super::*;
    use crate::tests::objects::verified;

    fn insert(store: &Store, task: TaskId, number: u64) {
        let signer = Identity::from_seed(&[1; 32]);
        store.insert(&[verified(&signer, task, None, number, "one")], 2_000_000_000).unwrap();
    }

    #[test]
    fn shards_follow_the_store_and_differ_only_where_tasks_do() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let stores = dirs.each_ref().map(|dir| Store::open(dir.path()).unwrap());
        let shards: [TaskShards; 2] = Default::default();
        let read = |n: usize| {
            // Tests do not wait for the share of time that reading may take.
            if let Some(known) = shards[n].0.lock().unwrap().as_mut() {
                known.took = Duration::ZERO;
            }
            shards[n].digests(&stores[n]).unwrap()
        };
        let known = |n| -> Vec<_> {
            let all = (0..=u8::MAX).zip(read(n));
            all.filter_map(|(shard, digest)| digest.map(|digest| (shard, digest))).collect()
        };
        assert_eq!((read(0).len(), known(0)), (256, Vec::new()));
        insert(&stores[0], TaskId([7; 32]), 1);
        insert(&stores[1], TaskId([7; 32]), 1);
        insert(&stores[1], TaskId([9; 32]), 2);
        assert_eq!(differing(&read(0), &known(1)), [9]);
        assert_eq!(differing(&read(1), &known(0)), []);
        insert(&stores[0], TaskId([9; 32]), 2);
        assert_eq!(read(0), read(1));
        insert(&stores[1], TaskId([7; 32]), 3);
        assert_eq!(differing(&read(0), &known(1)), [7]);
    }
}
