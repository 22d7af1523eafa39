//! Peers: who is connected, who has misbehaved, and what follows for them.
//!
//! Never here: what an offence costs ([`spore_base::standing`]), whom to connect with (`discovery`).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use ipnet::IpNet;
use libp2p::{Multiaddr, PeerId};
use spore_base::{
    standing::{Consequence, FIRST_BAN_OF_ADDRESS, FIRST_BAN_OF_KEY, Offence, Standing},
    subnet::{Reach, Subnet},
};
use spore_protocol::Reject;

use super::connected::ConnectedPeers;
use crate::limits::{HOST_SHARED_BY, LEFT_PEERS, REFUSED_INTERVAL, SUBNET_SHARED_BY};

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
    /// Close all connections to the peer and accept no others.
    Ban(PeerId),
    Unban(PeerId),
    /// The same for all peers of a host or a subnet.
    BanNet(IpNet),
    UnbanNet(IpNet),
}

/// Connected peers and penalty points.
#[derive(Debug)]
pub struct Peers {
    connected: ConnectedPeers,
    standing: Standing<PeerId>,
    /// The same for the hosts and the subnets of public addresses: a new key costs nothing.
    nets: [Standing<IpNet>; 2],
    /// Peers that left, the last one at the end, with where they were: what they sent may be judged after they left.
    left: VecDeque<(PeerId, Subnet)>,
    /// Refusals since the start, by [`Reject::code`]: as many as `Reject` has variants.
    rejected: BTreeMap<&'static str, u64>,
    refused: RefusedMessages,
}

/// Refused messages since the last log line about them. A line for each would let a flood fill the log.
#[derive(Debug, Default)]
struct RefusedMessages {
    messages: u64,
    bans: u64,
    reported: Option<Instant>,
}

impl RefusedMessages {
    /// Reports them, at most once in [`REFUSED_INTERVAL`].
    fn report(&mut self, now: Instant) {
        let waits = self.reported.is_some_and(|at| now.saturating_duration_since(at) < REFUSED_INTERVAL);
        if self.messages > 0 && !waits {
            tracing::warn!(messages = self.messages, bans = self.bans, "refused messages of peers");
            *self = Self { reported: Some(now), ..Self::default() };
        }
    }
}

impl Peers {
    pub fn new() -> Self {
        let standing = Standing::new(FIRST_BAN_OF_KEY);
        let nets = [HOST_SHARED_BY, SUBNET_SHARED_BY].map(|peers| Standing::shared_by(peers, FIRST_BAN_OF_ADDRESS));
        Self {
            connected: ConnectedPeers::default(),
            standing,
            nets,
            left: VecDeque::new(),
            rejected: BTreeMap::new(),
            refused: RefusedMessages::default(),
        }
    }

    pub fn connected(&self) -> &ConnectedPeers {
        &self.connected
    }

    /// For what other machines learn of a connected peer.
    pub fn connected_mut(&mut self) -> &mut ConnectedPeers {
        &mut self.connected
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
                self.left(peer);
                Vec::new()
            }
            PeerEvent::Identified { peer, agent } => {
                self.connected.identified(&peer, &agent);
                Vec::new()
            }
            PeerEvent::Misbehaved(peer, reject) => self.misbehaved(peer, &reject, now),
            PeerEvent::Tick => {
                let forgiven = self.standing.forgive(now).into_iter();
                let mut effects: Vec<_> = forgiven.map(|(peer, points)| PeerEffect::Points(peer, points)).collect();
                effects.extend(self.standing.ended(now).into_iter().map(PeerEffect::Unban));
                for nets in &mut self.nets {
                    nets.forgive(now);
                    effects.extend(nets.ended(now).into_iter().map(PeerEffect::UnbanNet));
                }
                self.refused.report(now);
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
        self.refused.messages += 1;
        tracing::debug!(%peer, reason = reject.code(), %reject, "refused a peer's message");
        let offence = Offence::of(reject);
        let was_banned = self.standing.banned(&peer, now).is_some();
        let mut effects = match self.standing.penalise(&peer, offence, now) {
            Consequence::Points(points) => vec![PeerEffect::Points(peer, points)],
            Consequence::Ban { instead_of } => {
                let minutes = self.standing.banned(&peer, now).map_or(0, |left| left.as_secs() / 60);
                self.refused.bans += 1;
                tracing::debug!(%peer, minutes, "the peer has too many penalty points; banned");
                let mut effects = vec![PeerEffect::Ban(peer)];
                effects.extend(instead_of.map(PeerEffect::Unban));
                effects
            }
        };
        // What comes from a banned peer was under way. Charged to its host too, one liar would have the host banned.
        if !was_banned {
            effects.extend(self.blame_nets(&peer, offence, now));
        }
        effects
    }

    /// Charges the host and the subnet of a peer. Private ones are not charged: everybody behind a router or a container
    /// may be there.
    fn blame_nets(&mut self, peer: &PeerId, offence: Offence, now: Instant) -> Vec<PeerEffect> {
        let mut effects = Vec::new();
        let here = self.connected.get(peer).and_then(|peer| Subnet::in_address(&peer.address));
        let subnet = here.or_else(|| self.left.iter().rfind(|(left, _)| left == peer).map(|(_, subnet)| *subnet));
        let Some(subnet) = subnet.filter(|subnet| subnet.reach() == Reach::Public) else { return effects };
        // A banned host has cost its subnet enough.
        if self.nets.first().is_some_and(|hosts| hosts.banned(&subnet.host(), now).is_some()) {
            return effects;
        }
        for (standing, net) in self.nets.iter_mut().zip([subnet.host(), subnet.subnet()]) {
            if standing.banned(&net, now).is_some() {
                continue;
            }
            if let Consequence::Ban { instead_of } = standing.penalise(&net, offence, now) {
                let minutes = standing.banned(&net, now).map_or(0, |left| left.as_secs() / 60);
                tracing::warn!(%net, minutes, "peers there have too many penalty points; banned");
                effects.push(PeerEffect::BanNet(net));
                effects.extend(instead_of.map(PeerEffect::UnbanNet));
            }
        }
        effects
    }

    /// The last connection to a peer closed.
    fn left(&mut self, peer: PeerId) {
        if let Some(subnet) = self.connected.get(&peer).and_then(|peer| Subnet::in_address(&peer.address)) {
            if self.left.len() >= LEFT_PEERS {
                self.left.pop_front();
            }
            self.left.push_back((peer, subnet));
        }
        self.connected.disconnected(&peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with one connected peer.
    fn connected() -> (Peers, PeerId, Instant) {
        let (mut peers, peer, now) = (Peers::new(), PeerId::random(), Instant::now());
        let address = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let effects = peers.handle(PeerEvent::Connected { peer, address }, now);
        assert_eq!(effects, [PeerEffect::Points(peer, 0), PeerEffect::Joined(peer)]);
        (peers, peer, now)
    }

    /// A new key at an address sends four forgeries, the last one after it left. Returns what is banned for it.
    fn forge(peers: &mut Peers, address: &str, now: Instant) -> Vec<IpNet> {
        let (peer, address) = (PeerId::random(), format!("/ip4/{address}/tcp/1").parse().unwrap());
        peers.handle(PeerEvent::Connected { peer, address }, now);
        let mut effects = Vec::new();
        for sent in 0..4 {
            if sent == 3 {
                peers.handle(PeerEvent::Disconnected(peer), now);
            }
            effects.extend(peers.handle(PeerEvent::Misbehaved(peer, Reject::BadSignature), now));
        }
        assert!(effects.contains(&PeerEffect::Ban(peer)));
        let nets = effects.into_iter().filter_map(|effect| match effect {
            PeerEffect::BanNet(net) => Some(net),
            _ => None,
        });
        nets.collect()
    }

    #[test]
    fn host_and_subnet_of_many_keys_are_banned_for_a_while() {
        let (mut peers, now) = (Peers::new(), Instant::now());
        let (host, subnet): (IpNet, IpNet) = ("192.0.2.1/32".parse().unwrap(), "192.0.2.0/24".parse().unwrap());
        assert_eq!(forge(&mut peers, "192.0.2.1", now), []);
        assert_eq!(forge(&mut peers, "192.0.2.1", now), [host]);
        let rest: Vec<_> = (2..8).flat_map(|n| forge(&mut peers, &format!("192.0.2.{n}"), now)).collect();
        assert_eq!(rest, [subnet]);
        for address in ["127.0.0.1", "192.168.0.1"] {
            assert!((0..20).all(|_| forge(&mut peers, address, now).is_empty()), "{address}");
        }
        let unbanned = |peers: &mut Peers, at| {
            let effects = peers.handle(PeerEvent::Tick, at);
            [host, subnet].map(|net| effects.contains(&PeerEffect::UnbanNet(net)))
        };
        assert_eq!(unbanned(&mut peers, now + FIRST_BAN_OF_ADDRESS / 2), [false, false]);
        assert_eq!(unbanned(&mut peers, now + FIRST_BAN_OF_ADDRESS), [true, true]);
        assert!(peers.left.len() <= LEFT_PEERS);
    }

    #[test]
    fn banned_peer_costs_its_host_and_subnet_no_more() {
        let (mut peers, peer, now) = connected();
        // As many objects as one answer has.
        for _ in 0..512 {
            let effects = peers.handle(PeerEvent::Misbehaved(peer, Reject::BadSignature), now);
            assert!(!effects.iter().any(|effect| matches!(effect, PeerEffect::BanNet(_))), "{effects:?}");
        }
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
