//! A store that an older program made is the same store after its upgrade.

use std::{fs, ops::ControlFlow, path::Path};

use rocksdb::{
    DB, Env, Options,
    backup::{BackupEngine, BackupEngineOptions},
};
use spore_protocol::{Kind, Verdict};

use super::model::dump;
use crate::{
    Progress, RestorePlan, Scope, Span, Stage, Store, StoreError,
    db::{Access, Db},
    mark,
    repair::swap,
    unwatched,
};

/// Every entry of a store of schema 1, as `column key value` in hex: two tasks and a legacy one, a
/// stray tree, verdicts, a profile that was replaced, a record whose parent never came.
const SCHEMA_1: &str = include_str!("fixtures/schema_1.txt");

fn restore(dir: &Path) {
    let mut options = Options::default();
    options.create_if_missing(true);
    let mut db = DB::open(&options, dir.join("store")).unwrap();
    for line in SCHEMA_1.lines() {
        let [column, key, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if db.cf_handle(column).is_none() {
            db.create_cf(column, &Options::default()).unwrap();
        }
        db.put_cf(db.cf_handle(column).unwrap(), hex::decode(key).unwrap(), hex::decode(value).unwrap()).unwrap();
    }
}

/// What the store of the fixture holds.
fn is_whole(store: &Store) {
    let counts = store.counts().unwrap();
    assert_eq!((counts.experiments, counts.verified, counts.tasks, counts.controls), (12, 3, 3, 8));
    assert_eq!((counts.profiles, counts.pending, counts.frontier), (1, 1, 4));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let changes = store.changes_since(0, 99).unwrap();
    assert_eq!(changes.iter().map(|c| c.sequence).collect::<Vec<_>>(), (1..=24).collect::<Vec<_>>());
    assert_eq!((store.sequence(), changes[0].kind), (24, Kind::Profile), "one that was replaced since");
    let tiny = store.tasks().unwrap().into_iter().find(|task| task.name == "tiny").unwrap();
    assert_eq!((tiny.experiment_count, tiny.stray_count, tiny.crash_count, tiny.node_count), (6, 2, 1, 4));
    let upheld = store.task_summaries(&tiny.task_id).unwrap();
    let upheld: Vec<_> = upheld.iter().filter(|r| r.verdict == Verdict::Upheld).collect();
    assert_eq!((upheld.len(), upheld[0].received_at), (1, 1_770_000_002));
    assert_eq!(store.pending(&Span::first(9)).unwrap().items[0].since, 1_770_000_001);
    let reputation: Vec<_> = store.reputation().unwrap().into_values().collect();
    assert_eq!(reputation, [1.0, -4.5, 1.0, 3.0, 4.5]);
    assert_eq!(store.search("wider LAYER", None, &Span::first(9)).unwrap().items.len(), 1);
}

#[test]
fn a_store_of_schema_1_is_upgraded_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path());
    let refused = Store::open_read_only(dir.path()).unwrap_err();
    assert!(matches!(refused, StoreError::OlderSchema { found: 1, .. }), "{refused}");
    let mut told = Vec::new();
    let mut watch = |progress| {
        told.push(progress);
        ControlFlow::Continue(())
    };
    let store = Store::open_with(dir.path(), &mut watch).unwrap();
    let at = |done| Progress { stage: Stage::Upgrade, done, total: 24 };
    assert_eq!((told.first(), told.last()), (Some(&at(0)), Some(&at(24))));
    is_whole(&store);
    let before = dump(&store);
    drop(store);
    let left = fs::read_dir(dir.path())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("store."));
    assert_eq!(left.count(), 0, "nothing of the old one");
    let store = Store::open_with(dir.path(), &mut |progress| panic!("again: {progress:?}")).unwrap();
    assert_eq!(dump(&store), before);
    assert_eq!(store.recent_page(Scope::All, &Span::first(99)).unwrap().items.len(), 12);
}

#[test]
fn an_upgrade_that_is_cancelled_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path());
    for _ in 0..2 {
        let stopped = Store::open_with(dir.path(), &mut |_| ControlFlow::Break(())).unwrap_err();
        assert!(matches!(stopped, StoreError::Cancelled), "{stopped}");
    }
    let half = Db::open(&swap::building(dir.path()), Access::Scratch).unwrap();
    half.seal().unwrap();
    drop(half);
    is_whole(&Store::open(dir.path()).unwrap());
}

#[test]
fn a_sound_store_of_schema_1_is_upgraded_by_a_repair_too() {
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path());
    let report = Store::repair(dir.path(), None, 1_770_000_100, &mut unwatched).unwrap();
    assert_eq!((report.objects, report.pending, report.faults, report.kept), (23, 1, vec![], None));
    is_whole(&Store::open(dir.path()).unwrap());
}

#[test]
fn a_damaged_store_of_schema_1_is_repaired_by_leaving_out_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path());
    let backup = tempfile::tempdir().unwrap();
    let sound = tempfile::tempdir().unwrap();
    restore(sound.path());
    Store::open(sound.path()).unwrap().backup(backup.path(), 1, &mut unwatched).unwrap();

    let of = |column: &str| {
        let lines = SCHEMA_1.lines().filter_map(|line| line.strip_prefix(column)?.strip_prefix(' ')?.split_once(' '));
        lines.map(|(key, value)| (hex::decode(key).unwrap(), hex::decode(value).unwrap())).collect::<Vec<_>>()
    };
    // An object that is no object, one with a wrong signature, a line of the log that is gone.
    let (events, log) = (of("objects"), of("log"));
    let events: Vec<_> = events.into_iter().filter(|(key, _)| key[0] == Kind::Control.code()).collect();
    {
        let db = open_all(dir.path());
        db.put_cf(db.cf_handle("objects").unwrap(), &events[0].0, b"rot").unwrap();
        let mut forged = events[1].1.clone();
        forged[3] ^= 1;
        db.put_cf(db.cf_handle("objects").unwrap(), &events[1].0, forged).unwrap();
        db.delete_cf(db.cf_handle("log").unwrap(), &log[20].0).unwrap();
    }
    let refused = Store::open(dir.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
    let report = Store::repair(dir.path(), None, 1_770_000_100, &mut unwatched).unwrap();
    let named: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    for (key, _) in &events[..2] {
        assert!(named.iter().any(|fault| fault.contains(&hex::encode(&key[1..]))), "{named:?}");
    }
    assert_eq!((named.len(), report.objects, report.kept.is_some()), (2, 21, true), "{named:?}");
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.counts().unwrap().experiments, store.counts().unwrap().controls), (12, 6));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    drop(store);
    let report = Store::repair(dir.path(), Some(backup.path()), 1_770_000_100, &mut unwatched).unwrap();
    assert_eq!((report.from_backup, report.faults), (2, vec![]));
    assert_eq!(Store::open(dir.path()).unwrap().counts().unwrap().controls, 8);
}

#[test]
fn a_backup_of_a_store_of_schema_1_is_restored_and_upgraded_then() {
    let old = tempfile::tempdir().unwrap();
    restore(old.path());
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("database")).unwrap();
    let options = BackupEngineOptions::new(folder.path().join("database")).unwrap();
    let mut engine = BackupEngine::open(&options, &Env::new().unwrap()).unwrap();
    engine.create_new_backup_flush(&open_all(old.path()), false).unwrap();
    drop(engine);
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path());
    mark::write(&swap::database(dir.path()), 30).unwrap();
    let plan = RestorePlan { id: None, replace: true };
    let report = Store::restore(folder.path(), dir.path(), plan, &mut unwatched).unwrap();
    assert_eq!(report.sequence, 30);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.counts().unwrap().experiments, store.lost_changes()), (12, Some(25..=30)));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

fn open_all(dir: &Path) -> DB {
    let path = dir.join("store");
    let columns = DB::list_cf(&Options::default(), &path).unwrap();
    DB::open_cf(&Options::default(), &path, columns).unwrap()
}
