//! Links: the connections with each peer, and which of them is used.
//!
//! A peer behind NAT is reached through a relay first and directly after hole punching. Requests go over any of its
//! connections, so the one through the relay is closed once the direct one has lasted.

use std::{collections::BTreeMap, time::Instant};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

use crate::{addresses::is_circuit, limits::DIRECT_AFTER};

/// One connection.
#[derive(Clone, Debug)]
struct Link {
    connection: ConnectionId,
    /// Where the peer is. For a peer behind a relay, the address of the relay and the peer's id.
    address: Multiaddr,
    /// This node dialled.
    outgoing: bool,
    since: Instant,
    closing: bool,
}

/// The connections with all peers. Bounded by the connection limits of the swarm.
#[derive(Debug, Default)]
pub struct Links(BTreeMap<PeerId, Vec<Link>>);

impl Links {
    pub fn opened(&mut self, peer: PeerId, connection: ConnectionId, address: Multiaddr, outgoing: bool, now: Instant) {
        self.0.entry(peer).or_default().push(Link { connection, address, outgoing, since: now, closing: false });
    }

    /// Whether this node dialled the connection.
    pub fn is_outgoing(&self, peer: &PeerId, connection: ConnectionId) -> bool {
        let links = self.0.get(peer).into_iter().flatten();
        links.filter(|link| link.connection == connection).any(|link| link.outgoing)
    }

    pub fn closed(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(links) = self.0.get_mut(peer) {
            links.retain(|link| link.connection != connection);
            if links.is_empty() {
                self.0.remove(peer);
            }
        }
    }

    /// The address of the connection that counts: a direct one before one through a relay, an older one before a newer
    /// one.
    pub fn address(&self, peer: &PeerId) -> Option<&Multiaddr> {
        let links = self.0.get(peer)?;
        links.iter().min_by_key(|link| (is_circuit(&link.address), link.since)).map(|link| &link.address)
    }

    /// The connections through relays with peers that have had a direct connection for [`DIRECT_AFTER`]. They are to be
    /// closed. Each is returned once.
    pub fn surplus(&mut self, now: Instant) -> Vec<ConnectionId> {
        let mut surplus = Vec::new();
        for links in self.0.values_mut().filter(|links| links.len() > 1) {
            let lasts =
                |link: &Link| !is_circuit(&link.address) && now.saturating_duration_since(link.since) >= DIRECT_AFTER;
            if links.iter().any(lasts) {
                for link in links.iter_mut().filter(|link| is_circuit(&link.address) && !link.closing) {
                    link.closing = true;
                    surplus.push(link.connection);
                }
            }
        }
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_through_a_relay_is_closed_once_a_direct_one_lasts() {
        let (mut links, peer, now) = (Links::default(), PeerId::random(), Instant::now());
        let direct: Multiaddr = "/ip4/1.1.1.1/tcp/1".parse().unwrap();
        let relayed: Multiaddr = format!("/ip4/2.2.2.2/tcp/1/p2p/{peer}/p2p-circuit/p2p/{peer}").parse().unwrap();
        let connection = ConnectionId::new_unchecked;
        links.opened(peer, connection(1), relayed.clone(), false, now);
        assert_eq!((links.address(&peer).cloned(), links.surplus(now + DIRECT_AFTER)), (Some(relayed.clone()), vec![]));
        links.opened(peer, connection(2), direct.clone(), true, now);
        assert_eq!((links.address(&peer).cloned(), links.surplus(now)), (Some(direct), vec![]));
        assert!(links.is_outgoing(&peer, connection(2)) && !links.is_outgoing(&peer, connection(1)));
        assert_eq!(links.surplus(now + DIRECT_AFTER), [connection(1)]);
        assert_eq!(links.surplus(now + DIRECT_AFTER), [], "it is being closed");
        links.closed(&peer, connection(2));
        assert_eq!(links.address(&peer), Some(&relayed));
        links.closed(&peer, connection(1));
        assert!(links.address(&peer).is_none() && links.0.is_empty());
    }
}
