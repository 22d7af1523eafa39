//! How a person names another node: a node of the existing network by `host:port`, a node that uses libp2p by a
//! multiaddr. The two protocols do not understand each other, so the spelling decides.

use std::{fmt, str::FromStr};

use multiaddr::Multiaddr;

use crate::peer_address::PeerAddress;

/// The two spellings of a peer's address, for hints.
pub const PEER_ADDRESSES: &str = "an address looks like 192.0.2.1:7470 or peer.example.org:7470 (a node of the \
    existing network), or like /ip4/192.0.2.1/tcp/7471 or /dns/peer.example.org/udp/7471/quic-v1 (libp2p)";

/// Another node's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `host:port`: a legacy peer, reached by the bridge.
    Legacy(PeerAddress),
    /// A multiaddr: a peer reached by libp2p.
    Libp2p(Multiaddr),
}

/// The text is neither `host:port` nor a multiaddr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither host:port nor a multiaddr")]
pub struct NoPeer;

impl FromStr for Peer {
    type Err = NoPeer;

    fn from_str(text: &str) -> Result<Self, NoPeer> {
        if text.starts_with('/') {
            return text.parse().map(Self::Libp2p).map_err(|_| NoPeer);
        }
        text.parse().map(Self::Legacy).map_err(|_| NoPeer)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy(address) => address.fmt(f),
            Self::Libp2p(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_decides_which_network_is_meant() {
        for text in ["peer.example.org:7471", "127.0.0.1:1", "[::1]:1"] {
            assert!(matches!(text.parse(), Ok(Peer::Legacy(address)) if address.to_string() == text), "{text}");
        }
        for text in ["/ip4/127.0.0.1/udp/1/quic-v1", "/dns/peer.example.org/tcp/7471"] {
            assert!(matches!(text.parse(), Ok(Peer::Libp2p(address)) if address.to_string() == text), "{text}");
        }
        for text in ["", "host", ":1", "host:x", "host:70000", "/ip4/nonsense", "a/b:1"] {
            assert_eq!(text.parse::<Peer>(), Err(NoPeer), "{text}");
        }
    }
}
