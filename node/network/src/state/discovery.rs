//! Discovery: staying connected with the peers that the operator named, and finding enough others.
//!
//! Named peers are dialled again until they answer. When there are too few peers, others are searched for: Kademlia and
//! some connected peers are asked, and some of those that they know, and of those that earlier runs reached, are dialled.
//! Peers on the local network are dialled when mDNS reports them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use rand_chacha::ChaCha8Rng;
use spore_base::random;

use super::{
    connected::ConnectedPeers,
    named::NamedPeers,
    remembered::{RememberedPeers, diverse},
};
use crate::{
    addresses::{AddressPolicy, counted},
    limits::{
        DIAL_FAILURES, DISCOVERY_DIALS, DISCOVERY_INTERVAL, FAILED_PEERS, FIRST_SEARCH, PEERS_ASKED, PEERS_NAMED,
        TARGET_PEERS,
    },
};

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
    /// No address of this peer, which is not connected, answers.
    Unreachable(PeerId),
    /// mDNS found these peers on the local network.
    FoundLocally(Vec<(PeerId, Multiaddr)>),
    /// The peers that Kademlia knows, after [`DiscoveryEffect::Search`].
    Known(Vec<(PeerId, Vec<Multiaddr>)>),
    /// The peers that a connected peer named, after [`DiscoveryEffect::AskForPeers`].
    Told {
        by: PeerId,
        peers: Vec<(PeerId, Vec<Multiaddr>)>,
    },
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
    /// Remove a peer from Kademlia.
    Forget(PeerId),
    /// Have Kademlia search for peers, and report the ones that it knows.
    Search,
    /// Ask a connected peer for other peers: [`DiscoveryEvent::Told`].
    AskForPeers(PeerId),
}

/// What else a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The connected peers.
    pub peers: &'a ConnectedPeers,
    /// The addresses that may be dialled.
    pub policy: &'a AddressPolicy,
    /// The peers of earlier runs.
    pub remembered: &'a RememberedPeers,
}

/// The named peers, and when others are searched for.
#[derive(Debug)]
pub struct Discovery {
    named: NamedPeers,
    next_search: Instant,
    /// Time until the search after the next one.
    wait: Duration,
    /// Failed dials in a row. At most [`FAILED_PEERS`].
    failures: BTreeMap<PeerId, u8>,
}

impl Discovery {
    /// `named`: addresses with or without `/p2p/<peer id>`.
    pub fn new(named: &[Multiaddr], now: Instant) -> Self {
        let (next_search, wait) = (now + FIRST_SEARCH, FIRST_SEARCH);
        Self { named: NamedPeers::new(named, now), next_search, wait, failures: BTreeMap::new() }
    }

    /// Takes in what happened, which `around` includes.
    pub fn handle(
        &mut self,
        event: DiscoveryEvent,
        around: Surroundings<'_>,
        random: &mut ChaCha8Rng,
        now: Instant,
    ) -> Vec<DiscoveryEffect> {
        match event {
            DiscoveryEvent::Connected { peer, dialled } => {
                self.named.connected(peer, dialled.as_ref(), now);
                self.failures.remove(&peer);
                if !around.peers.contains(&peer) {
                    // It may know others.
                    self.wait = FIRST_SEARCH;
                    self.next_search = self.next_search.min(now + FIRST_SEARCH);
                }
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
            DiscoveryEvent::Unreachable(peer) => self.unreachable(peer),
            DiscoveryEvent::FoundLocally(found) => {
                let dial = |(peer, address)| DiscoveryEffect::Dial { peer, addresses: vec![address] };
                found.into_iter().map(dial).collect()
            }
            DiscoveryEvent::Known(known) => choose(known, around.peers, random),
            DiscoveryEvent::Told { by, peers } => {
                let Some(by) = around.peers.get(&by) else { return Vec::new() };
                let kept = |addresses| around.policy.kept(&by.address, addresses);
                let known = peers.into_iter().take(PEERS_NAMED).map(|(peer, addresses)| (peer, kept(addresses)));
                choose(known.filter(|(_, addresses)| !addresses.is_empty()).collect(), around.peers, random)
            }
            DiscoveryEvent::Identified { speaks_kademlia: false, .. } => Vec::new(),
            DiscoveryEvent::Identified { peer, addresses, .. } => {
                let Some(known) = around.peers.get(&peer) else { return Vec::new() };
                let kept = around.policy.kept(&known.address, addresses).into_iter();
                kept.map(|address| DiscoveryEffect::AddAddress(peer, address)).collect()
            }
            DiscoveryEvent::Tick => self.tick(around, random, now),
        }
    }

    fn tick(&mut self, around: Surroundings<'_>, random: &mut ChaCha8Rng, now: Instant) -> Vec<DiscoveryEffect> {
        let due = self.named.due(random, now).into_iter();
        let mut effects: Vec<_> = due.map(DiscoveryEffect::DialNamed).collect();
        if around.peers.len() >= TARGET_PEERS || now < self.next_search {
            return effects;
        }
        self.next_search = now + self.wait;
        self.wait = self.wait.saturating_mul(2).min(DISCOVERY_INTERVAL);
        effects.push(DiscoveryEffect::Search);
        let asked = around.peers.shuffled(random).into_iter().take(PEERS_ASKED);
        effects.extend(asked.map(DiscoveryEffect::AskForPeers));
        let known = around.remembered.some(DISCOVERY_DIALS, |peer| around.peers.contains(peer), random);
        let dial = |(peer, address)| DiscoveryEffect::Dial { peer, addresses: vec![address] };
        effects.extend(known.into_iter().map(dial));
        effects
    }

    /// A peer that is gone is dialled and named to others no more. libp2p keeps the last address of a peer for ever.
    fn unreachable(&mut self, peer: PeerId) -> Vec<DiscoveryEffect> {
        if self.failures.len() >= FAILED_PEERS && !self.failures.contains_key(&peer) {
            self.failures.clear();
        }
        let failures = self.failures.entry(peer).or_default();
        *failures = failures.saturating_add(1);
        if *failures < DIAL_FAILURES {
            return Vec::new();
        }
        self.failures.remove(&peer);
        vec![DiscoveryEffect::Forget(peer)]
    }
}

/// Some of the known peers that are not connected, at random, of as many sites as there are.
fn choose(
    known: Vec<(PeerId, Vec<Multiaddr>)>,
    peers: &ConnectedPeers,
    random: &mut ChaCha8Rng,
) -> Vec<DiscoveryEffect> {
    let others = random::shuffled(known.into_iter().filter(|(peer, _)| !peers.contains(peer)), random);
    let site = |(_, addresses): &(PeerId, Vec<Multiaddr>)| addresses.iter().find_map(counted).map(|net| net.site());
    let dial = |(peer, addresses)| DiscoveryEffect::Dial { peer, addresses };
    diverse(others, DISCOVERY_DIALS, site).into_iter().map(dial).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::limits::ADDRESSES_PER_PEER;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// A discovery without named peers.
    struct World {
        discovery: Discovery,
        peers: ConnectedPeers,
        policy: AddressPolicy,
        remembered: RememberedPeers,
        random: ChaCha8Rng,
        now: Instant,
    }

    impl World {
        fn new(connected: &[PeerId]) -> Self {
            let now = Instant::now();
            Self {
                discovery: Discovery::new(&[], now),
                peers: ConnectedPeers::of(connected, now),
                policy: AddressPolicy::default(),
                remembered: RememberedPeers::default(),
                random: random::seeded(1),
                now,
            }
        }

        fn handle(&mut self, event: DiscoveryEvent) -> Vec<DiscoveryEffect> {
            let around = Surroundings { peers: &self.peers, policy: &self.policy, remembered: &self.remembered };
            self.discovery.handle(event, around, &mut self.random, self.now)
        }

        fn tick(&mut self, wait: Duration) -> Vec<DiscoveryEffect> {
            self.now += wait;
            self.handle(DiscoveryEvent::Tick)
        }
    }

    fn dialled(effects: &[DiscoveryEffect]) -> BTreeSet<PeerId> {
        let dialled = effects.iter().filter_map(|effect| match effect {
            DiscoveryEffect::Dial { peer, addresses } if addresses.len() == 1 => Some(*peer),
            _ => None,
        });
        dialled.collect()
    }

    #[test]
    fn search_repeats_ever_more_rarely_while_there_are_too_few_peers() {
        let mut world = World::new(&[]);
        assert_eq!(world.tick(Duration::ZERO), []);
        for _ in 0..8 {
            let wait = world.discovery.next_search - world.now;
            assert_eq!(world.tick(wait), [DiscoveryEffect::Search]);
            assert_eq!(world.tick(Duration::ZERO), []);
        }
        assert_eq!(world.discovery.next_search - world.now, DISCOVERY_INTERVAL);
        world.handle(DiscoveryEvent::Connected { peer: PeerId::random(), dialled: None });
        assert_eq!(world.tick(FIRST_SEARCH), [DiscoveryEffect::Search], "a new peer may know others");
        let enough: Vec<_> = (0..TARGET_PEERS).map(|_| PeerId::random()).collect();
        assert_eq!(World::new(&enough).tick(3 * DISCOVERY_INTERVAL), []);
    }

    #[test]
    fn search_asks_connected_peers_and_dials_those_of_earlier_runs() {
        let connected: Vec<_> = (0..3).map(|_| PeerId::random()).collect();
        let mut world = World::new(&connected);
        let known = PeerId::random();
        world.remembered.reached(known, &address("/ip4/1.1.1.1/tcp/1"), 1);
        world.remembered.reached(connected[0], &address("/ip4/2.2.2.2/tcp/1"), 1);
        let effects = world.tick(FIRST_SEARCH);
        let asked = effects.iter().filter(|effect| matches!(effect, DiscoveryEffect::AskForPeers(_))).count();
        assert_eq!((asked, dialled(&effects)), (PEERS_ASKED, BTreeSet::from([known])));
    }

    #[test]
    fn few_of_the_known_peers_are_dialled_and_no_connected_one() {
        let known: Vec<_> =
            (1..=20).map(|n| (PeerId::random(), vec![address(&format!("/ip4/192.0.2.{n}/tcp/1"))])).collect();
        let connected: Vec<_> = known.iter().take(10).map(|(peer, _)| *peer).collect();
        let mut world = World::new(&connected);
        let chosen = dialled(&world.handle(DiscoveryEvent::Known(known)));
        assert_eq!(chosen.len(), DISCOVERY_DIALS);
        assert!(chosen.iter().all(|peer| !world.peers.contains(peer)));
    }

    #[test]
    fn peers_that_a_peer_names_are_dialled_at_usable_addresses_only() {
        let (by, far, near) = (PeerId::random(), PeerId::random(), PeerId::random());
        let mut world = World::new(&[]);
        world.peers.connected(by, address("/ip4/1.1.1.1/tcp/1"), world.now);
        let (public, private) = (address("/ip4/2.2.2.2/tcp/1"), address("/ip4/10.0.0.1/tcp/1"));
        let peers = vec![(far, vec![private.clone(), public.clone()]), (near, vec![private])];
        let told = world.handle(DiscoveryEvent::Told { by, peers: peers.clone() });
        assert_eq!(told, [DiscoveryEffect::Dial { peer: far, addresses: vec![public] }]);
        assert_eq!(world.handle(DiscoveryEvent::Told { by: near, peers }), [], "it left meanwhile");
    }

    #[test]
    fn addresses_that_lead_elsewhere_are_not_given_to_kademlia() {
        let (near, far) = (PeerId::random(), PeerId::random());
        let mut world = World::new(&[near]);
        world.policy.allow_this_machine();
        world.peers.connected(far, address("/ip4/1.1.1.1/tcp/1"), world.now);
        let addresses = vec![address("/ip4/127.0.0.1/tcp/2"), address("/ip4/1.1.1.1/tcp/2")];
        for (peer, speaks_kademlia, expected) in [(near, true, 2), (far, true, 1), (far, false, 0)] {
            let event = DiscoveryEvent::Identified { peer, addresses: addresses.clone(), speaks_kademlia };
            assert_eq!(world.handle(event).len(), expected);
        }
        let many = (1..200).map(|n| address(&format!("/ip4/1.1.1.{n}/tcp/1"))).collect();
        let event = DiscoveryEvent::Identified { peer: far, addresses: many, speaks_kademlia: true };
        assert_eq!(world.handle(event).len(), ADDRESSES_PER_PEER);
    }

    #[test]
    fn peer_that_does_not_answer_is_forgotten() {
        let (mut world, peer) = (World::new(&[]), PeerId::random());
        for _ in 1..DIAL_FAILURES {
            assert_eq!(world.handle(DiscoveryEvent::Unreachable(peer)), []);
        }
        world.handle(DiscoveryEvent::Connected { peer, dialled: None });
        for _ in 1..DIAL_FAILURES {
            assert_eq!(world.handle(DiscoveryEvent::Unreachable(peer)), [], "it answered in between");
        }
        assert_eq!(world.handle(DiscoveryEvent::Unreachable(peer)), [DiscoveryEffect::Forget(peer)]);
        (0..3 * FAILED_PEERS).for_each(|_| drop(world.handle(DiscoveryEvent::Unreachable(PeerId::random()))));
        assert!(world.discovery.failures.len() <= FAILED_PEERS);
    }

    #[test]
    fn peers_on_the_local_network_are_dialled() {
        let (peer, at) = (PeerId::random(), address("/ip4/192.168.0.9/tcp/1"));
        let effects = World::new(&[]).handle(DiscoveryEvent::FoundLocally(vec![(peer, at.clone())]));
        assert_eq!(effects, [DiscoveryEffect::Dial { peer, addresses: vec![at] }]);
    }
}
