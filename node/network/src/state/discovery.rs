//! Discovery: staying connected with the peers that the operator named, and finding enough others.
//!
//! Named peers are dialled again until they answer. When there are too few peers, Kademlia searches for more, and some
//! of the ones that it knows are dialled. Peers on the local network are dialled when mDNS reports them.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use rand_chacha::ChaCha8Rng;
use spore_base::random;

use super::{connected::ConnectedPeers, named::NamedPeers};
use crate::limits::{ADDRESSES_PER_PEER, DISCOVERY_DIALS, DISCOVERY_INTERVAL, TARGET_PEERS};

/// Events of this machine.
#[derive(Clone, Debug)]
pub enum DiscoveryEvent {
    /// A connection. `dialled`: the address of a named peer, if its dial led to the connection.
    Connected {
        peer: PeerId,
        dialled: Option<Multiaddr>,
    },
    /// The last connection to a peer closed.
    Disconnected(PeerId),
    /// A named peer could not be reached.
    DialFailed(Multiaddr),
    /// mDNS found these peers on the local network.
    FoundLocally(Vec<(PeerId, Multiaddr)>),
    /// The peers that Kademlia knows, after [`DiscoveryEffect::Search`].
    Known(Vec<(PeerId, Vec<Multiaddr>)>),
    /// A peer reported the addresses on which it listens.
    Identified {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        speaks_kademlia: bool,
    },
    Tick,
}

/// Effects of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryEffect {
    /// Dial a named peer. The result is a [`DiscoveryEvent::Connected`] or a [`DiscoveryEvent::DialFailed`].
    DialNamed(Multiaddr),
    /// Dial a peer, unless it is connected or being dialled.
    Dial { peer: PeerId, addresses: Vec<Multiaddr> },
    /// Add an address of a peer to Kademlia.
    AddAddress(PeerId, Multiaddr),
    /// Have Kademlia search for peers, and report the ones that it knows.
    Search,
}

/// The named peers, and when others were last searched for.
#[derive(Debug)]
pub struct Discovery {
    named: NamedPeers,
    searched: Instant,
}

impl Discovery {
    /// `named`: addresses with or without `/p2p/<peer id>`.
    pub fn new(named: &[Multiaddr], now: Instant) -> Self {
        Self { named: NamedPeers::new(named, now), searched: now }
    }

    /// Takes in what happened. `peers`: the connected ones, this event included.
    pub fn handle(
        &mut self,
        event: DiscoveryEvent,
        peers: &ConnectedPeers,
        random: &mut ChaCha8Rng,
        now: Instant,
    ) -> Vec<DiscoveryEffect> {
        match event {
            DiscoveryEvent::Connected { peer, dialled } => {
                self.named.connected(peer, dialled.as_ref(), now);
                Vec::new()
            }
            DiscoveryEvent::Disconnected(peer) => {
                self.named.disconnected(peer, random, now);
                Vec::new()
            }
            DiscoveryEvent::DialFailed(address) => {
                self.named.failed(&address, random, now);
                Vec::new()
            }
            DiscoveryEvent::FoundLocally(found) => {
                let dial = |(peer, address)| DiscoveryEffect::Dial { peer, addresses: vec![address] };
                found.into_iter().map(dial).collect()
            }
            DiscoveryEvent::Known(known) => choose(known, peers, random),
            DiscoveryEvent::Identified { speaks_kademlia: false, .. } => Vec::new(),
            DiscoveryEvent::Identified { peer, addresses, .. } => usable(peer, addresses, peers),
            DiscoveryEvent::Tick => {
                let due = self.named.due(random, now).into_iter();
                let mut effects: Vec<_> = due.map(DiscoveryEffect::DialNamed).collect();
                if peers.len() < TARGET_PEERS && now.duration_since(self.searched) >= DISCOVERY_INTERVAL {
                    self.searched = now;
                    effects.push(DiscoveryEffect::Search);
                }
                effects
            }
        }
    }
}

/// Some of the known peers that are not connected, at random.
fn choose(
    known: Vec<(PeerId, Vec<Multiaddr>)>,
    peers: &ConnectedPeers,
    random: &mut ChaCha8Rng,
) -> Vec<DiscoveryEffect> {
    let others = random::shuffled(known.into_iter().filter(|(peer, _)| !peers.contains(peer)), random);
    let dial = |(peer, addresses)| DiscoveryEffect::Dial { peer, addresses };
    others.into_iter().take(DISCOVERY_DIALS).map(dial).collect()
}

/// The addresses of a peer that others can use. Loopback addresses count only for a peer on this machine.
fn usable(peer: PeerId, addresses: Vec<Multiaddr>, peers: &ConnectedPeers) -> Vec<DiscoveryEffect> {
    let local = peers.get(&peer).is_some_and(|one| is_loopback(&one.address));
    let usable = addresses.into_iter().filter(|address| local || !is_loopback(address)).take(ADDRESSES_PER_PEER);
    usable.map(|address| DiscoveryEffect::AddAddress(peer, address)).collect()
}

fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback() || ip.is_unspecified(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// A discovery without named peers, and its time and randomness.
    fn alone() -> (Discovery, Instant, ChaCha8Rng) {
        let now = Instant::now();
        (Discovery::new(&[], now), now, random::seeded(1))
    }

    #[test]
    fn search_repeats_while_there_are_too_few_peers() {
        let (mut discovery, start, mut random) = alone();
        let nobody = ConnectedPeers::default();
        let mut tick = |peers: &ConnectedPeers, now| discovery.handle(DiscoveryEvent::Tick, peers, &mut random, now);
        assert_eq!(tick(&nobody, start), []);
        assert_eq!(tick(&nobody, start + DISCOVERY_INTERVAL), [DiscoveryEffect::Search]);
        assert_eq!(tick(&nobody, start + DISCOVERY_INTERVAL), []);
        let enough: Vec<_> = (0..TARGET_PEERS).map(|_| PeerId::random()).collect();
        assert_eq!(tick(&ConnectedPeers::of(&enough, start), start + 3 * DISCOVERY_INTERVAL), []);
    }

    #[test]
    fn few_of_the_known_peers_are_dialled_and_no_connected_one() {
        let (mut discovery, now, mut random) = alone();
        let known: Vec<_> =
            (1..=20).map(|n| (PeerId::random(), vec![address(&format!("/ip4/192.0.2.{n}/tcp/1"))])).collect();
        let connected: Vec<_> = known.iter().take(10).map(|(peer, _)| *peer).collect();
        let peers = ConnectedPeers::of(&connected, now);
        let effects = discovery.handle(DiscoveryEvent::Known(known), &peers, &mut random, now);
        let dialled: BTreeSet<_> = effects
            .iter()
            .map(|effect| match effect {
                DiscoveryEffect::Dial { peer, addresses } if addresses.len() == 1 => *peer,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(dialled.len(), DISCOVERY_DIALS);
        assert!(dialled.iter().all(|peer| !peers.contains(peer)));
    }

    #[test]
    fn loopback_addresses_of_a_remote_peer_are_dropped() {
        let (mut discovery, now, mut random) = alone();
        let (near, far) = (PeerId::random(), PeerId::random());
        let mut peers = ConnectedPeers::of(&[near], now);
        peers.connected(far, address("/ip4/192.0.2.1/tcp/1"), now);
        let addresses = vec![address("/ip4/127.0.0.1/tcp/2"), address("/ip4/192.0.2.1/tcp/2")];
        for (peer, speaks_kademlia, expected) in [(near, true, 2), (far, true, 1), (far, false, 0)] {
            let event = DiscoveryEvent::Identified { peer, addresses: addresses.clone(), speaks_kademlia };
            assert_eq!(discovery.handle(event, &peers, &mut random, now).len(), expected);
        }
        let many = (1..200).map(|n| address(&format!("/ip4/192.0.2.{n}/tcp/1"))).collect();
        let event = DiscoveryEvent::Identified { peer: far, addresses: many, speaks_kademlia: true };
        assert_eq!(discovery.handle(event, &peers, &mut random, now).len(), ADDRESSES_PER_PEER);
    }

    #[test]
    fn peers_on_the_local_network_are_dialled() {
        let (mut discovery, now, mut random) = alone();
        let (peer, at) = (PeerId::random(), address("/ip4/192.168.0.9/tcp/1"));
        let event = DiscoveryEvent::FoundLocally(vec![(peer, at.clone())]);
        let effects = discovery.handle(event, &ConnectedPeers::default(), &mut random, now);
        assert_eq!(effects, [DiscoveryEffect::Dial { peer, addresses: vec![at] }]);
    }
}
