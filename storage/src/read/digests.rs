//! Digests of tasks: two stores tell from a few bytes for each task which tasks they hold other objects of.
//!
//! A digest is made of the sums that set reconciliation compares ([`crate::columns::Column::Buckets`]), of the task's
//! records and of its events. Reading one costs a read of its buckets, one for some 256 objects. A task of which only
//! the manifest is here has no digest: manifests are compared as a set of their own.

use std::{collections::BTreeMap, ops::ControlFlow};

use sha2::{Digest, Sha256};
use spore_protocol::TaskId;

use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::Result,
    keys::{self, TimeList},
    store::Store,
    values::Bucket,
};

/// Bytes of a digest. A collision needs 2^64 hashes, and hides one task from one peer.
pub const TASK_DIGEST_BYTES: usize = 16;

/// Stands for the records and events of a task that a store holds.
pub type TaskDigest = [u8; TASK_DIGEST_BYTES];

/// The sums of some tasks, and the last task that was read in full, if some were left.
type Sums = (BTreeMap<TaskId, Bucket>, Option<TaskId>);

impl Store {
    /// Digests of the tasks whose ids begin with the byte `shard`, in the order of their ids, from the first one after
    /// `after` on. At least one, if there is one, and at most `limit`; fewer are not the end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn task_digests(&self, shard: u8, after: Option<TaskId>, limit: usize) -> Result<Vec<(TaskId, TaskDigest)>> {
        let view = self.view();
        let (records, records_end) = sums(&view, TimeList::TaskRecords, shard, after, limit)?;
        let (controls, controls_end) = sums(&view, TimeList::TaskControls, shard, after, limit)?;
        let end = match (records_end, controls_end) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let mut both: BTreeMap<TaskId, (Bucket, Bucket)> = BTreeMap::new();
        for (task, sum) in records {
            both.entry(task).or_default().0 = sum;
        }
        for (task, sum) in controls {
            both.entry(task).or_default().1 = sum;
        }
        let whole = both.into_iter().filter(|(task, _)| end.is_none_or(|end| *task <= end));
        Ok(whole.take(limit.max(1)).map(|(task, (records, controls))| (task, digest(&records, &controls))).collect())
    }

    /// The digest of one task. None when the store holds neither a record nor an event of it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn task_digest(&self, task: &TaskId) -> Result<Option<TaskDigest>> {
        let view = self.view();
        let [mut records, mut controls] = [Bucket::default(); 2];
        for (list, sum) in
            [(TimeList::TaskRecords(*task), &mut records), (TimeList::TaskControls(*task), &mut controls)]
        {
            view.each(Column::Buckets, &list.prefix(), &mut |_, value| {
                sum.add(&Bucket::decode(value)?);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok((records.count + controls.count > 0).then(|| digest(&records, &controls)))
    }
}

/// The sums of one kind of list, for at most `limit` tasks of a shard after `after`.
fn sums(
    source: &dyn KeyReader,
    list: fn(TaskId) -> TimeList,
    shard: u8,
    after: Option<TaskId>,
    limit: usize,
) -> Result<Sums> {
    let [tag, ..] = list(TaskId([0; 32])).prefix();
    // No key of the task `after` is higher.
    let from = after.map(|task| [list(task).prefix().as_slice(), &[u8::MAX; 40]].concat());
    let (mut sums, mut end) = (BTreeMap::<TaskId, Bucket>::new(), None);
    source.walk(Column::Buckets, &[tag, shard], from.as_deref(), KeyOrder::Ascending, &mut |key, value| {
        let task = TaskId(keys::id_at(key, 1)?);
        if !sums.contains_key(&task) && sums.len() >= limit.max(1) {
            end = sums.last_key_value().map(|(last, _)| *last);
            return Ok(ControlFlow::Break(()));
        }
        sums.entry(task).or_default().add(&Bucket::decode(value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((sums, end))
}

fn digest(records: &Bucket, controls: &Bucket) -> TaskDigest {
    let mut hash = Sha256::new();
    for Bucket { count, sum } in [records, controls] {
        hash.update(count.to_be_bytes());
        hash.update(sum);
    }
    let whole: [u8; 32] = hash.finalize().into();
    whole.first_chunk().copied().unwrap_or_default()
}
