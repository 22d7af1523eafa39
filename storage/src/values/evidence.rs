//! The evidence for a record's verdict. It is stored so that it can be shown without reading the events again, and so
//! that exactly these deeds are removed when the verdict changes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spore_protocol::{
    EventId, NodeId, ObjectId,
    reputation::{DatedDeed, Deed},
    verdict::Assessment,
};

use crate::types::CountedMeasurement;

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

/// The measurements that count in a record's verdict, and the deeds that follow from it.
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

    pub fn measured(self) -> Vec<CountedMeasurement> {
        let measured =
            |(event_id, node, timestamp, kind, value)| CountedMeasurement { event_id, node, timestamp, kind, value };
        self.counted.into_iter().map(measured).collect()
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
