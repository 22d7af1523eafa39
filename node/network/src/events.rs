//! What the swarm reports, and what the network task makes of it.

use std::{sync::Arc, time::Instant};

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    gossipsub, identify, mdns,
    multiaddr::Protocol,
    ping,
    swarm::{
        ConnectionId, DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use spore_base::random;

use super::{
    behaviour::BehaviourEvent,
    catchup::Plan,
    exchange::Incoming,
    gossip,
    items::CompareError,
    limits,
    messages::{ArtifactAnswer, ArtifactRequest, KAD_PROTOCOL, ObjectsAnswer, ObjectsRequest, SyncAnswer, SyncRequest},
    serve,
    service::Service,
    work::{Context, Work},
};

impl Service {
    pub fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                let cause = cause.map(|cause| cause.to_string());
                tracing::info!(peer = %peer_id, cause, "disconnected");
                self.peers.disconnected(&peer_id);
                self.sessions.gone(peer_id);
                self.bootstrap.disconnected(peer_id, Instant::now(), random::number());
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_failed(connection_id, &error)
            }
            SwarmEvent::NewListenAddr { address, .. } => tracing::info!(%address, "listening"),
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!(?addresses, %error, "a listener closed");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener reported an error"),
            _ => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        self.bootstrap.connected(connection, peer, Instant::now());
        if let Some(reply) = self.dials.remove(&connection) {
            let _ = reply.send(Ok(()));
        }
        let address = endpoint.get_remote_address().clone();
        tracing::debug!(%peer, %address, "connection");
        if self.peers.connected(peer, address, Instant::now()) {
            tracing::info!(%peer, "connected");
            self.set_score(peer, self.penalties.points(&peer));
            self.sessions.want_and_settle(peer, Plan::Everything, Instant::now());
            self.look_for_missing();
        }
    }

    fn on_dial_failed(&mut self, connection: ConnectionId, error: &DialError) {
        if self.bootstrap.failed(connection, Instant::now(), random::number()) {
            tracing::warn!(%error, "a named peer does not answer; trying again");
        } else {
            tracing::debug!(%error, "a dial failed");
        }
        if let Some(reply) = self.dials.remove(&connection) {
            let _ = reply.send(Err(error.to_string()));
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_gossip(propagation_source, message_id, message);
            }
            BehaviourEvent::Sync(event) => {
                if let Some(incoming) = self.sync.on_event(event) {
                    self.serve_sync(incoming);
                }
            }
            BehaviourEvent::Objects(event) => {
                if let Some(incoming) = self.objects.on_event(event) {
                    self.serve_objects(incoming);
                }
            }
            BehaviourEvent::Artifact(event) => {
                if let Some(incoming) = self.artifact.on_event(event) {
                    self.serve_artifact(incoming);
                }
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, &info)
            }
            BehaviourEvent::Ping(event) => self.on_ping(&event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.dial_peer(peer, vec![address]);
                }
            }
            _ => {}
        }
    }

    fn on_ping(&mut self, event: &ping::Event) {
        let answered = !matches!(event.result, Err(ping::Failure::Timeout));
        if self.peers.pinged(&event.peer, answered) {
            tracing::info!(peer = %event.peer, "no answer to pings: disconnecting");
            // Not connected any more is what was wanted.
            let _ = self.swarm.disconnect_peer_id(event.peer);
        }
    }

    fn on_gossip(&mut self, from: PeerId, id: gossipsub::MessageId, message: gossipsub::Message) {
        let Ok(turn) = Arc::clone(&self.validating).try_acquire_owned() else {
            tracing::debug!(%from, "too many messages to judge: ignored, catch-up brings it");
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            gossip.report_message_validation_result(&id, &from, gossipsub::MessageAcceptance::Ignore);
            return;
        };
        let context = self.context.clone();
        self.spawned.spawn(async move {
            let verdict = gossip::judge(&context, from, message.topic.as_str(), &message.data).await;
            context.tell(Work::Verdict { message: id, from, verdict }).await;
            drop(turn);
        });
    }

    // --- requests of others ----------------------------------------------------------------

    fn serve_sync(&mut self, incoming: Incoming<SyncRequest, SyncAnswer>) {
        let Some((peer, request, channel)) = self.sort_out(incoming) else { return };
        if matches!(request, SyncRequest::News) {
            self.sessions.want(peer, Plan::Everything);
        }
        let context = self.context.clone();
        self.spawned.spawn(async move {
            if let Some(answer) = answer(&context, peer, move |store| serve::sync(store, &request)).await {
                context.tell(Work::AnswerSync(channel, answer)).await;
            }
        });
    }

    fn serve_objects(&mut self, incoming: Incoming<ObjectsRequest, ObjectsAnswer>) {
        let Some((peer, request, channel)) = self.sort_out(incoming) else { return };
        let context = self.context.clone();
        self.spawned.spawn(async move {
            if let Some(answer) = answer(&context, peer, move |store| serve::objects(store, &request)).await {
                context.tell(Work::AnswerObjects(channel, answer)).await;
            }
        });
    }

    fn serve_artifact(&mut self, incoming: Incoming<ArtifactRequest, ArtifactAnswer>) {
        let Some((peer, request, channel)) = self.sort_out(incoming) else { return };
        let context = self.context.clone();
        self.spawned.spawn(async move {
            if let Some(answer) = answer(&context, peer, move |store| serve::artifact(store, &request)).await {
                context.tell(Work::AnswerArtifact(channel, answer)).await;
            }
        });
    }

    fn sort_out<Request, Answer>(
        &mut self,
        incoming: Incoming<Request, Answer>,
    ) -> Option<(PeerId, Request, libp2p::request_response::ResponseChannel<Answer>)> {
        match incoming {
            Incoming::Serve { peer, request, channel } => Some((peer, request, channel)),
            Incoming::Bad(peer, reject) => {
                self.penalise(peer, &reject);
                None
            }
        }
    }

    // --- discovery -------------------------------------------------------------------------

    fn on_identified(&mut self, peer: PeerId, info: &identify::Info) {
        self.peers.identified(&peer, &info.agent_version);
        if !info.protocols.contains(&KAD_PROTOCOL) {
            return;
        }
        let local = self.peers.iter().any(|(id, one)| *id == peer && is_loopback(&one.address));
        let reachable = |address: &&Multiaddr| local || !is_loopback(address);
        let addresses: Vec<_> =
            info.listen_addrs.iter().filter(reachable).take(limits::ADDRESSES_PER_PEER).cloned().collect();
        for address in addresses {
            self.swarm.behaviour_mut().kad.add_address(&peer, address);
        }
    }

    /// Dials some of the peers that Kademlia knows, when there are too few, and has it look for more.
    pub fn dial_discovered(&mut self) {
        // It fails only where nobody is known who could be asked.
        let _ = self.swarm.behaviour_mut().kad.bootstrap();
        let mut known: Vec<(u64, PeerId, Vec<Multiaddr>)> = Vec::new();
        for bucket in self.swarm.behaviour_mut().kad.kbuckets() {
            for entry in bucket.iter() {
                let peer = *entry.node.key.preimage();
                if !self.peers.contains(&peer) {
                    known.push((random::number(), peer, entry.node.value.iter().cloned().collect()));
                }
            }
        }
        known.sort_unstable_by_key(|(key, _, _)| *key);
        for (_, peer, addresses) in known.into_iter().take(limits::DISCOVERY_DIALS) {
            self.dial_peer(peer, addresses);
        }
    }

    fn dial_peer(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let options =
            DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing).addresses(addresses).build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(%peer, %error, "not dialled");
        }
    }
}

fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback() || ip.is_unspecified(),
        _ => false,
    }
}

/// Runs a read for a peer's request. None drops the request: the peer asks again, or another.
async fn answer<Answer: Send + 'static>(
    context: &Context,
    peer: PeerId,
    serve: impl FnOnce(&spore_storage::Store) -> Result<Answer, CompareError> + Send + 'static,
) -> Option<Answer> {
    let store = context.store.clone();
    match tokio::task::spawn_blocking(move || serve(&store)).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(CompareError::Bad(bad))) => {
            context.penalise(peer, spore_protocol::Reject::Malformed(bad.to_string())).await;
            None
        }
        Ok(Err(CompareError::Store(error))) => {
            tracing::error!(%error, "cannot read the store for a peer");
            None
        }
        Err(_) => None,
    }
}
