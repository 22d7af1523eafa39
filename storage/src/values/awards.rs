//! What nodes earned by a record. It is stored so that exactly these deeds are removed when the verdict changes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spore_protocol::{
    NodeId, ObjectId,
    reputation::{DatedDeed, Deed},
};

/// Deeds in the order in which those of one event count: the one worth most first.
const DEEDS: [Deed; 5] =
    [Deed::FrontierAdvance, Deed::VerifiedKeep, Deed::VerificationPerformed, Deed::VerifiedDiscard, Deed::DisputeLost];

/// The deed at this index of [`DEEDS`].
pub fn deed_of_rank(rank: u8) -> Option<Deed> {
    DEEDS.get(usize::from(rank)).copied()
}

/// One deed that follows from a record's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Award {
    pub node: NodeId,
    /// (timestamp, id) of the event that decided it.
    pub at: (u64, ObjectId),
    pub rank: u8,
}

/// The deeds that follow from a record's verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Awards(pub BTreeSet<Award>);

impl Awards {
    pub fn of(steps: &[DatedDeed]) -> Self {
        let award = |step: &DatedDeed| {
            let rank = DEEDS.iter().zip(0..).find(|(deed, _)| **deed == step.deed).map_or(u8::MAX, |(_, rank)| rank);
            Award { node: step.node, at: step.at, rank }
        };
        Self(steps.iter().map(award).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_the_deeds_of_one_event_as_the_protocol_does() {
        let worth: Vec<_> = DEEDS.iter().map(|deed| deed.delta()).collect();
        assert!(worth.is_sorted_by(|a, b| a > b), "{worth:?}");
        assert_eq!(deed_of_rank(4), Some(Deed::DisputeLost));
    }
}
