//! Builders and readers of every key. Big-endian, so that bytes sort as numbers do.

use sha2::{Digest, Sha256};
use spore_protocol::{EventId, Goal, HardwareClass, Kind, NodeId, ObjectId, RecordId, TaskId};

use crate::{
    error::{Result, StoreError},
    types::Scope,
};

pub const SCHEMA: &[u8] = b"schema";
pub const SEQUENCE: &[u8] = b"sequence";
pub const TALLY: &[u8] = b"tally";

/// SHA-256 of a class's name, which itself may be of any length.
pub type ClassKey = [u8; 32];

pub fn class(class: &HardwareClass) -> ClassKey {
    Sha256::digest(class.as_str().as_bytes()).into()
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub fn object(kind: Kind, id: &ObjectId) -> Vec<u8> {
    join(&[&[kind.code()], &id.0])
}

pub fn child(parent: &RecordId, id: &RecordId) -> Vec<u8> {
    join(&[&parent.0, &id.0])
}

/// Everything of a scope in the timeline.
pub fn timeline_prefix(scope: Scope) -> Vec<u8> {
    match scope {
        Scope::All => join(&[&[0], &[0; 32]]),
        Scope::Task(task) => join(&[&[1], &task.0]),
        Scope::Node(node) => join(&[&[2], &node.0]),
    }
}

pub fn timeline(scope: Scope, timestamp: u64, id: &RecordId) -> Vec<u8> {
    join(&[&timeline_prefix(scope), &timestamp.to_be_bytes(), &id.0])
}

pub fn root(task: &TaskId, id: &RecordId) -> Vec<u8> {
    join(&[&task.0, &id.0])
}

pub fn task_class(task: &TaskId, class: &ClassKey) -> Vec<u8> {
    join(&[&task.0, class])
}

pub fn publisher(task: &TaskId, node: &NodeId, class: &ClassKey) -> Vec<u8> {
    join(&[&task.0, &node.0, class])
}

pub fn publisher_prefix(task: &TaskId, node: &NodeId) -> Vec<u8> {
    join(&[&task.0, &node.0])
}

/// One view of a task's frontier: a class's, or the class-blind one.
pub fn frontier_prefix(task: &TaskId, class: Option<&ClassKey>) -> Vec<u8> {
    match class {
        Some(class) => join(&[&task.0, &[1], class]),
        None => join(&[&task.0, &[0]]),
    }
}

pub fn frontier(
    task: &TaskId,
    class: Option<&ClassKey>,
    goal: Goal,
    metric: f64,
    timestamp: u64,
    id: &RecordId,
) -> Vec<u8> {
    join(&[&frontier_prefix(task, class), &metric_order(goal, metric), &timestamp.to_be_bytes(), &id.0])
}

/// Eight bytes that sort as [`Goal::order`] does: the IEEE 754 total order of bits, turned round
/// when more is better.
fn metric_order(goal: Goal, metric: f64) -> [u8; 8] {
    let bits = metric.to_bits();
    let ascending = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
    match goal {
        Goal::Minimize => ascending.to_be_bytes(),
        Goal::Maximize => (!ascending).to_be_bytes(),
    }
}

pub fn about(record: &RecordId, timestamp: u64, event: &EventId) -> Vec<u8> {
    join(&[&record.0, &timestamp.to_be_bytes(), &event.0])
}

pub fn control(task: &TaskId, timestamp: u64, event: &EventId) -> Vec<u8> {
    join(&[&task.0, &timestamp.to_be_bytes(), &event.0])
}

pub fn task_sequence(task: &TaskId, sequence: u64) -> Vec<u8> {
    join(&[&task.0, &sequence.to_be_bytes()])
}

pub fn pending_child(parent: &RecordId, order: u64, id: &RecordId) -> Vec<u8> {
    join(&[&parent.0, &order.to_be_bytes(), &id.0])
}

/// The last 32 bytes of a key: the id that most end with.
pub fn last_id(key: &[u8]) -> Result<[u8; 32]> {
    key.last_chunk::<32>().copied().ok_or_else(|| StoreError::corrupt("a key is too short"))
}

/// The 32 bytes at `at`.
pub fn id_at(key: &[u8], at: usize) -> Result<[u8; 32]> {
    let rest = key.get(at..).and_then(|rest| rest.first_chunk::<32>());
    rest.copied().ok_or_else(|| StoreError::corrupt("a key is too short"))
}

/// The integer at `at`.
pub fn number_at(key: &[u8], at: usize) -> Result<u64> {
    let rest = key.get(at..).and_then(|rest| rest.first_chunk::<8>());
    rest.copied().map(u64::from_be_bytes).ok_or_else(|| StoreError::corrupt("a key is too short"))
}

/// The timestamp before the id at a key's end.
pub fn time_before_id(key: &[u8]) -> Result<u64> {
    let at = key.len().checked_sub(40).ok_or_else(|| StoreError::corrupt("a key is too short"))?;
    number_at(key, at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn metrics_sort_as_the_goal_orders_them(a in any::<f64>(), b in any::<f64>()) {
            for goal in [Goal::Minimize, Goal::Maximize] {
                prop_assert_eq!(metric_order(goal, a).cmp(&metric_order(goal, b)), goal.order(a, b));
            }
        }
    }
}
