//! A task's sequence number, against whole graphs.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spore_protocol::{Goal, HardwareClass, RecordId, Status, TaskId};

use super::{
    super::objects::{manifest, task_of},
    plans, world,
};
use crate::{Graph, Store};

/// All that a graph shows of a record: parent, timestamp, metric's bits, status, class, verified, frontier, stray.
type Shown = (Option<RecordId>, u64, u64, Status, HardwareClass, [bool; 3]);

/// The records of a graph, whose parents `parent_of` names.
fn shown(graph: &Graph, parent_of: impl Fn(&u32) -> RecordId) -> BTreeMap<RecordId, Shown> {
    assert!(graph.timestamps.iter().zip(&graph.ids).is_sorted(), "records are in (timestamp, id) order");
    let row = |i: usize| {
        (
            graph.parents[i].as_ref().map(&parent_of),
            graph.timestamps[i],
            graph.metrics[i].to_bits(),
            graph.statuses[i],
            graph.class_names[graph.classes[i] as usize].clone(),
            [graph.verified[i], graph.on_frontier[i], graph.stray[i]],
        )
    };
    graph.ids.iter().copied().enumerate().map(|(i, id)| (id, row(i))).collect()
}

fn whole(store: &Store, task: &TaskId) -> (u64, BTreeMap<RecordId, Shown>) {
    let graph = store.graph(task).unwrap();
    (graph.sequence, shown(&graph, |place| graph.ids[*place as usize]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// In whatever order objects come, late parents, stray roots and events about records of other tasks included.
    #[test]
    fn graph_changes_only_with_the_sequence_of_its_task(plan in plans(1..40)) {
        let mut objects: Vec<_> = world(&plan).objects().into_iter().zip(plan.order.iter().cycle()).collect();
        objects.sort_by_key(|(_, key)| **key);
        let objects: Vec<_> = objects.into_iter().map(|(object, _)| object).collect();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut earlier: BTreeMap<TaskId, BTreeMap<u64, BTreeMap<RecordId, Shown>>> = BTreeMap::new();
        for (time, batch) in (0..).zip(objects.chunks(plan.batch)) {
            store.insert(batch, time).unwrap();
            let known = [Goal::Minimize, Goal::Maximize].into_iter().zip(0..).map(|(goal, n)| task_of(&manifest(n, goal)));
            let here = store.tasks().unwrap().into_iter().map(|task| task.task_id);
            for task in known.chain(here) {
                let (sequence, now) = whole(&store, &task);
                prop_assert_eq!(sequence, store.task_sequence(&task).unwrap());
                let looks = earlier.entry(task).or_default();
                if let Some(same) = looks.insert(sequence, now.clone()) {
                    prop_assert_eq!(same, now, "the graph changed and the task's sequence number did not");
                }
            }
        }
    }
}
