//! Carrying out the effects of the machines: by a call to the swarm, or by a job.

use std::{collections::BTreeSet, time::Instant};

use libp2p::{
    Multiaddr, PeerId,
    gossipsub::{IdentTopic, MessageAcceptance, MessageId, PublishError},
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use spore_base::fetch::FetchError;
use spore_ingest::{Want, confirmed_signers};
use spore_protocol::{Cid, Kind, NodeId, topic::Topic};
use tokio::sync::oneshot;

use super::{DialPurpose, NetworkService};
use crate::{
    behaviour,
    jobs::{artifact, judge, read, serve, session, wanted},
    limits,
    messages::SyncRequest,
    state::{
        Acceptance, CatchupEvent, ClockEvent, DiscoveryEvent, FetchEvent, GossipEvent, GossipMessage, NetworkEffect,
        NetworkEvent,
    },
};

impl NetworkService {
    pub(super) fn apply(&mut self, effect: NetworkEffect) {
        match effect {
            NetworkEffect::DialNamed(address) => self.dial_named(address),
            NetworkEffect::Dial { peer, addresses } => self.dial_peer(peer, addresses),
            NetworkEffect::Ban(peer) => {
                self.swarm.behaviour_mut().banned.block_peer(peer);
            }
            NetworkEffect::Unban(peer) => {
                self.swarm.behaviour_mut().banned.unblock_peer(peer);
            }
            NetworkEffect::BanNet(net) => self.swarm.behaviour_mut().slots.ban(net),
            NetworkEffect::UnbanNet(net) => self.swarm.behaviour_mut().slots.unban(net),
            NetworkEffect::Points(peer, points) => {
                self.swarm.behaviour_mut().gossip.set_application_score(&peer, -f64::from(points));
            }
            NetworkEffect::LookForUseful(brought) => self.look_for_useful(brought),
            NetworkEffect::Useful(peer, signer) => self.swarm.behaviour_mut().slots.was_useful(peer, signer),
            NetworkEffect::AddAddress(peer, address) => {
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
            NetworkEffect::ForgetPeer(peer) => {
                self.swarm.behaviour_mut().kad.remove_peer(&peer);
            }
            NetworkEffect::AskForPeers(peer) => self.ask_for_peers(peer),
            NetworkEffect::CloseLink(connection) => {
                // False means that the connection is closed already, as is wanted.
                let _ = self.swarm.close_connection(connection);
            }
            NetworkEffect::Policy(policy) => self.guard.set(policy),
            NetworkEffect::Reachability(effect) => self.reach(effect),
            NetworkEffect::Search => self.search(),
            NetworkEffect::Subscribe(topic) => self.subscribe(topic),
            NetworkEffect::Unsubscribe(topic) => {
                let topic = IdentTopic::new(topic.to_string());
                // False means that the topic was not followed, as is wanted.
                let _ = self.swarm.behaviour_mut().gossip.unsubscribe(&topic);
            }
            NetworkEffect::Judge(message) => self.judge(message),
            NetworkEffect::Report { message, from, acceptance } => self.report(&message, &from, acceptance),
            NetworkEffect::Publish { topics, bytes } => self.publish(topics, &bytes),
            NetworkEffect::ListTasks => self.list_tasks(),
            NetworkEffect::StartSession(peer, plan) => {
                let ended = NetworkEvent::Catchup(CatchupEvent::SessionEnded(peer));
                let context = self.context.clone();
                self.spawn_ending(ended, async move { session::run(&context, peer, plan).await });
            }
            NetworkEffect::AnnounceNews(peers) => self.announce_news(peers),
            NetworkEffect::FetchObjects { kind, ids, peers } => {
                let context = self.context.clone();
                let ended = NetworkEvent::Fetch(FetchEvent::ObjectsEnded);
                self.spawn_ending(ended, async move { wanted::fetch(&context, kind, ids, peers).await });
            }
            NetworkEffect::LookForMissing => self.look_for_missing(),
            NetworkEffect::FetchArtifact { cid, limit, peers } => self.fetch_artifact(cid, limit, peers),
            NetworkEffect::Answer(caller, result) => self.callers.answer(caller, result),
            NetworkEffect::AskTime(peer) => self.ask_time(peer),
            NetworkEffect::ClockCompared(offset) => self.context.ingest.compare_clock(offset),
        }
    }

    /// Starts a job whose end alone is reported.
    fn spawn_ending(&mut self, ended: NetworkEvent, job: impl Future<Output = ()> + Send + 'static) {
        let failed = ended.clone();
        self.spawn(failed, async move {
            job.await;
            ended
        });
    }

    // --- peers -----------------------------------------------------------------------------

    fn ask_time(&mut self, peer: PeerId) {
        let context = self.context.clone();
        let failed = NetworkEvent::Clock(ClockEvent::Told { peer, seconds: None, at: Instant::now() });
        self.spawn(failed, async move { context.ask_time(peer).await });
    }

    fn ask_for_peers(&mut self, peer: PeerId) {
        let context = self.context.clone();
        let failed = NetworkEvent::Discovery(DiscoveryEvent::Told { by: peer, peers: Vec::new() });
        self.spawn(failed, async move { context.ask_peers(peer).await });
    }

    fn dial_named(&mut self, address: Multiaddr) {
        let options = DialOpts::from(address.clone());
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(connection, DialPurpose::Named(address));
            }
            Err(error) => {
                tracing::debug!(%address, %error, "cannot dial a named peer");
                self.handle(NetworkEvent::Discovery(DiscoveryEvent::DialFailed(address)));
            }
        }
    }

    fn dial_peer(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let options =
            DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing).addresses(addresses).build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(%peer, %error, "cannot dial a peer");
        }
    }

    fn look_for_useful(&mut self, brought: Vec<(PeerId, NodeId)>) {
        let store = self.context.store.clone();
        self.jobs.spawn(async move {
            let signers: BTreeSet<_> = brought.iter().map(|(_, signer)| *signer).collect();
            let confirmed = read(move || confirmed_signers(&store, signers.into_iter().collect())).await?;
            let of_use = |(_, signer): &(PeerId, NodeId)| confirmed.get(signer).is_some_and(|rank| rank.confirmed);
            Some(NetworkEvent::Useful(brought.into_iter().filter(of_use).collect()))
        });
    }

    fn search(&mut self) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        // The search fails only when Kademlia knows no peer to ask.
        let _ = kad.bootstrap();
        let mut known = Vec::new();
        for bucket in kad.kbuckets() {
            for entry in bucket.iter() {
                known.push((*entry.node.key.preimage(), entry.node.value.iter().cloned().collect()));
            }
        }
        self.handle(NetworkEvent::Discovery(DiscoveryEvent::Known(known)));
    }

    // --- gossip ----------------------------------------------------------------------------

    fn subscribe(&mut self, topic: Topic) {
        let topic = IdentTopic::new(topic.to_string());
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if let Err(error) = gossip.subscribe(&topic) {
            tracing::warn!(%topic, %error, "cannot subscribe to a topic");
        }
        if let Err(error) = gossip.set_topic_params(topic, behaviour::topic_score()) {
            tracing::warn!(%error, "cannot set the score parameters of a topic");
        }
    }

    fn judge(&mut self, message: GossipMessage) {
        let (id, from, context) = (message.id.clone(), message.from, self.context.clone());
        let judged = move |acceptance| NetworkEvent::Gossip(GossipEvent::Judged { message: id, from, acceptance });
        let failed = judged.clone()(Acceptance::Ignore);
        self.spawn(failed, async move { judged(judge::judge(&context, &message).await) });
    }

    fn report(&mut self, message: &MessageId, from: &PeerId, acceptance: MessageAcceptance) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let in_time = gossip.report_message_validation_result(message, from, acceptance);
        if acceptance == MessageAcceptance::Accept && !in_time {
            self.handle(NetworkEvent::Gossip(GossipEvent::AcceptedTooLate));
        }
    }

    fn publish(&mut self, topics: Vec<Topic>, bytes: &[u8]) {
        for (at, topic) in topics.into_iter().enumerate() {
            let result = self.swarm.behaviour_mut().gossip.publish(IdentTopic::new(topic.to_string()), bytes);
            match result {
                Ok(_) => {}
                // A manifest goes to two topics under one message id, so the second one is always a duplicate.
                Err(PublishError::Duplicate) if at > 0 => {}
                Err(error) => {
                    tracing::debug!(%topic, %error, "cannot publish an object; peers catch up instead");
                    self.handle(NetworkEvent::Gossip(GossipEvent::NotPublished));
                }
            }
        }
    }

    fn list_tasks(&mut self) {
        let store = self.context.store.clone();
        self.jobs.spawn(async move {
            let tasks = read(move || serve::tasks_to_follow(&store)).await?;
            Some(NetworkEvent::Gossip(GossipEvent::TasksKnown(tasks)))
        });
    }

    // --- catch-up and fetches --------------------------------------------------------------

    fn announce_news(&mut self, peers: Vec<PeerId>) {
        for peer in peers {
            // Nobody waits for the answer.
            let (sender, _) = oneshot::channel();
            let request = self.swarm.behaviour_mut().sync.send_request(&peer, Ok(SyncRequest::News));
            self.sync.asked(request, sender);
        }
    }

    fn fetch_artifact(&mut self, cid: Cid, limit: u64, peers: Vec<PeerId>) {
        let context = self.context.clone();
        let ended = move |result| NetworkEvent::Fetch(FetchEvent::ArtifactEnded(cid, result));
        let failed = ended(Err(FetchError::NotFound(cid)));
        self.spawn(failed, async move { ended(artifact::fetch(&context, cid, limit, peers).await) });
    }

    fn look_for_missing(&mut self) {
        let (context, store, missed) = (self.context.clone(), self.context.store.clone(), self.missed.clone());
        self.jobs.spawn(async move {
            for id in read(move || missed.next(&store, limits::MISSING)).await? {
                context.want(Want { kind: Kind::Experiment, id: id.into(), from: None }).await;
            }
            None
        });
    }
}
