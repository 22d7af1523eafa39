//! What happens to the machines together, and what they have the network task do.

use ipnet::IpNet;
use libp2p::{
    Multiaddr, PeerId,
    gossipsub::{MessageAcceptance, MessageId},
    swarm::ConnectionId,
};
use spore_base::{clock::ClockOffset, fetch::FetchError};
use spore_protocol::{Cid, Kind, NodeId, ObjectId, topic::Topic};

use super::{
    catchup::{CatchupEvent, SessionPlan},
    clocks::ClockEvent,
    discovery::DiscoveryEvent,
    fetches::{CallerId, FetchEvent},
    gossip::{GossipEvent, GossipMessage},
    peers::PeerEvent,
    reachability::{ReachabilityEffect, ReachabilityEvent},
};
use crate::addresses::AddressPolicy;

/// What happened: an event that concerns several machines, or one of a single machine.
#[derive(Clone, Debug)]
pub enum NetworkEvent {
    /// One more connection to a peer. `dialled`: the address of a named peer, if its dial led to the connection.
    Connected {
        peer: PeerId,
        address: Multiaddr,
        dialled: Option<Multiaddr>,
    },
    /// The same connection, after [`NetworkEvent::Connected`]. `outgoing`: this node dialled.
    LinkOpened {
        peer: PeerId,
        connection: ConnectionId,
        address: Multiaddr,
        outgoing: bool,
    },
    /// A connection closed, before [`NetworkEvent::Disconnected`] if it was the last one.
    LinkClosed {
        peer: PeerId,
        connection: ConnectionId,
    },
    /// The networks of the own interfaces.
    OwnNetworks(Vec<IpNet>),
    /// The operator named an address.
    Named(Multiaddr),
    /// The operator disconnected a peer.
    Dismissed(PeerId),
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
    /// These peers brought objects of these signers with confirmed work.
    Useful(Vec<(PeerId, NodeId)>),
    Peer(PeerEvent),
    Discovery(DiscoveryEvent),
    Gossip(GossipEvent),
    Catchup(CatchupEvent),
    Fetch(FetchEvent),
    Clock(ClockEvent),
    Reachability(ReachabilityEvent),
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
    /// Keep the connections of a peer for some time, unless another one is kept because of this signer.
    Useful(PeerId, NodeId),
    /// Add an address of a peer to Kademlia.
    AddAddress(PeerId, Multiaddr),
    /// Remove a peer from Kademlia.
    ForgetPeer(PeerId),
    /// Ask a connected peer for other peers: [`DiscoveryEvent::Told`].
    AskForPeers(PeerId),
    /// Close one connection.
    CloseLink(ConnectionId),
    /// Dial nothing else from now on.
    Policy(AddressPolicy),
    // --- reachability
    Reachability(ReachabilityEffect),
    // --- discovery
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
