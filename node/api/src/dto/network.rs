//! Shapes of what the API says about the networks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether and how libp2p peers reach a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct NetworkStatus {
    /// `public` when others can dial the node, `private` when they reach it through relays, `unknown` while no public peer
    /// is connected or no test has ended.
    pub reachability: String,
    /// Whether the node's owner decided the reachability.
    pub fixed: bool,
    /// Public multiaddrs at which other nodes reached this one.
    pub confirmed_addresses: Vec<String>,
    /// `cone` when the router keeps one port for all peers, which allows hole punching; `symmetric` when it takes another
    /// for each. Absent while fewer than two public peers have seen the node, and without a router.
    pub nat: Option<String>,
    /// What became of the request for a forwarded port, in words for people.
    pub port_mapping: Option<String>,
    /// The relays through which others reach this node.
    pub relays: Vec<RelayReservation>,
    /// Whether the node serves as a relay.
    pub serves_as_relay: bool,
    /// Nodes that have a reservation at this relay.
    pub reservations: u64,
    /// Connections between other nodes through this relay.
    pub circuits: u64,
}

/// A reservation at a relay.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RelayReservation {
    /// The libp2p peer id of the relay.
    pub peer_id: String,
    /// Multiaddr of the relay.
    pub address: String,
    /// Seconds since the relay granted the reservation. Absent while it is asked for.
    pub held_seconds: Option<u64>,
}

/// A connected peer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectedPeer {
    /// `libp2p`, or `legacy` for a peer of the existing network.
    pub transport: String,
    /// The libp2p peer id. Absent for legacy peers, which do not name themselves.
    pub peer_id: Option<String>,
    /// Id of the node. Absent for legacy peers, and when the peer id holds no Ed25519 key.
    pub node_id: Option<String>,
    /// A multiaddr, or `host:port` of a legacy peer.
    pub address: String,
    /// Whether the peer is reached through a relay. Absent for legacy peers.
    pub relayed: Option<bool>,
    /// Why there is no direct connection with a relayed peer, as far as it is known.
    pub not_direct: Option<String>,
    /// `outbound` when this node dialled, `inbound` when the peer did. Legacy peers only.
    pub direction: Option<String>,
    /// Program and version that the peer reports. Absent for legacy peers.
    pub agent: Option<String>,
    /// Seconds since the connection was made.
    pub connected_seconds: u64,
    /// Standing of the peer. Below 0 the peer has sent bad messages.
    pub score: f64,
    /// Signed objects received from the peer. Legacy peers only.
    pub received: Option<u64>,
    /// Signed objects sent to the peer. Legacy peers only.
    pub sent: Option<u64>,
    /// `syncing` while one side sends its history, then `live`. Legacy peers only.
    pub state: Option<String>,
}
