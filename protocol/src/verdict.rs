//! Verdicts: whether a record's result holds, computed from the signed measurements about it.
//!
//! This is version 2 of the rule. It is a pure function of the record, the set of its measurements and
//! the signers' weights. With equal weights it is the global verdict, the same for all nodes that know
//! the same objects. With the weights of [`trust`](crate::trust) it is the local verdict of one node.
//!
//! Neither dates nor the order of arrival decide anything, except that a measurement older than its
//! record does not count. docs/verification.md explains the rule.

use std::{cmp::Reverse, collections::BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    Finding, Measurement, NodeId, Status, TaskId,
    control::{ClosedDispute, DisputeOutcome},
    measurement::{Ignored, MeasurementKind, rank},
    trust::SEED_WEIGHT,
};

pub use crate::subject::Subject;

/// Verifiers that should respond to a dispute without waiting for others.
pub const RESPONSES: usize = 3;

/// Most signers with weight that count in one verdict, and most without weight that are looked at. A
/// verdict must cost the same however many keys sign.
pub const WINDOW: usize = 64;

/// Signers of the highest weight that are needed to close a dispute: a challenger and [`RESPONSES`] others.
pub const QUORUM: u32 = 4;

/// Weight below which the measurements on one side of the tolerance decide nothing: one proven signer or
/// two known ones are enough. Without it the cheapest keys that weigh anything could put a record on a
/// frontier, or dispute one, one by one.
pub const ENOUGH: u32 = 2;

/// What the measurements of a record say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The measurements that count weigh less than [`ENOUGH`] on either side of the tolerance.
    Unverified,
    /// Those within tolerance weigh enough, and those outside do not.
    Verified,
    /// Those outside tolerance weigh enough, and too few others have measured.
    Disputed,
    /// A dispute closed in the record's favour.
    Upheld,
    /// A dispute closed against the record.
    Rejected,
}

impl Verdict {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Verified => "verified",
            Self::Disputed => "disputed",
            Self::Upheld => "upheld",
            Self::Rejected => "rejected",
        }
    }

    /// Whether the result is confirmed.
    pub const fn holds(self) -> bool {
        matches!(self, Self::Verified | Self::Upheld)
    }

    /// Whether the result is neither confirmed nor rejected.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Unverified | Self::Disputed)
    }
}

impl From<DisputeOutcome> for Verdict {
    fn from(outcome: DisputeOutcome) -> Self {
        match outcome {
            DisputeOutcome::Upheld => Self::Upheld,
            DisputeOutcome::Rejected => Self::Rejected,
        }
    }
}

/// How many signers measured a record, on each side. The publisher is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Support {
    /// Signers with weight that found a value within tolerance.
    pub trusted_for: u32,
    /// Signers with weight that found another value, or a reason.
    pub trusted_against: u32,
    /// Signers without weight that found a value within tolerance, of the first [`WINDOW`].
    pub unknown_for: u32,
    /// Signers without weight that found another value, or a reason, of the first [`WINDOW`].
    pub unknown_against: u32,
}

impl Support {
    fn count(&mut self, trusted: bool, within: bool) {
        let counter = match (trusted, within) {
            (true, true) => &mut self.trusted_for,
            (true, false) => &mut self.trusted_against,
            (false, true) => &mut self.unknown_for,
            (false, false) => &mut self.unknown_against,
        };
        *counter += 1;
    }
}

/// A dispute over a record, open or closed. The measurements outside tolerance weigh [`ENOUGH`].
#[derive(Clone, Debug, PartialEq)]
pub struct Dispute {
    /// The first in the window whose measurement is outside tolerance.
    pub challenger: NodeId,
    pub finding: Finding,
    /// Lowest time of a measurement outside tolerance, as its signer says, in Unix seconds. It decides
    /// nothing but how long verifiers wait for each other.
    pub opened: u64,
    /// Whether the verdict is upheld or rejected.
    pub closed: bool,
}

/// A verdict and what led to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    pub verdict: Verdict,
    /// The weighted median of a closed dispute. None if there is none, and if the median is a reason.
    pub ground_truth: Option<f64>,
    /// All measurements of the record, in (timestamp, id) order.
    pub measurements: Vec<Measurement>,
    pub support: Support,
    pub dispute: Option<Dispute>,
}

impl Assessment {
    /// The measurements that count: not ignored, and of signers with weight.
    pub fn counted(&self) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter().filter(|m| m.ignored.is_none() && m.weight > 0)
    }
}

/// Assesses a record by its measurements, with the weight of each signer in the record's class.
///
/// The measurements may come in any order and more than once. Their `weight` and `ignored` are set
/// here. Each signer counts once, with the measurement of the lowest event id among those that count
/// by [`Subject::ignores`]. Of the signers with weight the first [`WINDOW`] count, the heaviest first
/// and those of one weight by [`rank`], so that no number of new keys displaces a seed. Of the signers
/// without weight as many are shown.
pub fn assess(
    subject: &Subject,
    measurements: impl IntoIterator<Item = Measurement>,
    weight: impl Fn(&NodeId) -> u32,
) -> Assessment {
    let mut measurements: Vec<_> = measurements.into_iter().collect();
    measurements.sort_by_key(|m| m.event_id);
    measurements.dedup_by_key(|m| m.event_id);
    let mut signers = BTreeSet::new();
    for m in &mut measurements {
        m.weight = weight(&m.node);
        m.ignored = subject.ignores(m).or_else(|| (!signers.insert(m.node)).then_some(Ignored::Repeated));
    }
    measurements.sort_by_cached_key(|m| (Reverse(m.weight), rank(subject.id, m.node), m.event_id));
    let (mut trusted, mut unknown) = (0, 0);
    let mut support = Support::default();
    for m in measurements.iter_mut().filter(|m| m.ignored.is_none()) {
        let place = if m.weight > 0 { &mut trusted } else { &mut unknown };
        *place += 1;
        if *place > WINDOW {
            m.ignored = Some(Ignored::OutsideWindow);
        } else {
            support.count(m.weight > 0, subject.confirms(m.finding));
        }
    }
    let counted: Vec<_> = measurements.iter().filter(|m| m.ignored.is_none() && m.weight > 0).collect();
    let (verdict, ground_truth) = decide(subject, &counted, weight(&subject.publisher));
    let dispute = dispute(subject, &counted, verdict);
    measurements.sort_by_key(|m| (m.timestamp, m.event_id));
    Assessment { verdict, ground_truth, measurements, support, dispute }
}

/// The verdict and ground truth of the measurements that count, with the publisher's weight.
fn decide(subject: &Subject, counted: &[&Measurement], publisher: u32) -> (Verdict, Option<f64>) {
    // A seed's own claim is worth a measurement, so that a node alone in its class has a frontier.
    let own = if publisher >= SEED_WEIGHT && subject.status != Status::Crash { publisher } else { 0 };
    let weigh = |within: bool| counted.iter().filter(|m| subject.confirms(m.finding) == within).map(|m| m.weight).sum();
    let (within, outside): (u32, u32) = (weigh(true), weigh(false));
    let within = within + own;
    if outside < ENOUGH {
        return (if within < ENOUGH { Verdict::Unverified } else { Verdict::Verified }, None);
    }
    let total = within + outside;
    let largest = counted.iter().map(|m| m.weight).max().unwrap_or_default().max(own);
    if largest < SEED_WEIGHT && total < QUORUM * largest {
        return (Verdict::Disputed, None);
    }
    let mut values: Vec<_> = counted.iter().map(|m| (m.finding.on_scale(subject.goal), m.weight)).collect();
    // Seeds that disagree leave it to the others who have weight. An unknown publisher is not among them.
    let claim = if largest >= SEED_WEIGHT { publisher } else { publisher.max(1) };
    values.push((subject.metric, claim));
    let (low, high) = weighted_median(values);
    let truth = Some(low.midpoint(high)).filter(|truth| truth.is_finite());
    match (subject.agrees_with(low), subject.agrees_with(high)) {
        // A claim between findings on both sides of it is not thereby confirmed.
        (true, true) if within < ENOUGH => (Verdict::Disputed, None),
        (true, true) => (Verdict::Upheld, truth),
        (false, false) => (Verdict::Rejected, truth),
        _ => (Verdict::Disputed, None),
    }
}

/// The lower and the upper weighted median. They differ when the weights below and above are equal.
/// (0, 0) of no values.
fn weighted_median(mut values: Vec<(f64, u32)>) -> (f64, f64) {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: u64 = values.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let first = |enough: &dyn Fn(u64) -> bool| {
        let mut sum = 0;
        let mut reaches = |weight: u32| {
            sum += u64::from(weight);
            enough(2 * sum)
        };
        values.iter().find(|(_, weight)| reaches(*weight)).map_or(0.0, |(value, _)| *value)
    };
    (first(&|twice| twice >= total), first(&|twice| twice > total))
}

fn dispute(subject: &Subject, counted: &[&Measurement], verdict: Verdict) -> Option<Dispute> {
    if matches!(verdict, Verdict::Unverified | Verdict::Verified) {
        return None;
    }
    let against = || counted.iter().filter(|m| !subject.confirms(m.finding));
    let first = against().next()?;
    Some(Dispute {
        challenger: first.node,
        finding: first.finding,
        opened: against().map(|m| m.timestamp).min().unwrap_or_default(),
        closed: !verdict.is_open(),
    })
}

/// The facts of a `dispute` event by which `challenger` closes its challenge, for the existing network.
/// None while the verdict is open, and if no challenge of this node counts. The event decides nothing.
pub fn closing(subject: &Subject, task_id: TaskId, made: &Assessment, challenger: NodeId) -> Option<ClosedDispute> {
    let outcome = match made.verdict {
        Verdict::Upheld => DisputeOutcome::Upheld,
        Verdict::Rejected => DisputeOutcome::Rejected,
        _ => return None,
    };
    let own = made.counted().find(|m| m.node == challenger && m.kind == MeasurementKind::Challenge)?;
    let challenger_value = own.finding.value()?;
    let (mut winners, mut losers) = (Vec::new(), Vec::new());
    for m in made.counted().filter(|m| m.node != challenger) {
        let won = subject.confirms(m.finding) == (outcome == DisputeOutcome::Upheld);
        if won { &mut winners } else { &mut losers }.push(m.node);
    }
    Some(ClosedDispute {
        experiment_id: subject.id,
        task_id: Some(task_id),
        publisher: subject.publisher,
        challenger,
        challenger_value,
        outcome,
        ground_truth: made.ground_truth.unwrap_or(challenger_value),
        winners,
        losers,
    })
}

/// Ranks the nodes that may respond to a dispute, by [`rank`]. The first [`RESPONSES`] are assigned,
/// each of the others stands in when those before it stay silent.
///
/// `weighty` are the nodes with weight in the record's class. Fewer than [`RESPONSES`] of them: nobody
/// waits for anybody.
pub fn assigned(subject: &Subject, challenger: NodeId, weighty: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let may = |node: &NodeId| *node != subject.publisher && *node != challenger;
    let mut nodes: Vec<_> = weighty.into_iter().filter(may).map(|node| (rank(subject.id, node), node)).collect();
    nodes.sort();
    nodes.dedup();
    nodes.into_iter().map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests;
