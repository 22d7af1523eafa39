//! What the node shares between research and verification, without a device.

use spore_protocol::{Goal, manifest::MANIFEST_VERSION};

use super::*;

/// A task of the identity with this seed, made at `timestamp`.
fn task(seed: u8, timestamp: u64, time_budget: u64) -> TaskView {
    let identity = Identity::from_seed(&[seed; 32]);
    let manifest = TaskManifest {
        name: "t".into(),
        description: String::new(),
        task_type: "ml_train".into(),
        artifact_type: STARLARK_TRAIN_SCRIPT.into(),
        metric: "val_bpb".into(),
        goal: Goal::Minimize,
        base_code_cid: Some(Cid([4; 32])),
        prepare_cid: "p".into(),
        dataset_cid: "d".into(),
        time_budget,
        created_by: identity.node_id(),
        timestamp,
        version: MANIFEST_VERSION,
    };
    let manifest = identity.sign(&manifest).unwrap().into_signed();
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
        best: None,
    }
}

#[test]
fn a_long_task_runs_only_where_it_was_made_or_is_pinned() {
    let (us, maker) = (Identity::from_seed(&[2; 32]).node_id(), Identity::from_seed(&[1; 32]).node_id());
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
fn the_oldest_own_task_without_a_root_is_found() {
    let us = Identity::from_seed(&[1; 32]).node_id();
    let rooted = TaskView { root: Some(RecordId([1; 32])), ..task(1, 1, 20) };
    let tasks = [rooted, task(2, 2, 20), task(1, 4, 20), task(1, 3, 20)];
    assert_eq!(rootless_own(&tasks, us, |_| true), Some(tasks[3].task_id));
    assert_eq!(rootless_own(&tasks, us, |t| t.task_id != tasks[3].task_id), Some(tasks[2].task_id));
    assert_eq!(rootless_own(&tasks, us, |_| false), None);
}

#[test]
fn a_failed_publication_is_tried_again_for_ten_minutes() {
    let delays: Vec<u64> = (0..).map_while(retry_after).map(|delay| delay.as_secs()).collect();
    assert_eq!(delays[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(delays.iter().sum::<u64>(), 603);
    assert_eq!(retry_after(u32::MAX), None);
}

#[test]
fn a_tasks_seed_is_the_same_on_every_node() {
    // SHA-256("spore seed" followed by 32 zero bytes), the first eight bytes, big-endian.
    let digest = Cid::of(&[b"spore seed".as_slice(), &[0; 32]].concat()).to_string();
    assert_eq!(format!("{:016x}", task_seed(&TaskId([0; 32]))), digest[..16]);
    assert_ne!(task_seed(&TaskId([0; 32])), task_seed(&TaskId([1; 32])));
}

#[test]
fn a_share_of_memory_is_smaller_than_all_of_it() {
    assert!(memory_limit(50) <= memory_limit(100));
    assert!(memory_limit(0) >= 1 << 30);
}
