//! Penalty points, and the peers that are refused for them.

use std::{collections::HashMap, time::Instant};

use libp2p::PeerId;
use spore_protocol::reject::PENALTY_LIMIT;

use crate::limits::{FORGIVE_INTERVAL, PENALTIES, REFUSED, REFUSED_FOR};

/// Penalty points, and the peers that are refused for them.
#[derive(Debug)]
pub struct Penalties {
    points: HashMap<PeerId, u32>,
    refused: HashMap<PeerId, Instant>,
    forgiven: Instant,
}

/// What a penalty led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sentence {
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
    pub fn add(&mut self, peer: PeerId, points: u32, now: Instant) -> Sentence {
        let total = self.points(&peer).saturating_add(points);
        if total < PENALTY_LIMIT {
            if self.points.len() >= PENALTIES && !self.points.contains_key(&peer) {
                let least = self.points.iter().min_by_key(|(_, points)| **points).map(|(peer, _)| *peer);
                least.map(|least| self.points.remove(&least));
            }
            self.points.insert(peer, total);
            return Sentence::Points(total);
        }
        self.points.remove(&peer);
        let mut instead_of = None;
        if self.refused.len() >= REFUSED && !self.refused.contains_key(&peer) {
            instead_of = self.refused.iter().min_by_key(|(_, since)| **since).map(|(peer, _)| *peer);
            instead_of.map(|oldest| self.refused.remove(&oldest));
        }
        self.refused.insert(peer, now);
        Sentence::Refuse { instead_of }
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
        assert_eq!(penalties.add(peer, PENALTY_LIMIT - 1, start), Sentence::Points(PENALTY_LIMIT - 1));
        assert_eq!(penalties.forgive(start + FORGIVE_INTERVAL), [(peer, PENALTY_LIMIT - 2)]);
        assert_eq!(penalties.add(peer, 2, start), Sentence::Refuse { instead_of: None });
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
        let let_go = refusals.filter(|one| matches!(one, Sentence::Refuse { instead_of: Some(_) })).count();
        assert_eq!((penalties.refused.len(), let_go), (REFUSED, 10));
    }
}
