//! The network task: the only holder of the swarm. It waits on one thing at a time, finishes local
//! work before it takes more from the network, and never reads the store or computes: whatever does
//! runs in spawned tasks, which speak to it through [`Work`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use libp2p::{
    Multiaddr, PeerId, Swarm,
    gossipsub::{IdentTopic, MessageAcceptance, PublishError},
    swarm::{ConnectionId, DialError, dial_opts::DialOpts},
};
use spore_base::{fetch::FetchError, peer_id::node_of, random};
use spore_ingest::{IngestHandle, Origin, StoreEvent, Want, missed::Missed};
use spore_protocol::{Cid, Kind, NodeId, ObjectId, Reject, TaskId, topic::Topic, wire::Message};
use spore_storage::Store;
use tokio::{
    sync::{Semaphore, broadcast, mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};

use super::{
    artifacts,
    behaviour::{self, Behaviour},
    bootstrap::Bootstrap,
    catchup::{Plan, Sessions},
    clock::Clock,
    config::{NetworkConfig, NetworkError, check_free},
    exchange::{Exchange, Lost},
    gossip,
    handle::{Command, NetworkHandle, PeerInfo, Snapshot},
    limits,
    messages::{ArtifactAnswer, ObjectsAnswer, SyncAnswer},
    peers::{Consequence, Peers, Penalties},
    serve,
    wants::Wants,
    work::{Context, Verdict, Work, read},
};

/// Starts the network. Must be called within a tokio runtime. The task ends when `shutdown` turns
/// true or its sender is gone.
///
/// # Errors
/// [`NetworkError::AddressInUse`] and others, before anything runs.
pub fn start(
    config: NetworkConfig,
    store: Store,
    ingest: IngestHandle,
    events: broadcast::Receiver<StoreEvent>,
    wants: mpsc::Receiver<Want>,
    shutdown: watch::Receiver<bool>,
) -> Result<(NetworkHandle, JoinHandle<()>), NetworkError> {
    for address in &config.listen {
        check_free(address)?;
    }
    let tasks = serve::known_tasks(&store)?;
    let mut swarm = behaviour::swarm(&config)?;
    for address in &config.listen {
        let failed = |error: &dyn std::fmt::Display| NetworkError::Listen {
            address: address.clone(),
            reason: error.to_string(),
        };
        swarm.listen_on(address.clone()).map_err(|e| failed(&e))?;
    }
    for address in &config.external {
        swarm.add_external_address(address.clone());
    }
    let (handle, commands) = NetworkHandle::channel();
    let (work, finished) = mpsc::channel(limits::WORK);
    let context = Context { store, ingest, work };
    let mut service = Service::new(swarm, context, &config);
    service.follow_global();
    for task in tasks {
        service.follow(task);
    }
    let inputs = Inputs { commands, events, wants, finished, shutdown };
    tracing::info!(peer = %service.swarm.local_peer_id(), "network started");
    Ok((handle, tokio::spawn(service.run(inputs))))
}

/// What the task waits on, besides the swarm.
struct Inputs {
    commands: mpsc::Receiver<Command>,
    events: broadcast::Receiver<StoreEvent>,
    wants: mpsc::Receiver<Want>,
    finished: mpsc::Receiver<Work>,
    shutdown: watch::Receiver<bool>,
}

pub(super) struct Service {
    pub swarm: Swarm<Behaviour>,
    pub context: Context,
    pub sync: Exchange<SyncAnswer>,
    pub objects: Exchange<ObjectsAnswer>,
    pub artifact: Exchange<ArtifactAnswer>,
    pub peers: Peers,
    pub penalties: Penalties,
    pub bootstrap: Bootstrap,
    pub sessions: Sessions,
    /// Callers that wait for a dial. Bounded by the connections that may be pending.
    pub dials: HashMap<ConnectionId, oneshot::Sender<Result<(), String>>>,
    pub validating: Arc<Semaphore>,
    /// Everything spawned; dropping it at shutdown ends it.
    pub spawned: JoinSet<()>,
    followed: BTreeSet<TaskId>,
    rejected: BTreeMap<&'static str, u64>,
    pub wanted: Wants,
    pub wanting: Arc<Semaphore>,
    fetches: HashMap<Cid, Vec<oneshot::Sender<Result<(), FetchError>>>>,
    fetching: Arc<Semaphore>,
    /// Came by gossip and wait for their parents.
    held: HashSet<ObjectId>,
    pub missed: Missed,
    /// Objects that gossip may not have brought to everybody.
    pub news: bool,
    pub published: usize,
    pub clock: Clock,
}

impl Service {
    fn new(swarm: Swarm<Behaviour>, context: Context, config: &NetworkConfig) -> Self {
        let now = Instant::now();
        Self {
            swarm,
            context,
            sync: Exchange::default(),
            objects: Exchange::default(),
            artifact: Exchange::default(),
            peers: Peers::default(),
            penalties: Penalties::new(now),
            bootstrap: Bootstrap::new(&config.bootstrap, now),
            sessions: Sessions::default(),
            dials: HashMap::new(),
            validating: Arc::new(Semaphore::new(limits::VALIDATING)),
            spawned: JoinSet::new(),
            followed: BTreeSet::new(),
            rejected: BTreeMap::new(),
            wanted: Wants::default(),
            wanting: Arc::new(Semaphore::new(limits::WANT_TASKS)),
            fetches: HashMap::new(),
            fetching: Arc::new(Semaphore::new(limits::FETCHING)),
            held: HashSet::new(),
            missed: Missed::default(),
            news: false,
            published: 0,
            clock: Clock::new(now),
        }
    }

    async fn run(mut self, mut inputs: Inputs) {
        let mut ticks = tokio::time::interval(limits::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut wants_open = true;
        loop {
            tokio::select! {
                biased;
                changed = inputs.shutdown.changed() => {
                    if changed.is_err() || *inputs.shutdown.borrow() {
                        break;
                    }
                }
                Some(work) = inputs.finished.recv() => self.on_work(work),
                Some(_) = self.spawned.join_next() => {}
                _ = ticks.tick() => self.on_tick(Instant::now()),
                Some(command) = inputs.commands.recv() => self.on_command(command),
                event = inputs.events.recv() => match event {
                    Ok(event) => self.on_store_event(&event),
                    Err(broadcast::error::RecvError::Lagged(missed)) => self.on_lag(missed),
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                want = inputs.wants.recv(), if wants_open => match want {
                    Some(want) => self.wanted.add(want),
                    None => wants_open = false,
                },
                event = futures::StreamExt::select_next_some(&mut self.swarm) => self.on_swarm_event(event),
            }
        }
        self.spawned.shutdown().await;
        tracing::info!("network stopped");
    }

    // --- tasks -----------------------------------------------------------------------------

    fn follow_global(&mut self) {
        self.subscribe(Topic::Tasks);
        self.subscribe(Topic::Profiles);
    }

    /// Subscribes to a task's topics; true when it was not followed before.
    pub fn follow(&mut self, task: TaskId) -> bool {
        if self.followed.contains(&task) {
            return false;
        }
        if self.followed.len() >= limits::MAX_TASKS {
            tracing::warn!(%task, limit = limits::MAX_TASKS, "too many tasks to follow: this one comes by catch-up alone");
            return false;
        }
        self.followed.insert(task);
        for topic in Topic::of_task(task) {
            self.subscribe(topic);
        }
        true
    }

    fn subscribe(&mut self, topic: Topic) {
        let topic = IdentTopic::new(topic.to_string());
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if let Err(error) = gossip.subscribe(&topic) {
            tracing::warn!(%topic, %error, "cannot subscribe");
        }
        if let Err(error) = gossip.set_topic_params(topic, behaviour::topic_score()) {
            tracing::warn!(%error, "cannot set a topic's score parameters");
        }
    }

    /// Follows a task and asks some peers for what they have of it: what they published before they
    /// knew of our subscription did not come by gossip.
    fn discover(&mut self, task: TaskId) {
        if self.follow(task) {
            tracing::info!(%task, "following a task");
            for peer in self.peers.shuffled(random::number).into_iter().take(limits::WANT_PEERS) {
                self.sessions.want_and_settle(peer, Plan::Tasks([task].into()), Instant::now());
            }
        }
    }

    // --- what the store says ---------------------------------------------------------------

    fn on_store_event(&mut self, event: &StoreEvent) {
        let task = event.change.task_id.or((event.change.kind == Kind::Task).then(|| event.change.id.into()));
        if let Some(task) = task {
            self.discover(task);
        }
        match event.origin {
            Origin::Local | Origin::Import | Origin::Bridge(_) => self.publish(event),
            // Passed on by gossip itself, unless it had to wait here.
            Origin::Gossip(_) => self.news |= self.held.remove(&event.change.id),
            Origin::Sync(_) => self.news = true,
        }
    }

    /// Events were missed: nothing is lost, for peers are told to catch up with us.
    fn on_lag(&mut self, missed: u64) {
        tracing::warn!(missed, "the network fell behind the store; peers catch up instead");
        self.news = true;
        let store = self.context.store.clone();
        let context = self.context.clone();
        self.spawned.spawn(async move {
            if let Some(tasks) = read(move || serve::known_tasks(&store)).await {
                context.tell(Work::Known(tasks)).await;
            }
        });
    }

    fn publish(&mut self, event: &StoreEvent) {
        if self.published >= limits::PUBLISH_BURST {
            self.news = true;
            return;
        }
        self.published += 1;
        let topics = gossip::topics(&event.object, event.change.task_id);
        let Ok(bytes) = Message::of(event.object.clone()).encode() else { return };
        for (at, topic) in topics.into_iter().enumerate() {
            let result = self.swarm.behaviour_mut().gossip.publish(IdentTopic::new(topic.to_string()), bytes.clone());
            match result {
                Ok(_) => {}
                // A manifest goes to two topics under one message id: the second is a duplicate by design.
                Err(PublishError::Duplicate) if at > 0 => {}
                Err(error) => {
                    tracing::debug!(%topic, %error, "not published; peers catch up instead");
                    self.news = true;
                }
            }
        }
    }

    // --- orders ----------------------------------------------------------------------------

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial(address, reply) => self.dial(address, reply),
            Command::Disconnect(peer) => {
                // Or discovery would soon dial it again.
                self.swarm.behaviour_mut().kad.remove_peer(&peer);
                // Not connected is what was asked for.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::Snapshot(reply) => {
                let _ = reply.send(self.snapshot());
            }
            Command::Follow(task) => self.discover(task),
            Command::FetchArtifact { cid, hint, limit, reply } => self.fetch_artifact(cid, hint, limit, reply),
        }
    }

    fn dial(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<(), String>>) {
        let options = DialOpts::from(address);
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(connection, reply);
            }
            // The address names a peer that is connected already.
            Err(DialError::DialPeerConditionFalse(_)) => drop(reply.send(Ok(()))),
            Err(error) => drop(reply.send(Err(error.to_string()))),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let gossip = &self.swarm.behaviour().gossip;
        let peers = self.peers.iter().map(|(id, peer)| PeerInfo {
            peer_id: *id,
            node_id: node_of(id),
            address: peer.address.clone(),
            agent: peer.agent.clone(),
            connected: peer.since.elapsed(),
            score: gossip.peer_score(id).unwrap_or_default(),
        });
        Snapshot {
            peers: peers.collect(),
            listen_addresses: self.swarm.listeners().cloned().collect(),
            external_addresses: self.swarm.external_addresses().cloned().collect(),
            rejected: self.rejected.clone(),
            tasks_followed: self.followed.len(),
        }
    }

    fn fetch_artifact(
        &mut self,
        cid: Cid,
        hint: Option<NodeId>,
        limit: u64,
        reply: oneshot::Sender<Result<(), FetchError>>,
    ) {
        if let Some(waiting) = self.fetches.get_mut(&cid) {
            // Callers wait for the answer, so they are as many as the node's own tasks.
            waiting.push(reply);
            return;
        }
        if self.fetches.len() >= limits::FETCHES {
            let _ = reply.send(Err(FetchError::Busy(cid)));
            return;
        }
        self.fetches.insert(cid, vec![reply]);
        let mut peers = self.peers.shuffled(random::number);
        peers.sort_by_key(|peer| hint.is_none() || node_of(peer) != hint);
        peers.truncate(limits::FETCH_PEERS);
        let (context, room) = (self.context.clone(), Arc::clone(&self.fetching));
        self.spawned.spawn(async move {
            // Never closed, so this waits for its turn.
            let _turn = room.acquire_owned().await;
            let store = context.store.clone();
            let had = read(move || store.artifact_size(&cid)).await.flatten();
            let result = if had.is_some() { Ok(()) } else { artifacts::fetch(&context, cid, limit, peers).await };
            context.tell(Work::ArtifactOver(cid, result)).await;
        });
    }

    // --- spawned work ----------------------------------------------------------------------

    fn on_work(&mut self, work: Work) {
        let behaviour = self.swarm.behaviour_mut();
        match work {
            // libp2p would dial it, and undo a disconnection that somebody wanted.
            Work::AskSync(peer, _, reply) if !self.peers.contains(&peer) => drop(reply.send(Err(Lost))),
            Work::AskObjects(peer, _, reply) if !self.peers.contains(&peer) => drop(reply.send(Err(Lost))),
            Work::AskArtifact(peer, _, reply) if !self.peers.contains(&peer) => drop(reply.send(Err(Lost))),
            Work::AskSync(peer, request, reply) => self.sync.asked(behaviour.sync.send_request(&peer, request), reply),
            Work::AskObjects(peer, request, reply) => {
                self.objects.asked(behaviour.objects.send_request(&peer, request), reply)
            }
            Work::AskArtifact(peer, request, reply) => {
                self.artifact.asked(behaviour.artifact.send_request(&peer, request), reply);
            }
            // An answer that cannot be sent any more comes back; the peer asks again if it still cares.
            Work::AnswerSync(channel, answer) => drop(behaviour.sync.send_response(channel, answer)),
            Work::AnswerObjects(channel, answer) => drop(behaviour.objects.send_response(channel, answer)),
            Work::AnswerArtifact(channel, answer) => drop(behaviour.artifact.send_response(channel, answer)),
            Work::Verdict { message, from, verdict } => {
                let acceptance = match &verdict {
                    Verdict::Accept => MessageAcceptance::Accept,
                    // An honest peer with another clock may pass on what is too early for us.
                    Verdict::Reject(reject) if reject.penalty() > 1 => MessageAcceptance::Reject,
                    Verdict::Ignore | Verdict::Held(_) | Verdict::Reject(_) => MessageAcceptance::Ignore,
                };
                let in_time = behaviour.gossip.report_message_validation_result(&message, &from, acceptance);
                match verdict {
                    // Judged so late that gossip has forgotten it.
                    Verdict::Accept => self.news |= !in_time,
                    Verdict::Ignore => {}
                    Verdict::Held(id) if self.held.len() < limits::HELD => drop(self.held.insert(id)),
                    Verdict::Held(_) => self.news = true,
                    Verdict::Reject(reject) => self.penalise(from, &reject),
                }
            }
            Work::Penalise(peer, reject) => self.penalise(peer, &reject),
            Work::Want(want) => self.wanted.add(want),
            Work::SessionOver(peer) => self.sessions.over(peer, Instant::now()),
            Work::Known(tasks) => tasks.into_iter().for_each(|task| self.discover(task)),
            Work::ArtifactOver(cid, result) => {
                for reply in self.fetches.remove(&cid).into_iter().flatten() {
                    let _ = reply.send(result.clone());
                }
            }
        }
    }

    /// Counts a refusal and takes points from the peer that caused it.
    pub fn penalise(&mut self, peer: PeerId, reject: &Reject) {
        *self.rejected.entry(reject.code()).or_default() += 1;
        tracing::warn!(%peer, reason = reject.code(), %reject, "refused");
        match self.penalties.add(peer, reject.penalty(), Instant::now()) {
            Consequence::Points(points) => self.set_score(peer, points),
            Consequence::Refuse { instead_of } => {
                tracing::warn!(%peer, minutes = limits::REFUSED_FOR.as_secs() / 60, "too many penalty points: disconnected and refused");
                let refused = &mut self.swarm.behaviour_mut().refused;
                refused.block_peer(peer);
                if let Some(other) = instead_of {
                    refused.unblock_peer(other);
                }
            }
        }
    }

    pub fn set_score(&mut self, peer: PeerId, points: u32) {
        self.swarm.behaviour_mut().gossip.set_application_score(&peer, -f64::from(points));
    }
}
