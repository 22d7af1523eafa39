//! What a verdict rests on, kept so that it is shown without reading the events again, and taken
//! back exactly when the verdict changes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spore_protocol::{
    EventId, NodeId, ObjectId,
    reputation::{DatedDeed, Deed},
    verdict::Assessment,
};

use crate::types::Measured;

/// Deeds in the order in which one event's are folded: the most worth first.
const DEEDS: [Deed; 5] =
    [Deed::FrontierAdvance, Deed::VerifiedKeep, Deed::VerificationPerformed, Deed::VerifiedDiscard, Deed::DisputeLost];

/// The deed with this place in [`DEEDS`].
pub fn deed_of_rank(rank: u8) -> Option<Deed> {
    DEEDS.get(usize::from(rank)).copied()
}

/// One deed that follows from a record's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Award {
    pub node: NodeId,
    /// (timestamp, id) of the event that settled it.
    pub at: (u64, ObjectId),
    pub rank: u8,
}

/// What counts in a record's judgement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// In (timestamp, id) order.
    pub counted: Vec<(EventId, NodeId, u64, String, f64)>,
    pub awards: BTreeSet<Award>,
}

impl Evidence {
    pub fn of(judgement: &Assessment, steps: &[DatedDeed]) -> Self {
        let counted = judgement.counted().map(|m| (m.event_id, m.node, m.timestamp, m.kind.name().to_owned(), m.value));
        let award = |step: &DatedDeed| {
            let rank = DEEDS.iter().zip(0..).find(|(deed, _)| **deed == step.deed).map_or(u8::MAX, |(_, rank)| rank);
            Award { node: step.node, at: step.at, rank }
        };
        Self { counted: counted.collect(), awards: steps.iter().map(award).collect() }
    }

    pub fn measured(self) -> Vec<Measured> {
        let measured = |(event_id, node, timestamp, kind, value)| Measured { event_id, node, timestamp, kind, value };
        self.counted.into_iter().map(measured).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_the_deeds_of_one_event_as_the_protocol_folds_them() {
        let worth: Vec<_> = DEEDS.iter().map(|deed| deed.delta()).collect();
        assert!(worth.is_sorted_by(|a, b| a > b), "{worth:?}");
        assert_eq!(deed_of_rank(4), Some(Deed::DisputeLost));
    }
}
