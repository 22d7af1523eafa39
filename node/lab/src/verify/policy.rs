//! What to re-run, what the runs prove, and who answers a challenge.
//!
//! Pure: records, verdicts and the time in, a decision out.

use std::collections::{HashMap, HashSet, VecDeque};

use sha2::{Digest as _, Sha256};
use spore_protocol::{
    HardwareClass, NodeId, RecordId, Status,
    control::ClosedDispute,
    verdict::{Dispute, Judgement, RESPONSES, Subject, Verdict, assigned},
};
use spore_storage::RecordSummary;

/// How long assigned verifiers may stay silent before the next one stands in, as a multiple of the
/// task's training time: a run takes up to four budgets on a slow machine.
const SILENCE_BUDGETS: u64 = 6;
/// The least such time in seconds, for short budgets: starting and evaluating take time, too.
const SILENCE_LEAST: u64 = 120;
/// Most seconds of training that a silence is counted by: a record states its budget itself, and
/// nobody should wait longer than for a day's training.
const SILENCE_MOST_BUDGET: u64 = 86_400;
/// Silences after which a challenger with some, but fewer than three, responses closes its
/// dispute itself.
const CLOSE_AFTER: u64 = 10;
/// Records remembered as not worth another try. At 32 bytes each.
const SKIPPED: usize = 4096;

/// Who verifies, and how much.
#[derive(Clone, Debug)]
pub struct Policy {
    pub node: NodeId,
    pub class: HardwareClass,
    /// Share of others' records that is re-run, 0.0..=1.0.
    pub rate: f64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Re-run a record and tell whether its result holds.
    Check(RecordId),
    /// Re-run a challenged record and tell what came out.
    Respond { record: RecordId, challenger: NodeId },
}

/// A dispute that is open.
#[derive(Clone, Debug)]
pub struct Open {
    pub record: RecordSummary,
    pub dispute: Dispute,
    /// Nodes that published in the record's class before the challenge.
    pub published_before: Vec<NodeId>,
}

/// What one or two runs prove.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ruling {
    /// This measurement confirms the record.
    Holds(f64),
    /// A second run must show that this device is not at fault.
    RunAgain,
    /// Two runs agree with each other and not with the record.
    Fails(f64),
    /// Two runs disagree with each other: this device proves nothing.
    Unreliable,
}

impl Policy {
    /// Whether a record is worth a re-run by this node, if it is not a dispute.
    pub fn wants(&self, record: &RecordSummary) -> bool {
        self.can_measure(record) && sampled(&record.id, &self.node, self.rate)
    }

    /// Whether a re-run by this node can count at all.
    pub(super) fn can_measure(&self, record: &RecordSummary) -> bool {
        record.node_id != self.node
            && record.class == self.class
            && record.status != Status::Crash
            && record.code_cid.is_some()
            && record.num_steps > 0
    }

    /// Chooses: disputes that are this node's to answer first, then records without a verdict, then
    /// others; among equals the first of `records`; `done` tells what this node
    /// has measured already or cannot run.
    pub fn next(
        &self,
        records: &[RecordSummary],
        disputes: &[Open],
        now: u64,
        done: impl Fn(&RecordId) -> bool,
    ) -> Option<Work> {
        let respond = disputes.iter().find(|open| self.answers(open, now) && !done(&open.record.id));
        if let Some(open) = respond {
            return Some(Work::Respond { record: open.record.id, challenger: open.dispute.challenger });
        }
        // A dispute has its own rules for who answers.
        let open = |r: &RecordSummary| r.verdict == Verdict::Disputed;
        let wanted = |r: &&RecordSummary| !open(r) && !r.stray && self.wants(r) && !done(&r.id);
        let unverified = records.iter().filter(|r| r.verdict == Verdict::Unverified).find(wanted);
        unverified.or_else(|| records.iter().find(wanted)).map(|r| Work::Check(r.id))
    }

    /// Whether it is this node's turn to answer a challenge: at once for the assigned, later for
    /// each of those that stand in, last for nodes that never published in the class.
    pub(super) fn answers(&self, open: &Open, now: u64) -> bool {
        let record = &open.record;
        if !self.can_measure(record) || open.dispute.challenger == self.node {
            return false;
        }
        let ranked = assigned(&subject(record), open.dispute.challenger, open.published_before.iter().copied());
        let rank = ranked.iter().position(|node| *node == self.node).unwrap_or(ranked.len().max(RESPONSES));
        let turns = (rank + 1).saturating_sub(RESPONSES) as u64;
        // Where fewer verifiers are assigned than a verdict needs, nobody has to be waited for.
        let turns = if ranked.len() < RESPONSES { 0 } else { turns };
        let opened = open.dispute.opened.0.min(now);
        now - opened >= turns.saturating_mul(silence(record.time_budget))
    }
}

/// Seconds that a verifier's turn to answer lasts.
fn silence(time_budget: u64) -> u64 {
    time_budget.min(SILENCE_MOST_BUDGET).saturating_mul(SILENCE_BUDGETS).max(SILENCE_LEAST)
}

/// The record as verdicts see it.
pub fn subject(record: &RecordSummary) -> Subject {
    Subject {
        id: record.id,
        publisher: record.node_id,
        class: record.class.clone(),
        status: record.status,
        metric: record.metric,
    }
}

/// Whether a record is in the share `rate` that this node re-runs: a stable coin for each pair.
fn sampled(record: &RecordId, node: &NodeId, rate: f64) -> bool {
    let digest: [u8; 32] =
        Sha256::new().chain_update(record.as_bytes()).chain_update(node.as_bytes()).finalize().into();
    let coin = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    // In 0.0..1.0, so that a rate of 1 takes all and a rate of 0 none.
    ((coin >> 11) as f64 / (1_u64 << 53) as f64) < rate
}

/// Rules on a check after its first run, or after its second.
pub fn rule(claimed: f64, tolerance: f64, first: f64, second: Option<f64>) -> Ruling {
    let near = |a: f64, b: f64| (a - b).abs() <= tolerance;
    match second {
        _ if near(first, claimed) => Ruling::Holds(first),
        None => Ruling::RunAgain,
        Some(second) if !near(first, second) => Ruling::Unreliable,
        Some(second) if near(second, claimed) => Ruling::Holds(second),
        Some(_) => Ruling::Fails(first),
    }
}

/// The challenger of an open dispute, if `node` may answer it.
pub fn to_answer(judgement: &Judgement, node: NodeId) -> Option<NodeId> {
    let open = judgement.dispute.as_ref().filter(|dispute| dispute.ground_truth.is_none());
    open.map(|dispute| dispute.challenger).filter(|challenger| *challenger != node)
}

/// The `dispute` event by which `node` closes its own challenge, when it is time: the verdict is
/// settled by responses, or too few came for too long. None otherwise, and where it has closed it.
pub fn closing(
    record: &RecordSummary,
    judgement: &Judgement,
    node: NodeId,
    closed_already: bool,
    now: u64,
) -> Option<ClosedDispute> {
    let dispute = judgement.dispute.as_ref().filter(|d| d.challenger == node && !closed_already)?;
    let waited = now.saturating_sub(dispute.opened.0);
    let late = !dispute.responses.is_empty() && waited > silence(record.time_budget).saturating_mul(CLOSE_AFTER);
    if dispute.ground_truth.is_none() && !late {
        return None;
    }
    let tolerance = record.class.tolerance();
    let truth = dispute.ground_truth.unwrap_or_else(|| {
        let mut values = vec![record.metric, dispute.challenger_value];
        values.extend(dispute.responses.iter().map(|(_, value)| *value));
        spore_protocol::verdict::median(&mut values)
    });
    let upheld = (record.metric - truth).abs() <= tolerance;
    let (winners, losers) = dispute
        .responses
        .iter()
        .partition::<Vec<_>, _>(|(_, value)| ((value - record.metric).abs() <= tolerance) == upheld);
    let nodes = |side: Vec<(NodeId, f64)>| side.into_iter().map(|(node, _)| node).collect();
    Some(ClosedDispute {
        experiment_id: record.id,
        task_id: Some(record.task_id),
        publisher: record.node_id,
        challenger: node,
        challenger_value: dispute.challenger_value,
        upheld,
        ground_truth: truth,
        winners: nodes(winners),
        losers: nodes(losers),
    })
}

/// Records that this node has given up on or must leave for a while. Bounded; forgets the oldest.
#[derive(Debug, Default)]
pub struct Skipped {
    until: HashMap<RecordId, u64>,
    order: VecDeque<RecordId>,
}

impl Skipped {
    /// Leaves a record alone until a time in Unix seconds; `u64::MAX` for ever.
    pub fn until(&mut self, record: RecordId, time: u64) {
        if self.until.insert(record, time).is_none() {
            self.order.push_back(record);
        }
        while self.order.len() > SKIPPED {
            if let Some(oldest) = self.order.pop_front() {
                self.until.remove(&oldest);
            }
        }
    }

    /// The records to leave alone now.
    pub fn now(&self, now: u64) -> HashSet<RecordId> {
        self.until.iter().filter(|(_, until)| now < **until).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests;
