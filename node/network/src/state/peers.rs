//! Peers: who is connected, who is silent, who has misbehaved, and what follows for them.
//!
//! Never here: what an offence costs ([`spore_base::standing`]), whom to connect with (`discovery`).

use std::{collections::BTreeMap, time::Instant};

use libp2p::{Multiaddr, PeerId};
use spore_base::standing::{Consequence, FIRST_BAN_OF_KEY, Offence, Standing};
use spore_protocol::Reject;

use super::connected::ConnectedPeers;

/// Events of this machine.
#[derive(Clone, Debug)]
pub enum PeerEvent {
    /// One more connection to a peer.
    Connected {
        peer: PeerId,
        address: Multiaddr,
    },
    /// The last connection to a peer closed.
    Disconnected(PeerId),
    /// The peer said what program it runs.
    Identified {
        peer: PeerId,
        agent: String,
    },
    Ping {
        peer: PeerId,
        answered: bool,
    },
    /// A peer sent something that is refused.
    Misbehaved(PeerId, Reject),
    Tick,
}

/// Effects of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEffect {
    /// The peer's first connection is here.
    Joined(PeerId),
    /// The peer has this many penalty points now.
    Points(PeerId, u32),
    /// Close all connections to the peer.
    Disconnect(PeerId),
    /// Close all connections to the peer and accept no others.
    Ban(PeerId),
    Unban(PeerId),
}

/// Connected peers and penalty points.
#[derive(Debug)]
pub struct Peers {
    connected: ConnectedPeers,
    standing: Standing<PeerId>,
    /// Refusals since the start, by [`Reject::code`]: as many as `Reject` has variants.
    rejected: BTreeMap<&'static str, u64>,
}

impl Peers {
    pub fn new() -> Self {
        let standing = Standing::new(FIRST_BAN_OF_KEY);
        Self { connected: ConnectedPeers::default(), standing, rejected: BTreeMap::new() }
    }

    pub fn connected(&self) -> &ConnectedPeers {
        &self.connected
    }

    pub fn rejected(&self) -> &BTreeMap<&'static str, u64> {
        &self.rejected
    }

    pub fn handle(&mut self, event: PeerEvent, now: Instant) -> Vec<PeerEffect> {
        match event {
            PeerEvent::Connected { peer, address } => {
                if !self.connected.connected(peer, address, now) {
                    return Vec::new();
                }
                vec![PeerEffect::Points(peer, self.standing.points(&peer, now)), PeerEffect::Joined(peer)]
            }
            PeerEvent::Disconnected(peer) => {
                self.connected.disconnected(&peer);
                Vec::new()
            }
            PeerEvent::Identified { peer, agent } => {
                self.connected.identified(&peer, &agent);
                Vec::new()
            }
            PeerEvent::Ping { peer, answered } => {
                if self.connected.pinged(&peer, answered) {
                    tracing::info!(%peer, "the peer does not answer pings; disconnecting it");
                    return vec![PeerEffect::Disconnect(peer)];
                }
                Vec::new()
            }
            PeerEvent::Misbehaved(peer, reject) => self.misbehaved(peer, &reject, now),
            PeerEvent::Tick => {
                let forgiven = self.standing.forgive(now).into_iter();
                let mut effects: Vec<_> = forgiven.map(|(peer, points)| PeerEffect::Points(peer, points)).collect();
                effects.extend(self.standing.ended(now).into_iter().map(PeerEffect::Unban));
                effects
            }
        }
    }

    /// Counts a refusal that is nobody's fault as far as this node can know.
    pub fn excuse(&mut self, reject: &Reject) {
        *self.rejected.entry(reject.code()).or_default() += 1;
        tracing::debug!(reason = reject.code(), %reject, "refused a message; this machine's clock may be wrong");
    }

    fn misbehaved(&mut self, peer: PeerId, reject: &Reject, now: Instant) -> Vec<PeerEffect> {
        *self.rejected.entry(reject.code()).or_default() += 1;
        tracing::warn!(%peer, reason = reject.code(), %reject, "refused a peer's message");
        match self.standing.penalise(&peer, Offence::of(reject), now) {
            Consequence::Points(points) => vec![PeerEffect::Points(peer, points)],
            Consequence::Ban { instead_of } => {
                let minutes = self.standing.banned(&peer, now).map_or(0, |left| left.as_secs() / 60);
                tracing::warn!(%peer, minutes, "the peer has too many penalty points; banned");
                let mut effects = vec![PeerEffect::Ban(peer)];
                effects.extend(instead_of.map(PeerEffect::Unban));
                effects
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::UNANSWERED_PINGS;

    /// A machine with one connected peer.
    fn connected() -> (Peers, PeerId, Instant) {
        let (mut peers, peer, now) = (Peers::new(), PeerId::random(), Instant::now());
        let address = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let effects = peers.handle(PeerEvent::Connected { peer, address }, now);
        assert_eq!(effects, [PeerEffect::Points(peer, 0), PeerEffect::Joined(peer)]);
        (peers, peer, now)
    }

    #[test]
    fn silent_peer_is_disconnected_and_an_answer_starts_the_count_again() {
        let (mut peers, peer, now) = connected();
        let mut ping = |answered| peers.handle(PeerEvent::Ping { peer, answered }, now);
        for _ in 1..UNANSWERED_PINGS {
            assert_eq!(ping(false), []);
        }
        assert_eq!(ping(true), []);
        for _ in 1..UNANSWERED_PINGS {
            assert_eq!(ping(false), []);
        }
        assert_eq!(ping(false), [PeerEffect::Disconnect(peer)]);
    }

    #[test]
    fn penalty_points_survive_a_reconnect_and_a_ban_expires() {
        let (mut peers, peer, now) = connected();
        let misbehaved = || PeerEvent::Misbehaved(peer, Reject::BadSignature);
        let points = Offence::Forged.points();
        assert_eq!(peers.handle(misbehaved(), now), [PeerEffect::Points(peer, points)]);
        peers.handle(PeerEvent::Disconnected(peer), now);
        let address = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let effects = peers.handle(PeerEvent::Connected { peer, address }, now);
        assert_eq!(effects, [PeerEffect::Points(peer, points), PeerEffect::Joined(peer)]);
        peers.handle(misbehaved(), now);
        peers.handle(misbehaved(), now);
        assert_eq!(peers.handle(misbehaved(), now), [PeerEffect::Ban(peer)]);
        assert_eq!(peers.rejected().get("bad_signature"), Some(&4));
        let mut unbanned = |at| peers.handle(PeerEvent::Tick, at).contains(&PeerEffect::Unban(peer));
        assert!(!unbanned(now + FIRST_BAN_OF_KEY / 2));
        assert!(unbanned(now + FIRST_BAN_OF_KEY));
    }

    #[test]
    fn name_of_a_peers_program_is_cut_and_made_printable() {
        let (mut peers, peer, now) = connected();
        let agent = format!("spore\u{1b}[31m{}", "x".repeat(1000));
        peers.handle(PeerEvent::Identified { peer, agent }, now);
        let shown = peers.connected().get(&peer).unwrap().agent.clone().unwrap();
        assert!(shown.starts_with("spore[31mx") && shown.chars().count() == crate::limits::AGENT_LENGTH);
    }
}
