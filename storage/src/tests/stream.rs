//! Whole stores, page by page.

use spore_protocol::{Goal, Kind, ObjectId, RecordId, VerifiedObject};

use super::objects::{manifest, profile, record, sign, task_of, verification};
use crate::{Position, Store};

fn open(objects: &[VerifiedObject]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.insert(objects, 1000).unwrap();
    (dir, store)
}

/// Two tasks, each with records, events and a manifest, and three profiles. Timestamps repeat.
fn objects() -> Vec<VerifiedObject> {
    let mut objects = Vec::new();
    for creator in [1, 2] {
        let manifest = manifest(creator, Goal::Minimize);
        let task = task_of(&manifest);
        let root = sign(creator, &record(creator, Some(task), None, 5.0, 100));
        for i in 0..20u32 {
            let child = sign(3, &record(3, Some(task), Some(&root), 4.0 - f64::from(i), 200 + u64::from(i / 7)));
            objects.push(verification(4, &child, 4.0, 300 + u64::from(i / 5)));
            objects.push(child.into());
        }
        objects.extend([manifest.into(), root.into()]);
    }
    objects.extend((1..4).map(|n| VerifiedObject::from(profile(n, "name", 50 - u64::from(n)))));
    objects
}

fn pages(store: &Store, kind: Kind, limit: usize) -> Vec<Position> {
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        let page = store.page(kind, from, limit).unwrap();
        assert!(page.len() <= limit);
        let Some(last) = page.last() else { return all };
        from = Some(*last);
        all.extend(page);
    }
}

#[test]
fn pages_return_every_object_of_a_kind_once_in_order() {
    let objects = objects();
    let (_dir, store) = open(&objects);
    for kind in Kind::ALL {
        let of_kind = objects.iter().filter(|object| object.kind() == kind);
        let mut expected: Vec<Position> = of_kind.map(|object| (object.timestamp(), object.id())).collect();
        expected.sort_unstable();
        for limit in [1, 7, 1000] {
            assert_eq!(pages(&store, kind, limit), expected, "{kind}, {limit} a page");
        }
    }
}

#[test]
fn page_starts_just_after_any_position() {
    let objects = objects();
    let (_dir, store) = open(&objects);
    for kind in Kind::ALL {
        let all = pages(&store, kind, 1000);
        for from in
            [(0, ObjectId([0; 32])), (201, ObjectId([0; 32])), (201, ObjectId([255; 32])), (9999, ObjectId([0; 32]))]
        {
            let expected: Vec<Position> = all.iter().copied().filter(|position| *position > from).collect();
            assert_eq!(store.page(kind, Some(from), 1000).unwrap(), expected, "{kind} after {}", from.0);
        }
        assert_eq!(store.page(kind, None, 0).unwrap(), []);
    }
}

#[test]
fn insertion_between_two_pages_does_not_disturb_them() {
    let objects = objects();
    let (_dir, store) = open(&objects);
    let first = store.page(Kind::Experiment, None, 10).unwrap();
    let late = sign(9, &record(9, None, None, 1.0, 150));
    store.insert(&[late.clone().into()], 1000).unwrap();
    let rest = store.page(Kind::Experiment, first.last().copied(), 1000).unwrap();
    assert_eq!(first.len() + rest.len(), 42 + usize::from(first.last() < Some(&(150, late.id()))));
    assert!(rest.is_sorted());
}

#[test]
fn record_text_is_what_was_signed() {
    let objects = objects();
    let (_dir, store) = open(&objects);
    for record in objects.iter().filter(|object| object.kind() == Kind::Experiment) {
        let (summary, text) = store.record_text(&record.id().into()).unwrap().unwrap();
        assert_eq!((summary.id, text.canonical.as_slice()), (record.id().into(), record.canonical().as_ref()));
        assert_eq!(text.signature, *record.signature());
    }
    assert_eq!(store.record_text(&RecordId([7; 32])).unwrap(), None);
}
