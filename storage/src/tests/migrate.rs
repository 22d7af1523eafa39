//! A store that an older program made is the same store after its upgrade.

use std::{fs, ops::ControlFlow, path::Path};

use rocksdb::{DB, Options};
use spore_protocol::{Kind, Verdict};

use super::model::dump;
use crate::{
    Progress, Scope, Span, Stage, Store, StoreError,
    db::{Access, Db},
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
        let repaired = Store::repair(dir.path(), None, &mut unwatched).unwrap_err();
        assert!(matches!(repaired, StoreError::OlderSchema { .. }), "{repaired}");
    }
    let half = Db::open(&swap::building(dir.path()), Access::Scratch).unwrap();
    half.seal().unwrap();
    drop(half);
    is_whole(&Store::open(dir.path()).unwrap());
}
