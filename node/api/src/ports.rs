//! Narrow traits for what the API needs of the rest of the node.
//!
//! The API knows neither libp2p nor the bridge nor the trainer: the binary implements these traits over them.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use libp2p_identity::PeerId;
use spore_base::{peer::Peer, peer_address::PeerAddress};
use spore_protocol::TaskId;

use super::{dto, problem::ApiError};

/// The state of both networks at one moment.
#[derive(Clone, Debug, Default)]
pub struct NetworksSnapshot {
    pub peers: Vec<dto::ConnectedPeer>,
    /// Multiaddrs on which libp2p listens.
    pub listen_addresses: Vec<String>,
    /// Whether and how libp2p peers reach this node.
    pub network: dto::NetworkStatus,
    /// Addresses on which the bridge listens. Empty when it does not listen.
    pub legacy_listen_addresses: Vec<String>,
    /// Messages that could not be decoded since the start, counted by the code of the reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// A peer that a request names and that the node may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownPeer {
    Libp2p(PeerId),
    Legacy(PeerAddress),
}

/// Both networks of a running node: libp2p, and the bridge to legacy peers.
pub trait Networks: Send + Sync {
    /// The peers, addresses and counters now. Empty while the node stops.
    fn snapshot(&self) -> BoxFuture<'_, NetworksSnapshot>;

    /// Subscribes to a task and catches up on it.
    ///
    /// # Errors
    /// 503 while the node stops.
    fn follow(&self, task: TaskId) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Dials a peer and waits for the connection. The node dials a legacy peer again whenever it is not connected,
    /// until the node stops or [`Networks::disconnect`] is called.
    ///
    /// # Errors
    /// 409 when the peer is this node or may not be dialled, 503 when the peer does not answer.
    fn connect(&self, peer: Peer) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Closes all connections to a peer. The node does not dial a legacy peer again.
    ///
    /// # Errors
    /// 404 for a legacy peer that is neither connected nor dialled, 503 while the node stops.
    fn disconnect(&self, peer: KnownPeer) -> BoxFuture<'_, Result<(), ApiError>>;
}

/// Creates tasks. Implemented by the part of the node that has the trainer.
pub trait TaskMaker: Send + Sync {
    /// Checks the draft, signs its manifest and publishes the manifest.
    ///
    /// # Errors
    /// 400 for a script that cannot be used or a task that the trainer cannot run, 404 for a dataset that is not in the
    /// store, 503 when the task cannot be stored now.
    fn create(&self, draft: dto::NewTask) -> BoxFuture<'_, Result<TaskId, ApiError>>;
}
