//! What moves a task's sequence number.

use spore_protocol::{ControlEvent, Goal, Record, RecordId, TaskId, Verdict, Verified, VerifiedObject};

use super::objects::{identity, manifest, record, rerun, sign, task_of, verification};
use crate::Store;

/// A store with two tasks: their ids, and the child of the first task's root.
struct Two {
    store: Store,
    task: TaskId,
    other: TaskId,
    child: Verified<Record>,
    _dir: tempfile::TempDir,
}

fn two() -> Two {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (one, two) = (manifest(1, Goal::Minimize), manifest(2, Goal::Minimize));
    let (task, other) = (task_of(&one), task_of(&two));
    let root = sign(1, &record(1, Some(task), None, 2.0, 100));
    let child = sign(3, &record(3, Some(task), Some(&root), 1.5, 200));
    let foreign = sign(2, &record(2, Some(other), None, 2.0, 100));
    store.insert(&[one.into(), two.into(), root.clone().into(), child.clone().into(), foreign.into()], 1000).unwrap();
    Two { store, task, other, child, _dir: dir }
}

fn insert(store: &Store, object: impl Into<VerifiedObject>) {
    assert_eq!(store.insert(&[object.into()], 1000).unwrap().changes.len(), 1);
}

#[test]
fn task_sequence_ignores_records_and_verdicts_of_other_tasks() {
    let Two { store, task, other, .. } = two();
    let (before, graph) = (store.task_sequence(&task).unwrap(), store.graph(&task).unwrap());
    let foreign = sign(4, &record(4, Some(other), None, 1.0, 300));
    insert(&store, foreign.clone());
    insert(&store, verification(5, &foreign, 1.0, 301));
    assert_eq!((store.task_sequence(&task).unwrap(), store.graph(&task).unwrap()), (before, graph));
    assert_eq!(store.task_sequence(&TaskId([9; 32])).unwrap(), 0);
}

#[test]
fn task_sequence_moves_with_a_verdict() {
    let Two { store, task, child, .. } = two();
    let id = RecordId::from(child.id());
    let before = store.task_sequence(&task).unwrap();
    insert(&store, verification(4, &child, 1.5, 300));
    assert_eq!(store.summary(&id).unwrap().unwrap().verdict, Verdict::Verified);
    assert!(store.task_sequence(&task).unwrap() > before);
}

#[test]
fn event_that_claims_another_task_moves_the_sequence_of_its_record() {
    let Two { store, task, other, child, .. } = two();
    let before = store.task_sequence(&task).unwrap();
    let run = rerun(4, child.id().into(), Some(other), "CPU", 1.5);
    let event = ControlEvent::verification(run, child.node_id, false, 300);
    insert(&store, identity(4).sign(&event).unwrap());
    assert!(store.task_sequence(&task).unwrap() > before);
}
