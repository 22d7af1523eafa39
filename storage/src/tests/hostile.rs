//! Objects that untrusted peers sign to make a node slow, full or wrong, and how the store bounds their effect.

use std::{cell::Cell, ops::ControlFlow};

use spore_protocol::{
    ControlEvent, EventId, Goal, HardwareClass, Kind, ObjectId, Record, RecordId, TaskId, TaskManifest, Verdict,
    Verified, VerifiedObject,
};

use super::{
    findings,
    objects::{identity, manifest, record, rerun, sign, verification},
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

fn any(record: &Verified<Record>) -> VerifiedObject {
    record.clone().into()
}

fn sound(store: &Store) {
    assert_eq!(findings(store), Vec::<String>::new());
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
    let by_class = store.frontier(&TASK, Some(&class), 9).unwrap();
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
        assert!(shown.class.as_str().len() < 300 && shown.class != class);
        assert_eq!(store.summary(&shown.id).unwrap().as_ref(), Some(shown));
    }
    sound(&store);
}

#[test]
fn one_signer_cannot_fill_the_window_of_a_verdict() {
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let honest = verification(2, &root, 2.0, 1000);
    let noise: Vec<_> = (0..40).map(|i| measured(3, &root, "another device", 2.0, i)).collect();
    for order in [[&noise[..], std::slice::from_ref(&honest)], [std::slice::from_ref(&honest), &noise[..]]] {
        let (_dir, store) = open(&[&any(&root)]);
        for object in order.concat() {
            insert(&store, &[&object]);
        }
        let judgement = store.judgement(&root.id().into()).unwrap().unwrap();
        assert_eq!(judgement.verdict, Verdict::Verified);
        assert_eq!(judgement.measurements.len(), crate::lookup::MAX_JUDGED_OF_ONE + 1);
        assert_eq!(store.summary(&root.id().into()).unwrap().unwrap().verdict, Verdict::Verified);
        let about = keys::events(&root.id().into(), keys::EventSet::All);
        assert_eq!(store.database().keys(Column::About, &about).unwrap().len(), 41);
        let of_one = store.events_of(&root.id().into(), &identity(2).node_id(), 9).unwrap();
        assert_eq!(of_one.iter().map(|event| event.id()).collect::<Vec<_>>(), [honest.id()]);
        assert_eq!(objects_read_for(&store, &measured(3, &root, "CPU", 9.0, 500)), 1, "its record alone");
        sound(&store);
    }
}

#[test]
fn event_longer_than_64_kib_does_not_count() {
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let mut device = "x".repeat(70 << 10);
    device.push_str("RTX 4090");
    let same_class = Record { gpu_model: "RTX 4090".into(), ..root.object().clone() };
    let root = sign(1, &same_class);
    let (_dir, store) = open(&[&any(&root), &measured(2, &root, &device, 2.0, 5)]);
    let verdict = || store.judgement(&root.id().into()).unwrap().unwrap();
    assert_eq!((verdict().verdict, verdict().measurements.len()), (Verdict::Unverified, 0));
    insert(&store, &[&measured(3, &root, "RTX 4090", 2.0, 6)]);
    assert_eq!(verdict().verdict, Verdict::Verified);
    sound(&store);
}

#[test]
fn early_events_are_attached_to_their_record_without_being_read() {
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let early: Vec<_> = (0..100).map(|i| measured(3, &root, "CPU", 2.0, i)).collect();
    let (_dir, store) = open(&early.iter().collect::<Vec<_>>());
    assert_eq!(objects_read_for(&store, &any(&root)), crate::lookup::MAX_JUDGED_OF_ONE, "those that it is judged by");
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
    assert_eq!((view.experiment_count, view.stray_count, view.frontier_size), (1, 202, 1));
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
fn window_holds_the_earliest_events_in_any_order_of_arrival() {
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let many: Vec<_> = (0..60).map(|i| measured(10 + i % 20, &root, "CPU", 2.0, u64::from(i))).collect();
    let window = |store: &Store| {
        let mut ids = Vec::new();
        let prefix = keys::events(&root.id().into(), keys::EventSet::Judged);
        let mut visit = |key: &[u8], _: &[u8]| {
            ids.push(EventId(keys::last_id(key)?));
            Ok(ControlFlow::Continue(()))
        };
        store.database().each(Column::About, &prefix, &mut visit).unwrap();
        ids
    };
    let expected: Vec<_> = many.iter().take(crate::lookup::MAX_JUDGED).map(|event| EventId::from(event.id())).collect();
    let (_a, forward) = open(&many.iter().collect::<Vec<_>>());
    let (_b, backward) = open(&many.iter().rev().collect::<Vec<_>>());
    assert_eq!((window(&forward), window(&backward)), (expected.clone(), expected));
}
