//! Verdicts, the series and the reputation that follow from them, and changes of trust.

use std::collections::BTreeSet;

use spore_protocol::{Goal, Record, RecordId, TaskId, Verdict, Verified, terms::Flaw, trust::Level};

use super::{
    any, insert,
    objects::{identity, manifest, record, rerun, sign, task_of, verification},
    sound,
};
use crate::{Span, Store, SyncScope, columns::Column, db::KeyReader, write::InsertBatch};

fn open() -> (tempfile::TempDir, Store) {
    open_trusting(&[])
}

/// A store that trusts the keys of these nodes.
fn open_trusting(nodes: &[u8]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let seeds = nodes.iter().map(|node| identity(*node).node_id()).collect();
    let store = Store::open_with_trust(dir.path(), seeds).unwrap();
    (dir, store)
}

fn reputation(store: &Store, node: u8) -> Option<f64> {
    store.node(None, &identity(node).node_id()).unwrap().and_then(|stats| stats.reputation)
}

/// How many events about a record are stored.
fn events_about(store: &Store, id: &RecordId) -> usize {
    store.database().keys(Column::About, &id.0).unwrap().len()
}

#[test]
fn series_of_confirmed_records_is_corrected_by_late_and_by_refuted_ones() {
    let (_dir, store) = open_trusting(&[3]);
    let task = TaskId([1; 32]);
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let at = |metric, time| sign(2, &record(2, Some(task), Some(&root), metric, time));
    let [a, b, early, fake] = [at(1.8, 10), at(1.6, 20), at(1.7, 5), at(0.1, 2)];
    for one in [&root, &a, &b, &fake] {
        insert(&store, &[&any(one)]);
    }
    let series = || {
        let page = store.improvements(&task, None, &Span::first(9)).unwrap();
        page.items.iter().map(|i| (i.timestamp, i.metric)).collect::<Vec<_>>()
    };
    assert!(series().is_empty(), "claims are no improvement");
    for one in [&root, &a, &b] {
        insert(&store, &[&verification(3, one, one.val_bpb, 30)]);
    }
    assert_eq!(series(), [(1, 2.0), (10, 1.8), (20, 1.6)]);
    assert_eq!(reputation(&store, 2), Some(6.0), "two verified keeps that advanced");
    insert(&store, &[&any(&early), &verification(3, &early, 1.7, 31)]);
    assert_eq!(series(), [(1, 2.0), (5, 1.7), (20, 1.6)]);
    assert_eq!(reputation(&store, 2), Some(7.0), "one of three no longer advanced anything");
    // The event with the lowest id counts, so the second one may be without effect.
    let values = |value| [verification(3, &fake, value, 40), verification(3, &fake, value, 41)];
    let refuted = values(1.9).into_iter().min_by_key(|event| event.id()).unwrap();
    let confirmed =
        (50..).map(|time| verification(3, &fake, 0.1, time)).find(|event| event.id() > refuted.id()).unwrap();
    insert(&store, &[&confirmed]);
    assert_eq!(series(), [(1, 2.0), (2, 0.1)]);
    insert(&store, &[&refuted]);
    assert_eq!(series(), [(1, 2.0), (5, 1.7), (20, 1.6)], "those that it kept out are back");
    assert_eq!(reputation(&store, 2), Some(2.0));
    sound(&store);
}

#[test]
fn early_event_counts_when_its_record_arrives() {
    let (_dir, store) = open_trusting(&[3]);
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let event = rerun(3, root.id().into(), Some(TaskId([9; 32])), "CPU", 2.001);
    let event = identity(3).sign(&spore_protocol::ControlEvent::verification(event, root.node_id, true, 5)).unwrap();
    insert(&store, &[&event.clone().into()]);
    assert_eq!(store.sync_items(SyncScope::Controls(TaskId([9; 32]))).unwrap(), [(5, event.id())]);
    insert(&store, &[&any(&root)]);
    assert!(store.sync_items(SyncScope::Controls(TaskId([9; 32]))).unwrap().is_empty());
    assert_eq!(store.sync_items(SyncScope::Controls(task)).unwrap(), [(5, event.id())]);
    assert_eq!(store.summary(&root.id().into()).unwrap().unwrap().verdict, Verdict::Verified);
    assert_eq!(store.counts().unwrap().verified, 1);
    assert_eq!(reputation(&store, 1), Some(3.0), "a verified keep that advanced the frontier");
    assert_eq!(reputation(&store, 3), Some(0.5));
    let nodes = store.nodes(Some(&task)).unwrap();
    let verifier = nodes.iter().find(|stats| stats.node_id == identity(3).node_id()).unwrap();
    assert_eq!((verifier.verification_count, verifier.experiment_count, verifier.last_activity), (1, 0, 5));
    sound(&store);
}

#[test]
fn challenge_opens_a_dispute_and_responses_close_it() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    insert(&store, &[&any(&root), &verification(2, &root, 2.0, 3), &verification(7, &root, 2.0, 3)]);
    let id = RecordId::from(root.id());
    let verdicts = || {
        let shown = store.summary(&id).unwrap().unwrap();
        (shown.verdict, shown.global_verdict)
    };
    assert_eq!(verdicts(), (Verdict::Unverified, Verdict::Verified), "nobody is trusted");
    let challenge = spore_protocol::ControlEvent::challenge(rerun(3, id, Some(task), "CPU", 5.0), 4);
    insert(&store, &[&identity(3).sign(&challenge).unwrap().into()]);
    assert_eq!((store.open_disputes().unwrap(), store.globally_disputed(9).unwrap()), (vec![], vec![id]));
    for node in 4..7 {
        let answer = rerun(node, id, Some(task), "CPU", 2.0);
        let answer =
            spore_protocol::ControlEvent::challenge_response(answer, identity(3).node_id(), u64::from(node) + 1);
        insert(&store, &[&identity(node).sign(&answer).unwrap().into()]);
    }
    assert_eq!(verdicts(), (Verdict::Unverified, Verdict::Upheld));
    assert!(store.globally_disputed(9).unwrap().is_empty());
    assert_eq!((store.counts().unwrap().verified, events_about(&store, &id)), (0, 6));
    sound(&store);
}

/// Thirteen records of node 2, of which the trusted node 3 confirmed twelve.
fn rising(store: &Store) -> Vec<Verified<Record>> {
    let task = Some(TaskId([1; 32]));
    let made: Vec<_> = (0..13).map(|i| sign(2, &record(2, task, None, 2.0, 100 + i))).collect();
    for one in &made {
        insert(store, &[&any(one)]);
    }
    for one in made.iter().skip(1) {
        insert(store, &[&verification(3, one, 2.0, 500)]);
    }
    made
}

#[test]
fn confirmed_records_raise_a_level_in_steps_that_survive_a_crash() {
    let level = |store: &Store| {
        store.standing(&identity(2).node_id(), &spore_protocol::HardwareClass::of("CPU")).unwrap().level
    };
    let (_dir, store) = open_trusting(&[3]);
    let made = rising(&store);
    assert_eq!(level(&store), Some(Level::Proven));
    // What node 2 measured counts now: of a record by node 5, and twenty others.
    let others: Vec<_> = (0..20).map(|i| sign(5, &record(5, Some(TaskId([1; 32])), None, 2.0, 50 + i))).collect();
    let measured: Vec<_> = others.iter().map(|one| verification(2, one, 2.0, 600)).collect();
    insert(&store, &others.iter().map(any).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    insert(&store, &measured.iter().collect::<Vec<_>>());
    assert_eq!(store.counts().unwrap().verified, 12 + 20);

    // A store in which the measurements come before the level, and a crash comes after the first step.
    let (dir, crashed) = open_trusting(&[3]);
    insert(&crashed, &others.iter().map(any).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    insert(&crashed, &measured.iter().collect::<Vec<_>>());
    for one in &made {
        insert(&crashed, &[&any(one)]);
    }
    for one in made.iter().skip(1).take(11) {
        insert(&crashed, &[&verification(3, one, 2.0, 500)]);
    }
    let mut batch = InsertBatch::new(crashed.database()).unwrap();
    batch.insert(&verification(3, &made[12], 2.0, 500), 1000).unwrap();
    let finished = batch.finish().unwrap();
    assert!(finished.unsettled, "more works than one step moves");
    crashed.database().commit(finished.view.entries()).unwrap();
    drop(finished);
    assert!(crashed.counts().unwrap().verified < 32);
    drop(crashed);
    let crashed = Store::open(dir.path()).unwrap();
    assert!(crashed.database().keys(Column::Unsettled, &[]).unwrap().is_empty());
    assert_eq!((level(&crashed), crashed.counts().unwrap().verified), (Some(Level::Proven), 32));
    assert_eq!(super::model::dump(&store), super::model::dump(&crashed));
    sound(&crashed);
}

#[test]
fn other_trusted_keys_change_verdicts_and_are_remembered() {
    let (dir, store) = open_trusting(&[3]);
    let made = rising(&store);
    assert_eq!(store.counts().unwrap().verified, 12);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.seeds().unwrap(), BTreeSet::from([identity(3).node_id()]), "opening keeps them");
    drop(store);
    let store = Store::open_with_trust(dir.path(), BTreeSet::new()).unwrap();
    // Without a parent, the other twelve are strays.
    assert_eq!((store.counts().unwrap().verified, store.counts().unwrap().claims), (0, 1));
    sound(&store);
    drop(store);
    let store = Store::open_with_trust(dir.path(), BTreeSet::from([identity(2).node_id()])).unwrap();
    assert_eq!(store.counts().unwrap().verified, 13, "a seed's own claims hold");
    assert!(store.summary(&made[0].id().into()).unwrap().unwrap().on_frontier);

    sound(&store);
    drop(store);
    assert_eq!(Store::open_read_only(dir.path()).unwrap().seeds().unwrap().len(), 1);
    let report = Store::repair(dir.path(), None, 2_000, &mut crate::unwatched).unwrap();
    assert_eq!(report.fault_count, 0);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.seeds().unwrap().len(), store.counts().unwrap().verified), (1, 13), "a repair keeps the trust");
}

#[test]
fn late_manifest_makes_records_incomparable() {
    let (_dir, store) = open_trusting(&[1]);
    let mut terms = manifest(1, Goal::Minimize).object().clone();
    terms.dataset_cid = "text".into();
    let manifest = identity(1).sign(&terms).unwrap();
    let task = task_of(&manifest);
    let own = Record { dataset_cid: "text".into(), ..record(1, Some(task), None, 2.0, 20) };
    let root = sign(1, &own);
    let other = sign(1, &record(1, Some(task), Some(&root), 1.0, 30));
    insert(&store, &[&any(&root), &any(&other)]);
    let shown = |one: &Verified<Record>| store.summary(&one.id().into()).unwrap().unwrap();
    assert!(shown(&other).on_frontier && !shown(&root).on_frontier);
    insert(&store, &[&manifest.into()]);
    assert_eq!((shown(&other).flaw, shown(&root).flaw), (Some(Flaw::OtherDataset), None));
    assert!(!shown(&other).on_frontier && shown(&root).on_frontier, "it takes nobody off the frontier");
    assert!(shown(&other).on_reference_frontier);
    assert_eq!(store.task(&task).unwrap().unwrap().confirmed_signers, 1);
    sound(&store);
}
