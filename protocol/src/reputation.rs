//! Reputation: a number from -100 to 100 for each node, summed up from local verdicts.
//!
//! It is shown to users. It has no effect on what a node accepts.

use crate::{
    Measurement, NodeId, ObjectId, Status,
    verdict::{Assessment, Subject},
};

/// Lowest and highest reputation.
pub const LIMITS: (f64, f64) = (-100.0, 100.0);

/// What a node did that changes its reputation. The points are those that the reference publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Published a keep that was confirmed.
    VerifiedKeep,
    /// Published a discard that was confirmed.
    VerifiedDiscard,
    /// Published a confirmed keep that was better than each earlier one.
    FrontierAdvance,
    /// Measured a record of somebody else, and the verdict agrees.
    VerificationPerformed,
    /// Lost a dispute, as publisher or as one of the challengers.
    DisputeLost,
}

impl Deed {
    /// Points that the deed adds to the reputation.
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

/// A deed and when it was settled. Deeds are added up in the order of `at`, then of the node, then
/// with the highest points first, and the sum is clamped to [`LIMITS`] after each one.
#[derive(Clone, Debug, PartialEq)]
pub struct DatedDeed {
    /// (timestamp, id) of the event that settled the deed.
    pub at: (u64, ObjectId),
    pub node: NodeId,
    pub deed: Deed,
}

/// The deeds that follow from one record's local assessment. Nothing follows while it is open.
///
/// `advanced`: whether the record was better than each keep of its task and class with an earlier
/// (timestamp, id).
pub fn deeds(subject: &Subject, assessment: &Assessment, advanced: bool) -> Vec<DatedDeed> {
    let mut deeds = Vec::new();
    if assessment.verdict.is_open() {
        return deeds;
    }
    let holds = assessment.verdict.holds();
    let at = |m: &Measurement| (m.timestamp, ObjectId::from(m.event_id));
    for m in assessment.counted() {
        let right = subject.confirms(m.finding) == holds;
        // Who challenged a record that holds lost. Who confirmed a refuted one gets nothing.
        let deed = match (right, holds) {
            (true, _) => Deed::VerificationPerformed,
            (false, true) => Deed::DisputeLost,
            (false, false) => continue,
        };
        deeds.push(DatedDeed { at: at(m), node: m.node, deed });
    }
    // A seed's claim that nobody else measured is no deed.
    let on_winning_side = |m: &&Measurement| subject.confirms(m.finding) == holds;
    let Some(at) = assessment.counted().filter(on_winning_side).map(at).min() else { return deeds };
    let node = subject.publisher;
    let mut add = |deed| deeds.push(DatedDeed { at, node, deed });
    match (holds, subject.status) {
        (false, _) => add(Deed::DisputeLost),
        (true, Status::Keep) => add(Deed::VerifiedKeep),
        (true, _) => add(Deed::VerifiedDiscard),
    }
    if holds && advanced && subject.status == Status::Keep {
        add(Deed::FrontierAdvance);
    }
    deeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EventId, Finding, Goal, HardwareClass, RecordId, measurement::MeasurementKind, trust::PROVEN_WEIGHT,
        verdict::assess,
    };

    const PUBLISHER: NodeId = NodeId([1; 32]);

    fn of(values: &[(u8, f64)]) -> Vec<(u8, Deed)> {
        let class = HardwareClass::of("CPU");
        let (id, status, goal) = (RecordId([9; 32]), Status::Keep, Goal::Minimize);
        let subject =
            Subject { id, publisher: PUBLISHER, class: class.clone(), status, metric: 1.0, timestamp: 0, goal };
        let measured = values.iter().map(|(node, value)| Measurement {
            event_id: EventId([*node; 32]),
            node: NodeId([*node; 32]),
            class: class.clone(),
            finding: Finding::Value(*value),
            kind: MeasurementKind::Challenge,
            timestamp: u64::from(*node),
            weight: 0,
            ignored: None,
        });
        let made = assess(&subject, measured, |node| if node.0[0] < 10 { PROVEN_WEIGHT } else { 0 });
        let mut deeds: Vec<_> = deeds(&subject, &made, true).iter().map(|d| (d.node.0[0], d.deed)).collect();
        deeds.sort_by_key(|(node, deed)| (*node, format!("{deed:?}")));
        deeds
    }

    #[test]
    fn unknown_signers_earn_and_cost_nothing() {
        assert_eq!(of(&[(10, 1.0), (11, 1.0), (12, 5.0)]), []);
    }

    #[test]
    fn confirmed_record_pays_its_publisher_and_its_verifiers() {
        use Deed::{FrontierAdvance, VerificationPerformed, VerifiedKeep};
        assert_eq!(of(&[(2, 1.0), (10, 7.0)]), [(1, FrontierAdvance), (1, VerifiedKeep), (2, VerificationPerformed)]);
    }

    #[test]
    fn refuted_record_pays_nobody_who_confirmed_it_and_costs_its_publisher() {
        use Deed::{DisputeLost, VerificationPerformed};
        let deeds = of(&[(2, 1.5), (3, 1.5), (4, 1.5), (5, 1.0)]);
        assert_eq!(
            deeds,
            [(1, DisputeLost), (2, VerificationPerformed), (3, VerificationPerformed), (4, VerificationPerformed)]
        );
    }

    #[test]
    fn upheld_record_costs_its_challengers() {
        let deeds = of(&[(2, 1.0), (3, 1.0), (4, 1.0), (5, 1.5)]);
        assert!(deeds.contains(&(5, Deed::DisputeLost)) && deeds.contains(&(1, Deed::VerifiedKeep)));
        assert_eq!(of(&[(2, 1.0), (3, 1.5)]), [], "nothing follows while a dispute is open");
    }
}
