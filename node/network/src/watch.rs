//! Behaviours of libp2p whose requests to the swarm are looked at first.
//!
//! Other peers tell this node what its address looks like, and have it dial addresses to test whether they are reachable.
//! libp2p takes all of it. [`Watched`] wraps such a behaviour, and its [`Watch`] decides:
//!
//! - [`Observers`]: which addresses that others observed are worth a test;
//! - [`Mapped`]: an address that a router claims to have mapped is tested too, before it is told;
//! - [`DialBacks`]: how often others may have this node dial.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    task::{Context, Poll},
    time::Instant,
};

use ipnet::IpNet;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    identify,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm, behaviour::ConnectionClosed,
    },
};

use crate::{
    addresses::{counted, is_circuit},
    guard::AddressGuard,
    limits::{DIAL_BACKS, DIAL_BACKS_PER_SUBNET, DIAL_BACKS_TIME, OBSERVED, OBSERVED_PER_SUBNET, OBSERVED_TIME},
};

/// Decides what a behaviour may ask of the swarm. By default everything.
pub trait Watch<Event> {
    /// A connection is open.
    fn opened(&mut self, _: ConnectionId, _: &Multiaddr) {}
    fn closed(&mut self, _: ConnectionId) {}
    /// The behaviour reports an event.
    fn reported(&mut self, _: &Event) {}
    /// Whether an address of this node may be one at which others reach it.
    fn is_candidate(&mut self, _: &Multiaddr) -> bool {
        true
    }
    /// The behaviour asks for a dial.
    fn asked_to_dial(&mut self, _: ConnectionId) {}
    /// A dial begins.
    ///
    /// # Errors
    /// When the dial is refused.
    fn may_dial(&mut self, _: ConnectionId, _: &[Multiaddr]) -> Result<(), ConnectionDenied> {
        Ok(())
    }
}

/// A behaviour and its watch.
#[derive(Debug)]
pub struct Watched<B, W> {
    inner: B,
    watch: W,
}

impl<B, W> Watched<B, W> {
    pub const fn new(inner: B, watch: W) -> Self {
        Self { inner, watch }
    }
}

impl<B: NetworkBehaviour, W: Watch<B::ToSwarm> + 'static> NetworkBehaviour for Watched<B, W> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = self.inner.handle_established_inbound_connection(connection, peer, local, remote)?;
        self.watch.opened(connection, if is_circuit(local) { local } else { remote });
        Ok(handler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.watch.may_dial(connection, addresses)?;
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = self.inner.handle_established_outbound_connection(connection, peer, remote, role, port)?;
        self.watch.opened(connection, remote);
        Ok(handler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) = &event {
            self.watch.closed(*connection_id);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            let Poll::Ready(request) = self.inner.poll(context) else { return Poll::Pending };
            match &request {
                ToSwarm::GenerateEvent(event) => self.watch.reported(event),
                ToSwarm::Dial { opts } => self.watch.asked_to_dial(opts.connection_id()),
                // Whoever says so, a test confirms it.
                ToSwarm::NewExternalAddrCandidate(address) | ToSwarm::ExternalAddrConfirmed(address) => {
                    if self.watch.is_candidate(address) {
                        return Poll::Ready(ToSwarm::NewExternalAddrCandidate(address.clone()));
                    }
                    continue;
                }
                _ => {}
            }
            return Poll::Ready(request);
        }
    }
}

/// The addresses of this node that other peers observed.
#[derive(Debug)]
pub struct Observers {
    guard: AddressGuard,
    /// The subnet of each connection.
    open: HashMap<ConnectionId, Option<IpNet>>,
    /// Where the last observation came from. libp2p's identify reports the observer first, and then what it observed.
    from: Option<IpNet>,
    observed: ObservedAddresses,
}

impl Observers {
    pub fn new(guard: AddressGuard) -> Self {
        Self { guard, open: HashMap::new(), from: None, observed: ObservedAddresses::default() }
    }
}

impl Watch<identify::Event> for Observers {
    fn opened(&mut self, connection: ConnectionId, remote: &Multiaddr) {
        self.open.insert(connection, counted(remote).map(|subnet| subnet.subnet()));
    }

    fn closed(&mut self, connection: ConnectionId) {
        self.open.remove(&connection);
    }

    fn reported(&mut self, event: &identify::Event) {
        if let identify::Event::Received { connection_id, .. } = event {
            self.from = self.open.get(connection_id).copied().flatten();
        }
    }

    fn is_candidate(&mut self, address: &Multiaddr) -> bool {
        self.guard.is_public(address) && self.observed.offer(address, self.from, Instant::now())
    }
}

/// Observed addresses, each with the subnet that reported it first. Pure.
#[derive(Debug, Default)]
struct ObservedAddresses(HashMap<Multiaddr, (Option<IpNet>, Instant)>);

impl ObservedAddresses {
    /// Whether there is room for an address that a peer of this subnet observed.
    fn offer(&mut self, address: &Multiaddr, from: Option<IpNet>, now: Instant) -> bool {
        self.0.retain(|_, (_, last)| now.saturating_duration_since(*last) < OBSERVED_TIME);
        if let Some((_, last)) = self.0.get_mut(address) {
            *last = now;
            return true;
        }
        let of_subnet = self.0.values().filter(|(other, _)| *other == from).count();
        if self.0.len() >= OBSERVED || of_subnet >= OBSERVED_PER_SUBNET {
            return false;
        }
        self.0.insert(address.clone(), (from, now));
        true
    }
}

/// The addresses that a router of the local network mapped to this node.
#[derive(Debug)]
pub struct Mapped(pub AddressGuard);

impl<Event> Watch<Event> for Mapped {
    fn is_candidate(&mut self, address: &Multiaddr) -> bool {
        self.0.is_public(address)
    }
}

/// There were enough dials for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("enough addresses of other peers were tested in the last minute")]
pub struct EnoughDialBacks;

/// Dials that other peers caused by asking for a test of their addresses.
#[derive(Debug, Default)]
pub struct DialBacks {
    /// Asked for and not begun. The swarm begins a dial, or drops it, right after it was asked for.
    asked: HashSet<ConnectionId>,
    recent: RecentDials,
}

impl<Event> Watch<Event> for DialBacks {
    fn asked_to_dial(&mut self, connection: ConnectionId) {
        self.asked.clear();
        self.asked.insert(connection);
    }

    fn may_dial(&mut self, connection: ConnectionId, addresses: &[Multiaddr]) -> Result<(), ConnectionDenied> {
        if !self.asked.remove(&connection) {
            return Ok(());
        }
        let nets = addresses.iter().map(|address| counted(address).map(|subnet| subnet.subnet()));
        match self.recent.take(nets, Instant::now()) {
            true => Ok(()),
            false => Err(ConnectionDenied::new(EnoughDialBacks)),
        }
    }
}

/// The subnets that were dialled in the last [`DIAL_BACKS_TIME`], in the order of time. At most [`DIAL_BACKS`]. Pure.
#[derive(Debug, Default)]
struct RecentDials(VecDeque<(Instant, IpNet)>);

impl RecentDials {
    /// Whether these subnets may be dialled now. None stands for an address that is no IP address, which may not.
    fn take(&mut self, nets: impl Iterator<Item = Option<IpNet>>, now: Instant) -> bool {
        while self.0.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= DIAL_BACKS_TIME) {
            self.0.pop_front();
        }
        let Some(nets) = nets.collect::<Option<Vec<IpNet>>>() else { return false };
        let dialled = |net: &IpNet| self.0.iter().filter(|(_, other)| other == net).count();
        let fits = nets.iter().all(|net| dialled(net) < DIAL_BACKS_PER_SUBNET);
        if !fits || self.0.len() + nets.len() > DIAL_BACKS {
            return false;
        }
        self.0.extend(nets.into_iter().map(|net| (now, net)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Option<IpNet> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn liars_of_one_subnet_have_few_addresses_tested() {
        let (mut observed, now) = (ObservedAddresses::default(), Instant::now());
        let address = |n: usize| format!("/ip4/1.1.1.1/tcp/{}", n + 1).parse::<Multiaddr>().unwrap();
        let taken = (0..100).filter(|n| observed.offer(&address(*n), net("9.9.9.0/24"), now)).count();
        assert_eq!(taken, OBSERVED_PER_SUBNET);
        assert!(observed.offer(&address(500), net("8.8.8.0/24"), now), "others are heard");
        assert!(observed.offer(&address(0), net("7.7.7.0/24"), now), "a known one is confirmed by anybody");
        let many = (0..200).filter(|n| observed.offer(&address(1000 + n), net(&format!("7.7.{n}.0/24")), now)).count();
        assert_eq!((many < OBSERVED, observed.0.len()), (true, OBSERVED));
        assert!(observed.offer(&address(5000), net("6.6.6.0/24"), now + OBSERVED_TIME), "old ones expire");
    }

    #[test]
    fn dials_for_others_are_bounded_in_all_and_by_subnet() {
        let (mut recent, now) = (RecentDials::default(), Instant::now());
        let mut dials = |subnet: &str, at| recent.take([net(subnet)].into_iter(), at);
        assert_eq!((0..50).filter(|_| dials("1.1.1.0/24", now)).count(), DIAL_BACKS_PER_SUBNET);
        let many = (0..100).filter(|n| dials(&format!("2.2.{n}.0/24"), now)).count();
        assert_eq!(many, DIAL_BACKS - DIAL_BACKS_PER_SUBNET);
        assert!(dials("1.1.1.0/24", now + DIAL_BACKS_TIME));
        assert!(!recent.take([None].into_iter(), now), "a name leads anywhere");
    }
}
