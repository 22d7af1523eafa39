//! Jobs: everything that reads the store, waits for a peer or computes runs beside the network task.
//!
//! A job reaches the swarm only through [`JobContext`], which sends a [`JobMessage`] to the network task. A job's
//! result is an event of the machines ([`crate::state`]).
//!
//! | file | holds |
//! |---|---|
//! | `judge` | whether gossip forwards a message |
//! | `session` | the course of one catch-up session |
//! | `objects`, `wanted` | fetching objects by id |
//! | `artifact` | fetching an artifact |
//! | `serve` | answers to other peers |
//! | `shards` | digests of all tasks |
//! | `fruitless` | what comparisons with peers brought nothing |
//!
//! Never here: which job runs when, and with which peer.

pub mod artifact;
mod fruitless;
pub mod judge;
mod objects;
pub mod serve;
pub mod session;
mod shards;
pub mod wanted;

use std::time::Instant;

use libp2p::{PeerId, request_response::ResponseChannel};
use spore_base::clock::Clock;
use spore_ingest::{IngestHandle, Want};
use spore_protocol::Reject;
use spore_storage::Store;
use tokio::sync::{mpsc, oneshot};

pub use self::{fruitless::Fruitless, shards::TaskShards};
use crate::{
    exchange::{AnswerSender, NoAnswer},
    limits::PEERS_NAMED,
    messages::{ArtifactAnswer, ArtifactRequest, NamedPeer, ObjectsAnswer, ObjectsRequest, SyncAnswer, SyncRequest},
    state::{ClockEvent, DiscoveryEvent, FetchEvent, NetworkEvent, PeerEvent},
};

/// From a job to the network task.
pub enum JobMessage {
    AskSync(PeerId, SyncRequest, AnswerSender<SyncAnswer>),
    AskObjects(PeerId, ObjectsRequest, AnswerSender<ObjectsAnswer>),
    AskArtifact(PeerId, ArtifactRequest, AnswerSender<ArtifactAnswer>),
    AnswerSync(ResponseChannel<SyncAnswer>, SyncAnswer),
    AnswerObjects(ResponseChannel<ObjectsAnswer>, ObjectsAnswer),
    AnswerArtifact(ResponseChannel<ArtifactAnswer>, ArtifactAnswer),
    Event(NetworkEvent),
}

/// What every job holds. Cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    pub store: Store,
    pub shards: TaskShards,
    pub fruitless: Fruitless,
    pub ingest: IngestHandle,
    pub clock: Clock,
    pub messages: mpsc::Sender<JobMessage>,
}

impl JobContext {
    /// Asks a peer about a scope or about its tasks, or announces news to it.
    pub async fn ask_sync(&self, peer: PeerId, request: SyncRequest) -> Result<SyncAnswer, NoAnswer> {
        self.ask(|sender| JobMessage::AskSync(peer, request, sender)).await
    }

    /// Reads a peer's clock. The answer took as long as the question, as far as can be known.
    pub async fn ask_time(&self, peer: PeerId) -> NetworkEvent {
        let asked = Instant::now();
        let seconds = match self.ask_sync(peer, SyncRequest::Time).await {
            Ok(SyncAnswer::Time(seconds)) => Some(seconds),
            Ok(_) | Err(NoAnswer) => None,
        };
        let at = asked + asked.elapsed() / 2;
        NetworkEvent::Clock(ClockEvent::Told { peer, seconds, at })
    }

    /// Asks a peer for other peers.
    pub async fn ask_peers(&self, peer: PeerId) -> NetworkEvent {
        let peers = match self.ask_sync(peer, SyncRequest::Peers).await {
            Ok(SyncAnswer::Peers(peers)) => peers.iter().take(PEERS_NAMED).filter_map(NamedPeer::read).collect(),
            Ok(_) | Err(NoAnswer) => Vec::new(),
        };
        NetworkEvent::Discovery(DiscoveryEvent::Told { by: peer, peers })
    }

    /// Asks a peer for objects by id.
    pub async fn ask_objects(&self, peer: PeerId, request: ObjectsRequest) -> Result<ObjectsAnswer, NoAnswer> {
        self.ask(|sender| JobMessage::AskObjects(peer, request, sender)).await
    }

    /// Asks a peer for one chunk of an artifact.
    pub async fn ask_artifact(&self, peer: PeerId, request: ArtifactRequest) -> Result<ArtifactAnswer, NoAnswer> {
        self.ask(|sender| JobMessage::AskArtifact(peer, request, sender)).await
    }

    async fn ask<Answer>(&self, message: impl FnOnce(AnswerSender<Answer>) -> JobMessage) -> Result<Answer, NoAnswer> {
        let (sender, answer) = oneshot::channel();
        self.send(message(sender)).await;
        answer.await.unwrap_or(Err(NoAnswer))
    }

    /// Counts a refusal and takes points from the peer.
    pub async fn penalise(&self, peer: PeerId, reject: Reject) {
        self.send(JobMessage::Event(NetworkEvent::Peer(PeerEvent::Misbehaved(peer, reject)))).await;
    }

    /// Asks the network for an object.
    pub async fn want(&self, want: Want) {
        self.send(JobMessage::Event(NetworkEvent::Fetch(FetchEvent::Want(want)))).await;
    }

    /// Sends a message to the network task. At shutdown nobody receives it, and nothing is lost by that.
    pub async fn send(&self, message: JobMessage) {
        let _ = self.messages.send(message).await;
    }
}

/// Runs a store read away from the async threads. None when the store failed, which is logged, or at shutdown.
pub async fn read<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Option<T> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot read the store");
            None
        }
        Err(_) => None,
    }
}
