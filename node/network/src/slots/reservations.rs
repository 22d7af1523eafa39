//! Reservations and circuits of a relay by address. libp2p bounds them in all and by peer, and keys are free.
//!
//! Pure.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use libp2p::PeerId;
use spore_base::subnet::Subnet;

use super::full;
use crate::limits::{CIRCUIT_BURST, CIRCUIT_INTERVAL, CIRCUIT_SUBNETS, RESERVATION_BOUNDS, RESERVATION_TIME};

/// Who has a reservation, and how many circuits each subnet has begun.
#[derive(Debug, Default)]
pub struct RelayUse {
    /// Peers with a reservation, where they are, and when it ends.
    reserved: HashMap<PeerId, (Subnet, Instant)>,
    /// For each subnet that begins circuits, when all of its circuits will be forgotten.
    circuits: HashMap<IpNet, Instant>,
}

impl RelayUse {
    /// Whether a peer may have a reservation. One that has it may renew it. A peer without an IP address may not.
    pub fn reserve(&mut self, peer: PeerId, subnet: Option<Subnet>, now: Instant) -> bool {
        self.reserved.retain(|_, (_, until)| *until > now);
        let Some(subnet) = subnet else { return false };
        if !self.reserved.contains_key(&peer) {
            let taken = self.reserved.values().map(|(subnet, _)| subnet);
            if full(taken, Some(subnet), |_| Some(RESERVATION_BOUNDS)).is_some() {
                return false;
            }
        }
        self.reserved.insert(peer, (subnet, now + RESERVATION_TIME));
        true
    }

    /// A peer has no reservation any more: it left.
    pub fn release(&mut self, peer: &PeerId) {
        self.reserved.remove(peer);
    }

    /// Peers with a reservation.
    pub fn reserved(&self) -> usize {
        self.reserved.len()
    }

    /// Whether a peer in a subnet may begin a circuit: [`CIRCUIT_BURST`] at once, then one each [`CIRCUIT_INTERVAL`].
    pub fn begin_circuit(&mut self, subnet: Option<Subnet>, now: Instant) -> bool {
        let Some(net) = subnet.map(|subnet| subnet.subnet()) else { return false };
        if self.circuits.len() >= CIRCUIT_SUBNETS {
            self.circuits.retain(|_, until| *until > now);
        }
        if self.circuits.len() >= CIRCUIT_SUBNETS && !self.circuits.contains_key(&net) {
            return false;
        }
        let until = self.circuits.entry(net).or_insert(now);
        let next = (*until).max(now) + CIRCUIT_INTERVAL;
        let burst = CIRCUIT_INTERVAL.saturating_mul(u32::try_from(CIRCUIT_BURST).unwrap_or(u32::MAX));
        let fits = next.saturating_duration_since(now) <= burst.max(Duration::ZERO);
        if fits {
            *until = next;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Subnet> {
        Some(Subnet::of(text.parse().unwrap()))
    }

    #[test]
    fn reservations_of_one_network_leave_places_to_others() {
        let (mut relay, now) = (RelayUse::default(), Instant::now());
        let mut taken = |text: String| relay.reserve(PeerId::random(), at(&text), now);
        assert_eq!((0..20).filter(|_| taken("1.1.1.1".into())).count(), RESERVATION_BOUNDS.host);
        let others = (2..250).filter(|n| taken(format!("1.1.1.{n}"))).count();
        assert_eq!(others, RESERVATION_BOUNDS.subnet - RESERVATION_BOUNDS.host);
        let site = (2..250).filter(|n| taken(format!("1.1.{n}.1"))).count();
        assert_eq!(site, RESERVATION_BOUNDS.site - RESERVATION_BOUNDS.subnet);
        assert!(taken("2.2.2.2".into()));
        assert!(!relay.reserve(PeerId::random(), None, now), "a peer behind another relay");
    }

    #[test]
    fn restarts_of_a_client_use_up_no_places() {
        let (mut relay, peer, mut now) = (RelayUse::default(), PeerId::random(), Instant::now());
        for _ in 0..100 {
            assert!(relay.reserve(peer, at("1.1.1.1"), now));
            relay.release(&peer);
            assert!(relay.reserve(peer, at("1.1.1.1"), now), "again before the old connection is gone");
        }
        assert_eq!(relay.reserved(), 1);
        for _ in 0..RESERVATION_BOUNDS.host {
            relay.reserve(PeerId::random(), at("1.1.1.1"), now);
        }
        assert!(!relay.reserve(PeerId::random(), at("1.1.1.1"), now));
        now += RESERVATION_TIME;
        assert!(relay.reserve(PeerId::random(), at("1.1.1.1"), now), "those who did not renew are gone");
    }

    #[test]
    fn circuits_of_one_subnet_are_rationed() {
        let (mut relay, now) = (RelayUse::default(), Instant::now());
        let mut begun = |text: &str, at_time| relay.begin_circuit(at(text), at_time);
        let burst = (0..100).filter(|n| begun(&format!("1.1.1.{n}"), now)).count();
        assert_eq!(burst, CIRCUIT_BURST);
        assert!(begun("2.2.2.2", now), "another subnet");
        assert!(begun("1.1.1.1", now + CIRCUIT_INTERVAL) && !begun("1.1.1.1", now + CIRCUIT_INTERVAL));
    }
}
