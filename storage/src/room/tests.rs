//! What is dropped, and that a store is afterwards as if it had never arrived.

use std::{cell::Cell, collections::BTreeSet};

use proptest::prelude::*;

use spore_protocol::{Goal, Kind, Record, RecordId, Status, TaskId, Verified, VerifiedObject};

use crate::{
    InsertOutcome, RoomPlan, Store, SyncScope, Unwanted,
    tests::objects::{identity, manifest, profile, record, sign, task_of, verification},
    unwatched,
    write::LOOKED_AT,
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
fn dropped_in_parts_leaves_equal_indexes() {
    let (_, records, objects) = world(30);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    insert(&store, &objects);
    for signer in 2..6 {
        store.drop_unwanted(Unwanted::Signer(identity(9).node_id()), &mut unwatched).unwrap();
        store.drop_unwanted(Unwanted::Signer(identity(signer).node_id()), &mut unwatched).unwrap();
        sound(&store);
    }
    let dropped = records.iter().filter(|made| store.is_dropped(Kind::Experiment, &made.id()).unwrap()).count();
    assert!(dropped > 0 && records.iter().filter(|made| is_stored(&store, made)).count() == records.len() - dropped);
}

#[test]
fn record_dropped_for_room_returns_when_built_upon_and_an_unwanted_one_does_not() {
    for unwanted in [false, true] {
        let (_, records, objects) = world(0);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let parent = sign(2, &record(2, records[0].task_id, Some(&records[0]), 2.0, 30));
        insert(&store, &objects);
        insert(&store, &[parent.clone().into()]);
        if unwanted {
            store.drop_unwanted(Unwanted::Object(Kind::Experiment, parent.id()), &mut unwatched).unwrap();
        } else {
            store.make_room(&plan(&[1]), &|| false).unwrap();
        }
        let turned_away = || store.is_turned_away(Kind::Experiment, &parent.id()).unwrap();
        assert!(turned_away() && !is_stored(&store, &parent));
        let again = store.insert(&[parent.clone().into()], 2000).unwrap();
        assert!(matches!(again.outcomes[..], [(_, InsertOutcome::Known)]), "{:?}", again.outcomes);
        let child = sign(1, &record(1, parent.task_id, Some(&parent), 1.0, 90));
        insert(&store, &[child.clone().into()]);
        assert!(!is_stored(&store, &child));
        assert_eq!(turned_away(), unwanted);
        insert(&store, &[parent.clone().into()]);
        assert_eq!((is_stored(&store, &parent), is_stored(&store, &child)), (!unwanted, !unwanted));
        sound(&store);
    }
}

#[test]
fn dropped_records_take_their_artifacts_along() {
    let (root, records, objects) = world(0);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let [gone, needed, pinned] = [b"gone".as_slice(), b"needed", b"pinned"].map(|b| store.put_artifact(b).unwrap());
    let mut child = record(2, root.task_id, Some(&records[0]), 2.0, 30);
    child.code_cid = Some(gone);
    let mut own = record(1, root.task_id, Some(&records[0]), 1.0, 31);
    own.code_cid = Some(needed);
    insert(&store, &objects);
    insert(&store, &[sign(2, &child).into(), sign(1, &own).into()]);
    store.pin(&pinned).unwrap();
    store.note_artifact_uses(1000).unwrap();
    let report = store.make_room(&plan(&[1]), &|| false).unwrap();
    assert_eq!((report.dropped, report.dropped_artifacts), (1, 1), "{report:?}");
    assert!(store.artifact_path(&gone).is_none());
    assert!(store.artifact_path(&needed).is_some() && store.artifact_path(&pinned).is_some());
}

#[test]
fn store_within_its_budget_is_left_alone_and_one_beyond_it_is_brought_below() {
    let (_, records, objects) = world(40);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    insert(&store, &objects);
    let within = RoomPlan { budget: store.bytes_on_disk().unwrap(), ..plan(&[1]) };
    assert_eq!(store.make_room(&within, &|| false).unwrap().dropped, 0);
    assert!(records.iter().all(|record| is_stored(&store, record)));
    let report = store.make_room(&plan(&[1]), &|| false).unwrap();
    assert!(report.short && report.bytes_after < report.bytes_before, "{report:?}");
    let stopped = store.make_room(&plan(&[1]), &|| true);
    assert!(matches!(stopped, Err(crate::StoreError::Cancelled)), "{stopped:?}");
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
fn own_pinned_and_confirmed_records_are_kept() {
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
    store.make_room(&pinned, &|| false).unwrap();
    assert!(records.iter().all(|record| is_stored(&store, record)));
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
fn profile_goes_with_the_last_object_of_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (alone, busy) = (profile(7, "alone", 10), profile(8, "busy", 11));
    let theirs = sign(8, &record(8, None, None, 2.0, 5));
    insert(&store, &[alone.clone().into(), busy.clone().into(), theirs.into()]);
    store.drop_unwanted(Unwanted::Object(Kind::Profile, alone.id()), &mut unwatched).unwrap();
    assert!(store.is_dropped(Kind::Profile, &alone.id()).unwrap());
    sound(&store);
    assert_eq!(store.make_room(&plan(&[8]), &|| false).unwrap().dropped, 0, "own ones are kept");
    assert_eq!(store.make_room(&plan(&[]), &|| false).unwrap().dropped, 2);
    assert!(store.is_dropped(Kind::Profile, &busy.id()).unwrap());
    let newer = profile(7, "again", 12);
    insert(&store, &[newer.clone().into()]);
    assert!(store.contains(Kind::Profile, &newer.id()).unwrap(), "a newer one is another object");
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

#[test]
fn operators_drops_are_remembered_through_a_flood_that_is_dropped_for_room() {
    let (root, _, objects) = world(90);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let unwanted = sign(7, &record(7, root.task_id, Some(&root), 2.0, 29));
    insert(&store, &objects);
    insert(&store, &[unwanted.clone().into()]);
    store.drop_unwanted(Unwanted::Object(Kind::Experiment, unwanted.id()), &mut unwatched).unwrap();
    store.make_room(&plan(&[1]), &|| false).unwrap();
    assert_eq!(store.dropped_count().unwrap(), 64 + 1, "as many for room as are remembered, and the operator's");
    assert!(store.is_turned_away(Kind::Experiment, &unwanted.id()).unwrap());
    sound(&store);
}

#[test]
fn pending_records_are_dropped_in_steps_between_which_others_write() {
    let (root, _, objects) = world(0);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let absent = sign(2, &record(2, root.task_id, Some(&root), 2.0, 30));
    let waiting = (0..12).map(|i| sign(3, &record(3, root.task_id, Some(&absent), 2.0, 40 + i)).into());
    insert(&store, &objects);
    insert(&store, &waiting.collect::<Vec<_>>());
    let (asked, left) = (Cell::new(0), || store.counts().unwrap().pending);
    assert_eq!(left(), 12);
    let stop = || {
        asked.set(asked.get() + 1);
        left() < 12
    };
    assert_eq!(store.make_room(&plan(&[1]), &stop), Err(crate::StoreError::Cancelled));
    assert!((1..12).contains(&left()) && asked.get() > 1, "{} left", left());
    store.make_room(&plan(&[1]), &|| false).unwrap();
    assert_eq!(left(), 0);
    sound(&store);
}

/// Drops all objects that may be dropped, and returns how many rows of other records that took.
fn looked_at_while_dropping(objects: &[VerifiedObject]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    insert(&store, objects);
    LOOKED_AT.set(0);
    let report = store.make_room(&plan(&[1]), &|| false).unwrap();
    assert_eq!(report.dropped, objects.len() as u64 - 2, "all but the task and its root");
    sound(&store);
    LOOKED_AT.get()
}

#[test]
fn children_of_a_parent_are_not_looked_through_for_each_that_is_dropped() {
    let (root, _, mut objects) = world(0);
    let child = |metric: f64, time: u64| sign(2, &record(2, root.task_id, Some(&root), metric, time)).into();
    // The worse ones come first in the order of the children, and the last to arrive first of the better ones.
    objects.extend((0..40).map(|i| child(4.0, 30 + i)));
    objects.extend((0..40).map(|i| child(1.0, 200 - i)));
    let looked_at = looked_at_while_dropping(&objects);
    assert!(looked_at < 500, "{looked_at}");
}

#[test]
fn records_of_a_signer_are_not_looked_through_for_each_that_is_dropped() {
    let (root, _, mut objects) = world(0);
    let made = |gpu: &str, time: u64| {
        let mut made = record(2, root.task_id, Some(&root), 4.0, time);
        (made.gpu_model, made.status) = (gpu.into(), Status::Discard);
        sign(2, &made).into()
    };
    objects.extend((0..40).map(|i| made("CPU", 200 + i)));
    objects.extend((0..40).map(|i| made("NVIDIA H100", 30 + i)));
    let looked_at = looked_at_while_dropping(&objects);
    assert!(looked_at < 500, "{looked_at}");
}

/// What a record is made of: its parent, signer, metric, time, status, and whether somebody measured it.
type Plan = (u8, u8, u8, u64, u8, bool);

fn plans(most: usize) -> impl Strategy<Value = Vec<Plan>> {
    prop::collection::vec((any::<u8>(), 2..6u8, 0..4u8, 0..6u64, 0..3u8, any::<bool>()), 1..most)
}

/// A task and what the plans say, each object after those that it builds on.
fn planned(plans: Vec<Plan>) -> (TaskId, Vec<VerifiedObject>) {
    let task = manifest(1, Goal::Minimize);
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
            objects.push(profile(signer, "anybody", 30 + i as u64).into());
        }
        objects.push(next.clone().into());
        made.push(next);
    }
    (task_of(&task), objects)
}

const fn kind_of(scope: SyncScope) -> Kind {
    match scope {
        SyncScope::Records(_) => Kind::Experiment,
        SyncScope::Controls(_) => Kind::Control,
        SyncScope::Tasks => Kind::Task,
        SyncScope::Profiles => Kind::Profile,
    }
}

/// One round of catch-up: `to` gets what its sets lack, and the parents that it waits for, as far as `from` has them.
/// Returns whether it asked for anything.
fn catch_up(to: &Store, from: &Store, scopes: &[SyncScope]) -> bool {
    let mut asked = Vec::new();
    for scope in scopes {
        let known: BTreeSet<_> = to.sync_items(*scope).unwrap().into_iter().collect();
        let theirs = from.sync_items(*scope).unwrap();
        asked.extend(theirs.into_iter().filter(|item| !known.contains(item)).map(|(_, id)| (kind_of(*scope), id)));
    }
    let missing = to.missing_parents_after(None, 100).unwrap();
    asked.extend(missing.into_iter().map(|parent| (Kind::Experiment, parent.into())));
    asked.retain(|(kind, id)| !to.is_pending(&(*id).into()).unwrap() || *kind != Kind::Experiment);
    let found = asked.iter().filter_map(|(kind, id)| from.object(*kind, id).unwrap());
    let objects: Vec<_> = found.map(|object| object.verify().unwrap()).collect();
    insert(to, &objects);
    !asked.is_empty()
}

proptest! {
    // Each case computes whole stores again, which is slow on a busy disk.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_removal_leaves_a_store_as_if_the_objects_had_never_arrived(
        plans in plans(25),
        drops in prop::collection::vec(2..12u8, 1..6),
    ) {
        let (dir, (_, objects)) = (tempfile::tempdir().unwrap(), planned(plans));
        let store = Store::open(dir.path()).unwrap();
        insert(&store, &objects);
        for signer in drops {
            store.drop_unwanted(Unwanted::Signer(identity(signer).node_id()), &mut unwatched).unwrap();
            sound(&store);
        }
        store.make_room(&plan(&[]), &|| false).unwrap();
        sound(&store);
    }

    #[test]
    fn stores_of_any_budgets_converge_within_as_many_rounds_as_records_are_deep(
        plans in plans(16),
        cut in any::<prop::sample::Index>(),
        both in any::<bool>(),
    ) {
        let (task, objects) = planned(plans);
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [small, large] = dirs.each_ref().map(|dir| Store::open(dir.path()).unwrap());
        insert(&large, &objects);
        insert(&small, &objects[..cut.index(objects.len() + 1)]);
        small.make_room(&plan(&[]), &|| false).unwrap();
        if both {
            // What it drops now, nobody can bring to the other one.
            large.make_room(&plan(&[3]), &|| false).unwrap();
        }
        let scopes = [SyncScope::Records(task), SyncScope::Controls(task), SyncScope::Tasks];
        let rounds = (0..=objects.len() + 1).take_while(|_| catch_up(&small, &large, &scopes)).count();
        if !both {
            prop_assert!(rounds <= objects.len() + 1, "{rounds} rounds, and still something to ask for");
            for scope in scopes {
                prop_assert_eq!(small.sync_items(scope).unwrap(), large.sync_items(scope).unwrap());
            }
            small.make_room(&plan(&[]), &|| false).unwrap();
            prop_assert!(!catch_up(&small, &large, &scopes), "what was dropped does not come back");
        }
        sound(&small);
        sound(&large);
    }
}
