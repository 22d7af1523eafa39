//! The peers of earlier runs: where this node last reached whom. Kept over restarts, so that a node whose one named peer
//! is down still finds the network.
//!
//! Nobody can claim an address at which this node reached a peer by dialling it. Peers that dialled this node are known by
//! the addresses that they report alone: they take few places, and none of a peer that was dialled. Of one subnet and one
//! site few are remembered, so that whoever has many addresses of one hoster cannot take all places.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use ipnet::IpNet;
use libp2p::{Multiaddr, PeerId};
use rand_chacha::ChaCha8Rng;
use spore_base::{random, subnet::Subnet};

use super::named::peer_of;
use crate::{
    addresses::{counted, is_circuit, with_peer, without_peer},
    limits::{REMEMBERED, REMEMBERED_DAYS, REMEMBERED_PER_SITE, REMEMBERED_PER_SUBNET, REMEMBERED_TOLD},
};

const DAY: u64 = 24 * 60 * 60;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Remembered {
    /// Without the peer's id.
    address: Multiaddr,
    /// When it was last connected, in Unix seconds.
    seen: u64,
    /// This node reached it there. Otherwise the peer said so.
    dialled: bool,
}

/// The word for an address that the peer reported, in the file.
const TOLD: &str = "told";
/// The word for an address at which this node reached the peer.
const DIALLED: &str = "dialled";

/// Peers, each with the address at which it was last reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RememberedPeers(BTreeMap<PeerId, Remembered>);

impl RememberedPeers {
    /// Reads what [`RememberedPeers::to_text`] wrote. Lines that are none are left out, and peers that were last seen too
    /// long ago. `now` in Unix seconds.
    pub fn from_text(text: &str, now: u64) -> Self {
        let mut peers = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(seen), Some(how), Some(address)) = (words.next(), words.next(), words.next()) else { continue };
            let (Ok(seen), Ok(address)) = (seen.parse::<u64>(), address.parse::<Multiaddr>()) else { continue };
            if let Some(peer) = peer_of(&address) {
                peers.add(peer, &address, seen.min(now), now, how == DIALLED);
            }
        }
        peers
    }

    /// A line for each peer: when it was last connected (Unix seconds), and its address with its id.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (peer, known) in &self.0 {
            // Writing to a string does not fail.
            let how = if known.dialled { DIALLED } else { TOLD };
            let _ = writeln!(text, "{} {how} {}", known.seen, with_peer(&known.address, *peer));
        }
        text
    }

    /// This node reached a peer by dialling it. True when that is worth saving: the peer is new or at a new address.
    pub fn reached(&mut self, peer: PeerId, address: &Multiaddr, now: u64) -> bool {
        self.add(peer, address, now, now, true)
    }

    /// A connected peer reported where it is. True when that is worth saving.
    pub fn told(&mut self, peer: PeerId, address: &Multiaddr, now: u64) -> bool {
        self.add(peer, address, now, now, false)
    }

    fn add(&mut self, peer: PeerId, address: &Multiaddr, seen: u64, now: u64, dialled: bool) -> bool {
        // A relay that leads to the peer may be gone tomorrow, and is remembered itself.
        let Some(subnet) = counted(address).filter(|_| !is_circuit(address)) else { return false };
        let old = now.saturating_sub(REMEMBERED_DAYS * DAY);
        self.0.retain(|_, known| known.seen >= old);
        if seen < old {
            return false;
        }
        let known = Remembered { address: without_peer(address), seen, dialled };
        match self.0.get_mut(&peer) {
            Some(before) if before.dialled && !dialled => return false,
            Some(before) => {
                let moved = before.address != known.address || before.dialled != dialled;
                *before = known;
                return moved;
            }
            None => {}
        }
        if let Some(crowd) = self.crowd(subnet, dialled) {
            // One that was only reported makes room first, and never takes the room of one that was dialled.
            let last = crowd.into_iter().filter_map(|peer| self.0.get(&peer).map(|known| (known, peer)));
            let last = last.filter(|(known, _)| dialled || !known.dialled);
            let Some(last) = last.min_by_key(|(known, _)| (known.dialled, known.seen)).map(|(_, peer)| peer) else {
                return false;
            };
            self.0.remove(&last);
        }
        self.0.insert(peer, known);
        true
    }

    /// The peers among which one must make room for a newcomer at this place. None while there is room.
    fn crowd(&self, newcomer: Subnet, dialled: bool) -> Option<Vec<PeerId>> {
        let among = |is: &dyn Fn(&Remembered, Subnet) -> bool| -> Vec<PeerId> {
            let known = self.0.iter().filter_map(|(peer, known)| Some((peer, known, counted(&known.address)?)));
            known.filter(|(_, known, subnet)| is(known, *subnet)).map(|(peer, ..)| *peer).collect()
        };
        let told = among(&|known, _| !known.dialled);
        if !dialled && told.len() >= REMEMBERED_TOLD {
            return Some(told);
        }
        let in_subnet = among(&|_, subnet| subnet.subnet() == newcomer.subnet());
        if in_subnet.len() >= REMEMBERED_PER_SUBNET {
            return Some(in_subnet);
        }
        let in_site = among(&|_, subnet| subnet.site() == newcomer.site());
        if in_site.len() >= REMEMBERED_PER_SITE {
            return Some(in_site);
        }
        (self.0.len() >= REMEMBERED).then(|| self.0.keys().copied().collect())
    }

    /// The operator disconnected a peer. True when it was remembered.
    pub fn forget(&mut self, peer: &PeerId) -> bool {
        self.0.remove(peer).is_some()
    }

    /// Some peers at random, of as many sites as there are, without these.
    pub fn some(
        &self,
        count: usize,
        without: impl Fn(&PeerId) -> bool,
        random: &mut ChaCha8Rng,
    ) -> Vec<(PeerId, Multiaddr)> {
        let others = self.0.iter().filter(|(peer, _)| !without(peer));
        let others = random::shuffled(others.map(|(peer, known)| (*peer, known.address.clone())), random);
        diverse(others, count, |(_, address)| counted(address).map(|subnet| subnet.site()))
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// The first `count` items, each site once before any site a second time.
pub fn diverse<T>(items: Vec<T>, count: usize, site: impl Fn(&T) -> Option<IpNet>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let (first, second): (Vec<T>, Vec<T>) = items.into_iter().partition(|item| seen.insert(site(item)));
    first.into_iter().chain(second).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 2_000_000_000;

    fn address(ip: &str) -> Multiaddr {
        format!("/ip4/{ip}/tcp/7471").parse().unwrap()
    }

    #[test]
    fn remembered_peers_survive_a_round_trip_and_old_ones_do_not() {
        let mut peers = RememberedPeers::default();
        let (peer, old) = (PeerId::random(), PeerId::random());
        assert!(peers.reached(peer, &with_peer(&address("1.1.1.1"), peer), NOW));
        assert!(!peers.reached(peer, &address("1.1.1.1"), NOW + 1), "nothing new");
        assert!(peers.reached(peer, &address("1.1.1.2"), NOW + 1), "it moved");
        peers.reached(old, &address("2.2.2.2"), NOW - 10 * DAY);
        assert_eq!(RememberedPeers::from_text(&peers.to_text(), NOW + 1), peers);
        let later = RememberedPeers::from_text(&peers.to_text(), NOW + 21 * DAY);
        assert_eq!(later.len(), 1);
        let garbage = "nonsense\n5\n5 told /ip4/1.1.1.1/tcp/1\n99999999999999999999 told /ip4/1.1.1.1\n";
        assert_eq!(RememberedPeers::from_text(garbage, NOW), RememberedPeers::default());
    }

    #[test]
    fn memory_is_bounded_in_all_and_by_network() {
        let mut peers = RememberedPeers::default();
        let mut fill = |ip: String| peers.reached(PeerId::random(), &address(&ip), NOW);
        for n in 1..100 {
            fill(format!("1.1.1.{n}"));
            fill(format!("2.2.{n}.1"));
        }
        assert_eq!(peers.len(), REMEMBERED_PER_SUBNET + REMEMBERED_PER_SITE);
        (0..1000).for_each(|n: u32| {
            peers.reached(PeerId::random(), &address(&format!("{}.{}.1.1", 3 + n / 200, n % 200)), NOW);
        });
        assert_eq!(peers.len(), REMEMBERED);
    }

    #[test]
    fn peers_that_report_their_addresses_take_no_place_of_dialled_ones() {
        let mut peers = RememberedPeers::default();
        let dialled = PeerId::random();
        assert!(peers.told(dialled, &address("1.1.1.1"), NOW) && peers.reached(dialled, &address("1.1.1.1"), NOW));
        assert!(!peers.told(dialled, &address("9.9.9.9"), NOW), "what was dialled is known better");
        for n in 0..1000u32 {
            peers.told(PeerId::random(), &address(&format!("{}.{}.1.1", 3 + n / 200, n % 200)), NOW);
        }
        assert_eq!(peers.len(), 1 + REMEMBERED_TOLD);
        for n in 0..REMEMBERED as u32 {
            peers.reached(PeerId::random(), &address(&format!("{}.{}.9.1", 3 + n / 200, n % 200)), NOW);
        }
        assert!(!peers.told(PeerId::random(), &address("99.1.1.1"), NOW), "no room");
        assert!(peers.0.values().all(|known| known.dialled));
    }

    #[test]
    fn circuits_and_names_are_not_remembered() {
        let (mut peers, peer) = (RememberedPeers::default(), PeerId::random());
        let circuit = format!("/ip4/1.1.1.1/tcp/1/p2p/{peer}/p2p-circuit/p2p/{peer}").parse().unwrap();
        assert!(!peers.reached(peer, &circuit, NOW));
        assert!(!peers.reached(peer, &"/dns4/example.org/tcp/1".parse().unwrap(), NOW));
    }

    #[test]
    fn peers_of_different_sites_are_tried_first() {
        let mut peers = RememberedPeers::default();
        for n in 1..=4 {
            peers.reached(PeerId::random(), &address(&format!("1.1.1.{n}")), NOW);
        }
        let alone = PeerId::random();
        peers.reached(alone, &address("2.2.2.2"), NOW);
        for seed in 0..20 {
            let some = peers.some(2, |_| false, &mut random::seeded(seed));
            assert!(some.iter().any(|(peer, _)| *peer == alone));
        }
        assert!(peers.some(9, |peer| *peer == alone, &mut random::seeded(1)).iter().all(|(peer, _)| *peer != alone));
    }
}
