//! What the node shares between research and verification, without a device.

use spore_protocol::{Goal, fixtures};

use super::*;

/// A task of the identity with this seed, made at `timestamp`.
fn task(seed: u8, timestamp: u64, time_budget: u64) -> TaskView {
    let identity = fixtures::identity(seed);
    let manifest = TaskManifest { time_budget, timestamp, ..fixtures::manifest(&identity) };
    let manifest = fixtures::sign(&identity, &manifest).into_signed();
    TaskView {
        task_id: manifest.id().into(),
        manifest: Some(manifest),
        legacy: false,
        name: "t".into(),
        metric: "val_bpb".into(),
        goal: Goal::Minimize,
        root: None,
        experiment_count: 0,
        keep_count: 0,
        discard_count: 0,
        crash_count: 0,
        verified_count: 0,
        stray_count: 0,
        node_count: 0,
        last_activity: timestamp,
        classes: Vec::new(),
        frontier_size: 0,
        global_frontier_size: 0,
        claims_count: 0,
        reference_frontier_size: 0,
        best: None,
        best_global: None,
        confirmed_signers: 0,
    }
}

#[test]
fn long_task_runs_only_when_made_here_or_pinned() {
    let (us, maker) = (fixtures::identity(2).node_id(), fixtures::identity(1).node_id());
    for (budget, unasked) in [(0, false), (1, true), (3600, true), (3601, false), (u64::MAX, false)] {
        let task = task(1, 5, budget);
        assert_eq!(runnable(&task, None, us), unasked, "{budget} s");
        assert!(runnable(&task, None, maker), "{budget} s");
        assert!(runnable(&task, Some(task.task_id), us), "{budget} s");
        assert_eq!(runnable(&task, Some(TaskId([0; 32])), us), unasked, "{budget} s");
    }
    let unknown = TaskView { manifest: None, ..task(1, 5, 20) };
    assert!(!runnable(&unknown, Some(unknown.task_id), us));
}

#[test]
fn oldest_own_task_without_a_root_is_found() {
    let us = fixtures::identity(1).node_id();
    let rooted = TaskView { root: Some(RecordId([1; 32])), ..task(1, 1, 20) };
    let tasks = [rooted, task(2, 2, 20), task(1, 4, 20), task(1, 3, 20)];
    assert_eq!(own_without_root(&tasks, us, |_| true), Some(tasks[3].task_id));
    assert_eq!(own_without_root(&tasks, us, |t| t.task_id != tasks[3].task_id), Some(tasks[2].task_id));
    assert_eq!(own_without_root(&tasks, us, |_| false), None);
}

#[test]
fn object_that_cannot_be_stored_is_submitted_for_about_ten_minutes() {
    for (random, least, most) in [(0, 420, 430), (1023, 840, 843)] {
        let mut backoff = Backoff::new(PUBLISH_WAIT_FIRST, PUBLISH_WAIT_MOST);
        let total: Duration = (0..PUBLISH_RETRIES).map(|_| backoff.next(random)).sum();
        assert!((least..=most).contains(&total.as_secs()), "{total:?}");
    }
}

#[test]
fn task_seed_is_the_same_on_every_node() {
    // SHA-256("spore seed" followed by 32 zero bytes), the first eight bytes, big-endian.
    let digest = Cid::of(&[b"spore seed".as_slice(), &[0; 32]].concat()).to_string();
    assert_eq!(format!("{:016x}", task_seed(&TaskId([0; 32]))), digest[..16]);
    assert_ne!(task_seed(&TaskId([0; 32])), task_seed(&TaskId([1; 32])));
}

#[test]
fn share_of_memory_is_smaller_than_all_of_it() {
    assert!(memory_limit(50) <= memory_limit(100));
    assert_eq!((share_of_memory(None, 100), share_of_memory(Some(64 << 30), 1)), (DEFAULT_MEMORY / 100 * 100, 1 << 30));
    // A container of 700 MiB.
    let small = share_of_memory(Some(700 << 20), 1);
    assert_eq!(small, 525 << 20);
}
