//! Builders and readers of every key. Integers are big-endian, so that bytes sort as numbers do.

use sha2::{Digest, Sha256};
use spore_protocol::{EventId, Goal, HardwareClass, Kind, NodeId, ObjectId, RecordId, TaskId};

use crate::{
    error::{Damage, Result},
    types::{Scope, SyncScope},
};

pub const SCHEMA: &[u8] = b"schema";
pub const SEQUENCE: &[u8] = b"sequence";
pub const TALLY: &[u8] = b"tally";

/// SHA-256 of a class's name, which may have any length itself.
pub type ClassKey = [u8; 32];

pub fn class(class: &HardwareClass) -> ClassKey {
    Sha256::digest(class.as_str().as_bytes()).into()
}

/// An object's place in an order by (timestamp, id).
///
/// Only the first 8 bytes of the id sort. Two objects of one second whose ids share these bytes, which takes 2^32
/// hashes to make, sort in the order of their arrival. No entry is lost or confused with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub timestamp: u64,
    pub id: ObjectId,
    pub number: u64,
}

/// Bytes of a [`Moment`] in a key.
pub const MOMENT: usize = 24;

impl Moment {
    pub fn bytes(&self) -> [u8; MOMENT] {
        let mut bytes = [0; MOMENT];
        let parts = self.timestamp.to_be_bytes().into_iter().chain(self.id.0.into_iter().take(8));
        bytes.iter_mut().zip(parts.chain(self.number.to_be_bytes())).for_each(|(to, from)| *to = from);
        bytes
    }
}

/// A list in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeList {
    Records,
    TaskRecords(TaskId),
    NodeRecords(NodeId),
    Controls,
    TaskControls(TaskId),
    Manifests,
    Profiles,
}

/// Bytes of a scope in a key.
pub const SCOPE: usize = 33;

impl TimeList {
    pub fn prefix(self) -> [u8; SCOPE] {
        let (tag, id) = match self {
            Self::Records => (0, [0; 32]),
            Self::TaskRecords(task) => (1, task.0),
            Self::NodeRecords(node) => (2, node.0),
            Self::Controls => (3, [0; 32]),
            Self::TaskControls(task) => (4, task.0),
            Self::Manifests => (5, [0; 32]),
            Self::Profiles => (6, [0; 32]),
        };
        let mut prefix = [0; SCOPE];
        prefix.iter_mut().zip(std::iter::once(tag).chain(id)).for_each(|(to, from)| *to = from);
        prefix
    }

    /// Whether nodes compare the list. Its keys then hold whole ids, and its items are summed up in buckets.
    pub fn compared(self) -> bool {
        !matches!(self, Self::Records | Self::NodeRecords(_) | Self::Controls)
    }
}

impl From<Scope> for TimeList {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::All => Self::Records,
            Scope::Task(task) => Self::TaskRecords(task),
            Scope::Node(node) => Self::NodeRecords(node),
        }
    }
}

impl From<SyncScope> for TimeList {
    fn from(scope: SyncScope) -> Self {
        match scope {
            SyncScope::Records(task) => Self::TaskRecords(task),
            SyncScope::Controls(task) => Self::TaskControls(task),
            SyncScope::Tasks => Self::Manifests,
            SyncScope::Profiles => Self::Profiles,
        }
    }
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub fn number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

pub fn id(kind: Kind, id: &ObjectId) -> Vec<u8> {
    join(&[&[kind.code()], &id.0])
}

pub fn child(parent: u64, moment: &Moment) -> Vec<u8> {
    join(&[&parent.to_be_bytes(), &moment.bytes()])
}

pub fn timeline(listing: TimeList, moment: &Moment) -> Vec<u8> {
    if listing.compared() {
        item(listing, moment.timestamp, &moment.id)
    } else {
        join(&[&listing.prefix(), &moment.bytes()])
    }
}

/// The key of an item of a list that nodes compare, or of a bucket's first item.
pub fn item(listing: TimeList, timestamp: u64, id: &ObjectId) -> Vec<u8> {
    join(&[&listing.prefix(), &timestamp.to_be_bytes(), &id.0])
}

/// The scope of what nodes did in a task, or in all tasks.
pub fn participants(task: Option<&TaskId>) -> [u8; SCOPE] {
    task.map_or(TimeList::Records, |task| TimeList::TaskRecords(*task)).prefix()
}

pub fn participant(task: Option<&TaskId>, node: &NodeId) -> Vec<u8> {
    join(&[&participants(task), &node.0])
}

pub fn publisher(task: Option<&TaskId>, node: &NodeId, class: &ClassKey) -> Vec<u8> {
    join(&[&participants(task), &node.0, class])
}

pub fn measured(task: Option<&TaskId>, node: &NodeId, timestamp: u64, event: &EventId) -> Vec<u8> {
    join(&[&participants(task), &node.0, &timestamp.to_be_bytes(), &event.0])
}

/// The key of a deed. `at` is (timestamp, id) of its event; `rank` orders the deeds of one event.
pub fn deed(node: &NodeId, at: (u64, ObjectId), rank: u8) -> Vec<u8> {
    join(&[&node.0, &at.0.to_be_bytes(), &at.1.0, &[rank]])
}

pub fn root(task: &TaskId, signer: Option<&NodeId>, timestamp: u64, id: &RecordId) -> Vec<u8> {
    join(&[&roots(task, signer), &timestamp.to_be_bytes(), &id.0])
}

/// The prefix of a task's parentless records, or of one signer's among them. They sort by rank.
pub fn roots(task: &TaskId, signer: Option<&NodeId>) -> Vec<u8> {
    match signer {
        None => join(&[&task.0, &[0]]),
        Some(signer) => join(&[&task.0, &[1], &signer.0]),
    }
}

pub fn task_class(task: &TaskId, class: &ClassKey) -> Vec<u8> {
    join(&[&task.0, class])
}

/// The prefix of one view of a task: of a class, or the class-blind one.
pub fn view(task: &TaskId, class: Option<&ClassKey>) -> Vec<u8> {
    match class {
        Some(class) => join(&[&task.0, &[1], class]),
        None => join(&[&task.0, &[0]]),
    }
}

pub fn frontier(task: &TaskId, class: Option<&ClassKey>, goal: Goal, metric: f64, moment: &Moment) -> Vec<u8> {
    join(&[&view(task, class), &metric_order(goal, metric), &moment.bytes()])
}

pub fn series(task: &TaskId, class: Option<&ClassKey>, moment: &Moment) -> Vec<u8> {
    // The whole id sorts, because the first record decides what advanced.
    join(&[&view(task, class), &moment.timestamp.to_be_bytes(), &moment.id.0, &moment.number.to_be_bytes()])
}

pub fn metric(task: &TaskId, goal: Goal, metric: f64, moment: &Moment) -> Vec<u8> {
    join(&[&task.0, &metric_order(goal, metric), &moment.bytes()])
}

/// Eight bytes that sort as [`Goal::order`] does: the IEEE 754 total order, inverted when higher is better.
fn metric_order(goal: Goal, metric: f64) -> [u8; 8] {
    let bits = metric.to_bits();
    let ascending = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
    match goal {
        Goal::Minimize => ascending.to_be_bytes(),
        Goal::Maximize => (!ascending).to_be_bytes(),
    }
}

/// Sorts the most active task first: more records, then more keeps, then the newest record, then the lower id.
pub fn activity(recent: u8, keeps: u8, newest: u64, task: &TaskId) -> Vec<u8> {
    join(&[&[!recent, !keeps], &(!newest).to_be_bytes(), &task.0])
}

/// The prefix of the uses of a word. No word contains a zero byte.
pub fn word(word: &str) -> Vec<u8> {
    join(&[word.as_bytes(), &[0]])
}

/// Splits a record's number into its block of 256 numbers and its place in the block.
pub fn word_use(number: u64) -> (u64, u8) {
    let [low, ..] = number.to_le_bytes();
    (number >> 8, low)
}

/// The key of the uses of a word in a block of numbers.
pub fn word_uses(text: &str, block: u64) -> Vec<u8> {
    join(&[&word(text), &block.to_be_bytes()])
}

/// Which of the events about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSet {
    All,
    /// The events that the record's verdict considers.
    Judged,
}

/// The prefix of the events about a record, in (timestamp, id) order.
pub fn events(record: &RecordId, events: EventSet) -> Vec<u8> {
    join(&[&record.0, &[u8::from(events == EventSet::Judged)]])
}

pub fn about(record: &RecordId, which: EventSet, timestamp: u64, event: &EventId) -> Vec<u8> {
    join(&[&events(record, which), &timestamp.to_be_bytes(), &event.0])
}

/// The value of an entry of [`about`]: the event's number and its signer.
pub fn event_entry(value: &[u8]) -> Result<(u64, NodeId)> {
    Ok((number_at(value, 0)?, NodeId(last_id(value)?)))
}

pub fn task_sequence(task: &TaskId, sequence: u64) -> Vec<u8> {
    join(&[&task.0, &sequence.to_be_bytes()])
}

pub fn pending_child(parent: &RecordId, order: u64, id: &RecordId) -> Vec<u8> {
    join(&[&parent.0, &order.to_be_bytes(), &id.0])
}

const SHORT: Damage = Damage::Value("a key is too short");

/// The last 32 bytes of a key: an id.
pub fn last_id(key: &[u8]) -> Result<[u8; 32]> {
    Ok(key.last_chunk::<32>().copied().ok_or(SHORT)?)
}

/// The 32 bytes at `at`.
pub fn id_at(key: &[u8], at: usize) -> Result<[u8; 32]> {
    Ok(key.get(at..).and_then(|rest| rest.first_chunk::<32>()).copied().ok_or(SHORT)?)
}

/// The integer at `at`.
pub fn number_at(key: &[u8], at: usize) -> Result<u64> {
    let rest = key.get(at..).and_then(|rest| rest.first_chunk::<8>());
    Ok(rest.copied().map(u64::from_be_bytes).ok_or(SHORT)?)
}

/// The last 8 bytes of a key: the number at the end of a moment.
pub fn last_number(key: &[u8]) -> Result<u64> {
    Ok(key.last_chunk::<8>().copied().map(u64::from_be_bytes).ok_or(SHORT)?)
}

/// The timestamp before the id at the end of a key.
pub fn time_before_id(key: &[u8]) -> Result<u64> {
    number_at(key, key.len().checked_sub(40).ok_or(SHORT)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn metric_keys_sort_as_the_goal_does(a in any::<f64>(), b in any::<f64>()) {
            for goal in [Goal::Minimize, Goal::Maximize] {
                prop_assert_eq!(metric_order(goal, a).cmp(&metric_order(goal, b)), goal.order(a, b));
            }
        }

        #[test]
        fn moments_sort_by_timestamp_and_id(a in (any::<u64>(), any::<[u8; 32]>()), b in (any::<u64>(), any::<[u8; 32]>())) {
            let moment = |(timestamp, id), number| Moment { timestamp, id: ObjectId(id), number };
            prop_assert_eq!(moment(a, 2).bytes().cmp(&moment(b, 1).bytes()), a.cmp(&b));
        }
    }
}
