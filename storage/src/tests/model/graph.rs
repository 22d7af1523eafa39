//! A task's sequence number and the changes since one, against whole graphs.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spore_protocol::{HardwareClass, RecordId, Status, TaskId};

use super::{super::objects::task_of, plans, trusted, world};
use crate::{GraphChanges, Store, TaskGraph};

/// All that a graph shows of a record: parent, timestamp, metric's bits, status, class, verified, frontier, stray,
/// refused.
type Shown = (Option<RecordId>, u64, u64, Status, HardwareClass, [bool; 4]);

/// The records of a graph, whose parents `parent_of` names.
fn shown<P>(graph: &TaskGraph<P>, parent_of: impl Fn(&P) -> RecordId) -> BTreeMap<RecordId, Shown> {
    assert!(graph.timestamps.iter().zip(&graph.ids).is_sorted(), "records are in (timestamp, id) order");
    let row = |i: usize| {
        (
            graph.parents[i].as_ref().map(&parent_of),
            graph.timestamps[i],
            graph.metrics[i].to_bits(),
            graph.statuses[i],
            graph.class_names[graph.classes[i] as usize].clone(),
            [graph.verified[i], graph.on_frontier[i], graph.stray[i], graph.refused[i]],
        )
    };
    graph.ids.iter().copied().enumerate().map(|(i, id)| (id, row(i))).collect()
}

fn whole(store: &Store, task: &TaskId) -> (u64, BTreeMap<RecordId, Shown>) {
    let graph = store.graph(task).unwrap();
    (graph.sequence, shown(&graph, |place| graph.ids[*place as usize]))
}

fn with(mut older: BTreeMap<RecordId, Shown>, changes: &GraphChanges) -> BTreeMap<RecordId, Shown> {
    older.extend(shown(changes, |id| *id));
    older
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// In whatever order objects come, late parents, stray roots and events about records of other tasks included.
    #[test]
    fn changes_complete_every_earlier_graph_and_an_unmoved_sequence_means_an_unchanged_one(plan in plans(1..40)) {
        let world = world(&plan);
        let known: Vec<_> = world.manifests.iter().map(task_of).collect();
        let mut objects: Vec<_> = world.objects().into_iter().zip(plan.order.iter().cycle()).collect();
        objects.sort_by_key(|(_, key)| **key);
        let objects: Vec<_> = objects.into_iter().map(|(object, _)| object).collect();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_with_trust(dir.path(), trusted(plan.seeds.1)).unwrap();
        let mut earlier: BTreeMap<TaskId, BTreeMap<u64, BTreeMap<RecordId, Shown>>> = BTreeMap::new();
        for (time, batch) in (0..).zip(objects.chunks(plan.batch)) {
            store.insert(batch, time).unwrap();
            let here = store.tasks().unwrap().into_iter().map(|task| task.task_id);
            for task in known.iter().copied().chain(here) {
                let (sequence, now) = whole(&store, &task);
                prop_assert_eq!(sequence, store.task_sequence(&task).unwrap());
                let looks = earlier.entry(task).or_default();
                for (since, then) in looks.iter() {
                    if let Some(changes) = store.graph_changes(&task, *since).unwrap() {
                        prop_assert_eq!(changes.sequence, sequence);
                        prop_assert_eq!(&with(then.clone(), &changes), &now);
                    }
                }
                if let Some(same) = looks.insert(sequence, now.clone()) {
                    prop_assert_eq!(same, now, "the graph changed and the task's sequence number did not");
                }
                prop_assert_eq!(store.graph_changes(&task, sequence + 1).unwrap(), None);
                prop_assert!(store.graph_changes(&task, sequence).unwrap().is_some_and(|changes| changes.ids.is_empty()));
            }
        }
    }
}
