//! Backups of a store that is in use, and stores restored from them.

use std::{
    fs,
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
};

use spore_protocol::{Cid, Goal, VerifiedObject};

use super::{
    findings,
    objects::{manifest, record, sign, task_of},
};
use crate::{GcPlan, RestorePlan, Stage, Store, StoreError, unwatched};

fn records(from: u64, to: u64) -> Vec<VerifiedObject> {
    let task = task_of(&manifest(1, Goal::Minimize));
    (from..to).map(|time| sign(2, &record(2, Some(task), None, 1.0, time)).into()).collect()
}

#[test]
fn backups_copy_only_new_files_and_each_can_be_restored() {
    let dir = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Store::backups(folder.path()), Err(StoreError::NoBackup(_))));
    let store = Store::open(dir.path()).unwrap();
    store.insert(&records(0, 200), 1).unwrap();
    store.compact(&mut unwatched).unwrap();
    let script = store.put_artifact(b"script").unwrap();
    let large = store.put_artifact(&vec![9; 3 << 20]).unwrap();
    store.pin(&large).unwrap();
    let first = store.backup(folder.path(), 5, &mut unwatched).unwrap();
    assert_eq!((first.artifacts_copied, first.artifact_bytes_copied), (2, 6 + (3 << 20)));
    // Not flushed: a backup contains the write-ahead log, too.
    store.insert(&records(200, 210), 2).unwrap();
    let second = store.backup(folder.path(), 5, &mut unwatched).unwrap();
    assert_eq!((second.artifacts_copied, second.backup.id), (0, first.backup.id + 1));
    store.insert(&records(210, 220), 3).unwrap();
    let backups = Store::backups(folder.path()).unwrap();
    assert_eq!(backups, [first.backup, second.backup]);

    for (plan, count) in [(Some(first.backup.id), 200), (None, 210)] {
        let target = tempfile::tempdir().unwrap();
        let plan = RestorePlan { id: plan, replace: false };
        let report = Store::restore(folder.path(), target.path(), plan, &mut unwatched).unwrap();
        assert_eq!((report.artifacts_copied, report.sequence), (2, count));
        let restored = Store::open(target.path()).unwrap();
        assert_eq!((restored.counts().unwrap().experiments, restored.lost_changes()), (count, None));
        assert_eq!(findings(&restored), Vec::<String>::new());
        assert_eq!(restored.artifact(&script).unwrap().unwrap(), b"script");
        assert_eq!((restored.verify_artifact(&large).unwrap(), restored.pins().unwrap()), (true, vec![large]));
    }
    let third = store.backup(folder.path(), 1, &mut unwatched).unwrap();
    assert_eq!(Store::backups(folder.path()).unwrap(), [third.backup], "only as many as requested are kept");
}

#[test]
fn upkeep_runs_beside_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.insert(&records(0, 100), 1).unwrap();
    let stop = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut at = 100;
            while !stop.load(Ordering::Relaxed) {
                store.insert(&records(at, at + 5), 1).unwrap();
                store.put_artifact(&at.to_be_bytes()).unwrap();
                at += 5;
            }
            at
        });
        for _ in 0..3 {
            assert_eq!(findings(&store), Vec::<String>::new());
            store.backup(folder.path(), 2, &mut unwatched).unwrap();
            store.compact(&mut unwatched).unwrap();
            let files = store.verify_files(&mut unwatched).unwrap();
            assert!(files.damaged.is_empty() && files.damaged_artifacts.is_empty());
            let plan = GcPlan { now: u64::MAX, max_age: None, max_bytes: Some(u64::MAX), dry_run: false };
            assert_eq!(store.gc(&plan, &mut unwatched).unwrap().dropped_count, 0);
            assert!(store.stats().unwrap().database_bytes() > 0);
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert_eq!(store.counts().unwrap().experiments, written);
    let target = tempfile::tempdir().unwrap();
    Store::restore(folder.path(), target.path(), RestorePlan::default(), &mut unwatched).unwrap();
    let restored = Store::open(target.path()).unwrap();
    assert_eq!((findings(&restored), restored.lost_changes()), (vec![], None));
    assert!((100..=written).contains(&restored.counts().unwrap().experiments));
}

#[test]
fn restore_replaces_a_store_only_on_request_and_keeps_its_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.insert(&records(0, 10), 1).unwrap();
    store.backup(folder.path(), 1, &mut unwatched).unwrap();
    store.insert(&records(10, 15), 1).unwrap();
    let restore = |replace| {
        let plan = RestorePlan { id: None, replace };
        Store::restore(folder.path(), dir.path(), plan, &mut unwatched)
    };
    assert!(matches!(restore(true), Err(StoreError::Locked { .. })), "a node runs");
    drop(store);
    assert!(matches!(restore(false), Err(StoreError::NotEmpty(_))));
    assert_eq!(restore(true).unwrap().sequence, 15);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.counts().unwrap().experiments, store.sequence()), (10, 15));
    assert_eq!(store.lost_changes(), Some(11..=15), "changes after the backup are reported as lost");
    let report = store.insert(&records(10, 15), 1).unwrap();
    assert_eq!(report.changes[0].sequence, 16);
    assert_eq!(findings(&store), Vec::<String>::new());
}

#[test]
fn damaged_backup_is_refused_and_damaged_artifacts_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.insert(&records(0, 300), 1).unwrap();
    store.compact(&mut unwatched).unwrap();
    let (good, bad) = (store.put_artifact(b"good").unwrap(), store.put_artifact(b"bad").unwrap());
    fs::write(store.artifact_path(&bad).unwrap(), b"bat").unwrap();
    let report = store.backup(folder.path(), 1, &mut unwatched).unwrap();
    assert_eq!((report.artifacts_copied, report.artifacts_damaged), (1, vec![bad]));

    let shared = folder.path().join("database").join("shared_checksum");
    let tables = fs::read_dir(shared).unwrap().map(|entry| entry.unwrap().path());
    let table = tables.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&table, bytes).unwrap();
    let target = tempfile::tempdir().unwrap();
    let refused = Store::restore(folder.path(), target.path(), RestorePlan::default(), &mut unwatched);
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{refused:?}");
    assert!(matches!(Store::open_read_only(target.path()), Err(StoreError::NotFound(_))), "nothing is put in place");
    assert_eq!(store.artifact(&good).unwrap().unwrap(), b"good");
    assert!(store.artifact(&Cid::of(b"bad")).unwrap().is_none());
}

#[test]
fn cancelled_backup_leaves_earlier_ones() {
    let dir = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.insert(&records(0, 10), 1).unwrap();
    let first = store.backup(folder.path(), 1, &mut unwatched).unwrap();
    store.put_artifact(b"script").unwrap();
    let stopped = store.backup(folder.path(), 1, &mut |progress| match progress.stage {
        Stage::Artifacts => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(StoreError::Cancelled)));
    assert_eq!(Store::backups(folder.path()).unwrap().first(), Some(&first.backup));
    let second = store.backup(folder.path(), 1, &mut unwatched).unwrap();
    assert_eq!((Store::backups(folder.path()).unwrap(), second.artifacts_copied), (vec![second.backup], 1));
}

#[test]
fn backup_folder_is_locked_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.put_artifact(b"script").unwrap();
    let target = tempfile::tempdir().unwrap();
    let mut refused = 0;
    let mut watch = |progress: crate::StageProgress| {
        if progress.stage == Stage::Artifacts {
            let plan = RestorePlan::default();
            let restored = Store::restore(folder.path(), target.path(), plan, &mut unwatched);
            assert!(matches!(restored, Err(StoreError::Locked { .. })), "{restored:?}");
            assert!(matches!(Store::backups(folder.path()), Err(StoreError::Locked { .. })));
            refused += 1;
        }
        ControlFlow::Continue(())
    };
    store.backup(folder.path(), 1, &mut watch).unwrap();
    assert_eq!((refused, Store::backups(folder.path()).unwrap().len()), (1, 1));
}
