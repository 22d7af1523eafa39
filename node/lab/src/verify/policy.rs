//! Which record to re-run, what the runs prove, and who answers a challenge.
//!
//! Pure: takes records, verdicts and the time, returns a decision.

use sha2::{Digest as _, Sha256};
use spore_protocol::{
    HardwareClass, NodeId, RecordId, Status,
    control::ClosedDispute,
    verdict::{Assessment, ChallengerStep, Dispute, RESPONSES, Subject, Verdict, assigned, challenger_step},
};
use spore_storage::RecordSummary;

/// Time budgets for which an assigned verifier may stay silent before the next one stands in. A run takes up to four
/// budgets on a slow machine.
const SILENCE_BUDGETS: u64 = 6;
/// The shortest such time in seconds, for short budgets: starting and evaluating take time too.
const SILENCE_LEAST: u64 = 120;
/// The largest time budget in seconds that counts: the publisher states the budget, and nobody should wait for more
/// than a day of training.
const SILENCE_MOST_BUDGET: u64 = 86_400;
/// Such times after which a challenger with one or two responses closes its dispute itself.
const CLOSE_AFTER: u64 = 10;

/// The node that verifies, its class, and how much it verifies.
#[derive(Clone, Debug)]
pub struct Policy {
    pub node: NodeId,
    pub class: HardwareClass,
    /// Share of others' records that is re-run, 0.0..=1.0.
    pub rate: f64,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// Re-run a record and publish whether its result holds.
    Check(RecordId),
    /// Re-run a challenged record and publish the measurement.
    Respond { record: RecordId, challenger: NodeId },
}

/// An open dispute about a record.
#[derive(Clone, Debug)]
pub struct OpenDispute {
    pub record: RecordSummary,
    pub dispute: Dispute,
    /// Nodes that published in the record's class before the challenge.
    pub published_before: Vec<NodeId>,
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
    /// Two runs disagree with each other: this device proves nothing.
    Unreliable,
}

impl Policy {
    /// Whether this node re-runs a record that is not disputed.
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

    /// Chooses what to do next: first disputes that this node has to answer, then records without a verdict, then other
    /// records, each in the order of `records`. `done` returns whether this node has measured a record already or
    /// cannot run it.
    pub fn next(
        &self,
        records: &[RecordSummary],
        disputes: &[OpenDispute],
        now: u64,
        done: impl Fn(&RecordId) -> bool,
    ) -> Option<Assignment> {
        let respond = disputes.iter().find(|open| self.answers(open, now) && !done(&open.record.id));
        if let Some(open) = respond {
            return Some(Assignment::Respond { record: open.record.id, challenger: open.dispute.challenger });
        }
        // Who answers a dispute is decided by other rules.
        let open = |r: &RecordSummary| r.verdict == Verdict::Disputed;
        let wanted = |r: &&RecordSummary| !open(r) && !r.stray && self.wants(r) && !done(&r.id);
        let unverified = records.iter().filter(|r| r.verdict == Verdict::Unverified).find(wanted);
        unverified.or_else(|| records.iter().find(wanted)).map(|r| Assignment::Check(r.id))
    }

    /// Whether this node has to answer a challenge now. Assigned verifiers answer at once, stand-ins one after the other
    /// later, nodes that never published in the class last.
    pub(super) fn answers(&self, open: &OpenDispute, now: u64) -> bool {
        let record = &open.record;
        if !self.can_measure(record) || open.dispute.challenger == self.node {
            return false;
        }
        let ranked = assigned(&subject(record), open.dispute.challenger, open.published_before.iter().copied());
        let rank = ranked.iter().position(|node| *node == self.node).unwrap_or(ranked.len().max(RESPONSES));
        let turns = (rank + 1).saturating_sub(RESPONSES) as u64;
        // When fewer verifiers are assigned than a verdict needs, nobody waits for another.
        let turns = if ranked.len() < RESPONSES { 0 } else { turns };
        let opened = open.dispute.opened.0.min(now);
        now - opened >= turns.saturating_mul(silence(record.time_budget))
    }
}

/// Seconds that a verifier has to answer.
fn silence(time_budget: u64) -> u64 {
    time_budget.min(SILENCE_MOST_BUDGET).saturating_mul(SILENCE_BUDGETS).max(SILENCE_LEAST)
}

/// The record in the form that verdicts are computed from.
pub fn subject(record: &RecordSummary) -> Subject {
    Subject {
        id: record.id,
        publisher: record.node_id,
        class: record.class.clone(),
        status: record.status,
        metric: record.metric,
    }
}

/// Whether a record is in the share `rate` that this node re-runs. A hash of record and node decides, always alike.
fn sampled(record: &RecordId, node: &NodeId, rate: f64) -> bool {
    let digest: [u8; 32] =
        Sha256::new().chain_update(record.as_bytes()).chain_update(node.as_bytes()).finalize().into();
    let coin = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    // The coin is in 0.0..1.0: a rate of 1 takes all records, a rate of 0 none.
    ((coin >> 11) as f64 / (1_u64 << 53) as f64) < rate
}

/// The conclusion after the first run, or after the second.
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
pub fn to_answer(judgement: &Assessment, node: NodeId) -> Option<NodeId> {
    let open = judgement.dispute.as_ref().filter(|dispute| dispute.ground_truth.is_none());
    open.map(|dispute| dispute.challenger).filter(|challenger| *challenger != node)
}

/// The `dispute` event by which `node` closes its own challenge. None while responses may still come, and after the node
/// has closed the challenge.
pub fn closing(
    record: &RecordSummary,
    judgement: &Assessment,
    node: NodeId,
    closed_already: bool,
    now: u64,
) -> Option<ClosedDispute> {
    let dispute = judgement.dispute.as_ref().filter(|d| d.challenger == node && !closed_already)?;
    let waited = now.saturating_sub(dispute.opened.0);
    let late = waited > silence(record.time_budget).saturating_mul(CLOSE_AFTER);
    match challenger_step(&subject(record), record.task_id, dispute, late) {
        ChallengerStep::Wait => None,
        ChallengerStep::Close(closed) => Some(closed),
    }
}

#[cfg(test)]
mod tests;
