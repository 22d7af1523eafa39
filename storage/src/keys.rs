//! Builders and readers of every key. Integers are big-endian, so that bytes sort as numbers do.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spore_protocol::{EventId, Goal, HardwareClass, Kind, NodeId, ObjectId, RecordId, TaskId};

use crate::{
    error::{Damage, Result},
    types::{Scope, SyncScope, WhyDropped},
};

pub const SCHEMA: &[u8] = b"schema";
pub const SEQUENCE: &[u8] = b"sequence";
pub const TALLY: &[u8] = b"tally";
pub const SEEDS: &[u8] = b"seeds";

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

/// A list of a task's records, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List<'a> {
    Reference,
    Local(&'a ClassKey),
    Global(&'a ClassKey),
    Claims(&'a ClassKey),
    /// The claims of one publisher.
    ClaimsOf(&'a ClassKey, &'a NodeId),
}

/// Lists with lower tags than this are frontiers.
const CLAIMS: u8 = 3;

impl List<'_> {
    pub fn prefix(self, task: &TaskId) -> Vec<u8> {
        match self {
            Self::Reference => join(&[&task.0, &[0]]),
            Self::Local(class) => join(&[&task.0, &[1], class]),
            Self::Global(class) => join(&[&task.0, &[2], class]),
            Self::Claims(class) => join(&[&task.0, &[CLAIMS], class]),
            Self::ClaimsOf(class, publisher) => join(&[&task.0, &[CLAIMS + 1], class, &publisher.0]),
        }
    }

    pub fn key(self, task: &TaskId, goal: Goal, metric: f64, moment: &Moment) -> Vec<u8> {
        join(&[&self.prefix(task), &metric_order(goal, metric), &moment.bytes()])
    }
}

/// Whether a key of the column of frontiers is of a frontier, and not of claims.
pub fn is_frontier(key: &[u8]) -> bool {
    key.get(32).is_some_and(|list| *list < CLAIMS)
}

/// The prefix of all claims of a class by publisher.
pub fn claims_by_publisher(task: &TaskId, class: &ClassKey) -> Vec<u8> {
    join(&[&task.0, &[CLAIMS + 1], class])
}

pub fn class_record(task: &TaskId, class: &ClassKey, moment: &Moment) -> Vec<u8> {
    join(&[&task.0, class, &moment.bytes()])
}

pub fn series(task: &TaskId, class: Option<&ClassKey>, moment: &Moment) -> Vec<u8> {
    // The whole id sorts, because the first record decides what advanced.
    join(&[&view(task, class), &moment.timestamp.to_be_bytes(), &moment.id.0, &moment.number.to_be_bytes()])
}

/// The prefix of the keeps of a view that hold, in the order of time. The rest of a key is as in the view's series.
pub fn confirmed(task: &TaskId, class: Option<&ClassKey>) -> Vec<u8> {
    match class {
        Some(class) => join(&[&task.0, &[3], class]),
        None => join(&[&task.0, &[2]]),
    }
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

/// What ranks a task by activity: the nodes with a record that holds locally; then, among its newest records, how many
/// are not strays, how many of these are keeps, and the timestamp of the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityRank {
    pub confirmed_signers: u32,
    pub recent: u8,
    pub keeps: u8,
    pub newest: u64,
}

/// Sorts the most active task first: more confirmed signers, then more records, then more keeps, then the newest
/// record, then the lower id.
pub fn activity(rank: &ActivityRank, task: &TaskId) -> Vec<u8> {
    let ActivityRank { confirmed_signers, recent, keeps, newest } = *rank;
    join(&[&(!confirmed_signers).to_be_bytes(), &[!recent, !keeps], &(!newest).to_be_bytes(), &task.0])
}

/// The confirmed signers that a key made by [`activity`] begins with.
pub fn confirmed_signers(key: &[u8]) -> Result<u32> {
    key.first_chunk::<4>().map(|inverted| !u32::from_be_bytes(*inverted)).ok_or_else(|| SHORT.into())
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

/// The prefix of a signer's events about a record, in (timestamp, id) order.
pub fn events(record: &RecordId, signer: &NodeId) -> Vec<u8> {
    join(&[&record.0, &signer.0])
}

pub fn about(record: &RecordId, signer: &NodeId, timestamp: u64, event: &EventId) -> Vec<u8> {
    join(&[&events(record, signer), &timestamp.to_be_bytes(), &event.0])
}

/// The value of an entry of [`about`]: the event's number, and whether it carries a measurement.
pub fn event_entry(number: u64, measures: bool) -> Vec<u8> {
    join(&[&number.to_be_bytes(), &[u8::from(measures)]])
}

/// Whether the event of such an entry carries a measurement.
pub fn is_measurement(entry: &[u8]) -> bool {
    entry.get(8) == Some(&1)
}

/// A signer's place among those who measured a record: the first 8 bytes of the protocol's rank. Two signers who share
/// these, which takes 2^32 keys to find, sort by their ids.
pub fn rank(record: &RecordId, signer: &NodeId) -> u64 {
    let rank = spore_protocol::measurement::rank(*record, *signer);
    rank.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// The prefix of the measurements of a record by signers of one tier, in the order of their ranks.
pub fn works(record: u64, tier: u8) -> Vec<u8> {
    join(&[&record.to_be_bytes(), &[tier]])
}

pub fn work(record: u64, tier: u8, rank: u64, signer: &NodeId) -> Vec<u8> {
    join(&[&works(record, tier), &rank.to_be_bytes(), &signer.0])
}

/// The tier in the key of a [`work`].
pub fn tier(key: &[u8]) -> Result<u8> {
    Ok(key.get(8).copied().ok_or(SHORT)?)
}

pub fn works_of(signer: &NodeId, class: &ClassKey) -> Vec<u8> {
    join(&[&signer.0, class])
}

pub fn work_of(signer: &NodeId, class: &ClassKey, record: u64) -> Vec<u8> {
    join(&[&signer.0, class, &record.to_be_bytes()])
}

/// The prefix of a node's standings.
pub fn standings(node: &NodeId) -> Vec<u8> {
    join(&[&[0], &node.0])
}

pub fn standing(node: &NodeId, class: &ClassKey) -> Vec<u8> {
    join(&[&[0], &node.0, class])
}

/// The prefix of the nodes with weight in a class, the lowest level first.
pub fn all_weighty(class: &ClassKey) -> Vec<u8> {
    join(&[&[1], class])
}

pub fn weighty(class: &ClassKey, level: u8, node: &NodeId) -> Vec<u8> {
    join(&[&[1], class, &[level], &node.0])
}

pub fn unsettled_node(node: &NodeId, class: &ClassKey) -> Vec<u8> {
    join(&[&[0], &node.0, class])
}

pub fn unsettled_record(record: u64) -> Vec<u8> {
    join(&[&[1], &record.to_be_bytes()])
}

/// Whose verdict is disputed.
pub fn dispute(global: bool, record: &RecordId) -> Vec<u8> {
    join(&[&[u8::from(global)], &record.0])
}

pub fn created(signer: &NodeId, task: &TaskId) -> Vec<u8> {
    join(&[&signer.0, &task.0])
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

/// Under this a dropped object is found by its id.
pub fn dropped(kind: Kind, id: &ObjectId) -> Vec<u8> {
    join(&[&[0, kind.code()], &id.0])
}

/// A dropped item of a list that nodes compare. `item` is its key in the timeline, or the beginning of such keys.
pub fn dropped_item(item: &[u8]) -> Vec<u8> {
    join(&[&[1], item])
}

/// Under this lie the orders of all dropped objects.
pub const DROPPED_ORDERS: [u8; 1] = [2];

/// Under this lie the orders of the objects that were dropped for one reason.
pub fn dropped_orders(why: WhyDropped) -> [u8; 2] {
    [2, why.code()]
}

/// The order in which objects that were dropped for one reason are forgotten: a flood that is dropped for room does not
/// displace what an operator dropped.
pub fn dropped_order(why: WhyDropped, order: u64) -> Vec<u8> {
    join(&[&dropped_orders(why), &order.to_be_bytes()])
}

/// The list, and the place in it, of an item's key.
pub fn listed_item(key: &[u8]) -> Result<(TimeList, Moment)> {
    let id = id_at(key, 1)?;
    let listing = match key.first() {
        Some(1) => TimeList::TaskRecords(TaskId(id)),
        Some(4) => TimeList::TaskControls(TaskId(id)),
        Some(5) => TimeList::Manifests,
        Some(6) => TimeList::Profiles,
        _ => return Err(SHORT.into()),
    };
    Ok((listing, Moment { timestamp: time_before_id(key)?, id: ObjectId(last_id(key)?), number: 0 }))
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
