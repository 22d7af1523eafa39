//! What the store promises, one promise a test.

use std::{collections::BTreeSet, fs, path::Path};

use spore_protocol::{Goal, HardwareClass, Kind, Record, RecordId, Status, TaskId, Verdict, Verified, VerifiedObject};

use super::objects::{identity, manifest, profile, record, rerun, sign, task_of, verification};
use crate::{Cursor, Outcome, Scope, Span, Store, StoreError, SyncScope, columns::Column, db::Source, write::Batch};

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn insert(store: &Store, objects: &[&VerifiedObject]) -> crate::Report {
    store.insert(&objects.iter().map(|o| (*o).clone()).collect::<Vec<_>>(), 1000).unwrap()
}

fn any(record: &Verified<Record>) -> VerifiedObject {
    record.clone().into()
}

fn sound(store: &Store) {
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

fn files(dir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        names.insert(path.display().to_string());
        if path.is_dir() {
            names.extend(files(&path));
        }
    }
    names
}

#[test]
fn a_store_without_anything_in_it_is_sound() {
    let (dir, store) = open();
    sound(&store);
    drop(store);
    sound(&Store::open(dir.path()).unwrap());
}

#[test]
fn a_long_chain_that_comes_backwards_is_released_when_its_root_comes() {
    let (dir, store) = open();
    let manifest = manifest(1, Goal::Minimize);
    let task = task_of(&manifest);
    let mut chain = vec![sign(1, &record(1, Some(task), None, 9.0, 100))];
    for i in 1..300u32 {
        chain.push(sign(2, &record(2, Some(task), chain.last(), 9.0 - f64::from(i) / 100.0, 100 + u64::from(i))));
    }
    let backwards: Vec<_> = chain.iter().skip(1).rev().map(any).collect();
    let report = store.insert(&backwards, 1).unwrap();
    assert!(report.changes.is_empty());
    assert!(report.outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Pending { .. })));
    assert_eq!((store.pending_count().unwrap(), store.counts().unwrap().experiments), (299, 0));
    assert_eq!(store.missing_parents(9).unwrap(), [RecordId::from(chain[0].id())]);
    drop(store);

    let store = Store::open(dir.path()).unwrap();
    assert!(store.is_pending(&chain[5].id().into()).unwrap());
    assert!(!store.contains(Kind::Experiment, &chain[5].id()).unwrap());
    let report = insert(&store, &[&any(&chain[0])]);
    assert_eq!(report.outcomes, [(chain[0].id(), Outcome::New)]);
    assert_eq!(report.changes.len(), 300);
    assert_eq!(store.pending_count().unwrap(), 0);
    let frontier = store.frontier(&task, None, 9).unwrap();
    assert_eq!(frontier.iter().map(|r| r.id).collect::<Vec<_>>(), [RecordId::from(chain[299].id())]);
    assert_eq!(store.ancestors(&chain[299].id().into(), 400).unwrap().len(), 299);
    sound(&store);
}

#[test]
fn a_child_and_its_parent_may_come_in_one_batch_in_either_order() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let child = sign(2, &record(2, Some(task), Some(&root), 1.0, 2));
    let report = insert(&store, &[&any(&child), &any(&root), &any(&root)]);
    let outcomes: Vec<_> = report.outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [Outcome::New, Outcome::New, Outcome::Known]);
    assert_eq!(report.changes.iter().map(|c| c.id).collect::<Vec<_>>(), [root.id(), child.id()]);
    assert_eq!(store.sequence(), 2);
    assert_eq!(insert(&store, &[&any(&root)]).outcomes, [(root.id(), Outcome::Known)]);
    assert_eq!(store.sequence(), 2);
    sound(&store);
}

#[test]
fn a_pending_record_that_turns_out_bad_takes_its_descendants_with_it() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let other = sign(2, &record(2, Some(TaskId([7; 32])), Some(&root), 1.0, 2));
    let grandchild = sign(2, &record(2, Some(TaskId([7; 32])), Some(&other), 1.0, 3));
    insert(&store, &[&any(&other), &any(&grandchild)]);
    let report = insert(&store, &[&any(&root)]);
    let late: Vec<_> = report.late_rejects.iter().map(|(id, reject)| (*id, reject.code())).collect();
    assert_eq!(late, [(other.id(), "task_mismatch"), (grandchild.id(), "task_mismatch")]);
    assert_eq!((report.changes.len(), store.pending_count().unwrap()), (1, 0));
    assert!(matches!(insert(&store, &[&any(&other)]).outcomes[0].1, Outcome::Rejected(_)));
    sound(&store);
}

#[test]
fn what_descends_from_a_refused_record_does_not_wait() {
    let (dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let bad = sign(2, &record(2, Some(TaskId([7; 32])), Some(&root), 1.0, 2));
    let child = sign(2, &record(2, Some(TaskId([7; 32])), Some(&bad), 1.0, 3));
    let grandchild = sign(2, &record(2, Some(TaskId([7; 32])), Some(&child), 1.0, 4));
    assert!(matches!(insert(&store, &[&any(&root), &any(&bad)]).outcomes[1].1, Outcome::Rejected(_)));
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    for late in [&child, &grandchild] {
        let outcome = &insert(&store, &[&any(late)]).outcomes[0].1;
        assert!(matches!(outcome, Outcome::Rejected(reject) if reject.code() == "task_mismatch"), "{outcome:?}");
    }
    assert_eq!(store.pending_count().unwrap(), 0);
    sound(&store);
}

#[test]
fn a_record_does_not_wait_for_its_parent_for_ever() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let lost = sign(1, &record(1, Some(task), None, 2.0, 1));
    let waits = sign(2, &record(2, Some(task), Some(&lost), 1.0, 2));
    insert(&store, &[&any(&waits)]);
    let page = store.pending(&Span::first(9)).unwrap();
    let held = page.items[0];
    assert_eq!((held.id, held.waits_for, held.since), (waits.id().into(), lost.id().into(), 1000));
    assert!(held.size > 500 && page.next.is_none());

    let later = |seconds: u64, object: VerifiedObject| store.insert(&[object], 1000 + seconds).unwrap();
    assert_eq!(later(7 * 24 * 3600, profile(1, "a", 5).into()).dropped_pending, 0);
    assert_eq!(later(7 * 24 * 3600 + 1, profile(2, "b", 5).into()).dropped_pending, 1);
    assert!(store.pending(&Span::first(9)).unwrap().items.is_empty());
    sound(&store);
}

#[test]
fn search_needs_every_word_whatever_its_case_and_stays_within_a_task() {
    let (_dir, store) = open();
    let tasks = [TaskId([1; 32]), TaskId([2; 32])];
    let texts = ["A wider layer", "WIDER, and deeper", "a deeper network"];
    for (i, text) in (1..).zip(texts) {
        for task in tasks {
            let described = Record { description: text.into(), ..record(1, Some(task), None, 2.0, i) };
            insert(&store, &[&any(&sign(1, &described))]);
        }
    }
    let found = |text: &str, task| {
        let page = store.search(text, task, &Span::first(9)).unwrap();
        page.items.into_iter().map(|r| r.description).collect::<Vec<_>>()
    };
    assert_eq!(found("wider", Some(&tasks[0])), [texts[1], texts[0]], "the last to arrive first");
    assert_eq!(found("Deeper wider", None), [texts[1], texts[1]]);
    assert_eq!(found("width", Some(&tasks[1])).len(), 3, "the hypothesis counts too");
    assert!(found("wid", None).is_empty() && found("", None).is_empty() && found("wider nothing", None).is_empty());
}

#[test]
fn the_best_so_far_follows_a_record_that_comes_late() {
    let (_dir, store) = open();
    let task = TaskId([1; 32]);
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let at = |metric, time| sign(2, &record(2, Some(task), Some(&root), metric, time));
    let [a, b, early] = [at(1.8, 10), at(1.6, 20), at(1.7, 5)];
    for one in [&root, &a, &b] {
        insert(&store, &[&any(one)]);
    }
    let series = || {
        let page = store.improvements(&task, None, &Span::first(9)).unwrap();
        page.items.iter().map(|i| (i.timestamp, i.metric)).collect::<Vec<_>>()
    };
    assert_eq!(series(), [(1, 2.0), (10, 1.8), (20, 1.6)]);
    insert(&store, &[&verification(3, &a, 1.8, 30)]);
    assert_eq!(store.reputation_of(&identity(2).node_id()).unwrap(), Some(3.0), "a verified keep that advanced");
    insert(&store, &[&any(&early)]);
    assert_eq!(series(), [(1, 2.0), (5, 1.7), (20, 1.6)]);
    assert_eq!(store.reputation_of(&identity(2).node_id()).unwrap(), Some(1.0), "it no longer advanced anything");
    assert_eq!(store.evidence(&a.id().into()).unwrap()[0].value, 1.8);
    sound(&store);
}

#[test]
fn the_oldest_pending_records_make_room() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let children: Vec<_> = (0..4).map(|i| sign(2, &record(2, Some(task), Some(&root), 1.0, i))).collect();
    insert(&store, &children.iter().map(any).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    let mut batch = Batch::new(store.database()).unwrap();
    batch.shed(3, u64::MAX).unwrap();
    batch.shed(9, 1000).unwrap();
    let finished = batch.finish().unwrap();
    assert!(finished.dropped_pending >= 3, "each is over 500 bytes");
    assert!(!finished.view.has(Column::Pending, &children[0].id().0).unwrap());
    assert!(finished.view.has(Column::Pending, &children[3].id().0).unwrap());
    assert_eq!(finished.view.keys(Column::PendingByParent, &root.id().0).unwrap().len(), 1);
}

#[test]
fn a_manifest_that_comes_late_turns_goal_and_root_round() {
    let (_dir, store) = open();
    let manifest = manifest(1, Goal::Maximize);
    let task = task_of(&manifest);
    let usurper = sign(5, &record(5, Some(task), None, 3.0, 1));
    let strays = [sign(5, &record(5, Some(task), Some(&usurper), 2.0, 2))];
    let root = sign(1, &record(1, Some(task), None, 2.0, 50));
    let children =
        [sign(2, &record(2, Some(task), Some(&root), 1.0, 60)), sign(3, &record(3, Some(task), Some(&root), 4.0, 61))];
    for object in [&usurper, &strays[0], &root, &children[0], &children[1]] {
        insert(&store, &[&any(object)]);
    }
    let ids = |store: &Store| store.frontier(&task, None, 9).unwrap().iter().map(|r| r.id).collect::<Vec<_>>();
    assert_eq!(ids(&store), [RecordId::from(strays[0].id())], "the earliest root, minimize");
    assert!(store.summary(&root.id().into()).unwrap().unwrap().stray);

    insert(&store, &[&manifest.clone().into()]);
    assert_eq!(ids(&store), [RecordId::from(children[1].id()), RecordId::from(children[0].id())]);
    let view = store.task(&task).unwrap().unwrap();
    assert_eq!((view.root, view.goal), (Some(root.id().into()), Goal::Maximize));
    assert_eq!((view.experiment_count, view.stray_count, view.frontier_size), (3, 2, 2));
    assert_eq!(view.best, Some((children[1].id().into(), 4.0)));
    assert!(store.summary(&strays[0].id().into()).unwrap().unwrap().stray);
    sound(&store);
}

#[test]
fn nobody_takes_a_legacy_task_over_with_an_earlier_root() {
    let (_dir, store) = open();
    let founder = sign(1, &record(1, None, None, 2.0, 50));
    let task = TaskId::from(RecordId::from(founder.id()));
    let usurper = sign(5, &record(5, Some(task), None, 1.0, 1));
    for order in [[&usurper, &founder], [&founder, &usurper]] {
        for object in order {
            insert(&store, &[&any(object)]);
        }
        let view = store.task(&task).unwrap().unwrap();
        assert_eq!((view.root, view.legacy), (Some(founder.id().into()), true));
        assert_eq!(view.name, format!("legacy-{}", task.short()));
    }
    sound(&store);
}

#[test]
fn an_event_before_its_record_counts_when_the_record_comes() {
    let (_dir, store) = open();
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
    let reputation = store.reputation().unwrap();
    assert_eq!(reputation.get(&identity(1).node_id()), Some(&3.0), "a verified keep that advanced the frontier");
    assert_eq!(reputation.get(&identity(3).node_id()), Some(&0.5));
    let nodes = store.nodes(Some(&task)).unwrap();
    let verifier = nodes.iter().find(|stats| stats.node_id == identity(3).node_id()).unwrap();
    assert_eq!((verifier.verification_count, verifier.experiment_count, verifier.last_activity), (1, 0, 5));
    sound(&store);
}

#[test]
fn a_challenge_opens_a_dispute_and_responses_close_it() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    insert(&store, &[&any(&root), &verification(2, &root, 2.0, 3)]);
    assert_eq!(store.task(&task).unwrap().unwrap().verified_count, 1);
    let id = RecordId::from(root.id());
    let challenge = spore_protocol::ControlEvent::challenge(rerun(3, id, Some(task), "CPU", 5.0), 4);
    insert(&store, &[&identity(3).sign(&challenge).unwrap().into()]);
    assert_eq!(store.open_disputes().unwrap(), [id]);
    assert_eq!(store.task(&task).unwrap().unwrap().verified_count, 0);
    for node in 4..7 {
        let answer = rerun(node, id, Some(task), "CPU", 2.0);
        let answer =
            spore_protocol::ControlEvent::challenge_response(answer, identity(3).node_id(), u64::from(node) + 1);
        insert(&store, &[&identity(node).sign(&answer).unwrap().into()]);
    }
    assert_eq!(store.judgement(&id).unwrap().unwrap().verdict, Verdict::Upheld);
    assert!(store.open_disputes().unwrap().is_empty());
    assert_eq!(store.counts().unwrap().verified, 1);
    assert_eq!(store.events_about(&id).unwrap().len(), 5);
    sound(&store);
}

#[test]
fn only_a_nodes_newest_profile_is_kept() {
    let (_dir, store) = open();
    let (old, new) = (profile(1, "old", 5), profile(1, "new", 6));
    insert(&store, &[&old.clone().into()]);
    insert(&store, &[&new.clone().into()]);
    assert_eq!(insert(&store, &[&old.clone().into()]).outcomes, [(old.id(), Outcome::Known)]);
    assert_eq!(store.profile(&identity(1).node_id()).unwrap().unwrap().display_name, "new");
    assert_eq!(store.sync_items(SyncScope::Profiles).unwrap(), [(6, new.id())]);
    assert_eq!(store.counts().unwrap().profiles, 1);
    let text = identity(1).node_id().to_string();
    assert_eq!(store.resolve_node(&text[..7], 5).unwrap(), [identity(1).node_id()]);
    sound(&store);
}

#[test]
fn listings_page_through_everything_once() {
    let (_dir, store) = open();
    let manifest = manifest(1, Goal::Minimize);
    let task = task_of(&manifest);
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    let mut objects: Vec<VerifiedObject> = vec![manifest.into(), any(&root)];
    for i in 0..10u64 {
        objects.push(any(&sign(
            2,
            &record(2, Some(task), Some(&root), 1.0 + f64::from(u32::try_from(i).unwrap()), 10 + i / 3),
        )));
    }
    store.insert(&objects, 1).unwrap();
    for scope in [Scope::All, Scope::Task(task)] {
        let mut seen = Vec::new();
        let mut before: Option<Cursor> = None;
        loop {
            let (page, next) = store.recent(scope, before, 4).unwrap();
            seen.extend(page.into_iter().map(|r| (r.timestamp, r.id)));
            before = next.map(|cursor| cursor.to_string().parse().unwrap());
            if before.is_none() {
                break;
            }
        }
        let mut sorted = seen.clone();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        sorted.dedup();
        assert_eq!((seen.len(), &seen), (11, &sorted));
    }
    assert_eq!(store.recent(Scope::Node(identity(2).node_id()), None, 99).unwrap().0.len(), 10);
    assert_eq!(store.changes_since(10, 99).unwrap().len(), 2);
    let newest = store.changes_before(u64::MAX, Some(&task), 3).unwrap();
    assert_eq!(newest.iter().map(|c| c.sequence).collect::<Vec<_>>(), [12, 11, 10]);
    assert_eq!(store.changes_before(3, None, 9).unwrap().len(), 2);
    let cpu = HardwareClass::of("CPU");
    assert_eq!(store.published_before(&task, &cpu, 10).unwrap().len(), 1);
    assert_eq!(store.published_before(&task, &cpu, 11).unwrap().len(), 2);
    assert_eq!(store.most_active_task().unwrap(), Some(task));
    assert_eq!(store.most_active_task_where(|_| false).unwrap(), None);
    let id = root.id().to_string();
    for length in [1, 2, 7, 64] {
        assert!(store.resolve(&id[..length], 99).unwrap().contains(&(Kind::Experiment, root.id())), "{length}");
    }
    assert_eq!(store.resolve(&task.to_string(), 9).unwrap(), [(Kind::Task, task.into())]);
    assert!(store.resolve("XYZ", 9).unwrap().is_empty());
}

#[test]
fn reading_beside_nobody_creates_nothing_and_one_writer_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::NotFound(_))));
    assert!(matches!(Store::open_read_only(&dir.path().join("none")), Err(StoreError::NotFound(_))));
    assert!(files(dir.path()).is_empty());

    let store = Store::open(dir.path()).unwrap();
    let root = sign(1, &record(1, None, None, 2.0, 50));
    insert(&store, &[&any(&root)]);
    let cid = store.put_artifact(b"bytes").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Locked { .. })));
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::Locked { .. })));
    drop(store);

    let before = files(dir.path());
    let store = Store::open_read_only(dir.path()).unwrap();
    let beside = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(store.record(&root.id().into()).unwrap().unwrap().signed, *root);
    assert_eq!(beside.artifact(&cid).unwrap().unwrap(), b"bytes");
    sound(&store);
    let another = sign(1, &record(1, None, None, 2.0, 51));
    assert!(matches!(store.insert(&[any(&another)], 1), Err(StoreError::ReadOnly)));
    assert!(matches!(store.remove_artifact(&cid), Err(StoreError::ReadOnly)));
    std::fs::write(store.artifact_path(&cid).unwrap(), b"bites").unwrap();
    assert!(matches!(store.artifact(&cid), Err(StoreError::DamagedArtifact { .. })));
    drop((store, beside));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_damaged_artifact_is_missing_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let cid = store.put_artifact(b"bytes").unwrap();
    std::fs::write(store.artifact_path(&cid).unwrap(), b"bites").unwrap();
    assert_eq!(store.artifact(&cid).unwrap(), None);
    assert!(store.artifact_path(&cid).is_none());
    store.put_artifact(b"bytes").unwrap();
    assert_eq!(store.artifact(&cid).unwrap().unwrap(), b"bytes");
    assert!(store.remove_artifact(&cid).unwrap());
    assert!(!store.remove_artifact(&cid).unwrap());
}

#[test]
fn a_store_of_a_newer_program_is_refused() {
    let (dir, store) = open();
    store.database().commit([(Column::Meta, crate::keys::SCHEMA, Some(&99u32.to_be_bytes()[..]))]).unwrap();
    drop(store);
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NewerSchema { found: 99, supported: 2 })));
}

#[test]
fn check_notices_an_index_that_is_wrong() {
    let (_dir, store) = open();
    let task = task_of(&manifest(1, Goal::Minimize));
    let mut crash = record(1, Some(task), None, 0.0, 1);
    crash.status = Status::Crash;
    insert(&store, &[&any(&sign(1, &crash))]);
    sound(&store);
    store
        .database()
        .commit([(Column::Roots, &b"wrong"[..], Some(&b""[..])), (Column::Tasks, &task.0[..], None)])
        .unwrap();
    let findings = store.check().unwrap();
    assert_eq!(findings.len(), 2, "{findings:?}");
}

#[test]
fn a_word_is_found_whatever_the_order_of_the_numbers_of_one_batch() {
    let (_dir, store) = open();
    let mut batch = Batch::new(store.database()).unwrap();
    for (number, timestamp) in [(600, 1), (10, 2), (601, 3)] {
        batch.skip_to(number);
        let made = sign(1, &record(1, Some(TaskId([1; 32])), None, 2.0, timestamp));
        batch.insert(&any(&made), 1000).unwrap();
    }
    let finished = batch.finish().unwrap();
    store.database().commit(finished.view.entries()).unwrap();
    let found = store.search("wider", None, &Span::first(9)).unwrap().items;
    assert_eq!(found.iter().map(|record| record.timestamp).collect::<Vec<_>>(), [3, 1, 2], "the last number first");
}
