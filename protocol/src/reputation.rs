//! Reputation: a number from -100 to 100 for each node, summed up from verdicts.
//!
//! It is shown to users. It has no effect on what a node accepts.

use crate::{
    NodeId, ObjectId, Status,
    verdict::{Assessment, Subject, Verdict},
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
    /// Measured a record of somebody else, and the measurement counts.
    VerificationPerformed,
    /// Lost a dispute, as publisher or as challenger.
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

/// The deeds that follow from one record's assessment.
///
/// `advanced`: whether the record was better than each keep of its task and class with an earlier
/// (timestamp, id).
pub fn deeds(subject: &Subject, assessment: &Assessment, advanced: bool) -> Vec<DatedDeed> {
    let mut deeds = Vec::new();
    for m in assessment.counted() {
        let at = (m.timestamp, m.event_id.into());
        deeds.push(DatedDeed { at, node: m.node, deed: Deed::VerificationPerformed });
    }
    let settled = match (&assessment.dispute, assessment.verdict) {
        (Some(dispute), Verdict::Upheld | Verdict::Rejected) => dispute.closed.map(|(t, id)| (t, id.into())),
        (None, Verdict::Verified) => {
            let first = assessment.counted().find(|m| subject.agrees_with(m.value));
            first.map(|m| (m.timestamp, m.event_id.into()))
        }
        _ => None,
    };
    let Some(at) = settled else { return deeds };
    if assessment.verdict.holds() {
        let deed = if subject.status == Status::Keep { Deed::VerifiedKeep } else { Deed::VerifiedDiscard };
        deeds.push(DatedDeed { at, node: subject.publisher, deed });
        if advanced && subject.status == Status::Keep {
            deeds.push(DatedDeed { at, node: subject.publisher, deed: Deed::FrontierAdvance });
        }
    }
    if let Some(dispute) = &assessment.dispute {
        let loser = if assessment.verdict == Verdict::Upheld { dispute.challenger } else { subject.publisher };
        deeds.push(DatedDeed { at, node: loser, deed: Deed::DisputeLost });
    }
    deeds
}
