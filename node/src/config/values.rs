//! Values of keys that serde does not read by itself: addresses, ids, and text that may be empty.

use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize as _;
use spore_api::proxies::Proxies;
use spore_base::peer_id::peer_id;
use spore_protocol::NodeId;

/// Reads a text. None when it is empty.
pub(super) fn nonempty<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(value)?.filter(|text| !text.is_empty()))
}

/// Reads a host as the reference does: empty means all addresses, and `localhost` is not looked up in DNS.
pub(super) fn host<'de, D: serde::Deserializer<'de>>(value: D) -> Result<IpAddr, D::Error> {
    match String::deserialize(value)?.as_str() {
        "" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        text => ip_address(text).map_err(serde::de::Error::custom),
    }
}

/// Reads the host of the explorer, which opens to others only where an address says so.
pub(super) fn web_host<'de, D: serde::Deserializer<'de>>(value: D) -> Result<IpAddr, D::Error> {
    ip_address(&String::deserialize(value)?).map_err(serde::de::Error::custom)
}

/// An address on which this machine listens. `localhost` is not looked up in DNS.
///
/// # Errors
/// A sentence about text that is no address.
pub fn ip_address(text: &str) -> Result<IpAddr, &'static str> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        text => text.parse().map_err(|_| "must be an IP address or localhost"),
    }
}

/// Reads the keys of trusted nodes. Text that is no node's id is refused: trust in it would have no effect, and nobody
/// would notice.
pub(super) fn trust<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Vec<NodeId>, D::Error> {
    let mut nodes = Vec::new();
    for text in Vec::<String>::deserialize(value)? {
        let node = node_id(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("trust: {text:.80?} is not a node's id, a public key of 64 hex digits"))
        })?;
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    Ok(nodes)
}

/// Reads the addresses of reverse proxies. Text that is no network is refused: the proxy would not be believed, and nobody
/// would notice.
pub(super) fn proxies<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Proxies, D::Error> {
    Proxies::parse(&Vec::<String>::deserialize(value)?).map_err(|text| {
        serde::de::Error::custom(format!(
            "web.proxies: {text:.80?} is not an address or a network, such as \"10.0.0.0/8\""
        ))
    })
}

/// The node of an id in hex. None for text that is not the public key of any node.
pub fn node_id(text: &str) -> Option<NodeId> {
    let node: NodeId = text.to_ascii_lowercase().parse().ok()?;
    peer_id(&node).map(|_| node)
}
