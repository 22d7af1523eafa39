//! Carries out what the machine of reachability decides, and tells it what libp2p reports: tests of addresses,
//! reservations, circuits, hole punching, forwarded ports, and relays in Kademlia.

use std::{
    collections::{HashMap, HashSet},
    sync::PoisonError,
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId, autonat,
    core::{ConnectedPoint, transport::ListenerId},
    dcutr, identify,
    kad::{self, store::RecordStore as _},
    multiaddr::Protocol,
    relay,
    swarm::dial_opts::DialOpts,
    upnp,
};
use spore_base::random;

use super::NetworkService;
use crate::{
    addresses::{counted, is_circuit, with_peer, without_peer},
    handle::{ReachInfo, RelayInfo},
    limits,
    state::{NetworkEvent, Reachability, ReachabilityEffect, ReachabilityEvent},
};

/// Time between two announcements in Kademlia that this node is a relay, and the time before the first one.
const PROVIDE_INTERVAL: Duration = Duration::from_secs(5 * 60);
const PROVIDE_FIRST: Duration = Duration::from_secs(5);

/// The key under which relays are found in Kademlia.
fn relay_key() -> kad::RecordKey {
    kad::RecordKey::new(b"/spore/1/relays")
}

/// What the network task knows of relays and hole punching, beside the machine.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// The listeners that stand for reservations. As many as the machine asks for.
    reservations: HashMap<ListenerId, PeerId>,
    /// When to announce this node as a relay again. None while it is none.
    provide_at: Option<Instant>,
    /// The searches for relays under way.
    searches: HashSet<kad::QueryId>,
    /// Circuits through this node.
    circuits: usize,
    /// Why hole punching failed, for each connected peer with which it did.
    not_direct: HashMap<PeerId, String>,
    port_mapping: Option<String>,
}

impl Reach {
    pub fn not_direct(&self, peer: &PeerId) -> Option<&String> {
        self.not_direct.get(peer)
    }

    pub fn disconnected(&mut self, peer: &PeerId) {
        self.not_direct.remove(peer);
    }
}

/// Where the peer at the other end of a connection is. Of one that came through a relay, the relay's address and the
/// peer's id.
pub(super) fn place(peer: PeerId, endpoint: &ConnectedPoint) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => address.clone(),
        ConnectedPoint::Listener { local_addr, .. } if is_circuit(local_addr) => with_peer(local_addr, peer),
        ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr.clone(),
    }
}

impl NetworkService {
    fn reachability(&mut self, event: ReachabilityEvent) {
        self.handle(NetworkEvent::Reachability(event));
    }

    // --- effects ---------------------------------------------------------------------------

    pub(super) fn reach(&mut self, effect: ReachabilityEffect) {
        match effect {
            ReachabilityEffect::Became { reachability, relay } => self.became(reachability, relay),
            ReachabilityEffect::Reserve { relay, address } => self.reserve(relay, &address),
            ReachabilityEffect::Release(relay) => self.release_relay(relay),
            ReachabilityEffect::FindRelays => self.find_relays(),
        }
    }

    fn became(&mut self, reachability: Reachability, serves: bool) {
        tracing::info!(reachability = reachability.name(), relay = serves, "reachability");
        let listens = self.swarm.listeners().next().is_some();
        let behaviour = self.swarm.behaviour_mut();
        let server = listens && reachability != Reachability::Private;
        behaviour.kad.set_mode(Some(if server { kad::Mode::Server } else { kad::Mode::Client }));
        let status = if serves { relay::Status::Enable } else { relay::Status::Disable };
        behaviour.relay.set_status(Some(status));
        self.reach.provide_at = serves.then(|| Instant::now() + PROVIDE_FIRST);
        if !serves {
            behaviour.kad.stop_providing(&relay_key());
        }
        for address in self.swarm.listeners().cloned().collect::<Vec<_>>() {
            self.listens_at(&address);
        }
    }

    fn reserve(&mut self, relay: PeerId, address: &Multiaddr) {
        let circuit = with_peer(address, relay).with(Protocol::P2pCircuit);
        match self.swarm.listen_on(circuit) {
            Ok(listener) => {
                tracing::debug!(%relay, %address, "asking a relay for a reservation");
                self.reach.reservations.insert(listener, relay);
            }
            Err(error) => {
                tracing::debug!(%relay, %address, %error, "cannot ask a relay for a reservation");
                self.reachability(ReachabilityEvent::ReservationLost(relay));
            }
        }
    }

    fn release_relay(&mut self, relay: PeerId) {
        let of_relay = self.reach.reservations.iter().filter(|(_, of)| **of == relay);
        for listener in of_relay.map(|(listener, _)| *listener).collect::<Vec<_>>() {
            self.swarm.remove_listener(listener);
        }
    }

    fn find_relays(&mut self) {
        let search = self.swarm.behaviour_mut().kad.get_providers(relay_key());
        self.reach.searches.insert(search);
    }

    /// Announces this node as a relay, when it is time.
    pub(super) fn provide(&mut self) {
        let now = Instant::now();
        if self.reach.provide_at.is_some_and(|at| at <= now) {
            self.reach.provide_at = Some(now + PROVIDE_INTERVAL);
            if let Err(error) = self.swarm.behaviour_mut().kad.start_providing(relay_key()) {
                tracing::debug!(%error, "cannot announce this node as a relay");
            }
        }
    }

    // --- events ----------------------------------------------------------------------------

    /// This node listens at one more address.
    pub(super) fn listens_at(&mut self, address: &Multiaddr) {
        let machine = self.state.reach();
        // The operator says so: nobody has to confirm it.
        let public = machine.is_fixed() && machine.reachability() == Reachability::Public;
        if public && self.state.policy().is_public(address) {
            self.swarm.add_external_address(address.clone());
        }
        self.look_at_interfaces();
    }

    /// Whether an own interface has a public address.
    pub(super) fn look_at_interfaces(&mut self) {
        let policy = self.state.policy();
        let has_public = self.swarm.listeners().any(|address| policy.is_public(address));
        self.reachability(ReachabilityEvent::Interfaces { has_public });
    }

    /// A peer that dialled a public address of this node shows that the address is reachable. Only TCP: over QUIC, a
    /// connection may come through a hole that this node punched, and its local address is not known.
    pub(super) fn dialled_here(&mut self, peer: &PeerId, endpoint: &ConnectedPoint) {
        let ConnectedPoint::Listener { local_addr, send_back_addr } = endpoint else { return };
        let is_tcp = local_addr.iter().any(|part| matches!(part, Protocol::Tcp(_)));
        let through_relay = self.state.connected().get(peer).is_some_and(|known| is_circuit(&known.address));
        let policy = self.state.policy();
        let public = policy.is_public(local_addr) && policy.is_public(send_back_addr);
        let same_host = counted(local_addr).map(|net| net.host()) == counted(send_back_addr).map(|net| net.host());
        if is_tcp && public && !through_relay && !same_host {
            let known = self.swarm.external_addresses().any(|address| address == local_addr);
            if !known {
                self.swarm.add_external_address(local_addr.clone());
            }
            self.reachability(ReachabilityEvent::Confirmed(local_addr.clone()));
        }
    }

    pub(super) fn external_address(&mut self, address: &Multiaddr, confirmed: bool) {
        if self.state.policy().is_public(address) {
            tracing::info!(%address, confirmed, "external address");
            let address = without_peer(address);
            self.reachability(match confirmed {
                true => ReachabilityEvent::Confirmed(address),
                false => ReachabilityEvent::Expired(address),
            });
        }
    }

    pub(super) fn tested(&mut self, event: autonat::v2::client::Event) {
        let autonat::v2::client::Event { tested_addr, server, result, .. } = event;
        if let Err(error) = result {
            tracing::debug!(address = %tested_addr, %server, %error, "a test of an own address failed");
            self.reachability(ReachabilityEvent::Failed(tested_addr));
        }
    }

    /// A listener closed. True when it stood for a reservation.
    pub(super) fn reservation_ended(&mut self, listener: ListenerId) -> bool {
        let Some(relay) = self.reach.reservations.remove(&listener) else { return false };
        tracing::debug!(%relay, "a reservation at a relay ended");
        // A second request to the same relay may be under way.
        if !self.reach.reservations.values().any(|other| *other == relay) {
            self.reachability(ReachabilityEvent::ReservationLost(relay));
        }
        true
    }

    pub(super) fn on_circuit_event(&mut self, event: &relay::client::Event) {
        match event {
            relay::client::Event::ReservationReqAccepted { relay_peer_id, renewal, .. } => {
                tracing::debug!(relay = %relay_peer_id, renewal, "a relay granted a reservation");
                self.reachability(ReachabilityEvent::Reserved(*relay_peer_id));
            }
            relay::client::Event::OutboundCircuitEstablished { relay_peer_id, .. } => {
                tracing::debug!(relay = %relay_peer_id, "connected through a relay");
            }
            relay::client::Event::InboundCircuitEstablished { src_peer_id, .. } => {
                tracing::debug!(peer = %src_peer_id, "a peer connected through a relay");
            }
        }
    }

    pub(super) fn on_relay_event(&mut self, event: &relay::Event) {
        match event {
            relay::Event::ReservationTimedOut { src_peer_id } => self.release_reservation(src_peer_id),
            relay::Event::CircuitReqAccepted { .. } => self.reach.circuits += 1,
            relay::Event::CircuitClosed { .. } => self.reach.circuits = self.reach.circuits.saturating_sub(1),
            _ => {}
        }
        tracing::debug!(?event, "relay");
    }

    /// A peer has no reservation here any more.
    pub(super) fn release_reservation(&self, peer: &PeerId) {
        self.relay_use.lock().unwrap_or_else(PoisonError::into_inner).release(peer);
    }

    pub(super) fn on_punched(&mut self, event: dcutr::Event) {
        let dcutr::Event { remote_peer_id: peer, result } = event;
        match result {
            Ok(_) => {
                tracing::info!(%peer, "connected directly after hole punching");
                self.reach.not_direct.remove(&peer);
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "hole punching failed");
                if self.state.connected().contains(&peer) {
                    self.reach.not_direct.insert(peer, "hole punching failed".to_owned());
                }
            }
        }
    }

    pub(super) fn on_mapped(&mut self, event: &upnp::Event) {
        let text = match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => format!("the router forwards {external_addr}"),
            upnp::Event::ExpiredExternalAddr { external_addr, .. } => {
                format!("the router no longer forwards {external_addr}")
            }
            upnp::Event::GatewayNotFound => "no router with UPnP".to_owned(),
            upnp::Event::NonRoutableGateway => "the router is behind another router".to_owned(),
        };
        tracing::debug!(%text, "port mapping");
        self.reach.port_mapping = Some(text);
    }

    /// A peer said which protocols it speaks, where it is, and where it sees this node.
    pub(super) fn identified(&mut self, peer: PeerId, info: &identify::Info, outgoing: bool) {
        let Some(at) = self.state.connected().get(&peer).map(|known| known.address.clone()) else { return };
        let policy = self.state.policy();
        let observed = &info.observed_addr;
        let observer = counted(&at).filter(|_| outgoing && policy.is_public(&at) && policy.is_public(observed));
        let direct = |address: &Multiaddr| !is_circuit(address) && policy.may_dial(address);
        let told = policy.kept(&at, info.listen_addrs.iter().cloned()).into_iter().find(direct);
        let address = if outgoing && direct(&at) { Some(at) } else { told };
        if let Some(observer) = observer {
            let address = without_peer(observed);
            self.reachability(ReachabilityEvent::Observed { by: observer.host(), address });
        }
        if let Some(address) = address.filter(|_| info.protocols.contains(&relay::HOP_PROTOCOL_NAME)) {
            self.reachability(ReachabilityEvent::RelayFound { relay: peer, address: without_peer(&address) });
        }
    }

    pub(super) fn on_kad_event(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest { request: kad::InboundRequest::AddProvider { record: Some(mut record) } }
                if record.key == relay_key() =>
            {
                // libp2p has checked that the provider itself sent it.
                let Some(at) = self.state.connected().get(&record.provider) else { return };
                record.addresses = self.state.policy().kept(&at.address, record.addresses);
                record.addresses.retain(|address| !is_circuit(address));
                if !record.addresses.is_empty()
                    && let Err(error) = self.swarm.behaviour_mut().kad.store_mut().add_provider(record)
                {
                    tracing::debug!(%error, "cannot keep a provider record");
                }
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                let searches = &mut self.reach.searches;
                let is_ours = if step.last { searches.remove(&id) } else { searches.contains(&id) };
                if is_ours {
                    self.on_relays_found(result);
                }
            }
            _ => {}
        }
    }

    fn on_relays_found(&mut self, result: kad::QueryResult) {
        let kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })) = result else {
            return;
        };
        let own = *self.swarm.local_peer_id();
        let unknown = providers.into_iter().filter(|peer| *peer != own && !self.swarm.is_connected(peer));
        let chosen = random::shuffled(unknown, &mut random::generator());
        for peer in chosen.into_iter().take(limits::RELAY_DIALS) {
            // The addresses come from Kademlia's search. Identify tells whether it is a relay.
            if let Err(error) = self.swarm.dial(DialOpts::peer_id(peer).build()) {
                tracing::debug!(%peer, %error, "cannot dial a relay");
            }
        }
    }

    // --- status ----------------------------------------------------------------------------

    pub(super) fn reach_info(&self) -> ReachInfo {
        let machine = self.state.reach();
        let relays = machine.relays().map(|status| RelayInfo {
            peer_id: status.relay,
            address: status.address,
            held: status.held.map(|since| since.elapsed()),
        });
        ReachInfo {
            reachability: machine.reachability(),
            fixed: machine.is_fixed(),
            confirmed: machine.confirmed().cloned().collect(),
            nat: machine.nat_kind(),
            port_mapping: self.reach.port_mapping.clone(),
            relays: relays.collect(),
            serves: self.reach.provide_at.is_some(),
            reservations: self.relay_use.lock().unwrap_or_else(PoisonError::into_inner).reserved(),
            circuits: self.reach.circuits,
        }
    }
}
