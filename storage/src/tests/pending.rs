//! Pending records on a damaged disk: unreadable ones do not stop anything else.

use std::fs;

use spore_protocol::{Goal, Record, RecordId, TaskId, Verified, VerifiedObject};

use super::{
    any, findings,
    objects::{manifest, record, sign},
};
use crate::{
    Damage, InsertOutcome, Store, StoreError,
    columns::Column,
    db::{KeyOrder, KeyReader, Visit},
    error::Result,
    layout, unwatched,
    write::InsertBatch,
};

const TASK: TaskId = TaskId([1; 32]);

/// When all of them arrive.
const CAME: u64 = 1000;
/// When they have expired.
const TOO_LATE: u64 = CAME + 8 * 24 * 3600;

/// A record, and some that wait for it in a closed store.
fn waiting(children: u64) -> (tempfile::TempDir, Verified<Record>, Vec<Verified<Record>>) {
    let dir = tempfile::tempdir().unwrap();
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let child = |number| sign(2, &record(2, Some(TASK), Some(&root), 2.0, 10 + number));
    let children: Vec<_> = (0..children).map(child).collect();
    let store = Store::open(dir.path()).unwrap();
    store.insert(&children.iter().map(any).collect::<Vec<_>>(), CAME).unwrap();
    store.compact(&mut unwatched).unwrap();
    (dir, root, children)
}

/// Flips bytes in the first block of the pending records.
fn rot(dir: &std::path::Path) {
    let store = Store::open_read_only(dir).unwrap();
    let files = store.database().raw().live_files().unwrap();
    let file = files.into_iter().find(|file| file.column_family_name == Column::Pending.name()).unwrap();
    drop(store);
    let path = layout::database(dir).join(file.name.trim_start_matches('/'));
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..108].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(path, bytes).unwrap();
}

fn outcome(store: &Store, object: VerifiedObject, at: u64) -> InsertOutcome {
    store.insert(&[object], at).unwrap().outcomes.remove(0).1
}

#[test]
fn insertion_succeeds_while_a_block_of_pending_records_is_unreadable() {
    let (dir, root, children) = waiting(5);
    rot(dir.path());
    let store = Store::open(dir.path()).unwrap();
    let unreadable = store.database().get(Column::Pending, &children[0].id().0);
    assert!(matches!(unreadable, Err(StoreError::Corrupt { .. })), "{unreadable:?}");
    assert_eq!(outcome(&store, manifest(1, Goal::Minimize).into(), TOO_LATE), InsertOutcome::New);
    assert_eq!(outcome(&store, any(&root), CAME), InsertOutcome::New);
    assert_eq!(outcome(&store, manifest(2, Goal::Minimize).into(), CAME), InsertOutcome::New);
    assert_eq!((store.sequence(), store.pending_count().unwrap()), (3, 5));
}

/// A store with one unreadable pending record.
struct Unreadable<'a> {
    store: &'a Store,
    record: RecordId,
}

impl KeyReader for Unreadable<'_> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if column == Column::Pending && key == self.record.0 {
            return Err(Damage::Value("a block").into());
        }
        self.store.database().get(column, key)
    }

    fn walk(
        &self,
        column: Column,
        prefix: &[u8],
        from: Option<&[u8]>,
        way: KeyOrder,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        self.store.database().walk(column, prefix, from, way, visit)
    }
}

#[test]
fn unreadable_pending_record_stays_pending_and_others_are_released() {
    let (dir, root, children) = waiting(5);
    let store = Store::open(dir.path()).unwrap();
    let unreadable = Unreadable { store: &store, record: children[2].id().into() };
    let mut batch = InsertBatch::new(&unreadable).unwrap();
    assert_eq!(batch.insert(&any(&root), CAME).unwrap(), InsertOutcome::New);
    let finished = batch.finish().unwrap();
    assert_eq!((finished.changes.len(), finished.unreleased.len()), (5, 0));
    store.database().commit(finished.view.entries()).unwrap();
    assert_eq!(store.pending_count().unwrap(), 1);
    assert!(store.is_pending(&children[2].id().into()).unwrap());
    drop(finished);
    drop(store);

    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.pending_count().unwrap(), 0, "it can be read again");
    assert_eq!(findings(&store), Vec::<String>::new());
}

#[test]
fn unreleased_records_do_not_expire_in_the_next_batch() {
    let (dir, _root, _children) = waiting(5);
    let store = Store::open(dir.path()).unwrap();
    for (spares, dropped) in [(true, 0), (false, 5)] {
        let mut batch = InsertBatch::new(store.database()).unwrap().in_steps().keeping_expired(spares);
        let unrelated: VerifiedObject = manifest(1, Goal::Minimize).into();
        batch.insert(&unrelated, TOO_LATE).unwrap();
        assert_eq!(batch.finish().unwrap().dropped_pending, dropped);
    }
}
