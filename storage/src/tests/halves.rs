//! Batches with objects that need a damaged part of the store: these fail, and all others are stored.

use spore_protocol::{Goal, Record, TaskId, Verified, VerifiedObject};

use super::{
    any,
    objects::{manifest, record, sign},
};
use crate::{Damage, InsertOutcome, Store, StoreError, columns::Column, keys, lookup};

const TASK: TaskId = TaskId([1; 32]);
const OTHER_TASK: TaskId = TaskId([2; 32]);

fn child(task: TaskId, parent: &Verified<Record>, timestamp: u64) -> Verified<Record> {
    sign(2, &record(2, Some(task), Some(parent), 1.0, timestamp))
}

/// A store with one record, whose object cannot be decoded.
fn damaged() -> (tempfile::TempDir, Store, Verified<Record>) {
    let dir = tempfile::tempdir().unwrap();
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let store = Store::open(dir.path()).unwrap();
    store.insert(&[any(&root)], 1).unwrap();
    let number = lookup::number_of(store.database(), any(&root).kind(), &root.id()).unwrap().unwrap();
    store.database().commit([(Column::Objects, keys::number(number).as_slice(), Some(&b"?"[..]))]).unwrap();
    drop(store);
    // A new process, which has not read the record yet.
    let store = Store::open(dir.path()).unwrap();
    (dir, store, root)
}

fn is_damage(outcome: &InsertOutcome) -> bool {
    matches!(outcome, InsertOutcome::Failed(StoreError::Corrupt(Damage::Value(_))))
}

#[test]
fn object_that_needs_damaged_data_fails_alone() {
    let (_dir, store, root) = damaged();
    let bad = child(TASK, &root, 2);
    let waiting = child(TASK, &bad, 3);
    let manifest: VerifiedObject = manifest(1, Goal::Minimize).into();
    let report = store.insert(&[any(&bad), any(&waiting), manifest.clone()], 1).unwrap();
    let ids: Vec<_> = report.outcomes.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [bad.id(), waiting.id(), manifest.id()]);
    assert!(is_damage(&report.outcomes[0].1), "{:?}", report.outcomes);
    assert_eq!(report.outcomes[1].1, InsertOutcome::Pending { missing: bad.id().into() });
    assert_eq!(report.outcomes[2].1, InsertOutcome::New);
    assert_eq!(report.changes.iter().map(|change| change.id).collect::<Vec<_>>(), [manifest.id()]);
    assert_eq!((store.sequence(), store.pending_count().unwrap()), (2, 1));

    let alone = store.insert(&[any(&bad)], 1).unwrap();
    assert!(is_damage(&alone.outcomes[0].1) && alone.changes.is_empty(), "{alone:?}");
}

#[test]
fn split_batch_reports_the_final_outcome_of_a_record_that_waited_for_a_later_half() {
    let (_dir, store, damaged) = damaged();
    let root = sign(3, &record(3, Some(OTHER_TASK), None, 2.0, 10));
    let (good, invalid) = (child(OTHER_TASK, &root, 11), child(TaskId([3; 32]), &root, 12));
    let bad = child(TASK, &damaged, 2);
    let batch = [any(&good), any(&invalid), any(&bad), any(&root)];
    let report = store.insert(&batch, 1).unwrap();
    let [(_, first), (_, second), (_, third), (_, fourth)] = &report.outcomes[..] else { panic!("{report:?}") };
    assert_eq!((first, fourth), (&InsertOutcome::New, &InsertOutcome::New));
    assert!(matches!(second, InsertOutcome::Rejected(reject) if reject.code() == "task_mismatch"), "{second:?}");
    assert!(is_damage(third), "{third:?}");
    assert_eq!(report.changes.iter().map(|change| change.id).collect::<Vec<_>>(), [root.id(), good.id()]);
    assert_eq!((report.late_rejects.len(), store.pending_count().unwrap()), (0, 0));
}
