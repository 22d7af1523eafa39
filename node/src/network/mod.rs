//! The libp2p node: transports, discovery, gossip, catch-up and artifacts.

mod handle;

pub use handle::{COMMANDS, Command, FetchError, NetworkClosed, NetworkHandle, PeerInfo, Snapshot};
