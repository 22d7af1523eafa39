//! The connected peers.

use std::{collections::BTreeMap, time::Instant};

use libp2p::{Multiaddr, PeerId};
use rand_chacha::ChaCha8Rng;
use spore_base::random;

use crate::limits::AGENT_LENGTH;

/// One connected peer.
#[derive(Clone, Debug)]
pub struct ConnectedPeer {
    /// Of the connection that counts: a direct one, if there is one.
    pub address: Multiaddr,
    pub agent: Option<String>,
    /// The addresses that the peer reported and that are worth naming to others.
    pub told: Vec<Multiaddr>,
    pub since: Instant,
}

/// All connected peers. Bounded by the connection limits of the swarm.
#[derive(Debug, Default)]
pub struct ConnectedPeers(BTreeMap<PeerId, ConnectedPeer>);

impl ConnectedPeers {
    /// Notes a connection. True for the first one to that peer.
    pub fn connected(&mut self, peer: PeerId, address: Multiaddr, now: Instant) -> bool {
        let first = !self.contains(&peer);
        self.0.entry(peer).or_insert(ConnectedPeer { address, agent: None, told: Vec::new(), since: now });
        first
    }

    /// Notes that the last connection to a peer closed.
    pub fn disconnected(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }

    /// Notes the peer's name for its program, cut to what is shown.
    pub fn identified(&mut self, peer: &PeerId, agent: &str) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.agent = Some(agent.chars().filter(|c| !c.is_control()).take(AGENT_LENGTH).collect());
        }
    }

    /// Notes which of the addresses that a peer reported are of use.
    pub fn told(&mut self, peer: &PeerId, addresses: Vec<Multiaddr>) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.told = addresses;
        }
    }

    /// Another connection of the peer counts now.
    pub fn moved(&mut self, peer: &PeerId, address: Multiaddr) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.address = address;
        }
    }

    pub fn contains(&self, peer: &PeerId) -> bool {
        self.0.contains_key(peer)
    }

    pub fn get(&self, peer: &PeerId) -> Option<&ConnectedPeer> {
        self.0.get(peer)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PeerId, &ConnectedPeer)> {
        self.0.iter()
    }

    /// All peers in random order.
    pub fn shuffled(&self, random: &mut ChaCha8Rng) -> Vec<PeerId> {
        random::shuffled(self.0.keys().copied(), random)
    }
}

#[cfg(test)]
impl ConnectedPeers {
    /// These peers, connected from this machine since `now`.
    pub fn of(peers: &[PeerId], now: Instant) -> Self {
        let mut connected = Self::default();
        for peer in peers {
            connected.connected(*peer, "/ip4/127.0.0.1/tcp/1".parse().unwrap(), now);
        }
        connected
    }
}
