//! What moves a task's sequence number, and which changes of a graph are told apart.

use spore_protocol::{ControlEvent, Goal, Record, RecordId, Status, TaskId, Verdict, Verified, VerifiedObject};

use super::objects::{identity, manifest, record, rerun, sign, task_of, verification};
use crate::{GraphChanges, Store};

/// A store with two tasks: their ids, and the first task's root and its child.
struct Two {
    store: Store,
    task: TaskId,
    other: TaskId,
    root: Verified<Record>,
    child: Verified<Record>,
    _dir: tempfile::TempDir,
}

fn two() -> Two {
    let dir = tempfile::tempdir().unwrap();
    // Nodes 3 and 4 are trusted: what 3 publishes holds, and what 4 confirms does.
    let seeds = [3, 4].map(|node| identity(node).node_id());
    let store = Store::open_with_trust(dir.path(), seeds.into_iter().collect()).unwrap();
    let (one, two) = (manifest(1, Goal::Minimize), manifest(2, Goal::Minimize));
    let (task, other) = (task_of(&one), task_of(&two));
    let root = sign(1, &record(1, Some(task), None, 2.0, 100));
    let child = sign(3, &record(3, Some(task), Some(&root), 1.5, 200));
    let foreign = sign(2, &record(2, Some(other), None, 2.0, 100));
    store.insert(&[one.into(), two.into(), root.clone().into(), child.clone().into(), foreign.into()], 1000).unwrap();
    Two { store, task, other, root, child, _dir: dir }
}

fn insert(store: &Store, object: impl Into<VerifiedObject>) {
    assert_eq!(store.insert(&[object.into()], 1000).unwrap().changes.len(), 1);
}

fn ids(changes: Option<GraphChanges>) -> Option<Vec<RecordId>> {
    changes.map(|changes| changes.ids)
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
fn task_sequence_moves_with_a_verdict_and_the_record_is_among_the_changes() {
    let Two { store, task, root, .. } = two();
    let id = RecordId::from(root.id());
    let before = store.task_sequence(&task).unwrap();
    insert(&store, verification(4, &root, 2.0, 300));
    assert_eq!(store.summary(&id).unwrap().unwrap().verdict, Verdict::Verified);
    assert!(store.task_sequence(&task).unwrap() > before);
    let changes = store.graph_changes(&task, before).unwrap().unwrap();
    assert_eq!((changes.ids.as_slice(), changes.verified.as_slice()), ([id].as_slice(), [true].as_slice()));
    assert_eq!(changes.on_frontier, [false], "its child is better and holds");
}

#[test]
fn event_that_claims_another_task_moves_the_sequence_of_its_record() {
    let Two { store, task, other, root, child, .. } = two();
    let before = store.task_sequence(&task).unwrap();
    let run = rerun(4, child.id().into(), Some(other), "CPU", 1.5);
    let event = ControlEvent::verification(run, child.node_id, false, 300);
    insert(&store, identity(4).sign(&event).unwrap());
    assert!(store.task_sequence(&task).unwrap() > before);
    assert_eq!(ids(store.graph_changes(&task, before).unwrap()), Some(vec![root.id().into(), child.id().into()]));
}

#[test]
fn level_that_changes_by_a_record_of_another_task_moves_the_sequence() {
    let Two { store, task, other, root, .. } = two();
    for signer in [2, 5] {
        insert(&store, verification(signer, &root, 2.0, 300));
    }
    let before = store.task_sequence(&task).unwrap();
    let graph = store.graph(&task).unwrap();
    assert!(!graph.verified[0], "nodes 2 and 5 have no weight");
    // In the other task, three records of each are confirmed.
    for (time, signer) in (0..).zip([2, 5, 2, 5, 2, 5]) {
        let made = sign(signer, &record(signer, Some(other), None, 2.0, 500 + time));
        insert(&store, made.clone());
        insert(&store, verification(4, &made, 2.0, 600));
    }
    assert!(store.graph(&task).unwrap().verified[0], "and now they have");
    assert!(store.task_sequence(&task).unwrap() > before);
    assert_eq!(store.graph_changes(&task, before).unwrap(), None);
}

#[test]
fn changes_name_a_better_record_and_the_parent_that_it_takes_off_the_frontier() {
    let Two { store, task, child, .. } = two();
    let before = store.task_sequence(&task).unwrap();
    let worse = Record { status: Status::Discard, ..record(3, Some(task), Some(&child), 1.7, 300) };
    let worse = sign(3, &worse);
    insert(&store, worse.clone());
    let middle = store.task_sequence(&task).unwrap();
    assert_eq!(ids(store.graph_changes(&task, before).unwrap()), Some(vec![worse.id().into()]));
    let better = sign(3, &record(3, Some(task), Some(&child), 1.4, 400));
    insert(&store, better.clone());
    let changes = store.graph_changes(&task, middle).unwrap().unwrap();
    assert_eq!(changes.ids, [RecordId::from(child.id()), better.id().into()]);
    assert_eq!(changes.on_frontier, [false, true]);
    assert_eq!(changes.parents[1], Some(child.id().into()));
}

#[test]
fn changes_are_refused_after_a_new_root_and_served_after_a_stray_one() {
    let Two { store, task, root, .. } = two();
    let before = store.task_sequence(&task).unwrap();
    let stray = sign(5, &record(5, Some(task), None, 1.0, 300));
    insert(&store, stray.clone());
    assert_eq!(ids(store.graph_changes(&task, before).unwrap()), Some(vec![stray.id().into()]));
    // The creator's earlier root takes the place of the later one.
    let middle = store.task_sequence(&task).unwrap();
    insert(&store, sign(1, &record(1, Some(task), None, 3.0, root.timestamp - 1)));
    assert_eq!(store.graph_changes(&task, middle).unwrap(), None);
}

#[test]
fn changes_are_refused_after_a_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let manifest = manifest(1, Goal::Maximize);
    let task = task_of(&manifest);
    insert(&store, sign(1, &record(1, Some(task), None, 2.0, 100)));
    let before = store.task_sequence(&task).unwrap();
    insert(&store, manifest);
    assert_eq!(store.graph_changes(&task, before).unwrap(), None);
}
