//! The settings of the network, and the errors of its start.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use spore_base::{clock::Clock, warnings::Warnings};

use crate::state::Reachability;

/// The settings of the network. The command line reads them; the network reads no environment. Not `Debug`: it holds
/// the secret seed.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The node's Ed25519 seed. The node id and the peer id are of the same key.
    pub seed: [u8; 32],
    /// TCP and QUIC addresses to listen on. Port 0 takes any free port. Without an address the node only dials, and
    /// other nodes do not learn of it.
    pub listen: Vec<Multiaddr>,
    /// Addresses of peers to stay connected with, with or without `/p2p/<peer id>`.
    pub bootstrap: Vec<Multiaddr>,
    /// Addresses at which others reach this node, if the operator knows them.
    pub external: Vec<Multiaddr>,
    /// Whether to find peers on the local network.
    pub mdns: bool,
    /// Whether to ask the router for a forwarded port (UPnP).
    pub upnp: bool,
    /// Whether others can dial this node, if the operator knows. None: tests of other nodes tell.
    pub reachability: Option<Reachability>,
    /// Whether to serve as a relay for nodes behind NAT while this one is public.
    pub relay: bool,
    /// The file of peers that earlier runs reached. None: they are not remembered.
    pub remembered: Option<PathBuf>,
    /// This program's name for other nodes, such as `spore/0.1.0`.
    pub agent: String,
    /// This machine's clock, which is compared with the clocks of peers.
    pub clock: Clock,
    /// Where the network's lasting warnings go.
    pub warnings: Warnings,
}

/// Why the network could not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("{address} is in use by another program")]
    AddressInUse { address: Multiaddr },
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: Multiaddr, reason: String },
    #[error("cannot set up the network: {0}")]
    Setup(String),
    #[error("cannot read the store: {0}")]
    Store(#[from] spore_storage::StoreError),
}

/// Checks that no other program uses an address. libp2p shares TCP ports on purpose (SO_REUSEPORT), so a second node
/// would start without an error and take half of the first one's connections.
pub(super) fn check_free(address: &Multiaddr) -> Result<(), NetworkError> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    let tried = match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        Some(Protocol::Udp(port)) if port != 0 => UdpSocket::bind(SocketAddr::new(ip, port)).map(drop),
        _ => return Ok(()),
    };
    tried.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => NetworkError::AddressInUse { address: address.clone() },
        _ => NetworkError::Listen { address: address.clone(), reason: error.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_port_is_reported() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        let error = check_free(&address).unwrap_err();
        assert_eq!(error.to_string(), format!("{address} is in use by another program"));
        drop(holder);
        check_free(&address).unwrap();
        check_free(&"/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
    }
}
