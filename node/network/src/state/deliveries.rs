//! Which peers are of use: those that are the first to bring objects of signers with confirmed work. Keys and records are
//! free, confirmed work is not.

use std::{collections::BTreeSet, time::Instant};

use libp2p::PeerId;
use spore_ingest::{Origin, StoreEvent};
use spore_protocol::NodeId;

use crate::limits::{DELIVERIES, USEFUL_INTERVAL};

/// Who brought objects of whom since the last look.
#[derive(Debug)]
pub struct Deliveries {
    brought: BTreeSet<(PeerId, NodeId)>,
    looked: Instant,
}

impl Deliveries {
    pub const fn new(now: Instant) -> Self {
        Self { brought: BTreeSet::new(), looked: now }
    }

    /// The store has a new object.
    pub fn stored(&mut self, event: &StoreEvent) {
        if let Origin::Gossip(peer) | Origin::Sync(peer) = event.origin
            && self.brought.len() < DELIVERIES
        {
            self.brought.insert((peer, event.object.signer()));
        }
    }

    /// The signers to look up now, each with a peer that brought an object of it.
    pub fn look(&mut self, now: Instant) -> Option<Vec<(PeerId, NodeId)>> {
        if self.brought.is_empty() || now.saturating_duration_since(self.looked) < USEFUL_INTERVAL {
            return None;
        }
        self.looked = now;
        Some(std::mem::take(&mut self.brought).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::{
        Kind, SignedObject,
        fixtures::{identity, record, sign},
    };
    use spore_storage::Change;

    use super::*;

    fn stored(origin: Origin, signer: u8) -> StoreEvent {
        let record = record(&identity(signer), None, None);
        let object = SignedObject::Experiment(sign(&identity(signer), &record).into_signed());
        let change = Change { sequence: 1, kind: Kind::Experiment, id: object.id(), task_id: None };
        StoreEvent { change, object, origin }
    }

    #[test]
    fn deliveries_of_peers_are_looked_up_together_and_are_bounded() {
        let (start, peer) = (Instant::now(), PeerId::random());
        let mut deliveries = Deliveries::new(start);
        for origin in [Origin::Gossip(peer), Origin::Sync(peer), Origin::Local, Origin::Import] {
            deliveries.stored(&stored(origin, 1));
        }
        assert_eq!(deliveries.look(start), None);
        let later = start + USEFUL_INTERVAL;
        assert_eq!(deliveries.look(later), Some(vec![(peer, identity(1).node_id())]));
        for _ in 0..2 * DELIVERIES {
            deliveries.stored(&stored(Origin::Gossip(PeerId::random()), 1));
        }
        assert_eq!(deliveries.look(later), None, "too soon");
        assert_eq!(deliveries.look(later + USEFUL_INTERVAL).unwrap().len(), DELIVERIES);
    }
}
