//! Reachability: whether others can dial this node, and through which relays they reach it when they cannot.
//!
//! A test by another node (AutoNAT v2), or a peer that dialled a public address of this node, confirms an address. A node
//! with a confirmed public address is public: it answers Kademlia's queries and serves as a relay. A node that knows
//! public peers and has no confirmed address after a while is private: it keeps [`RESERVATIONS_WANTED`] reservations at
//! relays in different networks; so does one that is public over IPv6 alone, for those without IPv6. A node in a network without public addresses stays unknown, and its neighbours reach it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use spore_base::{backoff::backoff, random};

use crate::{
    addresses::counted,
    limits::{
        FIREWALLED_AFTER, KNOWN_RELAYS, PRIVATE_AFTER, RELAY_BACKOFF_FIRST, RELAY_BACKOFF_MOST, RELAY_SEARCH_INTERVAL,
        RESERVATION_TIMEOUT, RESERVATIONS_WANTED,
    },
};

/// Whether others can dial this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reachability {
    /// Not known, or of no meaning: no public peer is connected.
    #[default]
    Unknown,
    Public,
    Private,
}

impl Reachability {
    /// The name that people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

/// How a router maps this node's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// One external port for all peers: hole punching works with such routers.
    Cone,
    /// Another external port for each peer.
    Symmetric,
}

impl NatKind {
    /// The name that people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cone => "cone",
            Self::Symmetric => "symmetric",
        }
    }
}

/// Events of this machine.
#[derive(Clone, Debug)]
pub enum ReachabilityEvent {
    /// A public host that this node dialled sees it at this address.
    Observed {
        by: IpNet,
        address: Multiaddr,
    },
    /// Others reach this node at a public address: a test or a connection says so.
    Confirmed(Multiaddr),
    /// They do no more.
    Expired(Multiaddr),
    /// A test of a public address failed.
    Failed(Multiaddr),
    /// Whether one of the own interfaces has a public address.
    Interfaces {
        has_public: bool,
    },
    /// A peer with a public address is connected.
    PublicPeer,
    /// A relay is connected at this address.
    RelayFound {
        relay: PeerId,
        address: Multiaddr,
    },
    /// The relay granted or renewed the reservation.
    Reserved(PeerId),
    /// The relay refused, or the reservation ended.
    ReservationLost(PeerId),
    Tick,
}

/// Effects of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReachabilityEffect {
    /// The reachability changed: act as a server or a client of Kademlia, and serve as a relay or not.
    Became { reachability: Reachability, relay: bool },
    /// Ask a relay for a reservation: [`ReachabilityEvent::Reserved`] or [`ReachabilityEvent::ReservationLost`].
    Reserve { relay: PeerId, address: Multiaddr },
    /// Give up a reservation.
    Release(PeerId),
    /// Search Kademlia for relays. Those that are dialled and found to be relays are reported.
    FindRelays,
}

/// A relay that this node has or wants a reservation at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayStatus {
    pub relay: PeerId,
    pub address: Multiaddr,
    /// Since when the reservation has been held. None while it is asked for.
    pub held: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RelayState {
    /// May be asked from this time on.
    Idle {
        next: Instant,
    },
    Asked {
        since: Instant,
    },
    Held {
        since: Instant,
    },
}

#[derive(Debug)]
struct KnownRelay {
    address: Multiaddr,
    state: RelayState,
    failures: u32,
}

/// What this node knows of its reachability.
#[derive(Debug)]
pub struct ReachabilityMachine {
    /// What the operator says, which no test changes.
    fixed: Option<Reachability>,
    /// Whether to serve as a relay when public.
    serves: bool,
    now_is: Reachability,
    confirmed: BTreeSet<Multiaddr>,
    failed: BTreeSet<Multiaddr>,
    has_public_interface: bool,
    /// Since when a public peer has been known.
    public_peer: Option<Instant>,
    relays: BTreeMap<PeerId, KnownRelay>,
    searched: Option<Instant>,
    /// The port at which each host sees this node, over UDP or not. At most [`ADDRESSES`].
    observed: BTreeMap<(bool, IpNet), Multiaddr>,
}

/// Addresses that are remembered as confirmed or failed: more than a host with both families and protocols has.
const ADDRESSES: usize = 64;

impl ReachabilityMachine {
    /// `fixed`: what the operator says. `serves`: whether to serve as a relay when public.
    pub fn new(fixed: Option<Reachability>, serves: bool) -> Self {
        Self {
            fixed,
            serves,
            now_is: Reachability::Unknown,
            confirmed: BTreeSet::new(),
            failed: BTreeSet::new(),
            has_public_interface: false,
            public_peer: None,
            relays: BTreeMap::new(),
            searched: None,
            observed: BTreeMap::new(),
        }
    }

    /// How the router maps this node's port. None while fewer than two hosts have seen it, or without a router.
    pub fn nat_kind(&self) -> Option<NatKind> {
        if self.now_is != Reachability::Private || self.has_public_interface {
            return None;
        }
        let kind = |udp: bool| {
            let seen: Vec<_> = self.observed.iter().filter(|((is_udp, _), _)| *is_udp == udp).collect();
            let addresses: BTreeSet<_> = seen.iter().map(|(_, address)| *address).collect();
            (seen.len() > 1).then_some(if addresses.len() > 1 { NatKind::Symmetric } else { NatKind::Cone })
        };
        kind(true).or_else(|| kind(false))
    }

    pub const fn reachability(&self) -> Reachability {
        self.now_is
    }

    /// Whether the operator decided.
    pub const fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// The public addresses at which others reach this node.
    pub fn confirmed(&self) -> impl Iterator<Item = &Multiaddr> {
        self.confirmed.iter()
    }

    /// The relays that are held or asked.
    pub fn relays(&self) -> impl Iterator<Item = RelayStatus> {
        self.relays.iter().filter_map(|(relay, known)| {
            let held = match known.state {
                RelayState::Idle { .. } => return None,
                RelayState::Asked { .. } => None,
                RelayState::Held { since } => Some(since),
            };
            Some(RelayStatus { relay: *relay, address: known.address.clone(), held })
        })
    }

    pub fn handle(
        &mut self,
        event: ReachabilityEvent,
        random: &mut ChaCha8Rng,
        now: Instant,
    ) -> Vec<ReachabilityEffect> {
        match event {
            ReachabilityEvent::Confirmed(address) => {
                self.failed.remove(&address);
                if self.confirmed.len() < ADDRESSES {
                    self.confirmed.insert(address);
                }
            }
            ReachabilityEvent::Expired(address) => {
                self.confirmed.remove(&address);
            }
            ReachabilityEvent::Failed(address) => {
                self.confirmed.remove(&address);
                if self.failed.len() < ADDRESSES {
                    self.failed.insert(address);
                }
            }
            ReachabilityEvent::Observed { by, address } => {
                let udp = address.iter().any(|part| matches!(part, Protocol::Udp(_)));
                if self.observed.len() < ADDRESSES || self.observed.contains_key(&(udp, by)) {
                    self.observed.insert((udp, by), address);
                }
            }
            ReachabilityEvent::Interfaces { has_public } => self.has_public_interface = has_public,
            ReachabilityEvent::PublicPeer => {
                self.public_peer.get_or_insert(now);
            }
            ReachabilityEvent::RelayFound { relay, address } => self.found(relay, address, now),
            ReachabilityEvent::Reserved(relay) => return self.reserved(relay, now),
            ReachabilityEvent::ReservationLost(relay) => self.lost(&relay, random, now),
            ReachabilityEvent::Tick => {}
        }
        let mut effects: Vec<_> = self.decide(now).into_iter().collect();
        if self.wants_relays() {
            effects.extend(self.reserve(random, now));
        }
        effects
    }

    /// Whether some others reach this node only through a relay: all of them, or those without IPv6.
    fn wants_relays(&self) -> bool {
        let is_v6 = |address: &Multiaddr| matches!(address.iter().next(), Some(Protocol::Ip6(_)));
        match self.now_is {
            Reachability::Unknown => false,
            Reachability::Private => true,
            Reachability::Public => !self.confirmed.is_empty() && self.confirmed.iter().all(is_v6),
        }
    }

    /// The reachability, if it changed.
    fn decide(&mut self, now: Instant) -> Option<ReachabilityEffect> {
        let waited = self.public_peer.map(|since| now.saturating_duration_since(since));
        let patience = if self.has_public_interface { FIREWALLED_AFTER } else { PRIVATE_AFTER };
        let found = match self.fixed {
            Some(fixed) => fixed,
            None if !self.confirmed.is_empty() => Reachability::Public,
            None if waited.is_some_and(|waited| waited >= patience) => Reachability::Private,
            None => Reachability::Unknown,
        };
        if found == self.now_is {
            return None;
        }
        self.now_is = found;
        let relay = self.serves && found == Reachability::Public;
        Some(ReachabilityEffect::Became { reachability: found, relay })
    }

    fn found(&mut self, relay: PeerId, address: Multiaddr, now: Instant) {
        if let Some(known) = self.relays.get_mut(&relay) {
            // It answers again, perhaps at another address.
            if let RelayState::Idle { next } = &mut known.state {
                *next = (*next).min(now + RELAY_BACKOFF_FIRST);
                known.address = address;
            }
            return;
        }
        if self.relays.len() >= KNOWN_RELAYS {
            let idle = self.relays.iter().filter(|(_, known)| matches!(known.state, RelayState::Idle { .. }));
            let Some(worst) = idle.max_by_key(|(_, known)| known.failures).map(|(relay, _)| *relay) else { return };
            self.relays.remove(&worst);
        }
        self.relays.insert(relay, KnownRelay { address, state: RelayState::Idle { next: now }, failures: 0 });
    }

    fn reserved(&mut self, relay: PeerId, now: Instant) -> Vec<ReachabilityEffect> {
        let Some(known) = self.relays.get_mut(&relay) else { return Vec::new() };
        known.failures = 0;
        if !matches!(known.state, RelayState::Held { .. }) {
            known.state = RelayState::Held { since: now };
        }
        // Only now: libp2p's client must not lose a reservation while the relay's answer is under way.
        if self.wants_relays() { Vec::new() } else { vec![ReachabilityEffect::Release(relay)] }
    }

    fn lost(&mut self, relay: &PeerId, random: &mut ChaCha8Rng, now: Instant) {
        let Some(known) = self.relays.get_mut(relay) else { return };
        // A reservation that was held for a while was a good one.
        let wait = backoff(RELAY_BACKOFF_FIRST, RELAY_BACKOFF_MOST, known.failures, random.next_u64());
        known.failures = known.failures.saturating_add(1);
        known.state = RelayState::Idle { next: now + wait };
    }

    /// Asks for reservations while there are too few.
    fn reserve(&mut self, random: &mut ChaCha8Rng, now: Instant) -> Vec<ReachabilityEffect> {
        for known in self.relays.values_mut() {
            if matches!(known.state, RelayState::Asked { since } if elapsed(since, now) >= RESERVATION_TIMEOUT) {
                // The answer may still come, and is taken then.
                known.failures = known.failures.saturating_add(1);
                known.state = RelayState::Idle { next: now + RELAY_BACKOFF_MOST };
            }
        }
        let mut effects = Vec::new();
        let active = |known: &&KnownRelay| !matches!(known.state, RelayState::Idle { .. });
        while self.relays.values().filter(active).count() < RESERVATIONS_WANTED {
            let Some(relay) = self.next_relay(random, now) else { break };
            let Some(known) = self.relays.get_mut(&relay) else { break };
            known.state = RelayState::Asked { since: now };
            effects.push(ReachabilityEffect::Reserve { relay, address: known.address.clone() });
        }
        let held = |known: &&KnownRelay| matches!(known.state, RelayState::Held { .. });
        let few = self.relays.values().filter(held).count() < RESERVATIONS_WANTED;
        if few && self.searched.is_none_or(|at| elapsed(at, now) >= RELAY_SEARCH_INTERVAL) {
            self.searched = Some(now);
            effects.push(ReachabilityEffect::FindRelays);
        }
        effects
    }

    /// A relay that may be asked now: one in a site where none is held yet, before others; with fewer failures before
    /// those with more.
    fn next_relay(&self, random: &mut ChaCha8Rng, now: Instant) -> Option<PeerId> {
        let site = |known: &KnownRelay| -> Option<IpNet> { counted(&known.address).map(|subnet| subnet.site()) };
        let used: BTreeSet<_> = self
            .relays
            .values()
            .filter(|known| !matches!(known.state, RelayState::Idle { .. }))
            .filter_map(site)
            .collect();
        let ready =
            self.relays.iter().filter(|(_, known)| matches!(known.state, RelayState::Idle { next } if next <= now));
        let ready = random::shuffled(ready.map(|(relay, _)| *relay), random);
        let rank = |relay: &PeerId| {
            let known = self.relays.get(relay)?;
            Some((site(known).is_some_and(|site| used.contains(&site)), known.failures))
        };
        ready.into_iter().min_by_key(|relay| rank(relay).unwrap_or((true, u32::MAX)))
    }
}

fn elapsed(since: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(since)
}

#[cfg(test)]
mod tests;
