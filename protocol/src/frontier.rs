//! The frontier: the records of a task that nothing built on them has beaten.

use crate::{Goal, HardwareClass, RecordId, Status};

/// A record as the frontier sees it. Stray records are left out before.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub id: RecordId,
    pub parent: Option<RecordId>,
    pub status: Status,
    pub class: HardwareClass,
    pub metric: f64,
    pub timestamp: u64,
}

/// Which children count against a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// The records of one class; only children of the same class can beat them.
    Class(HardwareClass),
    /// All records; a child of any class counts, as in the reference.
    ClassBlind,
}

/// Whether `child` takes `parent` off the frontier in a view that holds both.
pub fn beats(goal: Goal, child: &Candidate, parent: &Candidate) -> bool {
    child.parent == Some(parent.id)
        && child.status == Status::Keep
        && parent.status == Status::Keep
        && goal.better(child.metric, parent.metric)
}

/// Whether two records stand in one view together.
pub fn share_view(view: &View, a: &Candidate, b: &Candidate) -> bool {
    match view {
        View::Class(class) => a.class == *class && b.class == *class,
        View::ClassBlind => true,
    }
}

/// Best first; ties by (timestamp, id).
pub fn order(goal: Goal, a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    goal.order(a.metric, b.metric).then(a.timestamp.cmp(&b.timestamp)).then(a.id.cmp(&b.id))
}

/// The frontier by its definition, from all records of a task at once. What a store keeps up to
/// date must equal it.
pub fn compute(goal: Goal, view: &View, records: &[Candidate]) -> Vec<Candidate> {
    let mut best_child = std::collections::HashMap::<RecordId, f64>::new();
    let in_view = |c: &Candidate| matches!(view, View::ClassBlind) || share_view(view, c, c);
    for record in records.iter().filter(|r| r.status == Status::Keep && in_view(r)) {
        if let Some(parent) = record.parent {
            let best = best_child.entry(parent).or_insert(record.metric);
            if goal.better(record.metric, *best) {
                *best = record.metric;
            }
        }
    }
    let mut frontier: Vec<_> = records
        .iter()
        .filter(|r| r.status == Status::Keep && in_view(r))
        .filter(|r| !best_child.get(&r.id).is_some_and(|best| goal.better(*best, r.metric)))
        .cloned()
        .collect();
    frontier.sort_by(|a, b| order(goal, a, b));
    frontier
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: u8, parent: Option<u8>, class: &str, metric: f64, status: Status) -> Candidate {
        let id_of = |n| RecordId([n; 32]);
        Candidate {
            id: id_of(id),
            parent: parent.map(id_of),
            status,
            class: HardwareClass::of(class),
            metric,
            timestamp: id.into(),
        }
    }

    fn ids(frontier: &[Candidate]) -> Vec<u8> {
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
        let cpu = View::Class(HardwareClass::of("CPU"));
        assert_eq!(ids(&compute(Goal::Minimize, &cpu, &records)), [1, 4]);
        assert_eq!(ids(&compute(Goal::Minimize, &View::ClassBlind, &records)), [2, 4]);
        assert_eq!(ids(&compute(Goal::Maximize, &View::ClassBlind, &records)), [1, 4, 2]);
    }
}
