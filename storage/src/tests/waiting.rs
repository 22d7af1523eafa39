//! Records that wait for their parents on a disk that rots: what of them cannot be read holds up
//! nothing else.

use std::fs;

use spore_protocol::{Goal, Record, RecordId, TaskId, Verified, VerifiedObject};

use super::objects::{manifest, record, sign};
use crate::{
    Outcome, Store, StoreError,
    columns::Column,
    db::{Source, Visit, Way},
    error::Result,
    repair::swap,
    unwatched,
    write::Batch,
};

const TASK: TaskId = TaskId([1; 32]);

/// When all of them come, and when they have waited too long.
const CAME: u64 = 1000;
const TOO_LATE: u64 = CAME + 8 * 24 * 3600;

fn any(record: &Verified<Record>) -> VerifiedObject {
    record.clone().into()
}

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

/// Flips bytes in the first block of the waiting records.
fn rot(dir: &std::path::Path) {
    let store = Store::open_read_only(dir).unwrap();
    let files = store.database().raw().live_files().unwrap();
    let file = files.into_iter().find(|file| file.column_family_name == Column::Pending.name()).unwrap();
    drop(store);
    let path = swap::database(dir).join(file.name.trim_start_matches('/'));
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..108].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(path, bytes).unwrap();
}

fn outcome(store: &Store, object: VerifiedObject, at: u64) -> Outcome {
    store.insert(&[object], at).unwrap().outcomes.remove(0).1
}

#[test]
fn others_are_taken_in_while_a_block_of_waiting_records_is_unreadable() {
    let (dir, root, children) = waiting(5);
    rot(dir.path());
    let store = Store::open(dir.path()).unwrap();
    let unreadable = store.database().get(Column::Pending, &children[0].id().0);
    assert!(matches!(unreadable, Err(StoreError::Corrupt { .. })), "{unreadable:?}");
    assert_eq!(outcome(&store, manifest(1, Goal::Minimize).into(), TOO_LATE), Outcome::New);
    assert_eq!(outcome(&store, any(&root), CAME), Outcome::New);
    assert_eq!(outcome(&store, manifest(2, Goal::Minimize).into(), CAME), Outcome::New);
    assert_eq!((store.sequence(), store.pending_count().unwrap()), (3, 5));
}

/// A store of which one waiting record cannot be read.
struct Rotten<'a> {
    store: &'a Store,
    record: RecordId,
}

impl Source for Rotten<'_> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if column == Column::Pending && key == self.record.0 {
            return Err(StoreError::corrupt("a block"));
        }
        self.store.database().get(column, key)
    }

    fn walk(&self, column: Column, prefix: &[u8], from: Option<&[u8]>, way: Way, visit: &mut Visit<'_>) -> Result<()> {
        self.store.database().walk(column, prefix, from, way, visit)
    }
}

#[test]
fn an_unreadable_record_waits_on_when_its_parent_comes_and_the_others_do_not() {
    let (dir, root, children) = waiting(5);
    let store = Store::open(dir.path()).unwrap();
    let rotten = Rotten { store: &store, record: children[2].id().into() };
    let mut batch = Batch::new(&rotten).unwrap();
    assert_eq!(batch.insert(&any(&root), CAME).unwrap(), Outcome::New);
    let finished = batch.finish().unwrap();
    assert_eq!((finished.changes.len(), finished.unreleased.len()), (5, 0));
    store.database().commit(finished.view.entries()).unwrap();
    assert_eq!(store.pending_count().unwrap(), 1);
    assert!(store.is_pending(&children[2].id().into()).unwrap());
    drop(finished);
    drop(store);

    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.pending_count().unwrap(), 0, "it could be read again");
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[test]
fn what_a_batch_left_to_be_released_is_not_too_old_for_the_next() {
    let (dir, _root, _children) = waiting(5);
    let store = Store::open(dir.path()).unwrap();
    for (spares, dropped) in [(true, 0), (false, 5)] {
        let mut batch = Batch::new(store.database()).unwrap().in_steps().sparing_waiting(spares);
        let unrelated: VerifiedObject = manifest(1, Goal::Minimize).into();
        batch.insert(&unrelated, TOO_LATE).unwrap();
        assert_eq!(batch.finish().unwrap().dropped_pending, dropped);
    }
}
