//! Who brings objects here, and by what each is counted: the subnet of its address, so that a fresh key buys nothing.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use libp2p_identity::PeerId;
use spore_base::subnet::{Reach, Subnet};

use crate::origin::{Origin, SessionId};

/// Sources whose addresses are remembered: more than both networks have connections. Of about 100 bytes each.
const SOURCES: usize = 4096;

/// One end of a connection that brings objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Peer(PeerId),
    Session(SessionId),
}

impl Source {
    /// None for this node itself and for files, which are not limited.
    pub const fn of(origin: Origin) -> Option<Self> {
        match origin {
            Origin::Gossip(peer) | Origin::Sync(peer) => Some(Self::Peer(peer)),
            Origin::Bridge(session) => Some(Self::Session(session)),
            Origin::Local | Origin::Import => None,
        }
    }
}

/// What introductions are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Introducer {
    Subnet(IpNet),
    /// A peer on this machine or in its local network, or one whose address is not known.
    Near(Source),
}

impl Introducer {
    fn of(source: Source, address: Option<IpAddr>) -> Self {
        match address.map(Subnet::of) {
            Some(subnet) if subnet.reach() == Reach::Public => Self::Subnet(subnet.subnet()),
            _ => Self::Near(source),
        }
    }

    fn newcomer(self) -> Self {
        match self {
            Self::Subnet(net) if net.addr().is_ipv6() => Self::Subnet(Subnet::of(net.addr()).site()),
            other => other,
        }
    }
}

/// What is known of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    pub introducer: Introducer,
    /// What counts as one newcomer: as the introducer, but a site of IPv6, of which one customer gets 256 subnets for
    /// nothing.
    pub newcomer: Introducer,
    /// The operator named the peer, and this node dialled it.
    pub named: bool,
}

/// The sources that are connected. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Introducers(Arc<Mutex<HashMap<Source, SourceFacts>>>);

impl Introducers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Source, SourceFacts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes where a source is. A peer that was named on one connection stays named on the next. When there are too many
    /// sources, the new one is counted by itself.
    pub fn connected(&self, source: Source, address: Option<IpAddr>, named: bool) {
        let mut sources = self.lock();
        let named = named || sources.get(&source).is_some_and(|facts| facts.named);
        if sources.len() < SOURCES || sources.contains_key(&source) {
            let introducer = Introducer::of(source, address);
            sources.insert(source, SourceFacts { introducer, newcomer: introducer.newcomer(), named });
        }
    }

    pub fn disconnected(&self, source: Source) {
        self.lock().remove(&source);
    }

    pub fn facts(&self, source: Source) -> SourceFacts {
        let near = Introducer::Near(source);
        let unknown = SourceFacts { introducer: near, newcomer: near, named: false };
        self.lock().get(&source).copied().unwrap_or(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introducer(session: u64, address: &str) -> Introducer {
        Introducer::of(Source::Session(SessionId(session)), address.parse().ok())
    }

    #[test]
    fn addresses_of_one_subnet_are_one_introducer() {
        assert_eq!(introducer(1, "203.0.113.7"), introducer(2, "203.0.113.200"));
        assert_eq!(introducer(1, "203.0.113.7"), introducer(2, "::ffff:203.0.113.9"));
        assert_eq!(introducer(1, "2001:db8:0:1ff::1"), introducer(2, "2001:db8:0:100::2"));
        assert_ne!(introducer(1, "2001:db8:0:100::1"), introducer(2, "2001:db8:0:200::1"));
    }

    #[test]
    fn subnets_of_one_ipv6_site_are_one_newcomer() {
        let newcomer = |session, address| introducer(session, address).newcomer();
        assert_eq!(newcomer(1, "2001:db8:0:100::1"), newcomer(2, "2001:db8:0:200::1"));
        assert_ne!(newcomer(1, "2001:db8:0:100::1"), newcomer(2, "2001:db8:1:100::1"));
        assert_ne!(newcomer(1, "203.0.113.7"), newcomer(2, "203.0.112.7"));
    }

    #[test]
    fn local_peers_are_introducers_of_their_own() {
        for address in ["127.0.0.1", "192.168.1.2", "fe80::1", "no address"] {
            assert_ne!(introducer(1, address), introducer(2, address), "{address}");
        }
    }

    #[test]
    fn sources_are_bounded_and_a_named_one_stays_named() {
        let introducers = Introducers::default();
        let first = Source::Session(SessionId(0));
        introducers.connected(first, None, true);
        introducers.connected(first, None, false);
        assert!(introducers.facts(first).named);
        for session in 1..=SOURCES as u64 {
            introducers.connected(Source::Session(SessionId(session)), None, true);
        }
        assert!(!introducers.facts(Source::Session(SessionId(SOURCES as u64))).named);
        introducers.disconnected(first);
        assert!(!introducers.facts(first).named);
    }
}
