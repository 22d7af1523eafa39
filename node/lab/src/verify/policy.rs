//! Which record to re-run, what the runs prove, and who answers a challenge.
//!
//! Pure: takes records, verdicts and the time, returns a decision.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use sha2::{Digest as _, Sha256};
use spore_protocol::{
    Goal, HardwareClass, NodeId, RecordId, Status,
    finding::Reason,
    trust::Standing,
    verdict::{Assessment, Dispute, RESPONSES, Subject, assigned},
};
use spore_storage::RecordSummary;

/// Time budgets for which an assigned verifier may stay silent before the next one stands in. A run takes up to four
/// budgets on a slow machine.
const SILENCE_BUDGETS: u64 = 6;
/// The shortest such time in seconds, for short budgets: starting and evaluating take time too.
const SILENCE_LEAST: u64 = 120;
/// The largest time budget in seconds that counts: nobody should wait for more than a day of training.
const SILENCE_MOST_BUDGET: u64 = 86_400;
/// Refuted records of one publisher in a class after which its other records wait. Two may be bad luck.
const REFUTED_WAITS: u32 = 3;

/// The node that verifies, its class, and how much it verifies.
#[derive(Clone)]
pub struct Policy {
    pub node: NodeId,
    pub class: HardwareClass,
    /// Share of others' records that is re-run, 0.0..=1.0.
    pub rate: f64,
    /// Decides with a record's id whether the record is in that share. A publisher who knew it could sign records that
    /// this node does not re-run.
    pub secret: [u8; 32],
}

/// An open dispute about a record.
#[derive(Clone, Debug)]
pub struct OpenDispute {
    pub record: RecordSummary,
    pub dispute: Dispute,
    /// Seconds, from the task's manifest.
    pub time_budget: u64,
    pub goal: Goal,
    /// Nodes with weight in the record's class.
    pub weighty: Vec<NodeId>,
}

/// What one run found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Value(f64),
    /// A reason why the record cannot hold, which others would find too.
    Reason(Reason),
    /// A failure that may be this machine's.
    Nothing(String),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}"),
            Self::Reason(reason) => write!(f, "{reason}"),
            Self::Nothing(failure) => f.write_str(failure),
        }
    }
}

/// The conclusion from one or two runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ruling {
    /// This measurement confirms the record.
    Holds(f64),
    /// A second run must show that this device is not at fault.
    RunAgain,
    /// Two runs agree with each other and not with the record.
    Fails(f64),
    /// Two runs failed for this reason.
    Refuted(Reason),
    /// The runs disagree with each other, or failed in a way that may be this machine's: nothing is proved.
    Unreliable,
}

impl Policy {
    /// Whether this node re-runs a record that it need not respond to.
    pub fn wants(&self, record: &RecordSummary) -> bool {
        self.can_measure(record) && sampled(&record.id, &self.secret, self.rate)
    }

    /// Whether a re-run by this node can count at all. Records outside their task's terms or tree are never compared.
    pub fn can_measure(&self, record: &RecordSummary) -> bool {
        record.node_id != self.node
            && record.class == self.class
            && record.status != Status::Crash
            && !record.stray
            && record.flaw.is_none()
            && record.code_cid.is_some()
    }

    /// Whether this node has to answer a challenge now. Assigned verifiers answer at once, stand-ins one after the other
    /// later, nodes without weight in the class last. When fewer have weight than a verdict needs, nobody waits.
    pub fn answers(&self, open: &OpenDispute, now: u64) -> bool {
        let record = &open.record;
        if !self.can_measure(record) || open.dispute.challenger == self.node {
            return false;
        }
        let ranked = assigned(&subject(record, open.goal), open.dispute.challenger, open.weighty.iter().copied());
        let rank = ranked.iter().position(|node| *node == self.node).unwrap_or(ranked.len().max(RESPONSES));
        let turns = (rank + 1).saturating_sub(RESPONSES) as u64;
        let turns = if ranked.len() < RESPONSES { 0 } else { turns };
        let opened = open.dispute.opened.min(now);
        now - opened >= turns.saturating_mul(silence(open.time_budget))
    }
}

/// Whether a publisher's records wait until nobody else's are left: seeds refuted several, and did not confirm enough
/// to outweigh them.
pub fn waits(standing: &Standing) -> bool {
    standing.level.is_none() && standing.refuted >= REFUTED_WAITS
}

/// The items with one of each owner in turn, beginning with the first owner after `after` by id. An owner's items keep
/// their order. However many items one owner has, the others' first ones come before its second one.
pub fn in_turn<T>(items: Vec<T>, owner: impl Fn(&T) -> NodeId, after: Option<NodeId>) -> Vec<T> {
    let mut owners = BTreeMap::<_, VecDeque<T>>::new();
    for item in items {
        let owner = owner(&item);
        // Those after `after` first, then the rest.
        owners.entry((after.is_some_and(|after| owner <= after), owner)).or_default().push_back(item);
    }
    let mut turns = Vec::new();
    while !owners.is_empty() {
        owners.retain(|_, items| {
            turns.extend(items.pop_front());
            !items.is_empty()
        });
    }
    turns
}

/// The id just below a node's. None for the lowest.
pub fn before(node: NodeId) -> Option<NodeId> {
    let mut bytes = node.0;
    for byte in bytes.iter_mut().rev() {
        let (lower, borrowed) = byte.overflowing_sub(1);
        *byte = lower;
        if !borrowed {
            return Some(NodeId(bytes));
        }
    }
    None
}

/// Seconds that a verifier has to answer. `time_budget`: of the task, never of the record, which its publisher signs.
fn silence(time_budget: u64) -> u64 {
    time_budget.min(SILENCE_MOST_BUDGET).saturating_mul(SILENCE_BUDGETS).max(SILENCE_LEAST)
}

/// The record in the form that verdicts are computed from. `goal`: of its task.
pub fn subject(record: &RecordSummary, goal: Goal) -> Subject {
    Subject {
        id: record.id,
        publisher: record.node_id,
        class: record.class.clone(),
        status: record.status,
        metric: record.metric,
        timestamp: record.timestamp,
        goal,
    }
}

/// Whether a record is in the share `rate` that this node re-runs. A hash of the node's secret and the record decides,
/// alike as long as the secret is the same.
fn sampled(record: &RecordId, secret: &[u8; 32], rate: f64) -> bool {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(b"spore sampling")
        .chain_update(secret)
        .chain_update(record.as_bytes())
        .finalize()
        .into();
    let coin = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    // The coin is in 0.0..1.0: a rate of 1 takes all records, a rate of 0 none.
    ((coin >> 11) as f64 / (1_u64 << 53) as f64) < rate
}

/// The conclusion after the first run, or after the second. `confirms`: whether a value is within tolerance of the
/// claim. Two values that do not confirm are taken to agree; the caller compares them.
pub fn rule(first: &Found, second: Option<&Found>, confirms: impl Fn(f64) -> bool) -> Ruling {
    match (first, second) {
        (Found::Value(value), _) if confirms(*value) => Ruling::Holds(*value),
        (Found::Nothing(_), _) | (_, Some(Found::Nothing(_))) => Ruling::Unreliable,
        (_, None) => Ruling::RunAgain,
        (_, Some(Found::Value(value))) if confirms(*value) => Ruling::Holds(*value),
        (Found::Value(value), Some(Found::Value(_))) => Ruling::Fails(*value),
        (Found::Reason(first), Some(Found::Reason(second))) if first == second => Ruling::Refuted(*first),
        _ => Ruling::Unreliable,
    }
}

/// The challenger of an open dispute, if `node` may answer it.
pub fn to_answer(judgement: &Assessment, node: NodeId) -> Option<NodeId> {
    let open = judgement.dispute.as_ref().filter(|dispute| !dispute.closed);
    open.map(|dispute| dispute.challenger).filter(|challenger| *challenger != node)
}

#[cfg(test)]
mod tests;
