//! How spawned work speaks to the network task, which alone holds the swarm.

use libp2p::{PeerId, gossipsub::MessageId, request_response::ResponseChannel};
use spore_base::fetch::FetchError;
use spore_ingest::{IngestHandle, Want};
use spore_protocol::{Cid, ObjectId, Reject, TaskId};
use spore_storage::Store;
use tokio::sync::{mpsc, oneshot};

use super::{
    exchange::{Lost, Reply},
    messages::{ArtifactAnswer, ArtifactRequest, ObjectsAnswer, ObjectsRequest, SyncAnswer, SyncRequest},
};

/// What gossip is to do with a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Pass it on.
    Accept,
    /// Neither pass it on nor hold it against the sender.
    Ignore,
    /// As `Ignore`, for an object that waits for its parent: peers hear of it when that has come.
    Held(ObjectId),
    Reject(Reject),
}

/// From spawned work to the network task.
pub enum Work {
    AskSync(PeerId, SyncRequest, Reply<SyncAnswer>),
    AskObjects(PeerId, ObjectsRequest, Reply<ObjectsAnswer>),
    AskArtifact(PeerId, ArtifactRequest, Reply<ArtifactAnswer>),
    AnswerSync(ResponseChannel<SyncAnswer>, SyncAnswer),
    AnswerObjects(ResponseChannel<ObjectsAnswer>, ObjectsAnswer),
    AnswerArtifact(ResponseChannel<ArtifactAnswer>, ArtifactAnswer),
    /// A gossip message has been judged.
    Verdict {
        message: MessageId,
        from: PeerId,
        verdict: Verdict,
    },
    Penalise(PeerId, Reject),
    Want(Want),
    /// A catch-up session ended.
    SessionOver(PeerId),
    /// Tasks that the store holds.
    Known(Vec<TaskId>),
    /// An artifact came, or did not.
    ArtifactOver(Cid, Result<(), FetchError>),
}

/// What spawned work holds. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub ingest: IngestHandle,
    pub work: mpsc::Sender<Work>,
}

impl Context {
    /// Asks a peer about a scope, its tasks, or tells it of news.
    pub async fn ask_sync(&self, peer: PeerId, request: SyncRequest) -> Result<SyncAnswer, Lost> {
        self.ask(|reply| Work::AskSync(peer, request, reply)).await
    }

    /// Asks a peer for objects by id.
    pub async fn ask_objects(&self, peer: PeerId, request: ObjectsRequest) -> Result<ObjectsAnswer, Lost> {
        self.ask(|reply| Work::AskObjects(peer, request, reply)).await
    }

    /// Asks a peer for a piece of an artifact.
    pub async fn ask_artifact(&self, peer: PeerId, request: ArtifactRequest) -> Result<ArtifactAnswer, Lost> {
        self.ask(|reply| Work::AskArtifact(peer, request, reply)).await
    }

    async fn ask<Answer>(&self, work: impl FnOnce(Reply<Answer>) -> Work) -> Result<Answer, Lost> {
        let (reply, answer) = oneshot::channel();
        self.tell(work(reply)).await;
        answer.await.unwrap_or(Err(Lost))
    }

    /// Counts a refusal and takes points from the peer.
    pub async fn penalise(&self, peer: PeerId, reject: Reject) {
        self.tell(Work::Penalise(peer, reject)).await;
    }

    /// Hands something to the network task. At shutdown nobody is left to tell, and nothing is lost by it.
    pub async fn tell(&self, work: Work) {
        let _ = self.work.send(work).await;
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
