//! What the network task knows and decides, as state machines without I/O.
//!
//! Each machine has state of its own and takes in one event after the other; effects come out. Time and randomness are
//! passed in, so a test or a simulation drives any of them without sockets. [`NetworkState`] holds all of them: it
//! hands an event to each machine that it concerns, and turns the effects of one machine that concern another one into
//! events of that one. All other effects are for the network task, which holds the swarm ([`crate::service`]).
//!
//! ```text
//!              Joined, Left          NotEverywhere, Followed
//! peers ---------------------> catchup <------------------ gossip
//!    |  ^                                                     |
//!    |  +-------------------------- Misbehaved ---------------+
//!    +-- Joined --> fetches                 discovery (reads who is connected)
//! ```
//!
//! | machine | decides |
//! |---|---|
//! | `peers` (`connected`) | who is connected or banned |
//! | `deliveries` | which peers are of use |
//! | `discovery` (`named`, `remembered`) | whom to dial |
//! | `links` | which connection with a peer counts |
//! | `reachability` | whether others can dial this node, and at which relays it has reservations |
//! | `gossip` (`followed`) | which topics to follow, what to publish, what gossipsub is told about a message |
//! | `catchup` | with whom to reconcile, when, and about what |
//! | `fetches` | whom to ask for wanted objects and artifacts |
//! | `clocks` | whether this machine's clock agrees with the clocks of peers |
//!
//! A new concern is one more machine here, one more behaviour in [`crate::behaviour`], and the translation between them in
//! [`crate::service`].
//!
//! Never here: sockets, channels, the store, the clock.

mod catchup;
mod clocks;
mod connected;
mod deliveries;
mod discovery;
mod event;
mod fetches;
mod followed;
mod gossip;
mod links;
mod named;
mod peers;
mod reachability;
mod remembered;

use std::{collections::BTreeMap, time::Instant};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use rand_chacha::ChaCha8Rng;
use spore_base::subnet::ip_in;
use spore_protocol::Reject;

use catchup::{Catchup, CatchupEffect};
pub use catchup::{CatchupEvent, SessionPlan};
pub use clocks::ClockEvent;
use clocks::{ClockEffect, PeerClocks};
pub use connected::ConnectedPeers;
use deliveries::Deliveries;
pub use discovery::DiscoveryEvent;
use discovery::{Discovery, DiscoveryEffect, Surroundings};
pub use event::{NetworkEffect, NetworkEvent};
pub use fetches::{CallerId, FetchEvent};
use fetches::{FetchEffect, Fetches};
pub use followed::{KnownTask, TopicChange};
pub use gossip::{Acceptance, GossipEvent, GossipMessage};
use gossip::{Gossip, GossipEffect};
use links::Links;
pub use named::peer_of;
pub use peers::PeerEvent;
use peers::{PeerEffect, Peers};
use reachability::ReachabilityMachine;
pub use reachability::{NatKind, Reachability, ReachabilityEffect, ReachabilityEvent};
pub use remembered::RememberedPeers;

use crate::{
    addresses::{AddressPolicy, is_circuit},
    limits::{PEER_ADDRESSES, PEERS_NAMED},
};

/// All machines of the network, and the randomness that they draw from.
#[derive(Debug)]
pub struct NetworkState {
    peers: Peers,
    discovery: Discovery,
    gossip: Gossip,
    catchup: Catchup,
    fetches: Fetches,
    clocks: PeerClocks,
    deliveries: Deliveries,
    links: Links,
    reachability: ReachabilityMachine,
    policy: AddressPolicy,
    remembered: RememberedPeers,
    /// Whether there are remembered peers that were not saved.
    unsaved: bool,
    /// The time of the last [`ClockEvent::Tick`], in Unix seconds.
    clock: u64,
    random: ChaCha8Rng,
    /// Effects of the event being handled. Empty between two events.
    effects: Vec<NetworkEffect>,
}

/// What the machines start with.
#[derive(Debug, Default)]
pub struct StateConfig {
    /// The addresses of peers to stay connected with.
    pub named: Vec<Multiaddr>,
    /// The tasks of the store that gossip may follow.
    pub tasks: Vec<KnownTask>,
    /// The peers of earlier runs.
    pub remembered: RememberedPeers,
    /// What the operator says about the reachability.
    pub reachability: Option<Reachability>,
    /// Whether to serve as a relay when public.
    pub relay: bool,
    /// Unix seconds.
    pub clock: u64,
}

impl NetworkState {
    pub fn start(config: StateConfig, random: ChaCha8Rng, now: Instant) -> (Self, Vec<NetworkEffect>) {
        let (gossip, first) = Gossip::start(config.tasks);
        let mut state = Self {
            peers: Peers::new(),
            discovery: Discovery::new(&config.named, now),
            links: Links::default(),
            reachability: ReachabilityMachine::new(config.reachability, config.relay),
            policy: AddressPolicy::new(&config.named),
            remembered: config.remembered,
            unsaved: false,
            clock: config.clock,
            gossip,
            catchup: Catchup::new(now),
            fetches: Fetches::default(),
            clocks: PeerClocks::default(),
            deliveries: Deliveries::new(now),
            random,
            effects: Vec::new(),
        };
        state.after_gossip(first, now);
        let effects = std::mem::take(&mut state.effects);
        (state, effects)
    }

    /// Takes in what happened, and says what to do, in this order.
    pub fn handle(&mut self, event: NetworkEvent, now: Instant) -> Vec<NetworkEffect> {
        match event {
            NetworkEvent::Connected { peer, address, dialled } => {
                self.discovery(DiscoveryEvent::Connected { peer, dialled }, now);
                self.peers(PeerEvent::Connected { peer, address }, now);
            }
            NetworkEvent::LinkOpened { peer, connection, address, outgoing } => {
                self.link_opened(peer, connection, address, outgoing, now);
            }
            NetworkEvent::LinkClosed { peer, connection } => {
                self.links.closed(&peer, connection);
                self.link_counts(&peer);
            }
            NetworkEvent::OwnNetworks(networks) => self.change_policy(|policy| policy.set_own(networks)),
            NetworkEvent::Named(address) => self.change_policy(|policy| policy.name(&address)),
            NetworkEvent::Dismissed(peer) => self.unsaved |= self.remembered.forget(&peer),
            NetworkEvent::Disconnected(peer) => {
                self.peers(PeerEvent::Disconnected(peer), now);
                self.catchup(CatchupEvent::Left(peer), now);
                self.clocks(ClockEvent::Left(peer), now);
                self.discovery(DiscoveryEvent::Disconnected(peer), now);
            }
            NetworkEvent::Identified { peer, agent, addresses, speaks_kademlia } => {
                self.peers(PeerEvent::Identified { peer, agent }, now);
                self.told(peer, &addresses);
                self.discovery(DiscoveryEvent::Identified { peer, addresses, speaks_kademlia }, now);
            }
            NetworkEvent::Tick => {
                self.gossip(GossipEvent::Tick, now);
                self.peers(PeerEvent::Tick, now);
                self.discovery(DiscoveryEvent::Tick, now);
                self.fetches(FetchEvent::Tick);
                self.catchup(CatchupEvent::Tick, now);
                self.effects.extend(self.deliveries.look(now).map(NetworkEffect::LookForUseful));
                self.reachability(ReachabilityEvent::Tick, now);
                self.effects.extend(self.links.surplus(now).into_iter().map(NetworkEffect::CloseLink));
            }
            NetworkEvent::Useful(brought) => {
                self.effects.extend(brought.into_iter().map(|(peer, signer)| NetworkEffect::Useful(peer, signer)));
            }
            NetworkEvent::Peer(event) => self.peers(event, now),
            NetworkEvent::Discovery(event) => self.discovery(event, now),
            NetworkEvent::Gossip(event) => {
                if let GossipEvent::Stored(stored) = &event {
                    self.deliveries.stored(stored);
                }
                self.gossip(event, now);
            }
            NetworkEvent::Catchup(event) => self.catchup(event, now),
            NetworkEvent::Fetch(event) => self.fetches(event),
            NetworkEvent::Clock(event) => self.clocks(event, now),
            NetworkEvent::Reachability(event) => self.reachability(event, now),
        }
        std::mem::take(&mut self.effects)
    }

    /// The connected peers.
    pub fn connected(&self) -> &ConnectedPeers {
        self.peers.connected()
    }

    /// Refusals since the start, by [`spore_protocol::Reject::code`].
    pub fn rejected(&self) -> &BTreeMap<&'static str, u64> {
        self.peers.rejected()
    }

    /// Number of followed tasks.
    pub fn tasks_followed(&self) -> usize {
        self.gossip.followed()
    }

    /// What this node knows of its reachability.
    pub const fn reach(&self) -> &ReachabilityMachine {
        &self.reachability
    }

    /// Whether this node dialled a connection.
    pub fn is_outgoing(&self, peer: &PeerId, connection: ConnectionId) -> bool {
        self.links.is_outgoing(peer, connection)
    }

    pub const fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// The remembered peers as text, if they changed since the last call.
    pub fn unsaved_peers(&mut self) -> Option<String> {
        std::mem::take(&mut self.unsaved).then(|| self.remembered.to_text())
    }

    /// Some connected peers for a peer that asks, each with the addresses that are of use there.
    pub fn peers_for(&mut self, asker: &PeerId) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let connected = self.peers.connected();
        let Some(at) = connected.get(asker).map(|asker| asker.address.clone()) else { return Vec::new() };
        let others = connected.shuffled(&mut self.random).into_iter().filter(|peer| peer != asker);
        let named = others.filter_map(|peer| {
            let told = connected.get(&peer)?.told.iter().cloned();
            let mut kept = self.policy.kept(&at, told);
            kept.truncate(PEER_ADDRESSES);
            (!kept.is_empty()).then_some((peer, kept))
        });
        named.take(PEERS_NAMED).collect()
    }

    /// Changes what may be dialled. The change returns false when nothing changed.
    fn change_policy(&mut self, change: impl FnOnce(&mut AddressPolicy) -> bool) {
        if change(&mut self.policy) {
            self.effects.push(NetworkEffect::Policy(self.policy.clone()));
        }
    }

    /// A connected peer reported where it is.
    fn told(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        let Some(at) = self.connected().get(&peer).map(|known| known.address.clone()) else { return };
        let kept = self.policy.kept(&at, addresses.iter().cloned());
        if let Some(direct) = kept.iter().find(|address| !is_circuit(address)) {
            self.unsaved |= self.remembered.told(peer, direct, self.clock);
        }
        self.peers.connected_mut().told(&peer, kept);
    }

    fn link_opened(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        address: Multiaddr,
        outgoing: bool,
        now: Instant,
    ) {
        if ip_in(&address).is_some_and(|ip| ip.is_loopback()) {
            self.change_policy(AddressPolicy::allow_this_machine);
        }
        if outgoing {
            self.unsaved |= self.remembered.reached(peer, &address, self.clock);
        }
        let public = self.policy.is_public(&address);
        self.links.opened(peer, connection, address, outgoing, now);
        self.link_counts(&peer);
        if public {
            self.reachability(ReachabilityEvent::PublicPeer, now);
        }
    }

    /// Another connection of a peer may count now.
    fn link_counts(&mut self, peer: &PeerId) {
        if let Some(address) = self.links.address(peer) {
            self.peers.connected_mut().moved(peer, address.clone());
        }
    }

    fn reachability(&mut self, event: ReachabilityEvent, now: Instant) {
        let effects = self.reachability.handle(event, &mut self.random, now);
        self.effects.extend(effects.into_iter().map(NetworkEffect::Reachability));
    }

    fn peers(&mut self, event: PeerEvent, now: Instant) {
        if let PeerEvent::Misbehaved(_, reject @ Reject::FromTheFuture { .. }) = &event
            && !self.clocks.confirm_ours()
        {
            // The peer may be right, and this machine's clock behind.
            return self.peers.excuse(reject);
        }
        for effect in self.peers.handle(event, now) {
            match effect {
                PeerEffect::Joined(peer) => {
                    self.clocks(ClockEvent::Joined(peer), now);
                    self.catchup(CatchupEvent::Joined(peer), now);
                    self.fetches(FetchEvent::Joined);
                }
                PeerEffect::Points(peer, points) => self.effects.push(NetworkEffect::Points(peer, points)),
                PeerEffect::Ban(peer) => self.effects.push(NetworkEffect::Ban(peer)),
                PeerEffect::Unban(peer) => self.effects.push(NetworkEffect::Unban(peer)),
                PeerEffect::BanNet(net) => self.effects.push(NetworkEffect::BanNet(net)),
                PeerEffect::UnbanNet(net) => self.effects.push(NetworkEffect::UnbanNet(net)),
            }
        }
    }

    fn discovery(&mut self, event: DiscoveryEvent, now: Instant) {
        let around = Surroundings { peers: self.peers.connected(), policy: &self.policy, remembered: &self.remembered };
        let effects = self.discovery.handle(event, around, &mut self.random, now);
        self.effects.extend(effects.into_iter().map(|effect| match effect {
            DiscoveryEffect::DialNamed(address) => NetworkEffect::DialNamed(address),
            DiscoveryEffect::Dial { peer, addresses } => NetworkEffect::Dial { peer, addresses },
            DiscoveryEffect::AddAddress(peer, address) => NetworkEffect::AddAddress(peer, address),
            DiscoveryEffect::Forget(peer) => NetworkEffect::ForgetPeer(peer),
            DiscoveryEffect::AskForPeers(peer) => NetworkEffect::AskForPeers(peer),
            DiscoveryEffect::Search => NetworkEffect::Search,
        }));
    }

    fn gossip(&mut self, event: GossipEvent, now: Instant) {
        let effects = self.gossip.handle(event);
        self.after_gossip(effects, now);
    }

    fn after_gossip(&mut self, effects: Vec<GossipEffect>, now: Instant) {
        for effect in effects {
            match effect {
                GossipEffect::NotEverywhere => self.catchup(CatchupEvent::NotEverywhere, now),
                GossipEffect::Followed(task) => self.catchup(CatchupEvent::TaskFollowed(task), now),
                GossipEffect::Misbehaved(peer, reject) => self.peers(PeerEvent::Misbehaved(peer, reject), now),
                GossipEffect::Topic(TopicChange::Subscribe(topic)) => {
                    self.effects.push(NetworkEffect::Subscribe(topic));
                }
                GossipEffect::Topic(TopicChange::Unsubscribe(topic)) => {
                    self.effects.push(NetworkEffect::Unsubscribe(topic));
                }
                GossipEffect::Judge(message) => self.effects.push(NetworkEffect::Judge(message)),
                GossipEffect::Report { message, from, acceptance } => {
                    self.effects.push(NetworkEffect::Report { message, from, acceptance });
                }
                GossipEffect::Publish { topics, bytes } => {
                    self.effects.push(NetworkEffect::Publish { topics, bytes });
                }
                GossipEffect::ListTasks => self.effects.push(NetworkEffect::ListTasks),
            }
        }
    }

    fn catchup(&mut self, event: CatchupEvent, now: Instant) {
        let effects = self.catchup.handle(event, self.peers.connected(), &mut self.random, now);
        self.effects.extend(effects.into_iter().map(|effect| match effect {
            CatchupEffect::StartSession(peer, plan) => NetworkEffect::StartSession(peer, plan),
            CatchupEffect::AnnounceNews(peers) => NetworkEffect::AnnounceNews(peers),
        }));
    }

    fn clocks(&mut self, event: ClockEvent, now: Instant) {
        if let ClockEvent::Tick { own } = &event {
            self.clock = *own;
        }
        let effects = self.clocks.handle(event, now);
        self.effects.extend(effects.into_iter().map(|effect| match effect {
            ClockEffect::Ask(peer) => NetworkEffect::AskTime(peer),
            ClockEffect::Compared(offset) => NetworkEffect::ClockCompared(offset),
        }));
    }

    fn fetches(&mut self, event: FetchEvent) {
        let effects = self.fetches.handle(event, self.peers.connected(), &mut self.random);
        self.effects.extend(effects.into_iter().map(|effect| match effect {
            FetchEffect::FetchObjects { kind, ids, peers } => NetworkEffect::FetchObjects { kind, ids, peers },
            FetchEffect::LookForMissing => NetworkEffect::LookForMissing,
            FetchEffect::FetchArtifact { cid, limit, peers } => NetworkEffect::FetchArtifact { cid, limit, peers },
            FetchEffect::Answer(caller, result) => NetworkEffect::Answer(caller, result),
        }));
    }
}

#[cfg(test)]
mod tests;
