//! Reputation: a number from -100 to 100, folded from verdicts. No token, no effect on acceptance.

use std::collections::BTreeMap;

use crate::{
    NodeId, ObjectId, Status,
    verdict::{Judgement, Subject, Verdict},
};

/// Bounds of every reputation.
pub const LIMITS: (f64, f64) = (-100.0, 100.0);

/// What a node did, and what it is worth (the seeds' table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    VerifiedKeep,
    VerifiedDiscard,
    FrontierAdvance,
    VerificationPerformed,
    DisputeLost,
}

impl Deed {
    pub const fn delta(self) -> f64 {
        match self {
            Self::VerifiedKeep => 1.0,
            Self::VerifiedDiscard => 0.3,
            Self::FrontierAdvance => 2.0,
            Self::VerificationPerformed => 0.5,
            Self::DisputeLost => -5.0,
        }
    }
}

/// A deed at its place in the order of things: (timestamp, id) of the event that settled it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub at: (u64, ObjectId),
    pub node: NodeId,
    pub deed: Deed,
}

/// The deeds that one record's judgement shows.
///
/// `advanced` tells that the record, when published, was better than every earlier keep of its
/// task and class.
pub fn deeds(subject: &Subject, judgement: &Judgement, advanced: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for m in judgement.counted() {
        let at = (m.timestamp, m.event_id.into());
        steps.push(Step { at, node: m.node, deed: Deed::VerificationPerformed });
    }
    let settled = match (&judgement.dispute, judgement.verdict) {
        (Some(dispute), Verdict::Upheld | Verdict::Rejected) => dispute.closed.map(|(t, id)| (t, id.into())),
        (None, Verdict::Verified) => {
            let tolerance = subject.class.tolerance();
            let first = judgement.counted().find(|m| (m.value - subject.metric).abs() <= tolerance);
            first.map(|m| (m.timestamp, m.event_id.into()))
        }
        _ => None,
    };
    let Some(at) = settled else { return steps };
    if judgement.verdict.holds() {
        let deed = if subject.status == Status::Keep { Deed::VerifiedKeep } else { Deed::VerifiedDiscard };
        steps.push(Step { at, node: subject.publisher, deed });
        if advanced && subject.status == Status::Keep {
            steps.push(Step { at, node: subject.publisher, deed: Deed::FrontierAdvance });
        }
    }
    if let Some(dispute) = &judgement.dispute {
        let loser = if judgement.verdict == Verdict::Upheld { dispute.challenger } else { subject.publisher };
        steps.push(Step { at, node: loser, deed: Deed::DisputeLost });
    }
    steps
}

/// Folds deeds, in any order given, into each node's reputation, clamped after every step.
pub fn fold(mut steps: Vec<Step>) -> BTreeMap<NodeId, f64> {
    steps.sort_by(|a, b| a.at.cmp(&b.at).then(a.node.cmp(&b.node)).then(b.deed.delta().total_cmp(&a.deed.delta())));
    let mut reputation = BTreeMap::new();
    for step in steps {
        let value: &mut f64 = reputation.entry(step.node).or_default();
        *value = (*value + step.deed.delta()).clamp(LIMITS.0, LIMITS.1);
    }
    reputation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reputation_is_clamped_after_each_step_in_order() {
        let node = NodeId([1; 32]);
        let step = |at: u64, deed| Step { at: (at, ObjectId([0; 32])), node, deed };
        let mut steps: Vec<_> = (0..60).map(|i| step(i, Deed::FrontierAdvance)).collect();
        steps.push(step(100, Deed::DisputeLost));
        steps.reverse();
        assert_eq!(fold(steps).get(&node), Some(&95.0));
    }
}
