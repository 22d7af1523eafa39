//! What research reads of a task in one round: bounded parts of indexes, whatever the task's size.
//!
//! Records of other nodes come into it only if they hold here, except claims, of which each publisher has one. Never
//! here: running or choosing anything.

use std::collections::HashSet;

use spore_protocol::{Cid, Goal, HardwareClass, NodeId, RecordId, Status, Verdict};
use spore_storage::{RecordSummary, Scope, Span, Store, StoreError};

use crate::{
    engine::Terms,
    research::choice::{Claim, claims, is_believed},
    verify::policy::{before, waits},
};

/// Records of the local frontier.
const FRONTIER: usize = 64;
/// Newest records of the class, of all nodes.
const NEWEST: usize = 256;
/// Newest records of this node, in all tasks. No other node can push them out.
const OWN: usize = 512;
/// Publishers whose claims are looked at, and publishers with weight.
const PUBLISHERS: usize = 32;
const WEIGHTY: usize = 16;
/// Claims of each, the best first: enough to find a plausible one behind an implausible one.
const CLAIMS_OF_ONE: usize = 4;
/// Ancestors that are looked at for one that holds. A refuted chain that is longer counts as having none.
const ANCESTORS: usize = 64;

/// What the store holds of the task at the beginning of a round.
pub struct TaskSnapshot {
    pub terms: Terms,
    pub goal: Goal,
    pub class: HardwareClass,
    pub root: Option<RecordSummary>,
    /// Own records of the class and those that hold, in the order of their arrival.
    pub believed: Vec<RecordSummary>,
    /// The keeps among them that are of other nodes, and that this node has not measured.
    pub unmeasured: HashSet<RecordId>,
    /// The best believed record that is on the frontier.
    pub best: Option<RecordSummary>,
    /// Records that may be measured, with one claim of each publisher.
    pub claimed: Vec<RecordSummary>,
    pub claims: Vec<Claim>,
    /// Scripts that were tried in the class, or refused. Scripts that others only claim to have tried are not among
    /// them: an untrusted node could claim all neighbours of a good script.
    pub tried: HashSet<Cid>,
}

impl TaskSnapshot {
    /// The record that was picked.
    pub fn record(&self, id: RecordId) -> Option<&RecordSummary> {
        self.believed.iter().chain(&self.claimed).chain(&self.root).find(|r| r.id == id)
    }
}

/// Reads the snapshot of a task for the node `us`. Claims are read of the publishers after `from`.
///
/// # Errors
/// When the store cannot be read.
pub fn read(
    store: &Store,
    us: NodeId,
    class: HardwareClass,
    terms: Terms,
    from: NodeId,
) -> Result<TaskSnapshot, StoreError> {
    let (task, goal) = (terms.task_id, terms.manifest.goal);
    let root = store.task(&task)?.and_then(|view| view.root);
    let root = root.map(|root| store.summary(&root)).transpose()?.flatten();
    let frontier = store.frontier(&task, &class, FRONTIER)?;
    let best = frontier.iter().find(|r| is_believed(r, us)).cloned();
    let mut believed = frontier;
    believed.extend(store.newest_in_class(&task, &class, &Span::first(NEWEST))?.items);
    believed.extend(store.recent(Scope::Node(us), None, OWN)?.0);
    let mut seen = HashSet::new();
    believed.retain(|r| r.task_id == task && r.class == class && is_believed(r, us) && seen.insert(r.id));
    believed.sort_by_key(|r| r.sequence);
    let (mut claimed, mut chosen) = (Vec::new(), Vec::new());
    // Without a result that holds there is nothing to compare a claim with.
    if let Some(best) = best.as_ref().or_else(|| believed.iter().find(|r| r.status == Status::Keep)) {
        let weighty;
        (claimed, weighty) = open_claims(store, us, &terms, &class, from)?;
        chosen = claims(goal, best.metric, &claimed, &weighty);
    }
    let tried = believed.iter().filter_map(|r| r.code_cid).collect();
    let unmeasured = unmeasured(store, us, &believed)?;
    Ok(TaskSnapshot { terms, goal, class, root, believed, unmeasured, best, claimed, claims: chosen, tried })
}

/// The keeps of other nodes that this node has not measured.
fn unmeasured(store: &Store, us: NodeId, believed: &[RecordSummary]) -> Result<HashSet<RecordId>, StoreError> {
    let mut unmeasured = HashSet::new();
    for record in believed.iter().filter(|r| r.node_id != us && r.status == Status::Keep) {
        if !store.measured_by(&us, &record.id)? {
            unmeasured.insert(record.id);
        }
    }
    Ok(unmeasured)
}

/// Claims that this node has not measured, of some publishers without weight and some with, and the latter.
fn open_claims(
    store: &Store,
    us: NodeId,
    terms: &Terms,
    class: &HardwareClass,
    from: NodeId,
) -> Result<(Vec<RecordSummary>, HashSet<NodeId>), StoreError> {
    let task = &terms.task_id;
    let mut weighty = store.weighty(class, PUBLISHERS)?;
    weighty.sort_by_key(|node| (*node <= from, *node));
    weighty.truncate(WEIGHTY);
    let mut claims = store.claims_in_turn(task, class, Some(from), PUBLISHERS, CLAIMS_OF_ONE)?;
    for node in &weighty {
        let next = store.claims_in_turn(task, class, before(*node), 1, CLAIMS_OF_ONE)?;
        claims.extend(next.into_iter().filter(|r| r.node_id == *node));
    }
    let publishers: HashSet<NodeId> = claims.iter().map(|r| r.node_id).collect();
    let mut waiting = HashSet::new();
    for publisher in publishers {
        if waits(&store.standing(&publisher, class)?) {
            waiting.insert(publisher);
        }
    }
    let mut open = Vec::new();
    for claim in claims {
        let fit = claim.node_id != us && claim.code_cid.is_some() && !waiting.contains(&claim.node_id);
        if fit && !store.measured_by(&us, &claim.id)? {
            open.push(claim);
        }
    }
    Ok((open, weighty.into_iter().collect()))
}

/// The record that a result is compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub record: RecordId,
    pub publisher: NodeId,
    pub code: Cid,
    /// This node's own number.
    pub metric: f64,
    pub steps: u64,
}

/// The record that a child of `parent` in this class is compared with, by this node's own number: the nearest of parent
/// and ancestors that this node believes. Records of others that it did not measure are skipped: a false claim that
/// holds for a while would make every honest child a discard. None if there is none, as for the first record of a class.
///
/// # Errors
/// When the store cannot be read.
pub fn reference(
    store: &Store,
    us: NodeId,
    class: &HardwareClass,
    parent: RecordId,
) -> Result<Option<Reference>, StoreError> {
    let ancestors = store.ancestors(&parent, ANCESTORS)?;
    for id in std::iter::once(parent).chain(ancestors) {
        let fit = |r: &RecordSummary| r.class == *class && r.status == Status::Keep && is_believed(r, us);
        let Some(record) = store.summary(&id)?.filter(fit) else { continue };
        let own = if record.node_id == us { Some(record.metric) } else { measured(store, us, &id)? };
        if let (Some(metric), Some(code)) = (own, record.code_cid) {
            return Ok(Some(Reference {
                record: id,
                publisher: record.node_id,
                code,
                metric,
                steps: record.num_steps,
            }));
        }
    }
    Ok(None)
}

/// Whether this node's own measurement of another's record confirms the claim. None if it did not measure the record.
///
/// # Errors
/// When the store cannot be read.
pub fn confirms(store: &Store, us: NodeId, record: &RecordSummary) -> Result<Option<bool>, StoreError> {
    if !store.measured_by(&us, &record.id)? {
        return Ok(None);
    }
    let near = |value: f64| (value - record.metric).abs() <= record.class.tolerance();
    Ok(Some(measured(store, us, &record.id)?.is_some_and(near)))
}

/// This node's own value of a record of another node.
fn measured(store: &Store, us: NodeId, id: &RecordId) -> Result<Option<f64>, StoreError> {
    let Some(judged) = store.judgement(id)? else { return Ok(None) };
    let own = judged.local.measurements.iter().find(|m| m.node == us && m.ignored.is_none());
    Ok(own.and_then(|m| m.finding.value()))
}

/// Whether a record of this class may be measured so that this node has something to build on.
pub fn is_open_to(record: &RecordSummary, us: NodeId, class: &HardwareClass) -> bool {
    record.node_id != us
        && record.class == *class
        && record.is_comparable_keep()
        && matches!(record.verdict, Verdict::Unverified | Verdict::Disputed)
}

#[cfg(test)]
mod tests;
