//! The two networks of a running node, as the API and the lab see them.
//!
//! Implements [`spore_api::ports::Networks`] over libp2p and the bridge.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use libp2p::{Multiaddr, multiaddr::Protocol};
use spore_api::{
    dto,
    ports::{KnownPeer, Networks, NetworksSnapshot},
    problem::{ApiError, ProblemKind},
};
use spore_base::{peer::Peer, peer_address::PeerAddress};
use spore_bridge::{BridgeHandle, BridgePeer, ConnectError, LinkDirection};
use spore_network::{NetworkHandle, PeerInfo, ReachInfo};
use spore_protocol::TaskId;

/// Time for which a user waits for a connection. Two lost packets of its first step are sent again within it. A name
/// may have several addresses, and the networks, which give each more time, go on with their dials.
const CONNECT_WITHIN: Duration = Duration::from_secs(6);

/// Handles to both networks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeNetworks {
    pub network: NetworkHandle,
    pub bridge: BridgeHandle,
}

impl Networks for NodeNetworks {
    fn snapshot(&self) -> BoxFuture<'_, NetworksSnapshot> {
        async {
            // At shutdown the network ends first. The bridge's part of the answer is still worth having.
            let libp2p = self.network.snapshot().await.unwrap_or_default();
            let legacy = self.bridge.snapshot();
            NetworksSnapshot {
                peers: libp2p.peers.iter().map(libp2p_peer).chain(legacy.iter().map(legacy_peer)).collect(),
                network: network_status(&libp2p.reach),
                listen_addresses: libp2p.listen_addresses.iter().map(ToString::to_string).collect(),
                legacy_listen_addresses: self.bridge.listening().iter().map(ToString::to_string).collect(),
                rejected: libp2p.rejected,
            }
        }
        .boxed()
    }

    fn follow(&self, task: TaskId) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { self.network.follow(task).await.map_err(|e| ApiError::unavailable(e.to_string())) }.boxed()
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'_, Result<(), ApiError>> {
        async move {
            let failed = |why: &str| format!("could not connect to {peer}: {why}");
            match peer.clone() {
                Peer::Legacy(address) => self.connect_legacy(address).await.map_err(|error| match error {
                    ConnectError::Own
                    | ConnectError::TooMany(_)
                    | ConnectError::Disconnected
                    | ConnectError::Silent
                    | ConnectError::Foreign => ApiError::conflict(failed(&error.to_string())),
                    ConnectError::Unreachable(_) | ConnectError::Closed => {
                        ApiError::unavailable(failed(&error.to_string()))
                    }
                }),
                Peer::Libp2p(address) => {
                    // libp2p leaves out the addresses of this node, and then knows none to dial.
                    let own = self.network.snapshot().await.unwrap_or_default().listen_addresses;
                    if own.iter().any(|own| is_same_socket(own, &address)) {
                        return Err(ApiError::conflict(failed(&ConnectError::Own.to_string())));
                    }
                    let dialled = within(self.network.dial(address)).await;
                    let dialled = dialled.unwrap_or_else(|| Err(no_answer("handshake of libp2p")));
                    dialled.map_err(|e| ApiError::unavailable(failed(&e)))
                }
            }
        }
        .boxed()
    }

    fn disconnect(&self, peer: KnownPeer) -> BoxFuture<'_, Result<(), ApiError>> {
        async move {
            match peer {
                KnownPeer::Legacy(address) => match self.bridge.disconnect(&address).await {
                    true => Ok(()),
                    false => Err(ApiError::new(
                        ProblemKind::UnknownPeer,
                        format!("{address} is neither connected nor dialled"),
                    )),
                },
                KnownPeer::Libp2p(peer) => {
                    self.network.disconnect(peer).await.map_err(|e| ApiError::unavailable(e.to_string()))
                }
            }
        }
        .boxed()
    }
}

impl NodeNetworks {
    /// Connects to a legacy peer. A program that does not speak the protocol is not dialled again.
    async fn connect_legacy(&self, address: PeerAddress) -> Result<(), ConnectError> {
        let connected = within(self.bridge.connect(address.clone())).await;
        connected.unwrap_or_else(|| Err(ConnectError::Unreachable(no_answer("answer"))))?;
        let answered = self.bridge.answered(&address).await;
        if matches!(answered, Err(ConnectError::Foreign | ConnectError::Silent)) {
            self.bridge.disconnect(&address).await;
        }
        answered
    }
}

/// Waits for a connection. None when it takes too long.
async fn within<T>(connection: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(CONNECT_WITHIN, connection).await.ok()
}

fn no_answer(what: &str) -> String {
    format!("no {what} within {} s", CONNECT_WITHIN.as_secs())
}

/// Whether two multiaddrs name the same socket, whatever peer id they end with.
fn is_same_socket(a: &Multiaddr, b: &Multiaddr) -> bool {
    let socket = |address: &Multiaddr| {
        address.iter().take_while(|part| !matches!(part, Protocol::P2p(_))).collect::<Multiaddr>()
    };
    socket(a) == socket(b)
}

fn libp2p_peer(peer: &PeerInfo) -> dto::ConnectedPeer {
    dto::ConnectedPeer {
        transport: "libp2p".into(),
        peer_id: Some(peer.peer_id.to_string()),
        node_id: peer.node_id.map(|id| id.to_string()),
        address: peer.address.to_string(),
        relayed: Some(peer.relayed),
        not_direct: peer.not_direct.clone(),
        direction: None,
        agent: peer.agent.clone(),
        connected_seconds: peer.connected.as_secs(),
        score: peer.score,
        received: None,
        sent: None,
        state: None,
    }
}

fn network_status(reach: &ReachInfo) -> dto::NetworkStatus {
    let relays = reach.relays.iter().map(|relay| dto::RelayReservation {
        peer_id: relay.peer_id.to_string(),
        address: relay.address.to_string(),
        held_seconds: relay.held.map(|held| held.as_secs()),
    });
    dto::NetworkStatus {
        reachability: reach.reachability.name().into(),
        fixed: reach.fixed,
        confirmed_addresses: reach.confirmed.iter().map(ToString::to_string).collect(),
        nat: reach.nat.map(|kind| kind.name().into()),
        port_mapping: reach.port_mapping.clone(),
        relays: relays.collect(),
        serves_as_relay: reach.serves,
        reservations: reach.reservations as u64,
        circuits: reach.circuits as u64,
    }
}

/// A legacy peer. The protocol has no handshake, so the peer's node id is not known.
fn legacy_peer(peer: &BridgePeer) -> dto::ConnectedPeer {
    let (direction, address) = match &peer.link.direction {
        LinkDirection::Dialled(address) => ("outbound", address.to_string()),
        LinkDirection::Accepted => ("inbound", peer.link.remote.to_string()),
    };
    dto::ConnectedPeer {
        transport: "legacy".into(),
        peer_id: None,
        node_id: None,
        address,
        relayed: None,
        not_direct: None,
        direction: Some(direction.into()),
        agent: None,
        connected_seconds: peer.connected.as_secs(),
        // A subtraction, because a negation would turn no points into -0.0.
        score: 0.0 - f64::from(peer.points),
        received: Some(peer.stats.received),
        sent: Some(peer.stats.sent),
        state: Some(peer.stats.phase.name().into()),
    }
}

#[cfg(test)]
mod tests;
