//! What the rest of the node uses of the bridge: commands to its task, and what it knows now.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use futures::{StreamExt, pin_mut, stream};
use spore_base::peer_address::PeerAddress;
use spore_protocol::Cid;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{
    book::TooManyNamed,
    hub::{BridgePeer, HubHandle},
    limits::{ANSWER_INTERVAL, ANSWER_WITHIN, COMMANDS, FETCH_AT_ONCE, FETCH_SESSIONS, FETCH_TIMEOUT, FETCHES},
    link::{LinkDirection, SessionCommand},
};

/// Why a peer is not connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address is not dialled again.
    #[error("the address is this node's own")]
    Own,
    /// The peer is not dialled at all.
    #[error(transparent)]
    TooMany(#[from] TooManyNamed),
    /// The peer is dialled again.
    #[error("{0}")]
    Unreachable(String),
    /// The peer is not dialled again, because somebody asked for that while it was being dialled.
    #[error("the peer was disconnected before it answered")]
    Disconnected,
    /// The connection was accepted, and ended without a message of the protocol.
    #[error("the program at this address sent no message of the existing network")]
    Foreign,
    /// The connection was accepted, and nothing came within [`ANSWER_WITHIN`].
    #[error(
        "the program at this address took the connection and sent no message of the existing network within {} s",
        ANSWER_WITHIN.as_secs()
    )]
    Silent,
    #[error("the node is shutting down")]
    Closed,
}

/// A command to the bridge's task.
#[derive(Debug)]
pub enum BridgeCommand {
    Connect(PeerAddress, oneshot::Sender<Result<(), ConnectError>>),
    Disconnect(PeerAddress, oneshot::Sender<bool>),
}

/// Handle to the running bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BridgeHandle {
    hub: HubHandle,
    commands: mpsc::Sender<BridgeCommand>,
    fetches: Arc<Semaphore>,
}

impl BridgeHandle {
    /// A handle, and the queue of its commands.
    pub(super) fn channel(hub: HubHandle) -> (Self, mpsc::Receiver<BridgeCommand>) {
        let (commands, queue) = mpsc::channel(COMMANDS);
        (Self { hub, commands, fetches: Arc::new(Semaphore::new(FETCHES)) }, queue)
    }

    /// Dials a peer and waits for the connection. Whether the peer answers or not, it is dialled again whenever it is
    /// not connected, until the node ends or [`BridgeHandle::disconnect`].
    ///
    /// # Errors
    /// Why the peer is not connected now.
    pub async fn connect(&self, peer: PeerAddress) -> Result<(), ConnectError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(BridgeCommand::Connect(peer, reply)).await.map_err(|_| ConnectError::Closed)?;
        answer.await.map_err(|_| ConnectError::Closed)?
    }

    /// Waits until a peer that [`BridgeHandle::connect`] reached has sent a message of the protocol. The protocol has no
    /// handshake, but every peer answers the requests that begin a connection.
    ///
    /// # Errors
    /// [`ConnectError::Foreign`] when the connection ends first, [`ConnectError::Silent`] when nothing comes in time.
    pub async fn answered(&self, peer: &PeerAddress) -> Result<(), ConnectError> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let dialled = |open: &BridgePeer| matches!(&open.link.direction, LinkDirection::Dialled(to) if to == peer);
            match self.hub.snapshot().iter().find(|open| dialled(open)) {
                Some(open) if open.stats.answered => return Ok(()),
                Some(_) if Instant::now() < deadline => sleep(ANSWER_INTERVAL).await,
                // The peer dialled this node, and that connection is the one that was kept.
                None if !self.hub.sessions_with(peer).is_empty() => return Ok(()),
                Some(_) => return Err(ConnectError::Silent),
                None => return Err(ConnectError::Foreign),
            }
        }
    }

    /// Closes all connections with a peer, whoever opened them, and stops dialling it. False when it was neither
    /// connected nor dialled.
    pub async fn disconnect(&self, peer: &PeerAddress) -> bool {
        let (reply, answer) = oneshot::channel();
        match self.commands.send(BridgeCommand::Disconnect(peer.clone(), reply)).await {
            Ok(()) => answer.await.unwrap_or(false),
            Err(_) => false,
        }
    }

    /// The connected peers, the longest connected first.
    pub fn snapshot(&self) -> Vec<BridgePeer> {
        self.hub.snapshot()
    }

    /// The addresses on which the bridge listens. Empty when it does not listen.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.hub.listening()
    }

    /// An artifact of at most `limit` bytes, from any connected peer that has it. Its bytes hash to `cid`.
    pub async fn fetch_artifact(&self, cid: Cid, limit: u64) -> Option<Vec<u8>> {
        let _permit = self.fetches.acquire().await.ok()?;
        let sessions = self.hub.sessions().into_iter().take(FETCH_SESSIONS);
        let answers = stream::iter(sessions).map(|session| ask(session, cid)).buffer_unordered(FETCH_AT_ONCE);
        let found = answers.filter_map(async |bytes| bytes.filter(|bytes| bytes.len() as u64 <= limit));
        pin_mut!(found);
        found.next().await
    }
}

async fn ask(session: mpsc::Sender<SessionCommand>, cid: Cid) -> Option<Vec<u8>> {
    let (reply, answer) = oneshot::channel();
    // A session whose queue is full has too much to do already.
    session.try_send(SessionCommand::FetchArtifact { cid, reply }).ok()?;
    timeout(FETCH_TIMEOUT, answer).await.ok()?.ok()?
}
