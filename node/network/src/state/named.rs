//! The peers that the operator named, and when each of them is dialled again.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use rand::{Rng as _, rngs::StdRng};
use spore_base::backoff::backoff;

use crate::limits::{BACKOFF_FIRST, BACKOFF_MOST};

/// Which of the named peers a dial is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NamedDial(usize);

/// The peer id in an address that contains one.
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    address.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

/// The named peers. As many as the operator named.
#[derive(Debug)]
pub struct NamedPeers(Vec<NamedPeer>);

#[derive(Debug)]
struct NamedPeer {
    address: Multiaddr,
    /// From the address, or learned when the peer answered.
    peer: Option<PeerId>,
    /// Dials in a row that failed.
    failures: u32,
    /// When to dial it. None while it is dialled or connected.
    next: Option<Instant>,
    /// Since when it is connected.
    since: Option<Instant>,
}

impl NamedPeers {
    pub fn new(addresses: &[Multiaddr], now: Instant) -> Self {
        let named = |address: &Multiaddr| NamedPeer {
            address: address.clone(),
            peer: peer_of(address),
            failures: 0,
            next: Some(now),
            since: None,
        };
        Self(addresses.iter().map(named).collect())
    }

    /// The peers to dial now. Each dial is reported back by [`NamedPeers::connected`] or [`NamedPeers::failed`].
    pub fn due(&mut self, now: Instant) -> Vec<(NamedDial, Multiaddr)> {
        let due = self.0.iter_mut().enumerate().filter(|(_, one)| one.next.is_some_and(|next| next <= now));
        due.map(|(at, one)| {
            one.next = None;
            (NamedDial(at), one.address.clone())
        })
        .collect()
    }

    /// A peer is connected, perhaps by this dial.
    pub fn connected(&mut self, peer: PeerId, dial: Option<NamedDial>, now: Instant) {
        for (at, one) in self.0.iter_mut().enumerate() {
            if dial == Some(NamedDial(at)) || one.peer == Some(peer) {
                one.peer = Some(peer);
                one.next = None;
                one.since.get_or_insert(now);
            }
        }
    }

    pub fn failed(&mut self, dial: NamedDial, random: &mut StdRng, now: Instant) {
        if let Some(one) = self.0.get_mut(dial.0) {
            one.failed(random, now);
        }
    }

    /// The last connection to a peer closed. After a connection that lasted, the backoff starts afresh. A peer that
    /// closed it at once, because it is full or refuses this node, counts as a failed dial.
    pub fn disconnected(&mut self, peer: PeerId, random: &mut StdRng, now: Instant) {
        for one in self.0.iter_mut().filter(|one| one.peer == Some(peer)) {
            if one.since.take().is_some_and(|since| now.duration_since(since) >= BACKOFF_MOST) {
                one.failures = 0;
            }
            one.failed(random, now);
        }
    }
}

impl NamedPeer {
    fn failed(&mut self, random: &mut StdRng, now: Instant) {
        self.next = Some(now + backoff(BACKOFF_FIRST, BACKOFF_MOST, self.failures, random.next_u64()));
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn lost_peer_is_dialled_again() {
        let (now, mut random) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut named = NamedPeers::new(&["/ip4/127.0.0.1/tcp/1".parse().unwrap()], now);
        let (dial, _) = named.due(now).remove(0);
        assert!(named.due(now).is_empty(), "it is being dialled");
        named.failed(dial, &mut random, now);
        assert!(named.due(now).is_empty(), "the backoff has not passed");
        let later = now + BACKOFF_MOST;
        assert_eq!(named.due(later).len(), 1);
        let peer = PeerId::random();
        named.connected(peer, Some(dial), later);
        assert!(named.due(later + BACKOFF_MOST).is_empty(), "it is connected");
        named.disconnected(peer, &mut random, later);
        assert_eq!(named.due(later + BACKOFF_MOST).len(), 1);
    }

    #[test]
    fn peer_that_hangs_up_at_once_is_dialled_ever_more_rarely() {
        let (mut now, mut random) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut named = NamedPeers::new(&["/ip4/127.0.0.1/tcp/1".parse().unwrap()], now);
        let peer = PeerId::random();
        for _ in 0..10 {
            let (dial, _) = named.due(now).remove(0);
            named.connected(peer, Some(dial), now);
            named.disconnected(peer, &mut random, now);
            assert!(named.due(now).is_empty());
            now += BACKOFF_MOST;
        }
        assert_eq!(named.0[0].failures, 10);
        let (dial, _) = named.due(now).remove(0);
        named.connected(peer, Some(dial), now);
        named.disconnected(peer, &mut random, now + BACKOFF_MOST);
        assert_eq!(named.0[0].failures, 1, "a connection that lasted starts the backoff afresh");
    }
}
