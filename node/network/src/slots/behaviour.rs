//! The slots as a behaviour of the swarm, which asks it about every connection.

use std::{
    collections::VecDeque,
    convert::Infallible,
    task::{Context, Poll, Waker},
    time::Instant,
};

use ipnet::IpNet;
use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour,
        THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};
use spore_base::subnet::Subnet;
use spore_protocol::NodeId;

use super::ConnectionSlots;
use crate::addresses::{counted, is_circuit};

/// Refuses connections without a slot, and closes those that make room.
#[derive(Debug)]
pub struct Behaviour {
    slots: ConnectionSlots,
    /// Connections to close. Bounded by the open ones.
    closing: VecDeque<(PeerId, ConnectionId)>,
    waker: Option<Waker>,
}

impl Behaviour {
    pub const fn new(slots: ConnectionSlots) -> Self {
        Self { slots, closing: VecDeque::new(), waker: None }
    }

    /// The operator named this peer.
    pub fn name(&mut self, peer: PeerId) {
        self.slots.name(peer);
    }

    /// A peer was of use by an object of this signer.
    pub fn was_useful(&mut self, peer: PeerId, signer: NodeId) {
        self.slots.was_useful(peer, signer, Instant::now());
    }

    /// Closes all incoming connections with a host or a subnet, and accepts no others.
    pub fn ban(&mut self, net: IpNet) {
        let closed = self.slots.ban(net);
        self.close(closed);
    }

    pub fn unban(&mut self, net: IpNet) {
        self.slots.unban(net);
    }

    fn close(&mut self, connections: impl IntoIterator<Item = (PeerId, ConnectionId)>) {
        self.closing.extend(connections);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The prefixes that an incoming connection counts for: the peer's, or those of the relay that it came through.
fn from(local: &Multiaddr, remote: &Multiaddr) -> Option<Subnet> {
    counted(if is_circuit(local) { local } else { remote })
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.slots.begin(connection, from(local, remote)).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.slots.end(connection);
        let made = self.slots.make_room(peer, from(local, remote), Instant::now()).map_err(ConnectionDenied::new)?;
        if let Some((peer, _)) = &made {
            tracing::debug!(%peer, "closing a connection that is of no use for a new one");
        }
        self.close(made);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.slots.may_dial(peer, counted(remote)).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(opened) if opened.endpoint.is_listener() => {
                let subnet = match opened.endpoint {
                    ConnectedPoint::Listener { local_addr, send_back_addr } => from(local_addr, send_back_addr),
                    ConnectedPoint::Dialer { address, .. } => counted(address),
                };
                self.slots.opened(opened.connection_id, opened.peer_id, subnet, Instant::now());
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => self.slots.closed(connection_id),
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => self.slots.end(connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.closing.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) });
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
