//! Damage on disk: bytes flipped in a table, tables and logs cut short, lists of tables destroyed. Each is noticed,
//! named, never served, and repaired.

use std::{
    fs,
    path::{Path, PathBuf},
};

use spore_protocol::{Goal, Kind, ObjectId, Record, RecordId, Verified, VerifiedObject};

use super::{
    findings,
    objects::{manifest, profile, record, sign, task_of, verification},
};
use crate::{Damage, Fault, Store, StoreError, columns::Column, layout, unwatched};

/// Seconds between two batches of a [`stored`] store.
const MONTH: u64 = 30 * 24 * 3600;

/// The time of the repair, long after all objects arrived.
const NOW: u64 = 100 * MONTH;

/// A tree of records with texts that do not compress, their task, events and a profile.
fn history(records: usize) -> Vec<VerifiedObject> {
    let manifest = manifest(1, Goal::Minimize);
    let task = task_of(&manifest);
    let mut tree: Vec<Verified<Record>> = Vec::new();
    let mut objects: Vec<VerifiedObject> = vec![manifest.into(), profile(1, "one", 5).into()];
    for number in 0..records {
        let parent = if number == 0 { None } else { Some(&tree[(number - 1) / 2]) };
        let mut made = record(2, Some(task), parent, 2.0 - number as f64 / 1e4, 20 + number as u64);
        made.diff = (0..10).map(|part| format!("+{}\n", spore_protocol::Cid::of(&[number as u8, part, 7]))).collect();
        let made = sign(2, &made);
        if number % 50 == 3 {
            objects.push(verification(3, &made, made.val_bpb, 9_000 + number as u64));
        }
        objects.push(made.clone().into());
        tree.push(made);
    }
    objects
}

/// An open store of `objects`, which are in its write-ahead log only.
fn open(objects: &[VerifiedObject]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (number, batch) in objects.chunks(50).enumerate() {
        store.insert(batch, number as u64 * MONTH).unwrap();
    }
    (dir, store)
}

/// A store of `objects` as a crash leaves it. A closed store has nothing in its write-ahead log.
fn crashed(objects: &[VerifiedObject]) -> tempfile::TempDir {
    let (dir, _store) = open(objects);
    copied(dir.path())
}

fn copied(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let database = layout::database(copy.path());
    fs::create_dir_all(&database).unwrap();
    for file in fs::read_dir(layout::database(dir)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), database.join(file.file_name())).unwrap();
    }
    copy
}

/// A closed store of `objects`.
fn stored(objects: &[VerifiedObject]) -> tempfile::TempDir {
    let (dir, store) = open(objects);
    store.compact(&mut unwatched).unwrap();
    dir
}

/// The path of a column's largest table.
fn table(dir: &Path, column: Column) -> PathBuf {
    let store = Store::open_read_only(dir).unwrap();
    let files = store.database().raw().live_files().unwrap();
    let of_column = files.into_iter().filter(|file| file.column_family_name == column.name());
    let name = of_column.max_by_key(|file| file.size).unwrap().name;
    layout::database(dir).join(name.trim_start_matches('/'))
}

/// The newest file in the database's folder whose name fits.
fn newest(dir: &Path, fits: impl Fn(&str) -> bool) -> PathBuf {
    let names =
        fs::read_dir(layout::database(dir)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    layout::database(dir).join(names.filter(|name| fits(name)).max().unwrap())
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    let at = usize::try_from(at).unwrap();
    bytes[at..at + 8].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, to: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(to).unwrap();
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The objects that are not in the store. Checks those that are.
fn missing(store: &Store, objects: &[VerifiedObject]) -> Vec<ObjectId> {
    let mut missing = Vec::new();
    for object in objects {
        match store.object(object.kind(), &object.id()).unwrap() {
            Some(found) => assert_eq!(found, **object),
            None => missing.push(object.id()),
        }
    }
    missing
}

/// Inserts the missing objects, as peers send them. Then all objects are stored, and the store is sound.
fn refill(store: &Store, objects: &[VerifiedObject]) {
    let before = store.sequence();
    let gone = missing(store, objects);
    let again: Vec<_> = objects.iter().filter(|object| gone.contains(&object.id())).cloned().collect();
    let report = store.insert(&again, 5_000).unwrap();
    assert!(report.changes.iter().all(|change| change.sequence > before), "no sequence number is used twice");
    assert_eq!(missing(store, objects), []);
    assert_eq!((store.pending_count().unwrap(), findings(store)), (0, vec![]));
}

#[test]
fn flipped_block_is_reported_never_served_and_repaired() {
    let objects = history(600);
    let dir = stored(&objects);
    let before = Store::open(dir.path()).unwrap().sequence();
    let table = table(dir.path(), Column::Objects);
    flip(&table, length(&table) / 2);

    let store = Store::open(dir.path()).unwrap();
    let mut unreadable = 0;
    for object in &objects {
        match store.object(object.kind(), &object.id()) {
            Ok(found) => assert_eq!(found.as_ref(), Some(&**object)),
            Err(StoreError::Corrupt { .. }) => unreadable += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..60).contains(&unreadable), "{unreadable}");
    let files = store.verify_files(&mut unwatched).unwrap();
    let [damaged] = files.damaged.as_slice() else { panic!("{files:?}") };
    assert_eq!((damaged.column.as_str(), damaged.file.clone()), ("objects", Some(name(&table))));
    let check = store.check(&mut unwatched).unwrap();
    let named = check.findings.iter().filter(|finding| finding.column == "objects").count();
    assert!(named >= unreadable, "{:?}", check.findings);
    drop(store);

    let report = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
    let lost = report.faults.iter().filter(|fault| matches!(fault, Fault::Lost { .. })).count();
    assert_eq!(lost, unreadable);
    assert!(report.kept.is_some_and(|kept| kept.is_dir()));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(findings(&store), Vec::<String>::new());
    assert_eq!(missing(&store, &objects).len() as u64, unreadable as u64 + store.pending_count().unwrap());
    assert!(store.sequence() >= before);
    refill(&store, &objects);
}

#[test]
fn repair_takes_lost_objects_from_the_newest_backup() {
    let objects = history(300);
    let dir = stored(&objects);
    let backup = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap().backup(backup.path(), 2, &mut unwatched).unwrap();
    let summaries = |store: &Store| {
        let ids = objects.iter().filter(|object| object.kind() == Kind::Experiment).map(|object| object.id());
        ids.map(|id| store.summary(&RecordId::from(id)).unwrap().unwrap()).collect::<Vec<_>>()
    };
    let before = summaries(&Store::open(dir.path()).unwrap());
    let table = table(dir.path(), Column::Objects);
    for part in [1, 2, 3] {
        flip(&table, length(&table) * part / 4);
    }
    let report = Store::repair(dir.path(), Some(backup.path()), NOW, &mut unwatched).unwrap();
    assert_eq!((report.faults.len(), report.objects), (0, objects.len() as u64), "{:?}", report.faults);
    assert!(report.from_backup >= 3 && report.damaged_files.len() == 3);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(summaries(&store), before, "sequence numbers and times of arrival too");
    assert_eq!((missing(&store, &objects), findings(&store)), (vec![], vec![]));
}

#[test]
fn damaged_index_is_computed_again_without_loss() {
    let objects = history(400);
    for column in [Column::Timeline, Column::Records, Column::Log] {
        let dir = stored(&objects);
        let table = table(dir.path(), column);
        flip(&table, length(&table) / 3);
        let store = Store::open(dir.path()).unwrap();
        let reported = store.check(&mut unwatched).unwrap().findings;
        assert!(reported.iter().any(|finding| finding.column == column.name()), "{column:?}: {reported:?}");
        drop(store);
        Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!((missing(&store, &objects), findings(&store)), (vec![], vec![]), "{column:?}");
    }
}

#[test]
fn table_cut_short_is_named_at_the_start_and_repaired() {
    let objects = history(300);
    for column in [Column::Objects, Column::Frontier] {
        let dir = stored(&objects);
        let table = table(dir.path(), column);
        cut(&table, length(&table) / 2);
        match Store::open(dir.path()) {
            Err(error @ StoreError::Corrupt { .. }) => assert!(error.to_string().contains(&name(&table)), "{error}"),
            other => panic!("{other:?}"),
        }
        let report = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
        assert_eq!(report.damaged_files[0].file, Some(name(&table)), "{:?}", report.damaged_files);
        assert_eq!(report.fault_count > 0, column == Column::Objects, "{:?}", report.faults);
        let changed = report.kept.unwrap().join("REPAIRING").exists();
        assert_eq!(changed, column == Column::Objects, "columns that are computed again need no repair of tables");
        refill(&Store::open(dir.path()).unwrap(), &objects);
    }
}

#[test]
fn database_without_its_list_of_tables_is_repaired() {
    let objects = history(100);
    let dir = stored(&objects);
    cut(&newest(dir.path(), |name| name.starts_with("MANIFEST")), 40);
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Corrupt { .. })));
    let report = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
    assert_eq!(report.objects, objects.len() as u64, "{report:?}");
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((missing(&store, &objects), findings(&store)), (vec![], vec![]));
}

#[test]
fn damaged_wal_is_noticed_and_its_sequence_numbers_are_not_used_again() {
    let objects = history(300);
    let damages: [fn(&Path); 2] = [|log| cut(log, length(log) / 2), |log| flip(log, length(log) / 2)];
    for damage in damages {
        let dir = crashed(&objects);
        let acknowledged = objects.len() as u64;
        damage(&newest(dir.path(), |name| name.ends_with(".log")));
        let store = Store::open(dir.path()).unwrap();
        let lost = store.lost_changes().unwrap();
        assert_eq!(*lost.end(), acknowledged);
        assert_eq!(missing(&store, &objects).len() as u64, acknowledged + 1 - lost.start());
        assert_eq!((store.sequence(), findings(&store)), (acknowledged, vec![]));
        refill(&store, &objects);
        drop(store);
        assert_eq!(Store::open(dir.path()).unwrap().lost_changes(), None, "reported once");
    }
}

#[test]
fn altered_object_is_reported_and_dropped_by_a_repair() {
    let objects = history(20);
    let dir = stored(&objects);
    let store = Store::open(dir.path()).unwrap();
    let leaf = objects.last().unwrap();
    let number = crate::lookup::number_of(store.database(), leaf.kind(), &leaf.id()).unwrap().unwrap();
    let key = crate::keys::number(number);
    let mut forged = crate::values::encode_stored(leaf);
    forged[5] ^= 1;
    store.database().commit([(Column::Objects, &key[..], Some(&forged[..]))]).unwrap();
    let findings = findings(&store);
    assert!(findings.iter().any(|text| text.contains(&leaf.id().to_string())), "{findings:?}");
    drop(store);
    let report = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
    assert!(matches!(&report.faults[..], [Fault::Refused { id, .. }] if *id == leaf.id()), "{:?}", report.faults);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(missing(&store, &objects), [leaf.id()]);
    refill(&store, &objects);
}

#[test]
fn cancelled_repair_leaves_the_store_unchanged() {
    let objects = history(300);
    let dir = stored(&objects);
    let mut reports = 0;
    let stopped = Store::repair(dir.path(), None, NOW, &mut |_| {
        reports += 1;
        if reports < 2 { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
    });
    assert!(matches!(stopped, Err(StoreError::Cancelled)));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((missing(&store, &objects), findings(&store)), (vec![], vec![]));
    assert!(matches!(Store::repair(dir.path(), None, NOW, &mut unwatched), Err(StoreError::Locked { .. })));
    let nowhere = tempfile::tempdir().unwrap();
    assert!(matches!(Store::repair(nowhere.path(), None, NOW, &mut unwatched), Err(StoreError::NotFound(_))));
}

#[test]
fn cancelled_check_leaves_no_files() {
    let dir = stored(&history(600));
    let store = Store::open(dir.path()).unwrap();
    let stopped = store.check(&mut |_| std::ops::ControlFlow::Break(()));
    assert!(matches!(stopped, Err(StoreError::Cancelled)));
    assert!(!layout::scratch(dir.path()).exists());
}

/// Removes entries from a store, as if their blocks could not be read.
fn forget(dir: &Path, object: &VerifiedObject, columns: &[Column]) {
    let store = Store::open(dir).unwrap();
    let number = crate::lookup::number_of(store.database(), object.kind(), &object.id()).unwrap().unwrap();
    let (id, number) = (crate::keys::id(object.kind(), &object.id()), crate::keys::number(number));
    let key = |column| if column == Column::Ids { &id[..] } else { &number[..] };
    store.database().commit(columns.iter().map(|column| (*column, key(*column), None))).unwrap();
}

fn changes(dir: &Path) -> Vec<crate::Change> {
    Store::open(dir).unwrap().changes_since(0, 10_000).unwrap()
}

/// The parentless record.
fn root(objects: &[VerifiedObject]) -> &VerifiedObject {
    objects.iter().find(|object| object.kind() == Kind::Experiment).unwrap()
}

#[test]
fn object_missing_from_the_change_log_keeps_its_sequence_number() {
    let objects = history(300);
    let dir = stored(&objects);
    let before = changes(dir.path());
    forget(dir.path(), root(&objects), &[Column::Log]);
    let report = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
    assert_eq!((report.objects, report.pending, report.faults), (objects.len() as u64, 0, vec![]));
    assert_eq!(changes(dir.path()), before);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((missing(&store, &objects), findings(&store)), (vec![], vec![]));
}

#[test]
fn old_records_wait_when_their_root_is_lost() {
    let objects = history(300);
    let dir = stored(&objects);
    forget(dir.path(), root(&objects), &[Column::Objects]);
    let report = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
    assert!(matches!(report.faults[0], Fault::Lost { .. }));
    let waiting = report.faults.iter().filter(|fault| matches!(fault, Fault::Orphaned { .. })).count() as u64;
    assert_eq!((report.pending, waiting, report.kept.is_some()), (299, 299, true));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(findings(&store), Vec::<String>::new());
    // The first insertion of the node afterwards.
    let other = store.insert(&[profile(7, "seven", 5).into()], NOW + 60).unwrap();
    assert_eq!((other.dropped_pending, store.pending_count().unwrap()), (0, 299));
    refill(&store, &objects);
}

#[test]
fn repair_cancelled_after_it_changed_the_tables_must_run_again() {
    let objects = history(300);
    // Two tables of each column. The larger ones are cut short.
    let (dir, store) = open(&objects[..100]);
    store.database().seal().unwrap();
    store.insert(&objects[100..], 3 * MONTH).unwrap();
    store.database().seal().unwrap();
    drop(store);
    let mut cuts = [Column::Log, Column::Objects].map(|column| table(dir.path(), column));
    cuts.iter().for_each(|table| cut(table, length(table) / 2));
    let other = copied(dir.path());
    let at_once = Store::repair(other.path(), None, NOW, &mut unwatched).unwrap();
    for _ in 0..2 {
        let stopped = Store::repair(dir.path(), None, NOW, &mut |_| std::ops::ControlFlow::Break(()));
        assert!(matches!(stopped, Err(StoreError::Cancelled)));
        for refused in [Store::open(dir.path()), Store::open_read_only(dir.path())] {
            let unfinished = matches!(refused, Err(StoreError::Corrupt(Damage::UnfinishedRepair)));
            assert!(unfinished, "{refused:?}");
        }
    }
    let report = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
    let mut named: Vec<_> = report.damaged_files.iter().filter_map(|damaged| damaged.file.clone()).collect();
    named.sort();
    cuts.sort();
    assert_eq!(named, cuts.map(|table| name(&table)), "{:?}", report.damaged_files);
    assert!(report.kept.is_some() && !report.lost_changes.is_empty());
    assert_eq!(report.lost_changes, at_once.lost_changes);
    refill(&Store::open(dir.path()).unwrap(), &objects);
}

#[test]
fn repair_reports_changes_lost_to_a_damaged_wal_and_keeps_later_ones() {
    let objects = history(300);
    let last = objects.len() as u64;
    // A flipped byte loses one batch of 50 objects; a cut loses everything after it.
    for (is_cut, batches) in [(false, 1), (true, 3)] {
        let dir = crashed(&objects);
        let log = newest(dir.path(), |name| name.ends_with(".log"));
        let middle = length(&log) / 2;
        if is_cut {
            cut(&log, middle)
        } else {
            flip(&log, middle)
        }
        let report = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
        let lost: u64 = report.lost_changes.iter().map(|range| range.end() + 1 - range.start()).sum();
        assert!((1..=50 * batches + 8).contains(&lost), "{:?}", report.lost_changes);
        assert_eq!(report.objects + report.pending, last - lost);
        assert!(report.kept.is_some_and(|kept| kept.is_dir()), "the log is kept");
        let store = Store::open(dir.path()).unwrap();
        assert_eq!((store.sequence(), store.lost_changes()), (last, None));
        assert_eq!(findings(&store), Vec::<String>::new());
        refill(&store, &objects);
        drop(store);
        let again = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
        assert_eq!((again.lost_changes, again.kept), (vec![], None), "reported once");
    }
}

#[test]
fn repair_takes_objects_without_any_trace_from_the_backup() {
    let objects = history(100);
    let dir = stored(&objects);
    let before = changes(dir.path());
    let backup = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap().backup(backup.path(), 1, &mut unwatched).unwrap();
    let leaf = objects.last().unwrap();
    for lost in [root(&objects), leaf] {
        forget(dir.path(), lost, &[Column::Ids, Column::Records, Column::Objects, Column::Log]);
    }
    let report = Store::repair(dir.path(), Some(backup.path()), NOW, &mut unwatched).unwrap();
    assert_eq!((report.from_backup, report.faults, report.pending), (2, vec![], 0));
    assert_eq!(changes(dir.path()), before, "under their old sequence numbers");
    let store = Store::open(dir.path()).unwrap();
    let summary = store.summary(&RecordId::from(leaf.id())).unwrap().unwrap();
    assert_eq!((summary.received_at, findings(&store)), (2 * MONTH, vec![]));
}

#[test]
fn unreadable_artifacts_do_not_stop_a_repair() {
    let objects = history(20);
    let dir = stored(&objects);
    let store = Store::open(dir.path()).unwrap();
    let bad = store.put_artifact(b"bad").unwrap();
    fs::write(store.artifact_path(&bad).unwrap(), b"bat").unwrap();
    drop(store);
    let report = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
    assert_eq!((report.damaged_artifacts, report.artifacts_unread), (vec![bad], None));
    // A folder where a file should be. It can be opened but not read.
    fs::create_dir_all(dir.path().join("artifacts").join("ab").join("cd".repeat(31))).unwrap();
    forget(dir.path(), objects.last().unwrap(), &[Column::Objects]);
    let report = Store::repair(dir.path(), None, NOW, &mut unwatched).unwrap();
    assert_eq!((report.faults.len(), report.artifacts_unread.is_some()), (1, true), "{report:?}");
    refill(&Store::open(dir.path()).unwrap(), &objects);
}

#[test]
fn verify_files_reports_a_block_that_was_damaged_after_it_was_cached() {
    let objects = history(300);
    let dir = stored(&objects);
    let table = table(dir.path(), Column::Objects);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(missing(&store, &objects), []);
    flip(&table, length(&table) / 2);
    let files = store.verify_files(&mut unwatched).unwrap();
    let [damaged] = files.damaged.as_slice() else { panic!("{files:?}") };
    assert_eq!((damaged.column.as_str(), damaged.file.clone()), ("objects", Some(name(&table))));
    assert!(!layout::scratch(dir.path()).exists());
}

#[test]
fn missing_table_is_reported() {
    let dir = stored(&history(100));
    let table = table(dir.path(), Column::Objects);
    let store = Store::open(dir.path()).unwrap();
    let artifact = store.put_artifact(b"whole").unwrap();
    fs::remove_file(&table).unwrap();
    let files = store.verify_files(&mut unwatched).unwrap();
    assert_eq!((files.damaged[0].column.as_str(), files.damaged[0].file.clone()), ("objects", Some(name(&table))));
    assert_eq!((files.artifacts, store.artifact_path(&artifact).is_some()), (1, true), "{files:?}");
    assert!(!layout::scratch(dir.path()).exists());
}

#[test]
fn failed_compaction_returns_an_error() {
    let objects = history(200);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for half in objects.chunks(objects.len() / 2) {
        store.insert(half, 1).unwrap();
        store.database().seal().unwrap();
    }
    let files = store.database().raw().live_files().unwrap();
    let ids = files.iter().find(|file| file.column_family_name == Column::Ids.name()).unwrap();
    flip(&layout::database(dir.path()).join(ids.name.trim_start_matches('/')), 100);
    let failed = store.compact(&mut unwatched).unwrap_err();
    assert!(matches!(&failed, StoreError::CompactionFailed { column: "ids" }), "{failed}");
}
