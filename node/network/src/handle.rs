//! What others hold of the network: a bounded queue of commands to its task.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId};
use spore_base::fetch::ARTIFACT_LIMIT;
use spore_base::fetch::FetchError;
use spore_protocol::{Cid, NodeId, TaskId};
use tokio::sync::{mpsc, oneshot};

/// Commands waiting for the network task. Callers wait when it is full.
pub const COMMANDS: usize = 256;

/// A connected peer.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    pub peer_id: PeerId,
    /// The Spore node of the same key.
    pub node_id: Option<NodeId>,
    pub address: Multiaddr,
    /// From identify, such as `spore/0.1.0`.
    pub agent: Option<String>,
    pub connected: Duration,
    /// Gossipsub's score less penalty points; below 0 is bad.
    pub score: f64,
}

/// The network at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub peers: Vec<PeerInfo>,
    pub listen_addresses: Vec<Multiaddr>,
    pub external_addresses: Vec<Multiaddr>,
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

/// An order to the network task.
#[derive(Debug)]
pub enum Command {
    Dial(Multiaddr, oneshot::Sender<Result<(), String>>),
    Disconnect(PeerId),
    Snapshot(oneshot::Sender<Snapshot>),
    /// Subscribe to a task's topics and catch up on it.
    Follow(TaskId),
    /// Fetch an artifact of at most `limit` bytes into the store, asking `hint`'s node first when
    /// connected.
    FetchArtifact {
        cid: Cid,
        hint: Option<NodeId>,
        limit: u64,
        reply: oneshot::Sender<Result<(), FetchError>>,
    },
}

/// The way to the network task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NetworkHandle {
    commands: mpsc::Sender<Command>,
}

impl NetworkHandle {
    /// A handle and the queue that the network task reads.
    pub fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(COMMANDS);
        (Self { commands }, queue)
    }

    async fn send(&self, command: Command) -> Result<(), NetworkClosed> {
        self.commands.send(command).await.map_err(|_| NetworkClosed)
    }

    /// Dials an address and waits for the connection.
    ///
    /// # Errors
    /// What libp2p says of the attempt.
    pub async fn dial(&self, address: Multiaddr) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Dial(address, reply)).await.map_err(|e| e.to_string())?;
        answer.await.map_err(|_| NetworkClosed.to_string())?
    }

    /// Closes all connections to a peer.
    ///
    /// # Errors
    /// At shutdown.
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), NetworkClosed> {
        self.send(Command::Disconnect(peer)).await
    }

    /// Peers, addresses and counters now.
    ///
    /// # Errors
    /// At shutdown.
    pub async fn snapshot(&self) -> Result<Snapshot, NetworkClosed> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Snapshot(reply)).await?;
        answer.await.map_err(|_| NetworkClosed)
    }

    /// Subscribes to a task's topics and catches up on it. Tasks in the store are followed anyway.
    ///
    /// # Errors
    /// At shutdown.
    pub async fn follow(&self, task: TaskId) -> Result<(), NetworkClosed> {
        self.send(Command::Follow(task)).await
    }

    /// Brings an artifact into the store, from `hint`'s node first when connected.
    ///
    /// # Errors
    /// [`FetchError`] when no peer has it, it is too large, or the store refuses it.
    pub async fn fetch_artifact(&self, cid: Cid, hint: Option<NodeId>) -> Result<(), FetchError> {
        self.fetch_artifact_within(cid, hint, ARTIFACT_LIMIT).await
    }

    /// As [`NetworkHandle::fetch_artifact`], of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`NetworkHandle::fetch_artifact`].
    pub async fn fetch_artifact_within(&self, cid: Cid, hint: Option<NodeId>, limit: u64) -> Result<(), FetchError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::FetchArtifact { cid, hint, limit, reply }).await?;
        answer.await.map_err(|_| FetchError::Closed)?
    }
}
