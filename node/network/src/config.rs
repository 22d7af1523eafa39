//! What the network is started with, and why it may not start.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// What the network is started with. Read by `cli`; the network reads no environment. Not `Debug`:
/// it holds the secret seed.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The node's Ed25519 seed: node id and peer id come from one key.
    pub seed: [u8; 32],
    /// TCP and QUIC addresses. Port 0 takes any free port. A node without any is told to nobody.
    pub listen: Vec<Multiaddr>,
    /// Peers to stay connected with, with or without `/p2p/<peer id>`.
    pub bootstrap: Vec<Multiaddr>,
    /// Addresses under which others reach this node, where the operator knows them.
    pub external: Vec<Multiaddr>,
    /// Finds peers on the local network.
    pub mdns: bool,
    /// Shown to others, such as `spore/0.1.0`.
    pub agent: String,
}

/// Why the network could not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("{address} is in use by another program; choose another port with --p2p-port, or stop that program")]
    AddressInUse { address: Multiaddr },
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: Multiaddr, reason: String },
    #[error("cannot set up the network: {0}")]
    Setup(String),
    #[error("cannot read the store: {0}")]
    Store(#[from] spore_storage::StoreError),
}

/// Finds out whether a port is taken. libp2p shares TCP ports on purpose (SO_REUSEPORT), so a second
/// node would start without an error and steal half of the first one's connections.
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
    fn a_busy_port_is_named() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        let error = check_free(&address).unwrap_err();
        assert!(matches!(&error, NetworkError::AddressInUse { .. }), "{error}");
        assert!(error.to_string().contains("--p2p-port"));
        drop(holder);
        check_free(&address).unwrap();
        check_free(&"/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
    }
}
