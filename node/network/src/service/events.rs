//! Events of the swarm, turned into events of the machines; and requests of other peers, each answered by a job.

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    gossipsub, identify, mdns,
    multiaddr::Protocol,
    ping,
    request_response::ResponseChannel,
    swarm::{ConnectionId, DialError, SwarmEvent},
};
use spore_base::{
    subnet::{Reach, Subnet, ip_in},
    warnings::WarningTopic,
};
use spore_ingest::Source;
use spore_protocol::Reject;
use spore_storage::Store;

use super::{DialPurpose, NetworkService, dial_error::in_words, reach::place};
use crate::{
    addresses::{counted, first_hop},
    behaviour::{BehaviourEvent, is_gone},
    exchange::IncomingRequest,
    jobs::{JobContext, JobMessage, serve},
    messages::{
        ArtifactAnswer, ArtifactRequest, KAD_PROTOCOL, NamedPeer, ObjectsAnswer, ObjectsRequest, SyncAnswer,
        SyncRequest,
    },
    reconcile::CompareError,
    state::{CatchupEvent, DiscoveryEvent, GossipEvent, GossipMessage, NetworkEvent, NetworkState, PeerEvent},
};

impl NetworkService {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, num_established, .. } => {
                if num_established.get() == 1 {
                    tracing::info!(peer = %peer_id, "connected");
                }
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                self.handle(NetworkEvent::LinkClosed { peer: peer_id, connection: connection_id });
                if num_established > 0 {
                    return;
                }
                self.reach.disconnected(&peer_id);
                self.release_reservation(&peer_id);
                let cause = cause.map(|cause| cause.to_string());
                tracing::info!(peer = %peer_id, cause, "disconnected");
                self.context.ingest.disconnected(Source::Peer(peer_id));
                self.handle(NetworkEvent::Disconnected(peer_id));
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_failed(connection_id, &error);
                let no_answer = matches!(error, DialError::Transport(_) | DialError::WrongPeerId { .. });
                if let Some(peer) = peer_id.filter(|peer| no_answer && !self.swarm.is_connected(peer)) {
                    self.handle(NetworkEvent::Discovery(DiscoveryEvent::Unreachable(peer)));
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.listens_at(&address);
            }
            SwarmEvent::ExternalAddrConfirmed { address } => self.external_address(&address, true),
            SwarmEvent::ExternalAddrExpired { address } => self.external_address(&address, false),
            SwarmEvent::ListenerClosed { listener_id, .. } if self.reservation_ended(listener_id) => {}
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!(?addresses, %error, "a listener closed");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener reported an error"),
            _ => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let address = place(peer, endpoint);
        tracing::debug!(%peer, %address, "new connection");
        let dialled = match self.dials.remove(&connection) {
            Some(DialPurpose::Named(address)) => {
                // Its id may be known only now.
                self.swarm.behaviour_mut().name(peer);
                Some(address)
            }
            Some(DialPurpose::Command(reply)) => {
                // The caller may have given up.
                let _ = reply.send(Ok(()));
                None
            }
            None => None,
        };
        // Nobody here knows where a peer behind a relay is. All of them count as the relay's.
        let ip = ip_in(&first_hop(&address));
        self.context.ingest.connected(Source::Peer(peer), ip, dialled.is_some());
        self.handle(NetworkEvent::Connected { peer, address: address.clone(), dialled });
        self.dialled_here(&peer, endpoint);
        let outgoing = endpoint.is_dialer();
        self.handle(NetworkEvent::LinkOpened { peer, connection, address, outgoing });
    }

    fn on_dial_failed(&mut self, connection: ConnectionId, error: &DialError) {
        if let DialError::LocalPeerId { address } = error {
            self.own_key_answered(address);
        }
        match self.dials.remove(&connection) {
            Some(DialPurpose::Named(address)) => {
                let error = in_words(error);
                tracing::warn!(%address, %error, "cannot reach a named peer; it will be dialled again");
                self.handle(NetworkEvent::Discovery(DiscoveryEvent::DialFailed(address)));
            }
            Some(DialPurpose::Command(reply)) => {
                tracing::debug!(%error, "a dial failed");
                let _ = reply.send(Err(in_words(error)));
            }
            None => tracing::debug!(%error, "a dial failed"),
        }
    }

    /// This node's key answered at an address. Discovery and named peers lead to the node's own addresses too, which are
    /// no second node. A router may forward any port of an external address to this node. On this machine, another port
    /// is another node.
    fn own_key_answered(&self, address: &Multiaddr) {
        let socket = |address: &Multiaddr| address.iter().take(2).collect::<Multiaddr>();
        let listens = self.swarm.listeners().any(|own| socket(own) == socket(address));
        let host = |address: &Multiaddr| address.iter().next().map(Protocol::acquire);
        let is_external = self.swarm.external_addresses().any(|own| host(own) == host(address));
        if !listens && !is_external {
            self.warnings.set(
                WarningTopic::Twin,
                format!(
                    "{address} answers with this node's key: another node runs with it, or the address leads back here"
                ),
            );
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                let (topic, data) = (message.topic.into_string(), message.data);
                let message = GossipMessage { id: message_id, from: propagation_source, topic, data };
                self.handle(NetworkEvent::Gossip(GossipEvent::Received(message)));
            }
            BehaviourEvent::Sync(event) => {
                if let Some(incoming) = self.sync.on_event(event, |peer| subnet_of(&self.state, peer)) {
                    self.serve_sync(incoming);
                }
            }
            BehaviourEvent::Objects(event) => {
                if let Some(incoming) = self.objects.on_event(event, |peer| subnet_of(&self.state, peer)) {
                    self.serve_objects(incoming);
                }
            }
            BehaviourEvent::Artifact(event) => {
                if let Some(incoming) = self.artifact.on_event(event, |peer| subnet_of(&self.state, peer)) {
                    self.serve_artifact(incoming);
                }
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, connection_id, info }) => {
                let outgoing = self.state.is_outgoing(&peer_id, connection_id);
                self.identified(peer_id, &info, outgoing);
                self.handle(NetworkEvent::Identified {
                    peer: peer_id,
                    agent: info.agent_version,
                    speaks_kademlia: info.protocols.contains(&KAD_PROTOCOL),
                    addresses: info.listen_addrs,
                });
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) if is_gone(&result) => {
                tracing::info!(%peer, "the peer does not answer pings; closing the connection");
                // False means that the connection is closed already, as is wanted.
                let _ = self.swarm.close_connection(connection);
            }
            BehaviourEvent::ReachTest(event) => self.tested(event),
            BehaviourEvent::Circuits(event) => self.on_circuit_event(&event),
            BehaviourEvent::Relay(event) => self.on_relay_event(&event),
            BehaviourEvent::Punch(event) => self.on_punched(event),
            BehaviourEvent::Upnp(event) => self.on_mapped(&event),
            BehaviourEvent::Kad(event) => self.on_kad_event(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                self.handle(NetworkEvent::Discovery(DiscoveryEvent::FoundLocally(found)));
            }
            _ => {}
        }
    }

    // --- requests of other peers -----------------------------------------------------------

    fn serve_sync(&mut self, incoming: IncomingRequest<SyncRequest, SyncAnswer>) {
        let Some((peer, request, channel)) = self.well_formed(incoming) else { return };
        if matches!(request, SyncRequest::News) {
            self.handle(NetworkEvent::Catchup(CatchupEvent::PeerHasNews(peer)));
        }
        let (context, upload, subnet) = (self.context.clone(), self.upload.clone(), subnet_of(&self.state, &peer));
        if matches!(request, SyncRequest::Peers) {
            let named = self.state.peers_for(&peer);
            let named = named.iter().map(|(peer, addresses)| NamedPeer::new(*peer, addresses)).collect();
            self.jobs.spawn(async move {
                let answer = SyncAnswer::Peers(named);
                upload.wait(subnet, serve::sync_bytes(&answer)).await?;
                context.send(JobMessage::AnswerSync(channel, answer)).await;
                None
            });
            return;
        }
        self.jobs.spawn(async move {
            let (clock, shards) = (context.clock.clone(), context.shards.clone());
            let answer = answer(&context, peer, move |store| serve::sync(store, &shards, &clock, &request)).await?;
            upload.wait(subnet, serve::sync_bytes(&answer)).await?;
            context.send(JobMessage::AnswerSync(channel, answer)).await;
            None
        });
    }

    fn serve_objects(&mut self, incoming: IncomingRequest<ObjectsRequest, ObjectsAnswer>) {
        let Some((peer, request, channel)) = self.well_formed(incoming) else { return };
        let (context, upload, subnet) = (self.context.clone(), self.upload.clone(), subnet_of(&self.state, &peer));
        self.jobs.spawn(async move {
            let answer = answer(&context, peer, move |store| serve::objects(store, &request)).await?;
            upload.wait(subnet, answer.objects.iter().map(|object| object.len()).sum()).await?;
            context.send(JobMessage::AnswerObjects(channel, answer)).await;
            None
        });
    }

    fn serve_artifact(&mut self, incoming: IncomingRequest<ArtifactRequest, ArtifactAnswer>) {
        let Some((peer, request, channel)) = self.well_formed(incoming) else { return };
        let (context, upload, subnet) = (self.context.clone(), self.upload.clone(), subnet_of(&self.state, &peer));
        self.jobs.spawn(async move {
            let answer = answer(&context, peer, move |store| serve::artifact(store, &request)).await?;
            upload.wait(subnet, serve::artifact_bytes(&answer)).await?;
            context.send(JobMessage::AnswerArtifact(channel, answer)).await;
            None
        });
    }

    /// The request, or none for bytes that are no message, which cost the peer points.
    fn well_formed<Request, Answer>(
        &mut self,
        incoming: IncomingRequest<Request, Answer>,
    ) -> Option<(PeerId, Request, ResponseChannel<Answer>)> {
        match incoming {
            IncomingRequest::Serve { peer, request, channel } => Some((peer, request, channel)),
            IncomingRequest::Bad(peer, reject) => {
                self.handle(NetworkEvent::Peer(PeerEvent::Misbehaved(peer, reject)));
                None
            }
        }
    }
}

/// The prefixes for which a peer's uploads and requests count: those of a public address. Others share theirs with
/// everybody behind a router or a container, or are this machine.
fn subnet_of(state: &NetworkState, peer: &PeerId) -> Option<Subnet> {
    let subnet = counted(&state.connected().get(peer)?.address)?;
    (subnet.reach() == Reach::Public).then_some(subnet)
}

/// Runs a read for a peer's request. None drops the request: the peer asks again, or asks another.
async fn answer<Answer: Send + 'static>(
    context: &JobContext,
    peer: PeerId,
    serve: impl FnOnce(&Store) -> Result<Answer, CompareError> + Send + 'static,
) -> Option<Answer> {
    let store = context.store.clone();
    match tokio::task::spawn_blocking(move || serve(&store)).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(CompareError::Bad(bad))) => {
            context.penalise(peer, Reject::Malformed(bad.to_string())).await;
            None
        }
        Ok(Err(CompareError::Store(error))) => {
            tracing::error!(%error, "cannot read the store for a peer");
            None
        }
        Err(_) => None,
    }
}
