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
//! | `discovery` (`named`) | whom to dial |
//! | `gossip` (`followed`) | which topics to follow, what to publish, what gossipsub is told about a message |
//! | `catchup` | with whom to reconcile, when, and about what |
//! | `fetches` | whom to ask for wanted objects and artifacts |
//! | `clocks` | whether this machine's clock agrees with the clocks of peers |
//!
//! A new concern, such as reachability behind NAT, is one more machine here, one more behaviour in
//! [`crate::behaviour`], and the translation between them in [`crate::service`].
//!
//! Never here: sockets, channels, the store, the clock.

mod catchup;
mod clocks;
mod connected;
mod deliveries;
mod discovery;
mod fetches;
mod followed;
mod gossip;
mod named;
mod peers;

use std::{collections::BTreeMap, time::Instant};

use ipnet::IpNet;
use libp2p::{
    Multiaddr, PeerId,
    gossipsub::{MessageAcceptance, MessageId},
};
use rand_chacha::ChaCha8Rng;
use spore_base::{clock::ClockOffset, fetch::FetchError};
use spore_protocol::{Cid, Kind, NodeId, ObjectId, Reject, topic::Topic};

use catchup::{Catchup, CatchupEffect};
pub use catchup::{CatchupEvent, SessionPlan};
pub use clocks::ClockEvent;
use clocks::{ClockEffect, PeerClocks};
pub use connected::{ConnectedPeer, ConnectedPeers};
use deliveries::Deliveries;
pub use discovery::DiscoveryEvent;
use discovery::{Discovery, DiscoveryEffect};
pub use fetches::{CallerId, FetchEvent};
use fetches::{FetchEffect, Fetches};
pub use followed::{KnownTask, TopicChange};
pub use gossip::{Acceptance, GossipEvent, GossipMessage};
use gossip::{Gossip, GossipEffect};
pub use named::peer_of;
pub use peers::PeerEvent;
use peers::{PeerEffect, Peers};

/// What happened: an event that concerns several machines, or one of a single machine.
#[derive(Clone, Debug)]
pub enum NetworkEvent {
    /// One more connection to a peer. `dialled`: the address of a named peer, if its dial led to the connection.
    Connected {
        peer: PeerId,
        address: Multiaddr,
        dialled: Option<Multiaddr>,
    },
    /// The last connection to a peer closed.
    Disconnected(PeerId),
    /// Identify data of a peer: its program, its addresses, and whether it supports Kademlia.
    Identified {
        peer: PeerId,
        agent: String,
        addresses: Vec<Multiaddr>,
        speaks_kademlia: bool,
    },
    /// [`crate::limits::TICK`] has passed.
    Tick,
    /// These peers brought objects of signers with confirmed work.
    Useful(Vec<PeerId>),
    Peer(PeerEvent),
    Discovery(DiscoveryEvent),
    Gossip(GossipEvent),
    Catchup(CatchupEvent),
    Fetch(FetchEvent),
    Clock(ClockEvent),
}

/// What the network task must do. Each variant names the event that reports its result, if any.
#[derive(Clone, Debug)]
pub enum NetworkEffect {
    // --- peers
    /// Dial a named peer: [`NetworkEvent::Connected`] or [`DiscoveryEvent::DialFailed`].
    DialNamed(Multiaddr),
    /// Dial a peer, unless it is connected or being dialled.
    Dial {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// Close all connections to a peer and accept no others.
    Ban(PeerId),
    Unban(PeerId),
    /// Close all incoming connections with a host or a subnet, and accept and open no others.
    BanNet(IpNet),
    UnbanNet(IpNet),
    /// Tell gossipsub how many penalty points a peer has.
    Points(PeerId, u32),
    /// Read which of these signers have confirmed work, and report the peers that brought objects of theirs:
    /// [`NetworkEvent::Useful`].
    LookForUseful(Vec<(PeerId, NodeId)>),
    /// Keep the connections of a peer for some time.
    Useful(PeerId),
    /// Add an address of a peer to Kademlia.
    AddAddress(PeerId, Multiaddr),
    /// Have Kademlia search for peers: [`DiscoveryEvent::Known`].
    Search,
    // --- gossip
    Subscribe(Topic),
    Unsubscribe(Topic),
    /// Judge a message: [`GossipEvent::Judged`].
    Judge(GossipMessage),
    /// Report the acceptance of a message to gossipsub: [`GossipEvent::AcceptedTooLate`].
    Report {
        message: MessageId,
        from: PeerId,
        acceptance: MessageAcceptance,
    },
    /// Publish a message on each topic: [`GossipEvent::NotPublished`].
    Publish {
        topics: Vec<Topic>,
        bytes: Vec<u8>,
    },
    /// Read the tasks from the store: [`GossipEvent::TasksKnown`].
    ListTasks,
    // --- catch-up
    /// Run a session: [`CatchupEvent::SessionEnded`].
    StartSession(PeerId, SessionPlan),
    AnnounceNews(Vec<PeerId>),
    // --- fetches
    /// Ask peers for wanted objects: [`FetchEvent::ObjectsEnded`].
    FetchObjects {
        kind: Kind,
        ids: Vec<ObjectId>,
        peers: Vec<PeerId>,
    },
    /// Read from the store which parents are missing: [`FetchEvent::Want`].
    LookForMissing,
    /// Fetch an artifact of at most `limit` bytes: [`FetchEvent::ArtifactEnded`].
    FetchArtifact {
        cid: Cid,
        limit: u64,
        peers: Vec<PeerId>,
    },
    /// The caller's artifact is in the store, or does not come.
    Answer(CallerId, Result<(), FetchError>),
    // --- clocks
    /// Read a peer's clock: [`ClockEvent::Told`].
    AskTime(PeerId),
    /// What the clocks of peers say about this machine's clock. None while no clock was read.
    ClockCompared(Option<ClockOffset>),
}

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
    random: ChaCha8Rng,
    /// Effects of the event being handled. Empty between two events.
    effects: Vec<NetworkEffect>,
}

impl NetworkState {
    /// `named`: the addresses of peers to stay connected with. `tasks`: those of the store that gossip may
    /// follow.
    pub fn start(
        named: &[Multiaddr],
        tasks: Vec<KnownTask>,
        random: ChaCha8Rng,
        now: Instant,
    ) -> (Self, Vec<NetworkEffect>) {
        let (gossip, first) = Gossip::start(tasks);
        let mut state = Self {
            peers: Peers::new(),
            discovery: Discovery::new(named, now),
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
            NetworkEvent::Disconnected(peer) => {
                self.peers(PeerEvent::Disconnected(peer), now);
                self.catchup(CatchupEvent::Left(peer), now);
                self.clocks(ClockEvent::Left(peer), now);
                self.discovery(DiscoveryEvent::Disconnected(peer), now);
            }
            NetworkEvent::Identified { peer, agent, addresses, speaks_kademlia } => {
                self.peers(PeerEvent::Identified { peer, agent }, now);
                self.discovery(DiscoveryEvent::Identified { peer, addresses, speaks_kademlia }, now);
            }
            NetworkEvent::Tick => {
                self.gossip(GossipEvent::Tick, now);
                self.peers(PeerEvent::Tick, now);
                self.discovery(DiscoveryEvent::Tick, now);
                self.fetches(FetchEvent::Tick);
                self.catchup(CatchupEvent::Tick, now);
                self.effects.extend(self.deliveries.look(now).map(NetworkEffect::LookForUseful));
            }
            NetworkEvent::Useful(peers) => self.effects.extend(peers.into_iter().map(NetworkEffect::Useful)),
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
        let effects = self.discovery.handle(event, self.peers.connected(), &mut self.random, now);
        self.effects.extend(effects.into_iter().map(|effect| match effect {
            DiscoveryEffect::DialNamed(address) => NetworkEffect::DialNamed(address),
            DiscoveryEffect::Dial { peer, addresses } => NetworkEffect::Dial { peer, addresses },
            DiscoveryEffect::AddAddress(peer, address) => NetworkEffect::AddAddress(peer, address),
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
