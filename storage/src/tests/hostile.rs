//! Objects that untrusted peers sign to make a node slow, full or wrong, and how the store bounds their effect.

use std::{cell::Cell, collections::BTreeSet};

use spore_protocol::{
    ControlEvent, Goal, HardwareClass, Kind, ObjectId, Record, RecordId, TaskId, TaskManifest, Verdict, Verified,
    VerifiedObject, frontier::FrontierKind, verdict::Support,
};

use super::{
    any,
    objects::{identity, manifest, record, rerun, sign, verification},
    sound,
};
use crate::{
    InsertOutcome, Page, Scope, Span, Store, TaskView,
    columns::Column,
    db::{KeyOrder, KeyReader, Visit},
    error::Result,
    keys::{self, Moment, TimeList},
    values::RecordRow,
    write::InsertBatch,
};

const TASK: TaskId = TaskId([1; 32]);

fn open(objects: &[&VerifiedObject]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    insert(&store, objects);
    (dir, store)
}

fn insert(store: &Store, objects: &[&VerifiedObject]) -> crate::InsertReport {
    store.insert(&objects.iter().map(|object| (*object).clone()).collect::<Vec<_>>(), 1000).unwrap()
}

/// A measurement by this signer, with this device's name.
fn measured(signer: u8, about: &Verified<Record>, gpu: &str, value: f64, timestamp: u64) -> VerifiedObject {
    let rerun = rerun(signer, about.id().into(), about.task_id, gpu, value);
    identity(signer).sign(&ControlEvent::verification(rerun, about.node_id, false, timestamp)).unwrap().into()
}

/// Counts the objects that are read through it.
struct CountingReader<'a> {
    store: &'a Store,
    objects: Cell<usize>,
}

impl KeyReader for CountingReader<'_> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.objects.set(self.objects.get() + usize::from(column == Column::Objects));
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

/// How many objects are read to insert this one. It is not written.
fn objects_read_for(store: &Store, object: &VerifiedObject) -> usize {
    let counting = CountingReader { store, objects: Cell::new(0) };
    let mut batch = InsertBatch::new(&counting).unwrap();
    assert_eq!(batch.insert(object, 1000).unwrap(), InsertOutcome::New);
    drop(batch.finish().unwrap());
    counting.objects.get()
}

#[test]
fn listing_shortens_long_texts() {
    let long = "é".repeat(100 << 10);
    let made = Record {
        description: format!("{long} needle"),
        hypothesis: long.clone(),
        agent_model: long.clone(),
        gpu_model: long.clone(),
        ..record(1, Some(TASK), None, 2.0, 1)
    };
    let made = sign(1, &made);
    let (_dir, store) = open(&[&any(&made)]);
    let class = HardwareClass::of(&long);
    let whole = store.record(&made.id().into()).unwrap().unwrap().summary;
    assert_eq!((&whole.description, &whole.class), (&made.description, &class));
    let by_class = store.listing(&TASK, &FrontierKind::Claims(class.clone()), &Span::first(9)).unwrap().items;
    for shown in [
        store.recent(Scope::All, None, 9).unwrap().0,
        store.recent(Scope::Task(TASK), None, 9).unwrap().0,
        store.search("needle", None, &Span::first(9)).unwrap().items,
        store.by_metric(&TASK, &Span::first(9)).unwrap().items,
        store.task_summaries(&TASK).unwrap(),
        by_class,
    ] {
        let [shown] = &shown[..] else { panic!("one record: {}", shown.len()) };
        let texts = [&shown.description, &shown.hypothesis, &shown.agent_model, &shown.gpu_model];
        assert!(texts.iter().all(|text| long.starts_with(text.as_str()) && (1..=2048).contains(&text.len())));
        assert!(shown.class.as_str().len() < 300);
        assert_eq!(store.summary(&shown.id).unwrap().as_ref(), Some(shown));
    }
    sound(&store);
}

#[test]
fn one_signer_counts_once_and_reads_no_other_events() {
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let honest = verification(2, &root, 2.0, 1000);
    let noise: Vec<_> = (0..40).map(|i| measured(3, &root, "CPU", 2.0, 10 + i)).collect();
    for order in [[&noise[..], std::slice::from_ref(&honest)], [std::slice::from_ref(&honest), &noise[..]]] {
        let (_dir, store) = open(&[&any(&root)]);
        for object in order.concat() {
            insert(&store, &[&object]);
        }
        let judgement = store.judgement(&root.id().into()).unwrap().unwrap();
        assert_eq!(judgement.global.verdict, Verdict::Verified);
        let lowest = noise.iter().map(|event| event.id()).min().unwrap();
        let ids: BTreeSet<_> = judgement.global.measurements.iter().map(|m| ObjectId::from(m.event_id)).collect();
        assert_eq!(ids, BTreeSet::from([honest.id(), lowest]));
        assert_eq!(store.database().keys(Column::About, &root.id().0).unwrap().len(), 41);
        let of_one = store.events_of(&root.id().into(), &identity(2).node_id(), 9).unwrap();
        assert_eq!(of_one.iter().map(|event| event.id()).collect::<Vec<_>>(), [honest.id()]);
        assert_eq!(objects_read_for(&store, &measured(3, &root, "CPU", 9.0, 500)), 1, "its record alone");
        sound(&store);
    }
}

#[test]
fn event_older_than_its_record_is_kept_and_does_not_count() {
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 100));
    let (_dir, store) = open(&[&any(&root), &verification(2, &root, 2.0, 99)]);
    assert_eq!(store.summary(&root.id().into()).unwrap().unwrap().global_verdict, Verdict::Unverified);
    assert!(store.measured_by(&identity(2).node_id(), &root.id().into()).unwrap(), "nobody should measure it twice");
    assert!(!store.measured_by(&identity(3).node_id(), &root.id().into()).unwrap());
    insert(&store, &[&verification(3, &root, 2.0, 100), &verification(4, &root, 2.0, 100)]);
    let shown = store.summary(&root.id().into()).unwrap().unwrap();
    assert_eq!((shown.global_verdict, shown.support.unknown_for), (Verdict::Verified, 2));
    sound(&store);
}

#[test]
fn event_longer_than_64_kib_does_not_count() {
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let mut device = "x".repeat(70 << 10);
    device.push_str("RTX 4090");
    let same_class = Record { gpu_model: "RTX 4090".into(), ..root.object().clone() };
    let root = sign(1, &same_class);
    let (_dir, store) = open(&[&any(&root), &measured(2, &root, &device, 2.0, 5)]);
    let verdict = || store.judgement(&root.id().into()).unwrap().unwrap().global;
    assert_eq!((verdict().verdict, verdict().measurements.len()), (Verdict::Unverified, 0));
    insert(&store, &[&measured(3, &root, "RTX 4090", 2.0, 6), &measured(4, &root, "RTX 4090", 2.0, 6)]);
    assert_eq!((verdict().verdict, verdict().measurements.len()), (Verdict::Verified, 2));
    sound(&store);
}

#[test]
fn each_early_event_is_read_once_when_its_record_arrives() {
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let early: Vec<_> = (0..100).map(|i| measured(3, &root, "CPU", 2.0, i)).collect();
    let (_dir, store) = open(&early.iter().collect::<Vec<_>>());
    assert_eq!(objects_read_for(&store, &any(&root)), 100);
}

#[test]
fn page_of_tasks_ends_before_it_takes_much_memory() {
    let described = |name: String| TaskManifest {
        name,
        description: "x".repeat(9 << 20),
        ..manifest(1, Goal::Minimize).object().clone()
    };
    let large = (0..3).map(|i| identity(1).sign(&described(format!("task {i}"))).unwrap());
    let mut large: Vec<VerifiedObject> = large.map(VerifiedObject::from).collect();
    large.sort_by_key(|task| task.id());
    let (_dir, store) = open(&large.iter().collect::<Vec<_>>());
    let page = |span: &Span| store.tasks_page(span).unwrap();
    let ids = |page: &Page<TaskView>| page.items.iter().map(|task| ObjectId::from(task.task_id)).collect::<Vec<_>>();
    let first = page(&Span::first(9));
    assert_eq!(ids(&first), [large[0].id(), large[1].id()]);
    let rest = page(&Span::after(first.next.unwrap(), 9));
    assert_eq!((ids(&rest), rest.next), (vec![large[2].id()], None));
}

#[test]
fn missing_parents_are_returned_in_turn() {
    let mut waiting = Vec::new();
    for byte in [9, 5, 7, 3, 5] {
        let orphan = Record {
            parent: Some(RecordId([byte; 32])),
            depth: 1,
            ..record(1, Some(TASK), None, 2.0, waiting.len() as u64)
        };
        waiting.push(any(&sign(1, &orphan)));
    }
    let (_dir, store) = open(&waiting.iter().collect::<Vec<_>>());
    let ask = |after: Option<u8>, limit| {
        let missing = store.missing_parents_after(after.map(|byte| RecordId([byte; 32])), limit).unwrap();
        missing.iter().map(|id| id.0[0]).collect::<Vec<_>>()
    };
    assert_eq!((ask(None, 2), ask(Some(5), 2), ask(Some(9), 2)), (vec![3, 5], vec![7, 9], vec![3, 5]));
    assert_eq!((ask(Some(7), 2), ask(Some(7), 9)), (vec![9, 3], vec![9, 3, 5, 7]));
    assert_eq!((ask(Some(6), 9), ask(None, 0)), (vec![7, 9, 3, 5], vec![]));

    let (_dir, store) = open(&[&waiting[0]]);
    let only = Some(RecordId([9; 32]));
    assert_eq!(store.missing_parents_after(only, 2).unwrap(), only.into_iter().collect::<Vec<_>>());
}

#[test]
fn pending_records_are_released_in_steps_that_survive_a_crash() {
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let bad = sign(1, &record(1, Some(TaskId([2; 32])), Some(&root), 2.0, 2));
    let mut waiting = vec![any(&bad)];
    for i in 0..120 {
        waiting.push(any(&sign(2, &record(2, Some(TASK), Some(&root), 2.0, 10 + i))));
        waiting.push(any(&sign(2, &record(2, Some(TaskId([2; 32])), Some(&bad), 2.0, 10 + i))));
    }
    let all: Vec<_> = waiting.iter().collect();

    let (_dir, store) = open(&all);
    let report = insert(&store, &[&any(&root)]);
    assert_eq!((report.outcomes.len(), report.changes.len(), report.late_rejects.len()), (1, 121, 121));
    assert_eq!(store.pending_count().unwrap(), 0);
    let one_batch: Vec<_> = waiting.iter().cloned().chain([any(&root)]).collect();
    let (_other, other) = open(&[]);
    let report = other.insert(&one_batch, 1000).unwrap();
    let of = |wanted: fn(&InsertOutcome) -> bool| report.outcomes.iter().filter(|(_, outcome)| wanted(outcome)).count();
    assert_eq!((of(|o| *o == InsertOutcome::New), of(|o| matches!(o, InsertOutcome::Rejected(_)))), (121, 121));
    assert!(report.late_rejects.is_empty());
    assert_eq!(super::model::dump(&store), super::model::dump(&other));

    let (dir, crashed) = open(&all);
    let mut batch = InsertBatch::new(crashed.database()).unwrap().in_steps();
    batch.insert(&any(&root), 1000).unwrap();
    let finished = batch.finish().unwrap();
    assert!(!finished.unreleased.is_empty());
    crashed.database().commit(finished.view.entries()).unwrap();
    assert!(crashed.pending_count().unwrap() > 100);
    drop(finished);
    // Records left by the step are no damage, neither while a node runs nor after it was killed.
    sound(&crashed);
    drop(crashed);
    sound(&Store::open_read_only(dir.path()).unwrap());
    let crashed = Store::open(dir.path()).unwrap();
    assert_eq!((crashed.pending_count().unwrap(), crashed.sequence()), (0, 121));
    assert_eq!(super::model::dump(&store), super::model::dump(&crashed));
    sound(&crashed);
}

#[test]
fn better_root_reads_the_leaving_tree_and_not_the_strays() {
    let earliest = sign(1, &record(1, Some(TASK), None, 2.0, 50));
    let other = sign(2, &record(2, Some(TASK), None, 2.0, 60));
    let mut objects = vec![any(&earliest), any(&other)];
    objects.extend((0..200).map(|i| any(&sign(2, &record(2, Some(TASK), Some(&other), 1.0, 100 + i)))));
    let (_dir, store) = open(&objects.iter().collect::<Vec<_>>());
    assert_eq!(store.task(&TASK).unwrap().unwrap().stray_count, 201);
    let hostile = any(&sign(3, &record(3, Some(TASK), None, 2.0, 40)));
    assert_eq!(objects_read_for(&store, &hostile), 1, "the root that leaves");
    insert(&store, &[&hostile]);
    let view = store.task(&TASK).unwrap().unwrap();
    assert_eq!((view.experiment_count, view.stray_count, view.reference_frontier_size), (1, 202, 1));
    assert_eq!(view.claims_count, 1);
    sound(&store);
}

/// Ids of one second with the same first 8 bytes, which take 2^32 hashes to make.
const ALIKE: [ObjectId; 3] = {
    let mut ids = [[7; 32]; 3];
    ids[0][31] = 9;
    ids[1][31] = 1;
    ids[2][31] = 5;
    [ObjectId(ids[0]), ObjectId(ids[1]), ObjectId(ids[2])]
};

#[test]
fn series_order_does_not_depend_on_the_arrival_of_similar_ids() {
    let key = |id, number| keys::series(&TASK, None, &Moment { timestamp: 5, id, number });
    assert!(key(ALIKE[1], 2) < key(ALIKE[0], 1) && key(ALIKE[1], 1) < key(ALIKE[0], 2));
}

#[test]
fn pages_skip_no_id_with_the_same_first_bytes() {
    let (_dir, store) = open(&[]);
    let made = sign(1, &record(1, Some(TASK), None, 2.0, 5));
    let place = spore_protocol::lineage::place(made.id().into(), &made, None).unwrap();
    let mut entries = Vec::new();
    for (number, id) in (1..).zip(ALIKE) {
        let row = RecordRow::of(id.into(), &made, place, 1, number, 0);
        let moment = Moment { timestamp: 5, id, number };
        entries.push((Column::Timeline, keys::timeline(TimeList::Records, &moment), Vec::new()));
        entries.push((Column::Records, keys::number(number), row.placing().encode()));
        entries.push((Column::Ids, keys::id(Kind::Experiment, &id), keys::number(number)));
    }
    let entries = entries.iter().map(|(column, key, value)| (*column, key.as_slice(), Some(value.as_slice())));
    store.database().commit(entries).unwrap();
    let (mut seen, mut from) = (Vec::new(), None);
    while let Some(position) = store.page(Kind::Experiment, from, 1).unwrap().pop() {
        seen.push(position.1);
        from = Some(position);
    }
    assert_eq!(seen, ALIKE);
}

#[test]
fn new_keys_displace_no_trusted_signer_and_cost_no_further_judging() {
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let many: Vec<_> = (10..240).map(|signer| measured(signer, &root, "CPU", 7.0, 5)).collect();
    let trusted = [2u8, 3].map(|node| measured(node, &root, "CPU", 2.0, 2_000_000_000));
    let counts = |store: &Store| {
        let shown = store.summary(&root.id().into()).unwrap().unwrap();
        (shown.verdict, shown.global_verdict, shown.support)
    };
    let mut seen = Vec::new();
    for order in [[&many[..], &trusted[..]], [&trusted[..], &many[..]]] {
        let dir = tempfile::tempdir().unwrap();
        let seeds = [2u8, 3].map(|node| identity(node).node_id());
        let store = Store::open_with_trust(dir.path(), BTreeSet::from(seeds)).unwrap();
        insert(&store, &[&any(&root)]);
        for object in order.concat() {
            insert(&store, &[&object]);
        }
        sound(&store);
        seen.push(counts(&store));
    }
    let support = Support { trusted_for: 2, trusted_against: 0, unknown_for: 0, unknown_against: 64 };
    assert_eq!(seen[0], (Verdict::Verified, Verdict::Rejected, support));
    assert_eq!(seen[0], seen[1]);
}
