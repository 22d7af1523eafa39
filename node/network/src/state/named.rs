//! The peers that the operator named: this node stays connected with them.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use spore_base::peer_book::{DialSource, PeerBook};

use crate::limits::BACKOFF_MOST;

/// The peer id in an address that contains one.
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    address.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

/// The addresses that the operator named, and which peer listens at each.
#[derive(Debug)]
pub struct NamedPeers(PeerBook<Multiaddr, NamedPeer>);

/// A peer that the operator named.
#[derive(Debug)]
struct NamedPeer {
    /// From the address, or learned when the peer answered.
    id: Option<PeerId>,
}

impl DialSource for NamedPeer {
    fn longest_wait(&self) -> Duration {
        BACKOFF_MOST
    }
}

impl NamedPeers {
    pub fn new(addresses: &[Multiaddr], now: Instant) -> Self {
        let mut book = PeerBook::new(addresses.len());
        for address in addresses {
            book.add(address.clone(), NamedPeer { id: peer_of(address) }, now);
        }
        Self(book)
    }

    /// The addresses to dial now. Each dial is reported back by [`NamedPeers::connected`] or [`NamedPeers::failed`].
    pub fn due(&mut self, random: &mut ChaCha8Rng, now: Instant) -> Vec<Multiaddr> {
        let due = self.0.due(now, random);
        for address in &due {
            self.0.dialling(address);
        }
        due
    }

    /// A peer is connected. `dialled`: the address, if it was a dial of a named peer.
    pub fn connected(&mut self, peer: PeerId, dialled: Option<&Multiaddr>, now: Instant) {
        if let Some(named) = dialled.and_then(|address| self.0.source_mut(address)) {
            named.id = Some(peer);
        }
        for address in self.addresses_of(peer) {
            // A second connection does not make the first one younger.
            if self.0.get(&address).is_some_and(|entry| !entry.is_connected()) {
                self.0.connected(&address, now);
            }
        }
    }

    pub fn failed(&mut self, address: &Multiaddr, random: &mut ChaCha8Rng, now: Instant) {
        self.0.failed(address, now, random.next_u64());
    }

    /// The last connection to a peer closed.
    pub fn disconnected(&mut self, peer: PeerId, random: &mut ChaCha8Rng, now: Instant) {
        for address in self.addresses_of(peer) {
            self.0.closed(&address, now, random.next_u64());
        }
    }

    fn addresses_of(&self, peer: PeerId) -> Vec<Multiaddr> {
        let of_peer = self.0.iter().filter(|(_, entry)| entry.source().id == Some(peer));
        of_peer.map(|(address, _)| address.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use spore_base::{peer_book::STEADY_AFTER, random};

    use super::*;

    fn named(addresses: &[&str]) -> (NamedPeers, ChaCha8Rng, Instant) {
        let addresses: Vec<Multiaddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let now = Instant::now();
        (NamedPeers::new(&addresses, now), random::seeded(1), now)
    }

    #[test]
    fn lost_peer_is_dialled_again() {
        let (mut named, mut random, now) = named(&["/ip4/127.0.0.1/tcp/1"]);
        let address = named.due(&mut random, now).remove(0);
        assert!(named.due(&mut random, now).is_empty(), "it is being dialled");
        named.failed(&address, &mut random, now);
        assert!(named.due(&mut random, now).is_empty(), "the backoff has not passed");
        let later = now + BACKOFF_MOST;
        assert_eq!(named.due(&mut random, later), std::slice::from_ref(&address));
        let peer = PeerId::random();
        named.connected(peer, Some(&address), later);
        assert!(named.due(&mut random, later + BACKOFF_MOST).is_empty(), "it is connected");
        named.disconnected(peer, &mut random, later);
        assert_eq!(named.due(&mut random, later + BACKOFF_MOST), [address]);
    }

    #[test]
    fn named_peer_that_dialled_this_node_is_not_dialled() {
        let peer = PeerId::random();
        let (mut named, mut random, now) = named(&[&format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}")]);
        named.connected(peer, None, now);
        named.connected(peer, None, now + STEADY_AFTER / 2);
        assert!(named.due(&mut random, now).is_empty());
        named.disconnected(peer, &mut random, now + STEADY_AFTER);
        assert_eq!(named.due(&mut random, now + STEADY_AFTER + Duration::from_secs(1)).len(), 1, "it was a good one");
    }
}
