//! What the store promises, one promise a test.

use std::{collections::BTreeSet, fs, path::Path};

use spore_protocol::{Goal, Kind, Record, RecordId, Status, TaskId, VerifiedObject, frontier::FrontierKind};

use super::{
    any, findings, insert,
    objects::{identity, manifest, profile, record, sign, task_of},
    sound,
};
use crate::{
    Cursor, InsertOutcome, Scope, Span, Store, StoreError, SyncScope, columns::Column, db::KeyReader, keys,
    write::InsertBatch,
};

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn files(dir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        names.insert(path.display().to_string());
        if path.is_dir() {
            names.extend(files(&path));
        }
    }
    names
}

#[test]
fn empty_store_is_sound() {
    let (dir, store) = open();
    sound(&store);
    drop(store);
    sound(&Store::open(dir.path()).unwrap());
}

#[test]
fn long_chain_in_reverse_order_is_released_by_its_root() {
    let (dir, store) = open();
    let manifest = manifest(1, Goal::Minimize);
    let task = task_of(&manifest);
    let mut chain = vec![sign(1, &record(1, Some(task), None, 9.0, 100))];
    for i in 1..300u32 {
        chain.push(sign(2, &record(2, Some(task), chain.last(), 9.0 - f64::from(i) / 100.0, 100 + u64::from(i))));
    }
    let backwards: Vec<_> = chain.iter().skip(1).rev().map(any).collect();
    let report = store.insert(&backwards, 1).unwrap();
    assert!(report.changes.is_empty());
    assert!(report.outcomes.iter().all(|(_, outcome)| matches!(outcome, InsertOutcome::Pending { .. })));
    assert_eq!((store.pending_count().unwrap(), store.counts().unwrap().experiments), (299, 0));
    assert_eq!(store.missing_parents_after(None, 9).unwrap(), [RecordId::from(chain[0].id())]);
    drop(store);

    let store = Store::open(dir.path()).unwrap();
    assert!(store.is_pending(&chain[5].id().into()).unwrap());
    assert!(!store.contains(Kind::Experiment, &chain[5].id()).unwrap());
    let report = insert(&store, &[&any(&chain[0])]);
    assert_eq!(report.outcomes, [(chain[0].id(), InsertOutcome::New)]);
    assert_eq!(report.changes.len(), 300);
    assert_eq!(store.pending_count().unwrap(), 0);
    let frontier = store.listing(&task, &FrontierKind::Reference, &Span::first(9)).unwrap().items;
    assert_eq!(frontier.iter().map(|r| r.id).collect::<Vec<_>>(), [RecordId::from(chain[299].id())]);
    assert_eq!(store.ancestors(&chain[299].id().into(), 400).unwrap().len(), 299);
    sound(&store);
}

#[test]
fn parent_and_child_may_share_a_batch_in_either_order() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let child = sign(2, &record(2, Some(task), Some(&root), 1.0, 2));
    let report = insert(&store, &[&any(&child), &any(&root), &any(&root)]);
    let outcomes: Vec<_> = report.outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [InsertOutcome::New, InsertOutcome::New, InsertOutcome::Known]);
    assert_eq!(report.changes.iter().map(|c| c.id).collect::<Vec<_>>(), [root.id(), child.id()]);
    assert_eq!(store.sequence(), 2);
    assert_eq!(insert(&store, &[&any(&root)]).outcomes, [(root.id(), InsertOutcome::Known)]);
    assert_eq!(store.sequence(), 2);
    sound(&store);
}

#[test]
fn pending_record_that_is_refused_takes_its_descendants_with_it() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let other = sign(2, &record(2, Some(TaskId([7; 32])), Some(&root), 1.0, 2));
    let grandchild = sign(2, &record(2, Some(TaskId([7; 32])), Some(&other), 1.0, 3));
    insert(&store, &[&any(&other), &any(&grandchild)]);
    let report = insert(&store, &[&any(&root)]);
    let late: Vec<_> = report.late_rejects.iter().map(|(id, reject)| (*id, reject.code())).collect();
    assert_eq!(late, [(other.id(), "task_mismatch"), (grandchild.id(), "task_mismatch")]);
    assert_eq!((report.changes.len(), store.pending_count().unwrap()), (1, 0));
    assert!(matches!(insert(&store, &[&any(&other)]).outcomes[0].1, InsertOutcome::Rejected(_)));
    sound(&store);
}

#[test]
fn descendant_of_a_refused_record_is_refused_at_once() {
    let (dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let bad = sign(2, &record(2, Some(TaskId([7; 32])), Some(&root), 1.0, 2));
    let child = sign(2, &record(2, Some(TaskId([7; 32])), Some(&bad), 1.0, 3));
    let grandchild = sign(2, &record(2, Some(TaskId([7; 32])), Some(&child), 1.0, 4));
    assert!(matches!(insert(&store, &[&any(&root), &any(&bad)]).outcomes[1].1, InsertOutcome::Rejected(_)));
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    for late in [&child, &grandchild] {
        let outcome = &insert(&store, &[&any(late)]).outcomes[0].1;
        assert!(matches!(outcome, InsertOutcome::Rejected(reject) if reject.code() == "task_mismatch"), "{outcome:?}");
    }
    assert_eq!(store.pending_count().unwrap(), 0);
    sound(&store);
}

#[test]
fn pending_record_expires_after_a_week() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let lost = sign(1, &record(1, Some(task), None, 2.0, 1));
    let waits = sign(2, &record(2, Some(task), Some(&lost), 1.0, 2));
    insert(&store, &[&any(&waits)]);
    let page = store.pending(&Span::first(9)).unwrap();
    let held = page.items[0];
    assert_eq!((held.id, held.waits_for, held.since), (waits.id().into(), lost.id().into(), 1000));
    assert!(held.size > 500 && page.next.is_none());

    let later = |seconds: u64, object: VerifiedObject| store.insert(&[object], 1000 + seconds).unwrap();
    assert_eq!(later(7 * 24 * 3600, profile(1, "a", 5).into()).dropped_pending, 0);
    assert_eq!(later(7 * 24 * 3600 + 1, profile(2, "b", 5).into()).dropped_pending, 1);
    assert!(store.pending(&Span::first(9)).unwrap().items.is_empty());
    sound(&store);
}

#[test]
fn search_needs_every_word_in_any_case_and_stays_within_a_task() {
    let (_dir, store) = open();
    let tasks = [TaskId([1; 32]), TaskId([2; 32])];
    let texts = ["A wider layer", "WIDER, and deeper", "a deeper network"];
    for (i, text) in (1..).zip(texts) {
        for task in tasks {
            let described = Record { description: text.into(), ..record(1, Some(task), None, 2.0, i) };
            insert(&store, &[&any(&sign(1, &described))]);
        }
    }
    let found = |text: &str, task| {
        let page = store.search(text, task, &Span::first(9)).unwrap();
        page.items.into_iter().map(|r| r.description).collect::<Vec<_>>()
    };
    assert_eq!(found("wider", Some(&tasks[0])), [texts[1], texts[0]], "the last to arrive first");
    assert_eq!(found("Deeper wider", None), [texts[1], texts[1]]);
    assert_eq!(found("width", Some(&tasks[1])).len(), 3, "the hypothesis counts too");
    assert!(found("wid", None).is_empty() && found("", None).is_empty() && found("wider nothing", None).is_empty());
}

#[test]
fn oldest_pending_records_are_dropped_first() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let children: Vec<_> = (0..4).map(|i| sign(2, &record(2, Some(task), Some(&root), 1.0, i))).collect();
    insert(&store, &children.iter().map(any).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    let mut batch = InsertBatch::new(store.database()).unwrap();
    batch.drop_oldest(3, u64::MAX).unwrap();
    batch.drop_oldest(9, 1000).unwrap();
    let finished = batch.finish().unwrap();
    assert!(finished.dropped_pending >= 3, "each is over 500 bytes");
    assert!(!finished.view.has(Column::Pending, &children[0].id().0).unwrap());
    assert!(finished.view.has(Column::Pending, &children[3].id().0).unwrap());
    assert_eq!(finished.view.keys(Column::PendingByParent, &root.id().0).unwrap().len(), 1);
}

#[test]
fn late_manifest_corrects_goal_and_root() {
    let (_dir, store) = open();
    let manifest = manifest(1, Goal::Maximize);
    let task = task_of(&manifest);
    let usurper = sign(5, &record(5, Some(task), None, 3.0, 1));
    let strays = [sign(5, &record(5, Some(task), Some(&usurper), 2.0, 2))];
    let root = sign(1, &record(1, Some(task), None, 2.0, 50));
    let children =
        [sign(2, &record(2, Some(task), Some(&root), 1.0, 60)), sign(3, &record(3, Some(task), Some(&root), 4.0, 61))];
    for object in [&usurper, &strays[0], &root, &children[0], &children[1]] {
        insert(&store, &[&any(object)]);
    }
    let ids = |store: &Store| {
        let page = store.listing(&task, &FrontierKind::Reference, &Span::first(9)).unwrap();
        page.items.iter().map(|r| r.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&store), [RecordId::from(strays[0].id())], "the earliest root, minimize");
    assert!(store.summary(&root.id().into()).unwrap().unwrap().stray);

    insert(&store, &[&manifest.clone().into()]);
    assert_eq!(ids(&store), [RecordId::from(children[1].id()), RecordId::from(children[0].id())]);
    let view = store.task(&task).unwrap().unwrap();
    assert_eq!((view.root, view.goal), (Some(root.id().into()), Goal::Maximize));
    assert_eq!((view.experiment_count, view.stray_count, view.reference_frontier_size), (3, 2, 2));
    assert_eq!((view.claims_count, view.frontier_size, view.best), (3, 0, None));
    assert!(store.summary(&strays[0].id().into()).unwrap().unwrap().stray);
    sound(&store);
}

#[test]
fn legacy_task_keeps_its_founders_root() {
    let (_dir, store) = open();
    let founder = sign(1, &record(1, None, None, 2.0, 50));
    let task = TaskId::from(RecordId::from(founder.id()));
    let usurper = sign(5, &record(5, Some(task), None, 1.0, 1));
    for order in [[&usurper, &founder], [&founder, &usurper]] {
        for object in order {
            insert(&store, &[&any(object)]);
        }
        let view = store.task(&task).unwrap().unwrap();
        assert_eq!((view.root, view.legacy), (Some(founder.id().into()), true));
        assert_eq!(view.name, format!("legacy-{}", task.short()));
    }
    sound(&store);
}

#[test]
fn newest_profile_of_a_node_is_kept() {
    let (_dir, store) = open();
    let (old, new) = (profile(1, "old", 5), profile(1, "new", 6));
    insert(&store, &[&old.clone().into()]);
    insert(&store, &[&new.clone().into()]);
    assert_eq!(insert(&store, &[&old.clone().into()]).outcomes, [(old.id(), InsertOutcome::Known)]);
    assert_eq!(store.profile(&identity(1).node_id()).unwrap().unwrap().display_name, "new");
    assert_eq!(store.sync_items(SyncScope::Profiles).unwrap(), [(6, new.id())]);
    assert_eq!(store.counts().unwrap().profiles, 1);
    let text = identity(1).node_id().to_string();
    assert_eq!(store.resolve_node(&text[..7], 5).unwrap(), [identity(1).node_id()]);
    sound(&store);
}

#[test]
fn listings_return_every_item_once() {
    let (_dir, store) = open();
    let manifest = manifest(1, Goal::Minimize);
    let task = task_of(&manifest);
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let mut objects: Vec<VerifiedObject> = vec![manifest.into(), any(&root)];
    for i in 0..10u64 {
        objects.push(any(&sign(
            2,
            &record(2, Some(task), Some(&root), 1.0 + f64::from(u32::try_from(i).unwrap()), 10 + i / 3),
        )));
    }
    store.insert(&objects, 1).unwrap();
    for scope in [Scope::All, Scope::Task(task)] {
        let mut seen = Vec::new();
        let mut before: Option<Cursor> = None;
        loop {
            let (page, next) = store.recent(scope, before, 4).unwrap();
            seen.extend(page.into_iter().map(|r| (r.timestamp, r.id)));
            before = next.map(|cursor| cursor.to_string().parse().unwrap());
            if before.is_none() {
                break;
            }
        }
        let mut sorted = seen.clone();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        sorted.dedup();
        assert_eq!((seen.len(), &seen), (11, &sorted));
    }
    assert_eq!(store.recent(Scope::Node(identity(2).node_id()), None, 99).unwrap().0.len(), 10);
    assert_eq!(store.changes_since(10, 99).unwrap().len(), 2);
    let newest = store.changes_before(u64::MAX, Some(&task), 3).unwrap();
    assert_eq!(newest.iter().map(|c| c.sequence).collect::<Vec<_>>(), [12, 11, 10]);
    assert_eq!(store.changes_before(3, None, 9).unwrap().len(), 2);
    assert_eq!(store.most_active_task().unwrap(), Some(task));
    let id = root.id().to_string();
    for length in [1, 2, 7, 64] {
        assert!(store.resolve(&id[..length], 99).unwrap().contains(&(Kind::Experiment, root.id())), "{length}");
    }
    assert_eq!(store.resolve(&task.to_string(), 9).unwrap(), [(Kind::Task, task.into())]);
    assert!(store.resolve("XYZ", 9).unwrap().is_empty());
}

#[test]
fn opening_for_reading_creates_nothing_and_a_writer_excludes_others() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::NotFound(_))));
    assert!(matches!(Store::open_read_only(&dir.path().join("none")), Err(StoreError::NotFound(_))));
    assert!(files(dir.path()).is_empty());

    let store = Store::open(dir.path()).unwrap();
    let root = sign(1, &record(1, None, None, 2.0, 50));
    insert(&store, &[&any(&root)]);
    let cid = store.put_artifact(b"bytes").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Locked { .. })));
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::Locked { .. })));
    drop(store);

    let before = files(dir.path());
    let store = Store::open_read_only(dir.path()).unwrap();
    let beside = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(store.record(&root.id().into()).unwrap().unwrap().signed, *root);
    assert_eq!(beside.artifact(&cid).unwrap().unwrap(), b"bytes");
    sound(&store);
    let another = sign(1, &record(1, None, None, 2.0, 51));
    assert!(matches!(store.insert(&[any(&another)], 1), Err(StoreError::ReadOnly)));
    assert!(matches!(store.pin(&cid), Err(StoreError::ReadOnly)));
    std::fs::write(store.artifact_path(&cid).unwrap(), b"bites").unwrap();
    assert!(matches!(store.artifact(&cid), Err(StoreError::DamagedArtifact { .. })));
    drop((store, beside));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn damaged_artifact_is_removed_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let cid = store.put_artifact(b"bytes").unwrap();
    std::fs::write(store.artifact_path(&cid).unwrap(), b"bites").unwrap();
    assert_eq!(store.artifact(&cid).unwrap(), None);
    assert!(store.artifact_path(&cid).is_none());
    store.put_artifact(b"bytes").unwrap();
    assert_eq!(store.artifact(&cid).unwrap().unwrap(), b"bytes");
}

#[test]
fn store_of_another_schema_is_refused() {
    let (dir, store) = open();
    let claim = |store: &Store, schema: u32| {
        store.database().commit([(Column::Meta, keys::SCHEMA, Some(&schema.to_be_bytes()[..]))]).unwrap();
    };
    claim(&store, 99);
    drop(store);
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NewerSchema { found: 99, supported: 5 })));
    let repaired = Store::repair(dir.path(), None, 1, &mut crate::unwatched);
    assert!(matches!(repaired, Err(StoreError::NewerSchema { found: 99, .. })), "{repaired:?}");

    let (dir, store) = open();
    claim(&store, 1);
    drop(store);
    assert!(matches!(Store::open(dir.path()), Err(StoreError::OlderSchema { found: 1, supported: 5 })));
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::OlderSchema { found: 1, .. })));
    let repaired = Store::repair(dir.path(), None, 1, &mut crate::unwatched);
    assert!(matches!(repaired, Err(StoreError::OlderSchema { found: 1, .. })), "{repaired:?}");
}

/// As a store of schema 1 was: it has columns that this program does not know.
#[test]
fn store_with_unknown_columns_is_refused_by_its_schema() {
    for (schema, older) in [(1u32, true), (6, false)] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let db = rocksdb::DB::open_cf(&options, dir.path().join("store"), ["meta", "standing"]).unwrap();
        db.put_cf(db.cf_handle("meta").unwrap(), keys::SCHEMA, schema.to_be_bytes()).unwrap();
        drop(db);
        let refused = Store::open(dir.path());
        let fits = match refused {
            Err(StoreError::OlderSchema { found, supported: 5 }) => older && found == schema,
            Err(StoreError::NewerSchema { found, supported: 5 }) => !older && found == schema,
            _ => false,
        };
        assert!(fits, "{refused:?}");
    }
}

#[test]
fn check_reports_wrong_index_entries() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let mut crash = record(1, Some(task), None, 0.0, 1);
    crash.status = Status::Crash;
    insert(&store, &[&any(&sign(1, &crash))]);
    sound(&store);
    store
        .database()
        .commit([(Column::Roots, &b"wrong"[..], Some(&b""[..])), (Column::Tasks, &task.0[..], None)])
        .unwrap();
    let findings = findings(&store);
    assert_eq!(findings.len(), 2, "{findings:?}");
}

#[test]
fn word_is_found_when_a_batch_uses_numbers_out_of_order() {
    let (_dir, store) = open();
    let mut batch = InsertBatch::new(store.database()).unwrap();
    for (number, timestamp) in [(600, 1), (10, 2), (601, 3)] {
        batch.skip_to(number);
        let made = sign(1, &record(1, Some(TaskId([1; 32])), None, 2.0, timestamp));
        batch.insert(&any(&made), 1000).unwrap();
    }
    let finished = batch.finish().unwrap();
    store.database().commit(finished.view.entries()).unwrap();
    let found = store.search("wider", None, &Span::first(9)).unwrap().items;
    assert_eq!(found.iter().map(|record| record.timestamp).collect::<Vec<_>>(), [3, 1, 2], "the last number first");
}
