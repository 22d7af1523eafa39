//! Where objects come from. The ingest service knows its senders by these names only.

use std::fmt;

use libp2p_identity::PeerId;

/// One connection with a legacy peer. Unique while this node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an object came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Gossip, from the peer that passed the object on.
    Gossip(PeerId),
    /// Catch-up with this peer, or its answer to a [`crate::Want`].
    Sync(PeerId),
    /// This node itself.
    Local,
    /// A file.
    Import,
    /// A connection with a legacy peer.
    Bridge(SessionId),
}
