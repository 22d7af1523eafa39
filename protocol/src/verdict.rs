//! Whether a record's result holds, computed from the signed measurements about it.
//!
//! Version 1 of the rule. A pure function of the record and the set of events: every node that
//! knows the same objects computes the same verdict, whatever any event claims.

use std::{cmp::Ordering, collections::BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ControlBody, ControlEvent, EventId, HardwareClass, NodeId, RecordId, Status};

/// Responses that close a dispute, and verifiers assigned to one.
pub const RESPONSES: usize = 3;

/// What is known of a record's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No measurement counts.
    Unverified,
    /// At least one is within tolerance, and no challenge is open.
    Verified,
    /// A challenge outside tolerance is open.
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

    /// Whether the result may be built on as confirmed.
    pub const fn holds(self) -> bool {
        matches!(self, Self::Verified | Self::Upheld)
    }
}

/// The record judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    pub id: RecordId,
    pub publisher: NodeId,
    pub class: HardwareClass,
    pub status: Status,
    pub metric: f64,
}

/// One measurement, and why it does not count if it does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    pub event_id: EventId,
    pub kind: MeasurementKind,
    pub node: NodeId,
    pub class: HardwareClass,
    pub value: f64,
    /// Unix seconds.
    pub timestamp: u64,
    /// Why it does not count, if it does not.
    pub ignored: Option<Ignored>,
}

/// The type of the event that carries a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MeasurementKind {
    Verification,
    Challenge,
    ChallengeResponse,
}

impl MeasurementKind {
    /// The event's type as it is signed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verification => "verification",
            Self::Challenge => "challenge",
            Self::ChallengeResponse => "challenge_response",
        }
    }
}

/// Why a measurement does not count. The text is shown to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Ignored {
    #[error("measured by the publisher itself")]
    OwnRecord,
    #[error("the record is a crash and has no metric")]
    Crash,
    #[error("another hardware class")]
    OtherClass,
    #[error("not this node's first measurement")]
    NotFirst,
}

/// A challenge outside tolerance, and how it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispute {
    pub challenger: NodeId,
    pub challenger_value: f64,
    /// Nodes and values of the first [`RESPONSES`] responses that count, in order.
    pub responses: Vec<(NodeId, f64)>,
    /// Median of record, challenger and responses, once closed.
    pub ground_truth: Option<f64>,
    /// When it was opened, as (timestamp, id) of the challenge.
    pub opened: (u64, EventId),
    /// The event that closed it.
    pub closed: Option<(u64, EventId)>,
}

/// A verdict with what led to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// In (timestamp, id) order.
    pub measurements: Vec<Measurement>,
    pub dispute: Option<Dispute>,
}

impl Judgement {
    /// Measurements that count.
    pub fn counted(&self) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter().filter(|m| m.ignored.is_none())
    }
}

/// Judges a record by the control events about it, given in any order, duplicates allowed.
///
/// The first challenge outside tolerance opens the dispute. It is closed by three responses to
/// that challenger, or by the challenger's own `dispute` event once at least one response came
/// (a challenger alone cannot overturn a record: docs/adr/0006).
pub fn judge<'a>(subject: &Subject, events: impl IntoIterator<Item = (EventId, &'a ControlEvent)>) -> Judgement {
    let mut events: Vec<_> = events.into_iter().filter(|(_, e)| e.experiment_id() == Some(subject.id)).collect();
    events.sort_by_key(|(id, event)| (event.timestamp, *id));
    events.dedup_by_key(|(id, _)| *id);

    let measurements = measure(subject, &events);
    let tolerance = subject.class.tolerance();
    let within = |value: f64| (value - subject.metric).abs() <= tolerance;
    let opening =
        measurements.iter().find(|m| m.ignored.is_none() && m.kind == MeasurementKind::Challenge && !within(m.value));
    let dispute = opening.map(|challenge| follow(subject, challenge, &measurements, &events));
    let verdict = match &dispute {
        Some(Dispute { ground_truth: Some(truth), .. }) if within(*truth) => Verdict::Upheld,
        Some(Dispute { ground_truth: Some(_), .. }) => Verdict::Rejected,
        Some(_) => Verdict::Disputed,
        None if measurements.iter().any(|m| m.ignored.is_none() && within(m.value)) => Verdict::Verified,
        None => Verdict::Unverified,
    };
    Judgement { verdict, measurements, dispute }
}

fn measure(subject: &Subject, events: &[(EventId, &ControlEvent)]) -> Vec<Measurement> {
    let mut seen = BTreeSet::new();
    let mut measurements = Vec::new();
    for (event_id, event) in events {
        let (kind, rerun) = match &event.body {
            ControlBody::Verification(rerun) => (MeasurementKind::Verification, rerun),
            ControlBody::Challenge(rerun) => (MeasurementKind::Challenge, rerun),
            ControlBody::ChallengeResponse { rerun, .. } => (MeasurementKind::ChallengeResponse, rerun),
            _ => continue,
        };
        let class = HardwareClass::of(&rerun.gpu);
        let ignored = if rerun.node_id == subject.publisher {
            Some(Ignored::OwnRecord)
        } else if subject.status == Status::Crash {
            Some(Ignored::Crash)
        } else if class != subject.class {
            Some(Ignored::OtherClass)
        } else if !seen.insert(rerun.node_id) {
            Some(Ignored::NotFirst)
        } else {
            None
        };
        let (node, value, timestamp) = (rerun.node_id, rerun.value, event.timestamp);
        measurements.push(Measurement { event_id: *event_id, kind, node, class, value, timestamp, ignored });
    }
    measurements
}

fn follow(
    subject: &Subject,
    challenge: &Measurement,
    measurements: &[Measurement],
    events: &[(EventId, &ControlEvent)],
) -> Dispute {
    let answers_this = |event_id: &EventId| {
        events.iter().any(|(id, event)| {
            id == event_id
                && matches!(&event.body, ControlBody::ChallengeResponse { challenger_id, .. } if *challenger_id == challenge.node)
        })
    };
    let at = |m: &Measurement| (m.timestamp, m.event_id);
    let all: Vec<_> = measurements
        .iter()
        .filter(|m| m.ignored.is_none() && m.kind == MeasurementKind::ChallengeResponse && answers_this(&m.event_id))
        .take(RESPONSES)
        .collect();
    let third = (all.len() == RESPONSES).then(|| all.last().map(|m| at(m))).flatten();
    let first = all.first().map(|m| at(m));
    let withdrawn = events
        .iter()
        .filter(
            |(_, e)| matches!(&e.body, ControlBody::Dispute { challenger_id, .. } if *challenger_id == challenge.node),
        )
        .map(|(id, event)| (event.timestamp, *id))
        .find(|closing| first.is_some_and(|first| first < *closing));
    let closed = [third, withdrawn].into_iter().flatten().min();
    let responses: Vec<_> =
        all.into_iter().filter(|m| closed.is_none_or(|closed| at(m) <= closed)).map(|m| (m.node, m.value)).collect();
    let ground_truth = closed.map(|_| {
        let mut values = vec![subject.metric, challenge.value];
        values.extend(responses.iter().map(|(_, value)| *value));
        median(&mut values)
    });
    Dispute {
        challenger: challenge.node,
        challenger_value: challenge.value,
        responses,
        ground_truth,
        opened: at(challenge),
        closed,
    }
}

/// The middle value, or the mean of the middle two. 0 of nothing.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |i: usize| values.get(i).copied().unwrap_or_default();
    if values.len() % 2 == 1 { at(middle) } else { at(middle.saturating_sub(1)).midpoint(at(middle)) }
}

/// Ranks the nodes that may answer a challenge: the first [`RESPONSES`] are assigned, the next ones
/// stand in while these stay silent.
///
/// `published_before` are the nodes that published in the record's class before the challenge.
/// The rank is the lowest SHA-256 of `experiment_id:challenger_id:node_id` as hex text.
pub fn assigned(
    subject: &Subject,
    challenger: NodeId,
    published_before: impl IntoIterator<Item = NodeId>,
) -> Vec<NodeId> {
    let rank = |node: &NodeId| -> [u8; 32] { Sha256::digest(format!("{}:{challenger}:{node}", subject.id)).into() };
    let mut nodes: Vec<_> = published_before
        .into_iter()
        .filter(|node| *node != subject.publisher && *node != challenger)
        .map(|node| (rank(&node), node))
        .collect();
    nodes.sort_by(|a, b| a.0.cmp(&b.0).then(Ordering::Equal));
    nodes.dedup();
    nodes.into_iter().map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ClosedDispute, DisputeOutcome, Rerun};

    const PUBLISHER: NodeId = NodeId([1; 32]);

    fn subject() -> Subject {
        Subject {
            id: RecordId([9; 32]),
            publisher: PUBLISHER,
            class: HardwareClass::of("CPU"),
            status: Status::Keep,
            metric: 1.0,
        }
    }

    fn rerun(node: u8, value: f64) -> Rerun {
        Rerun { experiment_id: RecordId([9; 32]), task_id: None, node_id: NodeId([node; 32]), gpu: "CPU".into(), value }
    }

    fn verification(node: u8, value: f64, at: u64) -> ControlEvent {
        ControlEvent::verification(rerun(node, value), PUBLISHER, false, at)
    }

    fn response(node: u8, value: f64, at: u64) -> ControlEvent {
        ControlEvent::challenge_response(rerun(node, value), NodeId([5; 32]), at)
    }

    fn dispute(challenger: u8, at: u64) -> ControlEvent {
        let closed = ClosedDispute {
            experiment_id: RecordId([9; 32]),
            task_id: None,
            publisher: PUBLISHER,
            challenger: NodeId([challenger; 32]),
            challenger_value: 1.5,
            outcome: DisputeOutcome::Rejected,
            ground_truth: 1.5,
            winners: vec![],
            losers: vec![],
        };
        ControlEvent::dispute(&closed, at)
    }

    fn verdict(events: &[ControlEvent]) -> Verdict {
        let ids = |i: usize| EventId([u8::try_from(i).unwrap(); 32]);
        let forward = judge(&subject(), events.iter().enumerate().map(|(i, e)| (ids(i), e)));
        let backward = judge(&subject(), events.iter().enumerate().rev().map(|(i, e)| (ids(i), e)));
        assert_eq!(forward, backward, "a verdict depends on the set alone");
        forward.verdict
    }

    #[test]
    fn one_measurement_within_tolerance_verifies() {
        assert_eq!(verdict(&[]), Verdict::Unverified);
        assert_eq!(verdict(&[verification(2, 1.0019, 10)]), Verdict::Verified);
        assert_eq!(verdict(&[verification(2, 1.003, 10)]), Verdict::Unverified);
        assert_eq!(verdict(&[verification(1, 1.0, 10)]), Verdict::Unverified, "the publisher is no verifier");
        let mut other = rerun(2, 1.0);
        other.gpu = "H100".into();
        assert_eq!(verdict(&[ControlEvent::verification(other, PUBLISHER, false, 1)]), Verdict::Unverified);
    }

    #[test]
    fn a_nodes_first_measurement_is_the_one_that_counts() {
        assert_eq!(verdict(&[verification(5, 1.0, 1), ControlEvent::challenge(rerun(5, 2.0), 2)]), Verdict::Verified);
        assert_eq!(verdict(&[verification(5, 1.0, 3), ControlEvent::challenge(rerun(5, 2.0), 2)]), Verdict::Disputed);
    }

    #[test]
    fn three_responses_close_a_dispute_by_their_median() {
        let challenge = ControlEvent::challenge(rerun(5, 1.5), 1);
        let upheld = [challenge.clone(), response(6, 1.0, 2), response(7, 1.001, 3), response(8, 1.5, 4)];
        assert_eq!(verdict(&upheld[..3]), Verdict::Disputed);
        assert_eq!(verdict(&upheld), Verdict::Upheld);
        let rejected = [challenge, response(6, 1.5, 2), response(7, 1.5, 3), response(8, 1.0, 4), response(9, 1.0, 5)];
        assert_eq!(verdict(&rejected), Verdict::Rejected, "a fourth response does not matter");
    }

    #[test]
    fn a_challenger_closes_its_dispute_only_after_a_response() {
        let challenge = ControlEvent::challenge(rerun(5, 1.5), 1);
        assert_eq!(verdict(&[challenge.clone(), dispute(5, 9)]), Verdict::Disputed);
        assert_eq!(verdict(&[challenge.clone(), response(6, 1.0, 2), dispute(4, 9)]), Verdict::Disputed);
        assert_eq!(verdict(&[challenge.clone(), response(6, 1.0, 2), dispute(5, 9)]), Verdict::Upheld);
        assert_eq!(verdict(&[challenge, response(6, 1.5, 2), dispute(5, 9), response(7, 1.0, 10)]), Verdict::Rejected);
    }

    #[test]
    fn assignment_excludes_the_parties_and_ignores_order() {
        let nodes: Vec<_> = (1..9).map(|n| NodeId([n; 32])).collect();
        let challenger = NodeId([5; 32]);
        let ranked = assigned(&subject(), challenger, nodes.clone());
        assert_eq!(ranked.len(), 6);
        assert!(!ranked.contains(&PUBLISHER) && !ranked.contains(&challenger));
        assert_eq!(ranked, assigned(&subject(), challenger, nodes.into_iter().rev()));
    }
}
