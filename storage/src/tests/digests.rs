//! Digests of tasks, by which two stores find which tasks differ.

use std::slice::from_ref;

use spore_protocol::{Goal, TaskId};

use super::objects::{manifest, record, sign, task_of, verification};
use crate::{Store, TaskDigest};

/// A task in shard `shard`.
fn task(shard: u8, number: u8) -> TaskId {
    let mut id = [number; 32];
    id[0] = shard;
    TaskId(id)
}

/// All digests of a shard, read in pages of `limit`.
fn paged(store: &Store, shard: u8, limit: usize) -> Vec<(TaskId, TaskDigest)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.task_digests(shard, after, limit).unwrap();
        assert!(page.len() <= limit);
        let Some((last, _)) = page.last() else { return all };
        after = Some(*last);
        all.extend(page);
    }
}

#[test]
fn digests_of_a_shard_are_the_same_in_pages_of_any_size_and_for_single_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut objects = Vec::new();
    for number in 1..=9 {
        let root = sign(1, &record(1, Some(task(5, number)), None, 1.0, u64::from(number)));
        // Events of every third task, and of a task without records.
        if number % 3 == 0 {
            objects.push(verification(2, &root, 1.0, 500));
        }
        if number != 6 {
            objects.push(root.into());
        }
    }
    objects.push(sign(1, &record(1, Some(task(6, 1)), None, 1.0, 1)).into());
    store.insert(&objects, 1000).unwrap();
    let all = paged(&store, 5, 100);
    assert_eq!(all.iter().map(|(task, _)| *task).collect::<Vec<_>>(), (1..=9).map(|n| task(5, n)).collect::<Vec<_>>());
    for limit in 1..=10 {
        assert_eq!(paged(&store, 5, limit), all, "{limit}");
    }
    for (task, digest) in &all {
        assert_eq!(store.task_digest(task).unwrap(), Some(*digest));
    }
    assert_eq!((paged(&store, 6, 4).len(), paged(&store, 7, 4)), (1, Vec::new()));
}

#[test]
fn digest_depends_on_the_objects_and_not_on_the_order_of_their_arrival() {
    let root = sign(1, &record(1, Some(task(5, 1)), None, 1.0, 1));
    let child = sign(1, &record(1, Some(task(5, 1)), Some(&root), 0.9, 2));
    let event = verification(2, &root, 1.0, 500);
    let digest = |orders: &[&[spore_protocol::VerifiedObject]]| {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for objects in orders {
            store.insert(objects, 1000).unwrap();
        }
        store.task_digest(&task(5, 1)).unwrap()
    };
    let (root, child): (spore_protocol::VerifiedObject, spore_protocol::VerifiedObject) = (root.into(), child.into());
    let one = digest(&[from_ref(&root), from_ref(&child), from_ref(&event)]);
    assert_eq!(one, digest(&[from_ref(&event), from_ref(&child), from_ref(&root)]));
    let fewer = digest(&[&[root.clone(), child]]);
    assert!(one.is_some() && fewer.is_some() && one != fewer && fewer != digest(&[&[root]]));
    assert_eq!(digest(&[]), None);
}

#[test]
fn task_with_a_manifest_alone_has_no_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let manifest = manifest(1, Goal::Minimize);
    let id = task_of(&manifest);
    store.insert(&[manifest.into()], 1000).unwrap();
    assert_eq!((store.task_digest(&id).unwrap(), paged(&store, id.0[0], 4)), (None, Vec::new()));
}
