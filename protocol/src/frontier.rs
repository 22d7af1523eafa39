//! The frontier: the keeps of a task that no child has beaten, within one hardware class.
//!
//! The store keeps the frontier up to date with [`beats`] and [`share_view`].

use crate::{Goal, HardwareClass, RecordId, Status};

/// The facts about a record that decide whether it is on the frontier. Stray records are left out
/// before.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontierRecord {
    pub id: RecordId,
    pub parent: Option<RecordId>,
    pub status: Status,
    pub class: HardwareClass,
    /// The task's metric. Meaningless for a crash.
    pub metric: f64,
    /// Unix seconds.
    pub timestamp: u64,
}

/// Which children count against a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontierView {
    /// The records of one class. Only children of the same class can beat them.
    Class(HardwareClass),
    /// All records. A child of any class counts, as in the reference.
    ClassBlind,
}

/// Whether `child` takes `parent` off the frontier of a view that holds both.
pub fn beats(goal: Goal, child: &FrontierRecord, parent: &FrontierRecord) -> bool {
    child.parent == Some(parent.id)
        && child.status == Status::Keep
        && parent.status == Status::Keep
        && goal.better(child.metric, parent.metric)
}

/// Whether one view holds both records.
pub fn share_view(view: &FrontierView, a: &FrontierRecord, b: &FrontierRecord) -> bool {
    match view {
        FrontierView::Class(class) => a.class == *class && b.class == *class,
        FrontierView::ClassBlind => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_better_keep_beats_its_parent() {
        let record = |id: u8, parent: Option<u8>, metric, status| FrontierRecord {
            id: RecordId([id; 32]),
            parent: parent.map(|id| RecordId([id; 32])),
            status,
            class: HardwareClass::of("CPU"),
            metric,
            timestamp: 1,
        };
        let parent = record(1, None, 1.0, Status::Keep);
        let better = record(2, Some(1), 0.9, Status::Keep);
        assert!(beats(Goal::Minimize, &better, &parent) && !beats(Goal::Maximize, &better, &parent));
        let others = [
            record(3, Some(1), 1.0, Status::Keep),
            record(4, Some(1), 0.9, Status::Discard),
            record(5, Some(9), 0.9, Status::Keep),
        ];
        assert!(others.iter().all(|other| !beats(Goal::Minimize, other, &parent)));
    }
}
