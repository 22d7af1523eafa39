//! Standing: who is connected, who is silent, who has misbehaved, and what follows for them.
//!
//! Never here: what an offence costs ([`Reject::penalty`]), whom to connect with (`discovery`).

use std::{collections::BTreeMap, time::Instant};

use libp2p::{Multiaddr, PeerId};
use spore_protocol::Reject;

use super::{
    peers::ConnectedPeers,
    penalties::{Penalties, Sentence},
};
use crate::limits::REFUSED_FOR;

/// What happened.
#[derive(Clone, Debug)]
pub enum StandingEvent {
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

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandingEffect {
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
pub struct Standing {
    peers: ConnectedPeers,
    penalties: Penalties,
    /// Refusals since the start, by [`Reject::code`]: as many as `Reject` has variants.
    rejected: BTreeMap<&'static str, u64>,
}

impl Standing {
    pub fn new(now: Instant) -> Self {
        Self { peers: ConnectedPeers::default(), penalties: Penalties::new(now), rejected: BTreeMap::new() }
    }

    pub fn peers(&self) -> &ConnectedPeers {
        &self.peers
    }

    pub fn rejected(&self) -> &BTreeMap<&'static str, u64> {
        &self.rejected
    }

    pub fn handle(&mut self, event: StandingEvent, now: Instant) -> Vec<StandingEffect> {
        match event {
            StandingEvent::Connected { peer, address } => {
                if !self.peers.connected(peer, address, now) {
                    return Vec::new();
                }
                vec![StandingEffect::Points(peer, self.penalties.points(&peer)), StandingEffect::Joined(peer)]
            }
            StandingEvent::Disconnected(peer) => {
                self.peers.disconnected(&peer);
                Vec::new()
            }
            StandingEvent::Identified { peer, agent } => {
                self.peers.identified(&peer, &agent);
                Vec::new()
            }
            StandingEvent::Ping { peer, answered } => {
                if self.peers.pinged(&peer, answered) {
                    tracing::info!(%peer, "the peer does not answer pings; disconnecting it");
                    return vec![StandingEffect::Disconnect(peer)];
                }
                Vec::new()
            }
            StandingEvent::Misbehaved(peer, reject) => self.misbehaved(peer, &reject, now),
            StandingEvent::Tick => {
                let forgiven = self.penalties.forgive(now).into_iter();
                let mut effects: Vec<_> = forgiven.map(|(peer, points)| StandingEffect::Points(peer, points)).collect();
                effects.extend(self.penalties.served(now).into_iter().map(StandingEffect::Unban));
                effects
            }
        }
    }

    fn misbehaved(&mut self, peer: PeerId, reject: &Reject, now: Instant) -> Vec<StandingEffect> {
        *self.rejected.entry(reject.code()).or_default() += 1;
        tracing::warn!(%peer, reason = reject.code(), %reject, "refused a peer's message");
        match self.penalties.add(peer, reject.penalty(), now) {
            Sentence::Points(points) => vec![StandingEffect::Points(peer, points)],
            Sentence::Refuse { instead_of } => {
                let minutes = REFUSED_FOR.as_secs() / 60;
                tracing::warn!(%peer, minutes, "the peer has too many penalty points; banned");
                let mut effects = vec![StandingEffect::Ban(peer)];
                effects.extend(instead_of.map(StandingEffect::Unban));
                effects
            }
        }
    }
}
