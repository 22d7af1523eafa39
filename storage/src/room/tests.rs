//! What is dropped, and that a store is afterwards as if it had never arrived.

use std::collections::BTreeSet;

use proptest::prelude::*;

use spore_protocol::{Goal, Kind, Record, RecordId, Status, Verified, VerifiedObject};

use crate::{
    InsertOutcome, RoomPlan, Store, SyncScope, Unwanted,
    tests::objects::{identity, manifest, record, sign, task_of, verification},
    unwatched,
};

const LATER: u64 = 1_000_000;

fn insert(store: &Store, objects: &[VerifiedObject]) {
    store.insert(objects, 1000).unwrap();
}

fn sound(store: &Store) {
    let findings: Vec<_> = store.check(&mut unwatched).unwrap().findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings, Vec::<String>::new());
}

fn plan(own: &[u8]) -> RoomPlan {
    let own = own.iter().map(|signer| identity(*signer).node_id()).collect();
    RoomPlan { budget: 0, own, pinned: BTreeSet::new(), now: LATER }
}

fn is_stored(store: &Store, record: &Verified<Record>) -> bool {
    store.contains(Kind::Experiment, &record.id()).unwrap()
}

/// A task, its root by signer 1, a tree of `count` records by others, and events about some of them.
fn world(count: u64) -> (Verified<Record>, Vec<Verified<Record>>, Vec<VerifiedObject>) {
    let task = manifest(1, Goal::Minimize);
    let root = sign(1, &record(1, Some(task_of(&task)), None, 3.0, 20));
    let mut records = vec![root.clone()];
    let mut objects: Vec<VerifiedObject> = vec![task.clone().into(), root.clone().into()];
    for i in 0..count {
        let parent = &records[usize::try_from(i / 2).unwrap()];
        let signer = 2 + u8::try_from(i % 4).unwrap();
        let mut made = record(signer, Some(task_of(&task)), Some(parent), 3.0 - (i % 7) as f64 / 10.0, 30 + i % 11);
        made.description = format!("wide number {} of {i}", i % 3);
        let made = sign(signer, &made);
        objects.push(made.clone().into());
        if i % 3 == 0 {
            objects.push(verification(9, &made, made.val_bpb, 60 + i));
        }
        records.push(made);
    }
    (root, records, objects)
}

#[test]
fn indexes_equal_recomputation_after_objects_were_dropped() {
    let (root, records, objects) = world(40);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    insert(&store, &objects);
    sound(&store);
    let report = store.make_room(&plan(&[1]), &|| false).unwrap();
    assert!(report.dropped >= 40, "{report:?}");
    assert!(is_stored(&store, &root) && !records[1..].iter().any(|record| is_stored(&store, record)));
    sound(&store);
}

#[test]
fn dropped_in_parts_leaves_equal_indexes_and_returns_when_built_upon() {
    let (_, records, objects) = world(30);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    insert(&store, &objects);
    for signer in 2..6 {
        store.drop_unwanted(Unwanted::Signer(identity(9).node_id()), &|| false).unwrap();
        store.drop_unwanted(Unwanted::Signer(identity(signer).node_id()), &|| false).unwrap();
        sound(&store);
    }
    let parent = records.iter().find(|record| store.is_dropped(Kind::Experiment, &record.id()).unwrap()).unwrap();
    let again = store.insert(&[parent.clone().into()], 2000).unwrap();
    assert!(matches!(again.outcomes[..], [(_, InsertOutcome::Known)]), "{:?}", again.outcomes);
    let child = sign(1, &record(1, parent.task_id, Some(parent), 1.0, 90));
    insert(&store, &[child.clone().into()]);
    assert!(!is_stored(&store, &child));
    insert(&store, &objects);
    assert!(is_stored(&store, parent) && is_stored(&store, &child));
    assert!(!store.is_dropped(Kind::Experiment, &parent.id()).unwrap());
    sound(&store);
}

#[test]
fn stores_of_different_budgets_compare_equal_sets() {
    let (_, records, objects) = world(40);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [small, large] = dirs.each_ref().map(|dir| Store::open(dir.path()).unwrap());
    insert(&large, &objects);
    let (first, second) = objects.split_at(objects.len() / 2);
    insert(&small, first);
    small.make_room(&plan(&[1]), &|| false).unwrap();
    insert(&small, second);
    // A record that waits for a dropped parent brings it back, one generation with each request.
    for _ in 0..8 {
        insert(&small, first);
    }
    assert_eq!(small.counts().unwrap().pending, 0);
    let task = records[0].task_id.unwrap();
    for scope in [SyncScope::Records(task), SyncScope::Controls(task), SyncScope::Tasks] {
        assert_eq!(small.sync_items(scope).unwrap(), large.sync_items(scope).unwrap(), "{scope:?}");
        let (ours, theirs) = (small.sync_set(scope).unwrap(), large.sync_set(scope).unwrap());
        for begin in 0..ours.len() {
            assert_eq!(ours.sum(begin, ours.len()).unwrap(), theirs.sum(begin, theirs.len()).unwrap());
        }
    }
    small.make_room(&plan(&[1]), &|| false).unwrap();
    let set = SyncScope::Records(task);
    assert_eq!(small.sync_items(set).unwrap(), large.sync_items(set).unwrap());
    sound(&small);
}

#[test]
fn own_pinned_confirmed_and_new_records_are_kept() {
    let (root, records, objects) = world(6);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with_trust(dir.path(), BTreeSet::from([identity(9).node_id()])).unwrap();
    insert(&store, &objects);
    let task = root.task_id.unwrap();
    let confirmed: Vec<&Verified<Record>> = records
        .iter()
        .filter(|made| {
            let id = RecordId::from(made.id());
            store.record(&id).unwrap().is_some_and(|view| view.summary.verdict.holds())
        })
        .collect();
    let pinned = RoomPlan { pinned: BTreeSet::from([task]), ..plan(&[]) };
    let early = RoomPlan { now: 1001, ..plan(&[]) };
    for kept in [pinned, early] {
        store.make_room(&kept, &|| false).unwrap();
        assert!(records.iter().all(|record| is_stored(&store, record)));
    }
    store.make_room(&plan(&[1]), &|| false).unwrap();
    assert!(!confirmed.is_empty() && confirmed.iter().all(|record| is_stored(&store, record)));
    assert!(is_stored(&store, &root));
    sound(&store);
}

#[test]
fn task_without_records_and_its_whole_entry_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (task, other) = (manifest(7, Goal::Minimize), sign(8, &record(8, None, None, 2.0, 5)));
    insert(&store, &[task.clone().into(), other.clone().into()]);
    let report = store.make_room(&plan(&[1]), &|| false).unwrap();
    assert_eq!(report.dropped, 2, "{report:?}");
    assert_eq!(store.counts().unwrap().tasks, 0);
    assert!(store.is_dropped(Kind::Task, &task.id()).unwrap());
    sound(&store);
}

#[test]
fn only_so_many_dropped_objects_are_remembered() {
    let (_, _, objects) = world(90);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    insert(&store, &objects);
    store.make_room(&plan(&[1]), &|| false).unwrap();
    assert_eq!(store.dropped_count().unwrap(), 64);
    sound(&store);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_removal_leaves_a_store_as_if_the_objects_had_never_arrived(
        plans in prop::collection::vec((any::<u8>(), 2..6u8, 0..4u8, 0..6u64, 0..3u8, any::<bool>()), 1..25),
        drops in prop::collection::vec(2..12u8, 1..6),
    ) {
        let (task, dir) = (manifest(1, Goal::Minimize), tempfile::tempdir().unwrap());
        let store = Store::open(dir.path()).unwrap();
        let mut made: Vec<Verified<Record>> = Vec::new();
        let mut objects: Vec<VerifiedObject> = vec![task.clone().into()];
        for (i, (parent, signer, metric, time, status, measured)) in plans.into_iter().enumerate() {
            let parent = (parent % 5 > 0).then(|| made.get(usize::from(parent) % (made.len() + 1))).flatten();
            let mut next = record(signer, Some(task_of(&task)), parent, f64::from(metric), 20 + time);
            next.description = format!("try {}", i % 4);
            next.status = [Status::Keep, Status::Discard, Status::Keep][usize::from(status)];
            let next = sign(signer, &next);
            if measured {
                objects.push(verification(8 + signer % 4, &next, f64::from(metric), 50 + i as u64));
            }
            objects.push(next.clone().into());
            made.push(next);
        }
        insert(&store, &objects);
        for signer in drops {
            store.drop_unwanted(Unwanted::Signer(identity(signer).node_id()), &|| false).unwrap();
            sound(&store);
        }
        store.make_room(&plan(&[]), &|| false).unwrap();
        sound(&store);
    }
}
