//! What the hub and the sessions exchange about one connection: its two ends, commands, statistics, its end.

use std::{io, net::SocketAddr};

use spore_base::peer_address::PeerAddress;
use spore_ingest::SessionId;
use spore_protocol::Cid;
use tokio::sync::oneshot;

/// Who opened a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkDirection {
    /// This node dialled this address.
    Dialled(PeerAddress),
    /// The peer dialled this node.
    Accepted,
}

/// One connection: its name and its two ends.
#[derive(Clone, Debug)]
pub struct Link {
    pub id: SessionId,
    pub direction: LinkDirection,
    /// The peer's end. The port of an accepted connection is not the port that the peer listens on.
    pub remote: SocketAddr,
}

/// A command to a session.
#[derive(Debug)]
pub enum SessionCommand {
    /// Ask the peer for an artifact. The reply is its bytes, which hash to `cid`. The reply is None when the session
    /// has too many requests already, and when the peer does not have the artifact: such a peer sends no answer, so
    /// this takes a while.
    FetchArtifact { cid: Cid, reply: oneshot::Sender<Option<Vec<u8>>> },
    /// Close the connection.
    Close,
}

/// How far the exchange of histories is. For display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPhase {
    /// At least one side is sending its history.
    #[default]
    Syncing,
    /// Each side has the other's history. New objects are passed on as they come.
    Live,
}

impl SyncPhase {
    /// The name that the API uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Live => "live",
        }
    }
}

/// What a session reports to the hub now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Signed objects received, including known ones.
    pub received: u64,
    /// Signed objects sent.
    pub sent: u64,
    /// The peer sent a message of the protocol. Until then, any program may have accepted the connection.
    pub answered: bool,
    pub phase: SyncPhase,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer read nothing for too long")]
    Stalled,
    #[error("the peer sent nothing for too long, or stopped in the middle of a message")]
    TimedOut,
    #[error("the peer sent too many invalid messages and is banned")]
    Misbehaved,
    #[error("the peer asked for more answers than are queued for one peer")]
    Overloaded,
    #[error("this node closed the connection")]
    Dismissed,
    #[error("the node is shutting down")]
    Shutdown,
    #[error("{0}")]
    Io(io::ErrorKind),
}

impl SessionEnd {
    /// Whether the log reports this end at level info. The others are everyday events.
    pub const fn is_noteworthy(self) -> bool {
        matches!(self, Self::Misbehaved | Self::Overloaded | Self::Stalled | Self::TimedOut)
    }
}
