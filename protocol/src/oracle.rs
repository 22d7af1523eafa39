//! Test oracles: the rules by their plain definition, over all objects at once.
//!
//! Nodes do not call these functions. They keep the same results up to date with each new object,
//! and tests compare what they keep with what these functions compute.

use std::collections::{BTreeMap, HashMap};

use crate::{
    Goal, NodeId, ObjectId, Record, RecordId, Reject, Status, TaskId,
    frame::{HEADER_BYTES, MAX_BODY_BYTES},
    frontier::{FrontierRecord, FrontierView},
    reputation::{DatedDeed, LIMITS},
};

/// The frontier of a task in one view, best record first, ties by (timestamp, id). It shares no code
/// with [`beats`](crate::frontier::beats), which it checks.
pub fn frontier(goal: Goal, view: &FrontierView, records: &[FrontierRecord]) -> Vec<FrontierRecord> {
    let in_view = |record: &FrontierRecord| match view {
        FrontierView::Class(class) => record.class == *class,
        FrontierView::ClassBlind => true,
    };
    let keeps: Vec<_> = records.iter().filter(|record| record.status == Status::Keep && in_view(record)).collect();
    let mut best_child = HashMap::<RecordId, f64>::new();
    for record in &keeps {
        if let Some(parent) = record.parent {
            let best = best_child.entry(parent).or_insert(record.metric);
            if goal.better(record.metric, *best) {
                *best = record.metric;
            }
        }
    }
    let beaten =
        |record: &FrontierRecord| best_child.get(&record.id).is_some_and(|best| goal.better(*best, record.metric));
    let mut frontier: Vec<_> = keeps.into_iter().filter(|record| !beaten(record)).cloned().collect();
    frontier.sort_by(|a, b| goal.order(a.metric, b.metric).then_with(|| (a.timestamp, a.id).cmp(&(b.timestamp, b.id))));
    frontier
}

/// The reputation of each node: the deeds in their order, clamped to [`LIMITS`] after each one.
pub fn reputation(mut deeds: Vec<DatedDeed>) -> BTreeMap<NodeId, f64> {
    deeds.sort_by(|a, b| (a.at, a.node).cmp(&(b.at, b.node)).then(b.deed.delta().total_cmp(&a.deed.delta())));
    let mut reputation = BTreeMap::new();
    for deed in deeds {
        let value: &mut f64 = reputation.entry(deed.node).or_default();
        *value = (*value + deed.deed.delta()).clamp(LIMITS.0, LIMITS.1);
    }
    reputation
}

/// The newest [`ACTIVITY_WINDOW`](crate::activity::ACTIVITY_WINDOW) records of a task, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskActivity {
    pub task_id: TaskId,
    /// Records in the window.
    pub recent: usize,
    /// Keeps in the window.
    pub keeps: usize,
    /// Unix seconds of the newest record, or of the manifest when there is no record.
    pub newest: u64,
}

/// The task with the most recent records, then the most keeps, then the newest record, then the
/// lowest id.
pub fn most_active(tasks: impl IntoIterator<Item = TaskActivity>) -> Option<TaskId> {
    tasks.into_iter().max_by_key(|t| (t.recent, t.keeps, t.newest, std::cmp::Reverse(t.task_id))).map(|t| t.task_id)
}

/// Position of a parentless record among those of its task. The lowest is the task's root, whatever
/// the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootRank {
    not_by_creator: bool,
    timestamp: u64,
    id: ObjectId,
}

impl RootRank {
    /// `creator` is the signer of the manifest, or of the record that founded a legacy task, or none
    /// while neither is known.
    pub fn of(id: RecordId, record: &Record, creator: Option<NodeId>) -> Self {
        Self { not_by_creator: creator != Some(record.node_id), timestamp: record.timestamp, id: id.into() }
    }

    pub fn id(&self) -> RecordId {
        self.id.into()
    }
}

/// Length in bytes of the body that follows the header of a legacy frame.
///
/// # Errors
/// [`Reject::TooLarge`] above [`MAX_BODY_BYTES`].
pub fn body_length(header: [u8; HEADER_BYTES]) -> Result<usize, Reject> {
    let size = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if size > MAX_BODY_BYTES { Err(Reject::TooLarge { size, limit: MAX_BODY_BYTES }) } else { Ok(size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HardwareClass, reputation::Deed};

    fn candidate(id: u8, parent: Option<u8>, class: &str, metric: f64, status: Status) -> FrontierRecord {
        let id_of = |n| RecordId([n; 32]);
        FrontierRecord {
            id: id_of(id),
            parent: parent.map(id_of),
            status,
            class: HardwareClass::of(class),
            metric,
            timestamp: id.into(),
        }
    }

    fn ids(frontier: &[FrontierRecord]) -> Vec<u8> {
        frontier.iter().map(|c| c.id.0[0]).collect()
    }

    #[test]
    fn frontier_ignores_children_of_another_class_and_of_another_status() {
        let records = [
            candidate(1, None, "CPU", 1.0, Status::Keep),
            candidate(2, Some(1), "H100", 0.5, Status::Keep),
            candidate(3, Some(1), "CPU", 0.9, Status::Discard),
            candidate(4, Some(1), "CPU", 1.0, Status::Keep),
        ];
        let cpu = FrontierView::Class(HardwareClass::of("CPU"));
        assert_eq!(ids(&frontier(Goal::Minimize, &cpu, &records)), [1, 4]);
        assert_eq!(ids(&frontier(Goal::Minimize, &FrontierView::ClassBlind, &records)), [2, 4]);
        assert_eq!(ids(&frontier(Goal::Maximize, &FrontierView::ClassBlind, &records)), [1, 4, 2]);
    }

    #[test]
    fn reputation_is_clamped_after_each_deed_in_order() {
        let node = NodeId([1; 32]);
        let deed = |at: u64, deed| DatedDeed { at: (at, ObjectId([0; 32])), node, deed };
        let mut deeds: Vec<_> = (0..60).map(|i| deed(i, Deed::FrontierAdvance)).collect();
        deeds.push(deed(100, Deed::DisputeLost));
        deeds.reverse();
        assert_eq!(reputation(deeds).get(&node), Some(&95.0));
    }
}
