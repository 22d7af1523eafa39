//! Verdicts: whether a record's result holds, computed from the signed measurements about it.
//!
//! This is version 1 of the rule. It is a pure function of the record and the set of events, so all
//! nodes that know the same objects compute the same verdict. What an event claims has no effect,
//! only what it measured.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    ControlBody, ControlEvent, EventId, HardwareClass, NodeId, RecordId, Status, TaskId,
    control::{ClosedDispute, DisputeOutcome},
};

/// Responses that close a dispute, and verifiers assigned to it.
pub const RESPONSES: usize = 3;

/// What the measurements of a record say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No measurement is within tolerance, and there is no dispute.
    Unverified,
    /// At least one measurement is within tolerance, and there is no dispute.
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

    /// Whether the result is confirmed.
    pub const fn holds(self) -> bool {
        matches!(self, Self::Verified | Self::Upheld)
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

/// The facts about a record that its verdict depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    pub id: RecordId,
    pub publisher: NodeId,
    pub class: HardwareClass,
    pub status: Status,
    /// The metric that the publisher recorded.
    pub metric: f64,
}

impl Subject {
    /// Whether a measured value is within tolerance of the recorded metric.
    pub fn agrees_with(&self, value: f64) -> bool {
        (value - self.metric).abs() <= self.class.tolerance()
    }

    /// The outcome of a dispute with this ground truth.
    fn outcome(&self, ground_truth: f64) -> DisputeOutcome {
        if self.agrees_with(ground_truth) { DisputeOutcome::Upheld } else { DisputeOutcome::Rejected }
    }

    /// The median of the record, the challenger and the responses.
    fn ground_truth(&self, challenger_value: f64, responses: &[(NodeId, f64)]) -> f64 {
        let mut values = vec![self.metric, challenger_value];
        values.extend(responses.iter().map(|(_, value)| *value));
        median(&mut values)
    }
}

/// One measurement out of a control event.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    pub event_id: EventId,
    pub kind: MeasurementKind,
    /// The node that measured.
    pub node: NodeId,
    pub class: HardwareClass,
    pub value: f64,
    /// Unix seconds.
    pub timestamp: u64,
    /// Why the measurement does not count. None if it counts.
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
    #[error("not its signer's first measurement")]
    NotFirst,
}

/// A dispute over a record, open or closed. A challenge outside tolerance opened it.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispute {
    pub challenger: NodeId,
    pub challenger_value: f64,
    /// Nodes and values of the responses that count, at most [`RESPONSES`], in (timestamp, id) order.
    pub responses: Vec<(NodeId, f64)>,
    /// Median of record, challenger and responses. None while the dispute is open.
    pub ground_truth: Option<f64>,
    /// (timestamp, id) of the challenge.
    pub opened: (u64, EventId),
    /// (timestamp, id) of the event that closed the dispute. None while it is open.
    pub closed: Option<(u64, EventId)>,
}

/// A verdict and what led to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    pub verdict: Verdict,
    /// All measurements of the record, in (timestamp, id) order.
    pub measurements: Vec<Measurement>,
    pub dispute: Option<Dispute>,
}

impl Assessment {
    /// The measurements that count.
    pub fn counted(&self) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter().filter(|m| m.ignored.is_none())
    }
}

/// Assesses a record by the control events about it. The events may come in any order and more than
/// once; events about other records are left out.
///
/// The first challenge outside tolerance opens the dispute. [`RESPONSES`] responses to its challenger
/// close it. The challenger's own `dispute` event closes it too, once there is a response: without
/// that condition a challenger alone could overturn any record (docs/adr/0006).
pub fn assess<'a>(subject: &Subject, events: impl IntoIterator<Item = (EventId, &'a ControlEvent)>) -> Assessment {
    let mut events: Vec<_> = events.into_iter().filter(|(_, e)| e.experiment_id() == Some(subject.id)).collect();
    events.sort_by_key(|(id, event)| (event.timestamp, *id));
    events.dedup_by_key(|(id, _)| *id);

    let measurements = measurements(subject, &events);
    let opens =
        |m: &&Measurement| m.ignored.is_none() && m.kind == MeasurementKind::Challenge && !subject.agrees_with(m.value);
    let dispute = measurements.iter().find(opens).map(|challenge| dispute(subject, challenge, &measurements, &events));
    let verdict = match &dispute {
        Some(Dispute { ground_truth: Some(truth), .. }) => subject.outcome(*truth).into(),
        Some(_) => Verdict::Disputed,
        None if measurements.iter().any(|m| m.ignored.is_none() && subject.agrees_with(m.value)) => Verdict::Verified,
        None => Verdict::Unverified,
    };
    Assessment { verdict, measurements, dispute }
}

/// What the challenger of a dispute should do.
#[derive(Clone, Debug, PartialEq)]
pub enum ChallengerStep {
    /// Wait for more responses.
    Wait,
    /// Publish a `dispute` event with these facts.
    Close(ClosedDispute),
}

/// The step that the challenger of a dispute should take, unless it has closed the dispute already.
///
/// A settled dispute is closed at once. An open one with at least one response is closed when
/// `waited_enough`, which the challenger decides by its own clock. The numbers are those of the
/// responses so far.
pub fn challenger_step(subject: &Subject, task_id: TaskId, dispute: &Dispute, waited_enough: bool) -> ChallengerStep {
    if dispute.ground_truth.is_none() && (dispute.responses.is_empty() || !waited_enough) {
        return ChallengerStep::Wait;
    }
    let so_far = || subject.ground_truth(dispute.challenger_value, &dispute.responses);
    let ground_truth = dispute.ground_truth.unwrap_or_else(so_far);
    let outcome = subject.outcome(ground_truth);
    let on_winning_side = |value: f64| subject.agrees_with(value) == (outcome == DisputeOutcome::Upheld);
    let (mut winners, mut losers) = (Vec::new(), Vec::new());
    for (node, value) in &dispute.responses {
        if on_winning_side(*value) { &mut winners } else { &mut losers }.push(*node);
    }
    ChallengerStep::Close(ClosedDispute {
        experiment_id: subject.id,
        task_id: Some(task_id),
        publisher: subject.publisher,
        challenger: dispute.challenger,
        challenger_value: dispute.challenger_value,
        outcome,
        ground_truth,
        winners,
        losers,
    })
}

/// Ranks the nodes that may respond to a challenge. The first [`RESPONSES`] are assigned, each of the
/// others stands in when those before it stay silent.
///
/// `published_before` are the nodes that published in the record's class before the challenge. The
/// rank is the SHA-256 of `experiment_id:challenger_id:node_id` as hex text, lowest first.
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
    nodes.sort();
    nodes.dedup();
    nodes.into_iter().map(|(_, node)| node).collect()
}

/// The measurements in the events, which are sorted.
fn measurements(subject: &Subject, events: &[(EventId, &ControlEvent)]) -> Vec<Measurement> {
    let mut seen = BTreeSet::new();
    let mut measurements = Vec::new();
    for (event_id, event) in events {
        let (kind, rerun) = match &event.body {
            ControlBody::Verification(rerun) => (MeasurementKind::Verification, rerun),
            ControlBody::Challenge(rerun) => (MeasurementKind::Challenge, rerun),
            ControlBody::ChallengeResponse { rerun, .. } => (MeasurementKind::ChallengeResponse, rerun),
            ControlBody::Dispute { .. } | ControlBody::Other { .. } => continue,
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

/// The state of the dispute that `challenge` opened.
fn dispute(
    subject: &Subject,
    challenge: &Measurement,
    measurements: &[Measurement],
    events: &[(EventId, &ControlEvent)],
) -> Dispute {
    let by_challenger = |node: &NodeId| *node == challenge.node;
    let responds = |event_id: &EventId| {
        events.iter().any(|(id, event)| {
            id == event_id
                && matches!(&event.body, ControlBody::ChallengeResponse { challenger_id, .. } if by_challenger(challenger_id))
        })
    };
    let at = |m: &Measurement| (m.timestamp, m.event_id);
    let all: Vec<_> = measurements
        .iter()
        .filter(|m| m.ignored.is_none() && m.kind == MeasurementKind::ChallengeResponse && responds(&m.event_id))
        .take(RESPONSES)
        .collect();
    let first = all.first().map(|m| at(m));
    let last_needed = all.get(RESPONSES - 1).map(|m| at(m));
    let closed_by_challenger = events
        .iter()
        .filter(|(_, e)| matches!(&e.body, ControlBody::Dispute { challenger_id, .. } if by_challenger(challenger_id)))
        .map(|(id, event)| (event.timestamp, *id))
        .find(|closing| first.is_some_and(|first| first < *closing));
    let closed = [last_needed, closed_by_challenger].into_iter().flatten().min();
    let responses: Vec<_> =
        all.into_iter().filter(|m| closed.is_none_or(|closed| at(m) <= closed)).map(|m| (m.node, m.value)).collect();
    Dispute {
        challenger: challenge.node,
        challenger_value: challenge.value,
        ground_truth: closed.map(|_| subject.ground_truth(challenge.value, &responses)),
        responses,
        opened: at(challenge),
        closed,
    }
}

/// The middle value, or the mean of the middle two. 0 of no values.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |i: usize| values.get(i).copied().unwrap_or_default();
    if values.len() % 2 == 1 { at(middle) } else { at(middle.saturating_sub(1)).midpoint(at(middle)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Rerun;

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
        let forward = assess(&subject(), events.iter().enumerate().map(|(i, e)| (ids(i), e)));
        let backward = assess(&subject(), events.iter().enumerate().rev().map(|(i, e)| (ids(i), e)));
        assert_eq!(forward, backward, "a verdict depends on the set of events alone");
        forward.verdict
    }

    #[test]
    fn one_measurement_within_tolerance_verifies() {
        assert_eq!(verdict(&[]), Verdict::Unverified);
        assert_eq!(verdict(&[verification(2, 1.0019, 10)]), Verdict::Verified);
        assert_eq!(verdict(&[verification(2, 1.003, 10)]), Verdict::Unverified);
        assert_eq!(
            verdict(&[verification(1, 1.0, 10)]),
            Verdict::Unverified,
            "the publisher cannot verify its own record"
        );
        let mut other = rerun(2, 1.0);
        other.gpu = "H100".into();
        assert_eq!(verdict(&[ControlEvent::verification(other, PUBLISHER, false, 1)]), Verdict::Unverified);
    }

    #[test]
    fn first_measurement_of_a_node_counts() {
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
    fn challenger_closes_its_dispute_only_after_a_response() {
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

    #[test]
    fn challenger_waits_until_a_response_came_and_closes_with_its_numbers() {
        let dispute = |responses: &[(u8, f64)], ground_truth| Dispute {
            challenger: NodeId([5; 32]),
            challenger_value: 1.5,
            responses: responses.iter().map(|(node, value)| (NodeId([*node; 32]), *value)).collect(),
            ground_truth,
            opened: (1, EventId([0; 32])),
            closed: ground_truth.map(|_| (9, EventId([9; 32]))),
        };
        let step =
            |dispute: &Dispute, waited_enough| challenger_step(&subject(), TaskId([7; 32]), dispute, waited_enough);
        assert_eq!(step(&dispute(&[], None), true), ChallengerStep::Wait);
        assert_eq!(step(&dispute(&[(6, 1.5)], None), false), ChallengerStep::Wait);
        let ChallengerStep::Close(early) = step(&dispute(&[(6, 1.5)], None), true) else { panic!("closes") };
        assert_eq!((early.outcome, early.ground_truth), (DisputeOutcome::Rejected, 1.5));
        let settled = dispute(&[(6, 1.0), (7, 1.5), (8, 1.001)], Some(1.001));
        let ChallengerStep::Close(closed) = step(&settled, false) else { panic!("closes") };
        assert_eq!((closed.outcome, closed.ground_truth), (DisputeOutcome::Upheld, 1.001));
        assert_eq!(closed.winners, [NodeId([6; 32]), NodeId([8; 32])]);
        assert_eq!(closed.losers, [NodeId([7; 32])]);
    }
}
