//! Fetching wanted objects: missing parents, bodies of announcements, and whatever else `ingest` lacks.

use libp2p::PeerId;
use spore_ingest::Origin;
use spore_protocol::{Kind, ObjectId};

use super::{JobContext, objects};

/// Asks these peers, one after the other, for the objects that are still missing. An object that no peer brought is
/// wanted again by the next look for missing parents.
pub async fn fetch(context: &JobContext, kind: Kind, mut ids: Vec<ObjectId>, peers: Vec<PeerId>) {
    for peer in peers {
        ids = objects::missing(context, peer, kind, ids).await;
        if ids.is_empty() {
            return;
        }
        // Objects that do not fit one answer are left to the next peer.
        if let Err(error) = objects::fetch(context, peer, kind, ids.clone(), Origin::Sync(peer)).await {
            tracing::debug!(%peer, %error, "cannot fetch wanted objects");
        }
    }
}
