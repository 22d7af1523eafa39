//! Connection slots: which incoming connections there is room for, and which one is closed for a new one.
//!
//! Keys are free, so a peer id says nothing about how much room somebody takes. Addresses cost something: slots are
//! counted by host, subnet and site ([`Subnet`]) beside the total. When a bound is reached, a connection that is of no
//! use makes room:
//!
//! - of a host, subnet or site that is full, one of its own connections;
//! - in all, one of the site that has the most connections, if that is more than the newcomer's site has;
//! - else any, once the grace period of [`GRACE`] has passed.
//!
//! A connection is of use while its peer is the first to bring objects of a signer with confirmed work, one peer for each
//! signer: whoever has one such signer and many keys protects one connection. Outgoing connections have bounds of their own, and named peers have none: no flood reaches them.
//!
//! Pure. Never here: the swarm (`behaviour`), who is of use ([`crate::state`]).

mod behaviour;
mod reservations;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use spore_base::subnet::{Reach, Subnet};
use spore_protocol::NodeId;

pub use behaviour::Behaviour;
pub use reservations::RelayUse;

use crate::{
    addresses::counted,
    limits::{
        GRACE, MAX_INCOMING, MAX_PENDING_INCOMING, PENDING_BOUNDS, PRIVATE_BOUNDS, PUBLIC_BOUNDS, PrefixBounds,
        USEFUL_SIGNERS, USEFUL_TIME,
    },
    prefixes::{full, holds},
    state::peer_of,
};

/// Why there is no slot for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSlot {
    #[error("{0} is banned because of what its peers sent")]
    Banned(IpNet),
    #[error("there are enough connections with {0}")]
    Prefix(IpNet),
    #[error("there are enough incoming connections")]
    Full,
    #[error("{MAX_PENDING_INCOMING} incoming connections are being set up already")]
    Pending,
}

/// An open incoming connection.
#[derive(Clone, Copy, Debug)]
struct Slot {
    peer: PeerId,
    subnet: Option<Subnet>,
    since: Instant,
    /// The connection is being closed. It counts no more.
    closing: bool,
}

/// Incoming connections that are open or being set up, and who may have none.
#[derive(Debug)]
pub struct ConnectionSlots {
    /// [`MAX_INCOMING`] and [`GRACE`], which tests make smaller.
    most: usize,
    grace: Duration,
    open: HashMap<ConnectionId, Slot>,
    pending: HashMap<ConnectionId, Option<Subnet>>,
    /// The peer that was of use by a signer's objects, and when it was last. Only peers with an open connection.
    useful: HashMap<NodeId, (PeerId, Instant)>,
    /// Peers that the operator named, as far as their ids are known, and the hosts at which they were named.
    named: HashSet<PeerId>,
    named_hosts: HashSet<IpNet>,
    /// Hosts and subnets. Bounded by the standings that ban them.
    banned: HashSet<IpNet>,
}

impl ConnectionSlots {
    /// `named`: the addresses of peers that the operator named.
    pub fn new(named: &[Multiaddr]) -> Self {
        let named_hosts = named.iter().filter_map(counted).map(|subnet| subnet.host()).collect();
        Self {
            most: MAX_INCOMING,
            grace: GRACE,
            open: HashMap::new(),
            pending: HashMap::new(),
            useful: HashMap::new(),
            named: named.iter().filter_map(peer_of).collect(),
            named_hosts,
            banned: HashSet::new(),
        }
    }

    /// The operator named this peer.
    pub fn name(&mut self, peer: PeerId) {
        self.named.insert(peer);
    }

    /// A peer was of use: it brought a new object of a signer with confirmed work. Another peer of use by this signer stays
    /// the one, for [`USEFUL_TIME`] after its last object.
    pub fn was_useful(&mut self, peer: PeerId, signer: NodeId, now: Instant) {
        if !self.open.values().any(|slot| slot.peer == peer) {
            return;
        }
        self.useful.retain(|_, (_, last)| now.saturating_duration_since(*last) < USEFUL_TIME);
        let full = self.useful.len() >= USEFUL_SIGNERS;
        match self.useful.entry(signer) {
            Entry::Occupied(mut known) if known.get().0 == peer => drop(known.insert((peer, now))),
            Entry::Vacant(place) if !full => drop(place.insert((peer, now))),
            _ => {}
        }
    }

    /// Refuses connections with a host or a subnet from now on. Returns the open ones, which are to be closed.
    pub fn ban(&mut self, net: IpNet) -> Vec<(PeerId, ConnectionId)> {
        self.banned.insert(net);
        let named = &self.named;
        let within = |slot: &Slot| slot.subnet.is_some_and(|subnet| holds(net, subnet)) && !named.contains(&slot.peer);
        let closed = self.open.iter_mut().filter(|(_, slot)| within(slot) && !slot.closing);
        closed
            .map(|(connection, slot)| {
                slot.closing = true;
                (slot.peer, *connection)
            })
            .collect()
    }

    pub fn unban(&mut self, net: IpNet) {
        self.banned.remove(&net);
    }

    /// A peer begins to connect. Its id is not known yet.
    ///
    /// # Errors
    /// When there is no slot.
    pub fn begin(&mut self, connection: ConnectionId, subnet: Option<Subnet>) -> Result<(), NoSlot> {
        if !self.is_named_host(subnet) {
            self.refuse_banned(subnet)?;
            if self.pending.len() >= MAX_PENDING_INCOMING {
                return Err(NoSlot::Pending);
            }
            if let Some(net) = full(self.pending.values().flatten(), subnet, |_| Some(PENDING_BOUNDS)) {
                return Err(NoSlot::Prefix(net));
            }
        }
        self.pending.insert(connection, subnet);
        Ok(())
    }

    /// A connection is no longer being set up: it is open, or it failed.
    pub fn end(&mut self, connection: ConnectionId) {
        self.pending.remove(&connection);
    }

    /// Whether there is a slot for a peer. Returns the connection that is to be closed for it, if any, which counts no
    /// more from now on.
    ///
    /// # Errors
    /// When there is no slot.
    pub fn make_room(
        &mut self,
        peer: PeerId,
        subnet: Option<Subnet>,
        now: Instant,
    ) -> Result<Option<(PeerId, ConnectionId)>, NoSlot> {
        if self.named.contains(&peer) {
            return Ok(None);
        }
        self.refuse_banned(subnet)?;
        let counted = || self.open.values().filter(|slot| !slot.closing);
        let found = if let Some(net) = full(counted().filter_map(|slot| slot.subnet.as_ref()), subnet, bounds) {
            let within = |slot: &Slot| slot.subnet.is_some_and(|one| holds(net, one));
            self.least_useful(now, |slot| within(slot) && self.is_past_grace(slot, now)).ok_or(NoSlot::Prefix(net))?
        } else if counted().count() >= self.most {
            self.in_all(subnet, now).ok_or(NoSlot::Full)?
        } else {
            return Ok(None);
        };
        if let Some(slot) = self.open.get_mut(&found.1) {
            slot.closing = true;
        }
        Ok(Some(found))
    }

    /// Whether this node may connect with a peer.
    ///
    /// # Errors
    /// When its host or subnet is banned.
    pub fn may_dial(&self, peer: PeerId, subnet: Option<Subnet>) -> Result<(), NoSlot> {
        if self.is_named_host(subnet) || self.named.contains(&peer) { Ok(()) } else { self.refuse_banned(subnet) }
    }

    fn is_named_host(&self, subnet: Option<Subnet>) -> bool {
        subnet.is_some_and(|subnet| self.named_hosts.contains(&subnet.host()))
    }

    /// A connection is open.
    pub fn opened(&mut self, connection: ConnectionId, peer: PeerId, subnet: Option<Subnet>, now: Instant) {
        self.open.insert(connection, Slot { peer, subnet, since: now, closing: false });
    }

    /// A connection was closed.
    pub fn closed(&mut self, connection: ConnectionId) {
        let Some(slot) = self.open.remove(&connection) else { return };
        if !self.open.values().any(|other| other.peer == slot.peer) {
            self.useful.retain(|_, (peer, _)| *peer != slot.peer);
        }
    }

    /// Whether no peer there may connect.
    ///
    /// # Errors
    /// When the host or its subnet is banned.
    fn refuse_banned(&self, subnet: Option<Subnet>) -> Result<(), NoSlot> {
        let nets = subnet.map(|subnet| [subnet.host(), subnet.subnet()]).into_iter().flatten();
        nets.into_iter().find(|net| self.banned.contains(net)).map_or(Ok(()), |net| Err(NoSlot::Banned(net)))
    }

    /// The connection that makes room for one from elsewhere.
    fn in_all(&self, newcomer: Option<Subnet>, now: Instant) -> Option<(PeerId, ConnectionId)> {
        let mut crowds: HashMap<Option<IpNet>, usize> = HashMap::new();
        for slot in self.open.values().filter(|slot| !slot.closing) {
            *crowds.entry(slot.subnet.map(|subnet| subnet.site())).or_default() += 1;
        }
        let crowd = |subnet: Option<Subnet>| {
            let site = subnet.map(|subnet| subnet.site());
            crowds.get(&site).copied().unwrap_or_default()
        };
        let own = crowd(newcomer) + 1;
        let most = self.candidates(now).map(|(_, slot)| crowd(slot.subnet)).max().unwrap_or_default();
        if most > own {
            return self.least_useful(now, |slot| crowd(slot.subnet) == most);
        }
        self.least_useful(now, |slot| self.is_past_grace(slot, now))
    }

    /// Of these connections, the youngest one that is of no use: those that were here before a flood stay.
    fn least_useful(&self, now: Instant, among: impl Fn(&Slot) -> bool) -> Option<(PeerId, ConnectionId)> {
        let found = self.candidates(now).filter(|(_, slot)| among(slot)).max_by_key(|(_, slot)| slot.since)?;
        Some((found.1.peer, *found.0))
    }

    fn is_past_grace(&self, slot: &Slot, now: Instant) -> bool {
        now.saturating_duration_since(slot.since) >= self.grace
    }

    /// The connections that may be closed for another one.
    fn candidates(&self, now: Instant) -> impl Iterator<Item = (&ConnectionId, &Slot)> {
        let recent = self.useful.values().filter(|(_, last)| now.saturating_duration_since(*last) < USEFUL_TIME);
        let useful: HashSet<PeerId> = recent.map(|(peer, _)| *peer).collect();
        let may = move |slot: &Slot| !slot.closing && !self.named.contains(&slot.peer) && !useful.contains(&slot.peer);
        self.open.iter().filter(move |(_, slot)| may(slot))
    }
}

/// The bounds for open connections. None where they are bounded by the total alone.
fn bounds(subnet: Subnet) -> Option<PrefixBounds> {
    match subnet.reach() {
        Reach::ThisMachine => None,
        Reach::Private => Some(PRIVATE_BOUNDS),
        Reach::Public => Some(PUBLIC_BOUNDS),
    }
}

#[cfg(test)]
mod tests;
