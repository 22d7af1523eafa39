//! Staying connected with the peers that the operator named: exponential backoff with jitter.

use std::{collections::HashMap, time::Instant};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol, swarm::ConnectionId};
use spore_base::backoff::backoff;

use super::limits::{BACKOFF_FIRST, BACKOFF_MOST};

/// The named peers and when to dial them again.
#[derive(Debug, Default)]
pub struct Bootstrap {
    entries: Vec<Entry>,
    dialling: HashMap<ConnectionId, usize>,
}

#[derive(Debug)]
struct Entry {
    address: Multiaddr,
    /// From the address, or learned when it answered.
    peer: Option<PeerId>,
    failures: u32,
    /// None while it is dialled or connected.
    next: Option<Instant>,
    /// Since when it is connected.
    since: Option<Instant>,
}

/// The peer that an address names, where it does.
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    address.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

impl Bootstrap {
    pub fn new(addresses: &[Multiaddr], now: Instant) -> Self {
        let entry = |address: &Multiaddr| Entry {
            address: address.clone(),
            peer: peer_of(address),
            failures: 0,
            next: Some(now),
            since: None,
        };
        Self { entries: addresses.iter().map(entry).collect(), dialling: HashMap::new() }
    }

    /// What to dial now. Each is reported back by [`Bootstrap::dialling`] or [`Bootstrap::failed_at_once`].
    pub fn due(&self, now: Instant) -> Vec<(usize, Multiaddr)> {
        let due = |entry: &Entry| entry.next.is_some_and(|next| next <= now);
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| due(entry))
            .map(|(at, entry)| (at, entry.address.clone()))
            .collect()
    }

    pub fn dialling(&mut self, at: usize, connection: ConnectionId) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.next = None;
            self.dialling.insert(connection, at);
        }
    }

    pub fn failed_at_once(&mut self, at: usize, now: Instant, random: u64) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.next = Some(now + backoff(BACKOFF_FIRST, BACKOFF_MOST, entry.failures, random));
            entry.failures = entry.failures.saturating_add(1);
        }
    }

    pub fn connected(&mut self, connection: ConnectionId, peer: PeerId, now: Instant) {
        let ours = self.dialling.remove(&connection);
        for (at, entry) in self.entries.iter_mut().enumerate() {
            if ours == Some(at) || entry.peer == Some(peer) {
                entry.peer = Some(peer);
                entry.next = None;
                entry.since.get_or_insert(now);
            }
        }
    }

    /// A dial failed; true when it was ours.
    pub fn failed(&mut self, connection: ConnectionId, now: Instant, random: u64) -> bool {
        let ours = self.dialling.remove(&connection);
        if let Some(at) = ours {
            self.failed_at_once(at, now, random);
        }
        ours.is_some()
    }

    /// The last connection to a peer closed. One that had lasted starts afresh; one that the peer
    /// ended at once, because it is full or refuses us, counts as a failure.
    pub fn disconnected(&mut self, peer: PeerId, now: Instant, random: u64) {
        for at in 0..self.entries.len() {
            let Some(entry) = self.entries.get_mut(at).filter(|entry| entry.peer == Some(peer)) else { continue };
            if entry.since.take().is_some_and(|since| now.duration_since(since) >= BACKOFF_MOST) {
                entry.failures = 0;
            }
            self.failed_at_once(at, now, random);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_peer_is_dialled_again() {
        let now = Instant::now();
        let mut bootstrap = Bootstrap::new(&["/ip4/127.0.0.1/tcp/1".parse().unwrap()], now);
        let dial = ConnectionId::new_unchecked(7);
        assert_eq!(bootstrap.due(now).len(), 1);
        bootstrap.dialling(0, dial);
        assert!(bootstrap.due(now).is_empty());
        assert!(bootstrap.failed(dial, now, 0));
        assert!(bootstrap.due(now).is_empty());
        let later = now + BACKOFF_MOST;
        assert_eq!(bootstrap.due(later).len(), 1);
        let peer = PeerId::random();
        bootstrap.dialling(0, dial);
        bootstrap.connected(dial, peer, later);
        assert!(bootstrap.due(later).is_empty());
        bootstrap.disconnected(peer, later, 0);
        assert_eq!(bootstrap.due(later + BACKOFF_MOST).len(), 1);
    }
}
