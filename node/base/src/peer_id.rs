//! Conversion between a node's id and libp2p's name for the same key.

use libp2p_identity::{PeerId, PublicKey, ed25519};
use spore_protocol::NodeId;

/// libp2p's name for a node's key. None for a node id that is not an Ed25519 public key.
pub fn peer_id(node: &NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The node behind a peer id: the same Ed25519 key, which the peer id contains. None for a peer id of another kind.
pub fn node_of(peer: &PeerId) -> Option<NodeId> {
    // An identity multihash: code 0, length 36, then the key as a protobuf (type 1, Ed25519; 32 bytes).
    match peer.to_bytes().as_slice() {
        [0x00, 0x24, 0x08, 0x01, 0x12, 0x20, key @ ..] => key.try_into().ok().map(NodeId),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::Identity;

    use super::*;

    #[test]
    fn peer_id_and_node_id_convert_into_each_other() {
        let node = Identity::from_seed(&[7; 32]).node_id();
        assert_eq!(node_of(&peer_id(&node).unwrap()), Some(node));
    }

    #[test]
    fn peer_id_without_the_key_names_no_node() {
        // A SHA-256 multihash, as RSA keys have.
        let bytes = [&[0x12, 0x20], [7; 32].as_slice()].concat();
        assert_eq!(node_of(&PeerId::from_bytes(&bytes).unwrap()), None);
    }
}
