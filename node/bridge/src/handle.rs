//! What others hold of the bridge: orders to its task, and what it knows now.

use std::{net::SocketAddr, sync::Arc};

use futures::{StreamExt, pin_mut, stream};
use spore_base::peer_address::PeerAddress;
use spore_protocol::Cid;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    book::TooManyNamed,
    hub::{BridgePeer, HubHandle},
    limits::{COMMANDS, FETCH_AT_ONCE, FETCH_SESSIONS, FETCH_TIMEOUT, FETCHES},
    link::SessionCommand,
};

/// Why a peer is not connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// It is not dialled again.
    #[error("it is this node itself")]
    Own,
    /// It is not dialled at all.
    #[error(transparent)]
    TooMany(#[from] TooManyNamed),
    /// It is dialled again.
    #[error("{0}")]
    Unreachable(String),
    /// It is not dialled again: somebody asked for that while it was being dialled.
    #[error("it was disconnected before it answered")]
    Disconnected,
    #[error("the node is shutting down")]
    Closed,
}

/// An order to the bridge's task.
#[derive(Debug)]
pub enum Command {
    Connect(PeerAddress, oneshot::Sender<Result<(), ConnectError>>),
    Disconnect(PeerAddress, oneshot::Sender<bool>),
}

/// The way to the bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BridgeHandle {
    hub: HubHandle,
    commands: mpsc::Sender<Command>,
    fetches: Arc<Semaphore>,
}

impl BridgeHandle {
    /// A handle and the queue that the bridge's task reads.
    pub(super) fn channel(hub: HubHandle) -> (Self, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(COMMANDS);
        (Self { hub, commands, fetches: Arc::new(Semaphore::new(FETCHES)) }, queue)
    }

    /// Dials a peer and waits for the connection. Whether or not it answers, the peer is dialled again,
    /// whenever it is not connected, until the node ends or [`BridgeHandle::disconnect`].
    ///
    /// # Errors
    /// Why it was not reached now.
    pub async fn connect(&self, peer: PeerAddress) -> Result<(), ConnectError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Connect(peer, reply)).await.map_err(|_| ConnectError::Closed)?;
        answer.await.map_err(|_| ConnectError::Closed)?
    }

    /// Closes the connections with a peer, whoever opened them, and dials it no more. False when it
    /// was neither connected nor dialled.
    pub async fn disconnect(&self, peer: &PeerAddress) -> bool {
        let (reply, answer) = oneshot::channel();
        match self.commands.send(Command::Disconnect(peer.clone(), reply)).await {
            Ok(()) => answer.await.unwrap_or(false),
            Err(_) => false,
        }
    }

    /// Who is connected, the longest first.
    pub fn snapshot(&self) -> Vec<BridgePeer> {
        self.hub.snapshot()
    }

    /// Where legacy peers are listened for; empty when they are not.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.hub.listening()
    }

    /// An artifact of at most `limit` bytes, from whichever connected peer has it; its bytes hash to
    /// `cid`.
    pub async fn fetch_artifact(&self, cid: Cid, limit: u64) -> Option<Vec<u8>> {
        let _turn = self.fetches.acquire().await.ok()?;
        let sessions = self.hub.sessions().into_iter().take(FETCH_SESSIONS);
        let answers = stream::iter(sessions).map(|session| ask(session, cid)).buffer_unordered(FETCH_AT_ONCE);
        let found = answers.filter_map(async |bytes| bytes.filter(|bytes| bytes.len() as u64 <= limit));
        pin_mut!(found);
        found.next().await
    }
}

async fn ask(session: mpsc::Sender<SessionCommand>, cid: Cid) -> Option<Vec<u8>> {
    let (reply, answer) = oneshot::channel();
    // A full queue is a session that has too much to do already.
    session.try_send(SessionCommand::FetchArtifact { cid, reply }).ok()?;
    timeout(FETCH_TIMEOUT, answer).await.ok()?.ok()?
}
