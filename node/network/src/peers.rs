//! Who is connected, and who has misbehaved.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use libp2p::{Multiaddr, PeerId};
use spore_protocol::reject::PENALTY_LIMIT;

use super::limits::{AGENT_LENGTH, FORGIVE_INTERVAL, PENALTIES, REFUSED, REFUSED_FOR, UNANSWERED_PINGS};

/// A connected peer.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: Multiaddr,
    pub agent: Option<String>,
    pub since: Instant,
    /// Pings in a row without an answer.
    silent: u32,
}

/// The connected peers.
#[derive(Debug, Default)]
pub struct Peers(BTreeMap<PeerId, Peer>);

impl Peers {
    /// Notes a connection; true for the first one to that peer.
    pub fn connected(&mut self, peer: PeerId, address: Multiaddr, now: Instant) -> bool {
        let known = self.0.contains_key(&peer);
        self.0.entry(peer).or_insert(Peer { address, agent: None, since: now, silent: 0 });
        !known
    }

    pub fn disconnected(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }

    /// What the peer says of itself, cut to what is shown.
    pub fn identified(&mut self, peer: &PeerId, agent: &str) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.agent = Some(agent.chars().filter(|c| !c.is_control()).take(AGENT_LENGTH).collect());
        }
    }

    /// Notes how a ping went; true when the peer must be taken for dead.
    pub fn pinged(&mut self, peer: &PeerId, answered: bool) -> bool {
        let Some(peer) = self.0.get_mut(peer) else { return false };
        peer.silent = if answered { 0 } else { peer.silent + 1 };
        peer.silent >= UNANSWERED_PINGS
    }

    pub fn contains(&self, peer: &PeerId) -> bool {
        self.0.contains_key(peer)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.0.iter()
    }

    /// All of them, in an order of `random`'s choosing.
    pub fn shuffled(&self, mut random: impl FnMut() -> u64) -> Vec<PeerId> {
        let mut keyed: Vec<_> = self.0.keys().map(|peer| (random(), *peer)).collect();
        keyed.sort_unstable_by_key(|(key, _)| *key);
        keyed.into_iter().map(|(_, peer)| peer).collect()
    }
}

/// Penalty points, and the peers that are refused for them.
#[derive(Debug)]
pub struct Penalties {
    points: HashMap<PeerId, u32>,
    refused: HashMap<PeerId, Instant>,
    forgiven: Instant,
}

/// What a penalty led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The peer has this many points.
    Points(u32),
    /// Disconnect it and refuse it; let this other one go, where the table was full.
    Refuse { instead_of: Option<PeerId> },
}

impl Penalties {
    pub fn new(now: Instant) -> Self {
        Self { points: HashMap::new(), refused: HashMap::new(), forgiven: now }
    }

    pub fn points(&self, peer: &PeerId) -> u32 {
        self.points.get(peer).copied().unwrap_or_default()
    }

    /// Adds points.
    pub fn add(&mut self, peer: PeerId, points: u32, now: Instant) -> Consequence {
        let total = self.points(&peer).saturating_add(points);
        if total < PENALTY_LIMIT {
            if self.points.len() >= PENALTIES && !self.points.contains_key(&peer) {
                let least = self.points.iter().min_by_key(|(_, points)| **points).map(|(peer, _)| *peer);
                least.map(|least| self.points.remove(&least));
            }
            self.points.insert(peer, total);
            return Consequence::Points(total);
        }
        self.points.remove(&peer);
        let mut instead_of = None;
        if self.refused.len() >= REFUSED && !self.refused.contains_key(&peer) {
            instead_of = self.refused.iter().min_by_key(|(_, since)| **since).map(|(peer, _)| *peer);
            instead_of.map(|oldest| self.refused.remove(&oldest));
        }
        self.refused.insert(peer, now);
        Consequence::Refuse { instead_of }
    }

    /// Forgives a point every [`FORGIVE_INTERVAL`]: the peers whose points changed, with what is left.
    pub fn forgive(&mut self, now: Instant) -> Vec<(PeerId, u32)> {
        if now.duration_since(self.forgiven) < FORGIVE_INTERVAL {
            return Vec::new();
        }
        self.forgiven = now;
        for points in self.points.values_mut() {
            *points = points.saturating_sub(1);
        }
        let changed = self.points.iter().map(|(peer, points)| (*peer, *points)).collect();
        self.points.retain(|_, points| *points > 0);
        changed
    }

    /// The peers whose refusal has ended.
    pub fn served(&mut self, now: Instant) -> Vec<PeerId> {
        let over = |since: &Instant| now.duration_since(*since) >= REFUSED_FOR;
        let served: Vec<_> = self.refused.iter().filter(|(_, since)| over(since)).map(|(peer, _)| *peer).collect();
        for peer in &served {
            self.refused.remove(peer);
        }
        served
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn points_add_up_to_a_refusal_that_ends() {
        let start = Instant::now();
        let mut penalties = Penalties::new(start);
        let peer = PeerId::random();
        assert_eq!(penalties.add(peer, PENALTY_LIMIT - 1, start), Consequence::Points(PENALTY_LIMIT - 1));
        assert_eq!(penalties.forgive(start + FORGIVE_INTERVAL), [(peer, PENALTY_LIMIT - 2)]);
        assert_eq!(penalties.add(peer, 2, start), Consequence::Refuse { instead_of: None });
        assert_eq!(penalties.points(&peer), 0);
        assert!(penalties.served(start).is_empty());
        assert_eq!(penalties.served(start + REFUSED_FOR), [peer]);
    }

    #[test]
    fn both_tables_are_bounded() {
        let now = Instant::now();
        let mut penalties = Penalties::new(now);
        for _ in 0..PENALTIES + 10 {
            penalties.add(PeerId::random(), 1, now);
        }
        assert_eq!(penalties.points.len(), PENALTIES);
        let refusals = (0..REFUSED + 10).map(|_| penalties.add(PeerId::random(), PENALTY_LIMIT, now));
        let let_go = refusals.filter(|one| matches!(one, Consequence::Refuse { instead_of: Some(_) })).count();
        assert_eq!((penalties.refused.len(), let_go), (REFUSED, 10));
    }
}
