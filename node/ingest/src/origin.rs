//! Where an object came from. The ingest service knows its visitors only by these names.

use std::fmt;

use libp2p_identity::PeerId;

/// One connection with a legacy peer, for as long as this node runs.
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
    /// Catch-up, or an answer to a [`crate::Want`], from this peer.
    Sync(PeerId),
    /// This node itself.
    Local,
    /// A file.
    Import,
    /// A connection with a legacy peer.
    Bridge(SessionId),
}
