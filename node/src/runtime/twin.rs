//! Notices another node that runs with this node's key: it signs what this node did not sign.
//!
//! Two nodes with one key are one peer to all others, which connect with one or the other of them. Their records are
//! valid, so nothing is refused; the user is told.

use spore_base::{
    shutdown::{Shutdown, stopped},
    warnings::{WarningTopic, Warnings},
};
use spore_ingest::{Origin, StoreEvent};
use spore_protocol::NodeId;
use tokio::sync::broadcast::{self, error::RecvError};

/// Runs until the node shuts down. `started`: Unix seconds. What this key signed before may be this node's own, which
/// other nodes return to a restored store.
pub async fn watch(
    own: NodeId,
    started: u64,
    warnings: Warnings,
    mut events: broadcast::Receiver<StoreEvent>,
    mut shutdown: Shutdown,
) {
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) if is_of_twin(&event, own, started) => warnings.set(
                    WarningTopic::Twin,
                    "another node runs with this node's key: it signs what this node did not; give one of them a new identity",
                ),
                // An event that was missed is followed by others.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => stopped(&mut shutdown).await,
            },
            () = stopped(&mut shutdown) => return,
        }
    }
}

fn is_of_twin(event: &StoreEvent, own: NodeId, started: u64) -> bool {
    let came = matches!(event.origin, Origin::Gossip(_) | Origin::Sync(_) | Origin::Bridge(_));
    came && event.object.signer() == own && event.object.timestamp() > started
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spore_base::peer_id::peer_id;
    use spore_ingest::Ingest;
    use spore_protocol::{NodeProfile, SignedObject, VerifiedObject, fixtures};
    use spore_storage::Store;

    use super::*;

    fn profile(by: u8, timestamp: u64) -> SignedObject {
        let by = fixtures::identity(by);
        let profile = NodeProfile { timestamp, ..fixtures::profile(&by, "Sybil") };
        VerifiedObject::from(by.sign(&profile).unwrap()).into_signed()
    }

    #[tokio::test]
    async fn object_of_this_key_that_came_from_a_peer_betrays_a_second_node() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (_stop, shutdown) = tokio::sync::watch::channel(false);
        let (ingest, events, _wants, _task) = Ingest::spawn(store, Arc::new(|| 5000), shutdown);
        let mut events = events.subscribe();
        let own = fixtures::identity(1).node_id();
        let peer = peer_id(&fixtures::identity(3).node_id()).unwrap();
        for (object, origin, expected) in [
            (profile(1, 900), Origin::Sync(peer), false),
            (profile(1, 1100), Origin::Local, false),
            (profile(2, 1200), Origin::Sync(peer), false),
            (profile(1, 1300), Origin::Gossip(peer), true),
        ] {
            ingest.submit(origin, object).await.unwrap();
            let event = events.recv().await.unwrap();
            assert_eq!(is_of_twin(&event, own, 1000), expected, "{event:?}");
        }
    }
}
