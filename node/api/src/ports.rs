//! What the API needs of the rest of the node, as narrow traits.
//!
//! The API knows neither libp2p nor the bridge nor the trainer: the binary implements these traits over them.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use libp2p_identity::PeerId;
use spore_base::{peer::Peer, peer_address::PeerAddress};
use spore_protocol::TaskId;

use super::{dto, problem::ApiError};

/// Both networks at one moment.
#[derive(Clone, Debug, Default)]
pub struct NetworksSnapshot {
    pub peers: Vec<dto::Peer>,
    /// Multiaddrs that libp2p listens on.
    pub listen_addresses: Vec<String>,
    /// Addresses that the bridge listens on; empty when it does not listen.
    pub legacy_listen_addresses: Vec<String>,
    /// Messages that could not be decoded since the start, by the code of the reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// How a request names a peer that is known already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownPeer {
    Libp2p(PeerId),
    Legacy(PeerAddress),
}

/// Both networks of a running node: libp2p, and the bridge to legacy peers.
pub trait Networks: Send + Sync {
    /// Peers, addresses and counters now. Empty while the node shuts down.
    fn snapshot(&self) -> BoxFuture<'_, NetworksSnapshot>;

    /// Subscribes to a task and catches up on it.
    ///
    /// # Errors
    /// 503 while the node shuts down.
    fn follow(&self, task: TaskId) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Dials a peer and waits for the connection. A legacy peer is dialled again whenever it is not connected, until
    /// the node ends or [`Networks::disconnect`].
    ///
    /// # Errors
    /// 409 when the peer is this node or may not be dialled, 503 when the peer does not answer.
    fn connect(&self, peer: Peer) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Closes all connections to a peer. A legacy peer is not dialled again.
    ///
    /// # Errors
    /// 404 for a legacy peer that is neither connected nor dialled, 503 while the node shuts down.
    fn disconnect(&self, peer: KnownPeer) -> BoxFuture<'_, Result<(), ApiError>>;
}

/// Makes new tasks; the trainer's part of the node.
pub trait TaskMaker: Send + Sync {
    /// Checks the draft, signs a manifest and publishes the manifest.
    ///
    /// # Errors
    /// 400 for a script that cannot be used and for what the trainer cannot do, 404 for a dataset that is not in the
    /// store, 503 when the task cannot be stored now.
    fn create(&self, draft: dto::NewTask) -> BoxFuture<'_, Result<TaskId, ApiError>>;
}
