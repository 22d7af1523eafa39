//! The handle through which the rest of the node uses the network: a bounded queue of commands to the network task.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId};
use spore_base::fetch::{ARTIFACT_LIMIT, FetchError};
use spore_protocol::{Cid, NodeId, TaskId};
use tokio::sync::{mpsc, oneshot};

use crate::state::{NatKind, Reachability};

/// Commands that wait for the network task. A caller waits while the queue is full.
pub const COMMANDS: usize = 256;

/// A connected peer.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    pub peer_id: PeerId,
    /// The node id of the same key.
    pub node_id: Option<NodeId>,
    /// Of the connection that counts: a direct one, if there is one.
    pub address: Multiaddr,
    /// Whether the peer is reached through a relay.
    pub relayed: bool,
    /// Why there is no direct connection with a peer that is reached through a relay, as far as it is known.
    pub not_direct: Option<String>,
    /// The peer's name for its program, such as `spore/0.1.0`. None before identify has reported it.
    pub agent: Option<String>,
    /// Time since the first connection.
    pub connected: Duration,
    /// gossipsub's score, penalty points subtracted. Below 0 is bad.
    pub score: f64,
}

/// A relay through which others reach this node.
#[derive(Clone, Debug)]
pub struct RelayInfo {
    pub peer_id: PeerId,
    pub address: Multiaddr,
    /// Time since the reservation was granted. None while it is asked for.
    pub held: Option<Duration>,
}

/// Whether and how others reach this node.
#[derive(Clone, Debug, Default)]
pub struct ReachInfo {
    pub reachability: Reachability,
    /// The operator decided it.
    pub fixed: bool,
    /// Public addresses that a test or a connection confirmed.
    pub confirmed: Vec<Multiaddr>,
    /// How the router maps ports. None when it is not known, or without one.
    pub nat: Option<NatKind>,
    /// What became of the request for a forwarded port.
    pub port_mapping: Option<String>,
    pub relays: Vec<RelayInfo>,
    /// Whether this node serves as a relay.
    pub serves: bool,
    /// Reservations of other nodes here.
    pub reservations: usize,
    /// Circuits between other nodes through this one.
    pub circuits: usize,
}

/// The network at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub peers: Vec<PeerInfo>,
    pub listen_addresses: Vec<Multiaddr>,
    pub external_addresses: Vec<Multiaddr>,
    pub reach: ReachInfo,
    /// Messages refused since the start, by [`spore_protocol::Reject::code`].
    pub rejected: BTreeMap<&'static str, u64>,
    pub tasks_followed: usize,
}

/// The network has shut down.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the network has shut down")]
pub struct NetworkClosed;

impl From<NetworkClosed> for FetchError {
    fn from(_: NetworkClosed) -> Self {
        Self::Closed
    }
}

/// A command to the network task.
#[derive(Debug)]
pub enum NetworkCommand {
    /// Dial an address, and report when the connection is there.
    Dial(Multiaddr, oneshot::Sender<Result<(), String>>),
    /// Close all connections to a peer.
    Disconnect(PeerId),
    Snapshot(oneshot::Sender<Snapshot>),
    /// Subscribe to a task's topics and catch up on it.
    Follow(TaskId),
    /// Fetch an artifact of at most `limit` bytes into the store. The node `hint` is asked first, if it is connected.
    FetchArtifact {
        cid: Cid,
        hint: Option<NodeId>,
        limit: u64,
        reply: oneshot::Sender<Result<(), FetchError>>,
    },
}

/// Handle to the network task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NetworkHandle {
    commands: mpsc::Sender<NetworkCommand>,
}

impl NetworkHandle {
    /// A handle and the queue that the network task reads.
    pub fn channel() -> (Self, mpsc::Receiver<NetworkCommand>) {
        let (commands, queue) = mpsc::channel(COMMANDS);
        (Self { commands }, queue)
    }

    async fn send(&self, command: NetworkCommand) -> Result<(), NetworkClosed> {
        self.commands.send(command).await.map_err(|_| NetworkClosed)
    }

    /// Dials an address and waits for the connection.
    ///
    /// # Errors
    /// libp2p's reason, when the dial fails.
    pub async fn dial(&self, address: Multiaddr) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.send(NetworkCommand::Dial(address, reply)).await.map_err(|e| e.to_string())?;
        answer.await.map_err(|_| NetworkClosed.to_string())?
    }

    /// Closes all connections to a peer.
    ///
    /// # Errors
    /// When the network has shut down.
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), NetworkClosed> {
        self.send(NetworkCommand::Disconnect(peer)).await
    }

    /// Peers, addresses and counters now.
    ///
    /// # Errors
    /// When the network has shut down.
    pub async fn snapshot(&self) -> Result<Snapshot, NetworkClosed> {
        let (reply, answer) = oneshot::channel();
        self.send(NetworkCommand::Snapshot(reply)).await?;
        answer.await.map_err(|_| NetworkClosed)
    }

    /// Subscribes to a task's topics and catches up on it. Tasks in the store are followed anyway.
    ///
    /// # Errors
    /// When the network has shut down.
    pub async fn follow(&self, task: TaskId) -> Result<(), NetworkClosed> {
        self.send(NetworkCommand::Follow(task)).await
    }

    /// Fetches an artifact into the store. The node `hint` is asked first, if it is connected.
    ///
    /// # Errors
    /// [`FetchError`] when no peer has it, it is too large, or the store refuses it.
    pub async fn fetch_artifact(&self, cid: Cid, hint: Option<NodeId>) -> Result<(), FetchError> {
        self.fetch_artifact_within(cid, hint, ARTIFACT_LIMIT).await
    }

    /// As [`NetworkHandle::fetch_artifact`], with a limit of `limit` bytes.
    ///
    /// # Errors
    /// As [`NetworkHandle::fetch_artifact`].
    pub async fn fetch_artifact_within(&self, cid: Cid, hint: Option<NodeId>, limit: u64) -> Result<(), FetchError> {
        let (reply, answer) = oneshot::channel();
        self.send(NetworkCommand::FetchArtifact { cid, hint, limit, reply }).await?;
        answer.await.map_err(|_| FetchError::Closed)?
    }
}
