//! The border between the hub, which has the sockets opened, and the sessions, which speak on them.

use std::{io, net::SocketAddr, sync::Arc};

use spore_base::peer_address::PeerAddress;
use spore_ingest::{IngestHandle, SessionId, StoreEvent};
use spore_protocol::Cid;
use spore_storage::Store;
use tokio::sync::{Semaphore, broadcast, oneshot};

use super::{hub::HubHandle, limits::LARGE_KIB};

/// Who opened a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    /// We did, under this address.
    Dialled(PeerAddress),
    /// The peer did.
    Accepted,
}

/// A connection's two ends.
#[derive(Clone, Debug)]
pub struct Link {
    pub id: SessionId,
    pub direction: Direction,
    /// The peer's end; for an accepted connection its port says nothing of where the peer listens.
    pub remote: SocketAddr,
}

/// What all sessions use of the rest of the node.
#[derive(Clone, Debug)]
pub struct Shared {
    pub store: Store,
    pub ingest: IngestHandle,
    /// Subscribed to only to be woken: what changed is read from the store's log.
    pub events: broadcast::Sender<StoreEvent>,
    pub hub: HubHandle,
    /// The room for what is large, in KiB ([`large`]).
    pub large: Arc<Semaphore>,
}

/// Room for all that sessions hold of what is large.
pub fn large() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(LARGE_KIB).unwrap_or(usize::MAX)))
}

/// What so many bytes take of it.
pub fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(LARGE_KIB).min(LARGE_KIB)
}

/// Sessions share one of these.
pub type SharedRef = Arc<Shared>;

/// An order to a session.
#[derive(Debug)]
pub enum SessionCommand {
    /// Ask the peer for an artifact. Answered with its bytes, which hash to `cid`; with none when the
    /// peer does not have it (it then says nothing, so that takes a while) or has too much to do.
    FetchArtifact { cid: Cid, reply: oneshot::Sender<Option<Vec<u8>>> },
    /// Close the connection.
    Close,
}

/// How far a session is, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionState {
    /// One side at least is sending its history.
    #[default]
    Syncing,
    /// Each side has what the other had; what is new is passed on as it comes.
    Live,
}

impl SessionState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Live => "live",
        }
    }
}

/// What a session tells the hub now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Signed objects that came, known ones too.
    pub received: u64,
    /// Signed objects sent.
    pub sent: u64,
    pub state: SessionState,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer took nothing for too long")]
    Stalled,
    #[error("the peer said nothing for too long, or stopped in the middle of a message")]
    TimedOut,
    #[error("the peer sent too much that is wrong")]
    Misbehaved,
    #[error("more answers waited for the peer than are kept")]
    Overloaded,
    #[error("the connection was closed here")]
    Dismissed,
    #[error("the node is shutting down")]
    Shutdown,
    #[error("{0}")]
    Io(io::ErrorKind),
}
