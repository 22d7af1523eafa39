//! The network task: the only holder of the swarm.
//!
//! It decides nothing. It turns what the swarm, the store, commands and jobs report into events of the machines
//! ([`crate::state`]), and carries out their effects with the swarm or by a job ([`crate::jobs`]). It waits for one
//! thing at a time and finishes local work before it takes more from the network. It never reads the store and never
//! computes: jobs do.
//!
//! | file | holds |
//! |---|---|
//! | `events` | events of the swarm, and requests of other peers |
//! | `effects` | carrying out the effects of the machines |
//! | `reach` | the same for reachability: tests, relays, hole punching |

mod dial_error;
mod effects;
mod events;
mod reach;

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    time::Instant,
};

use futures::{FutureExt, StreamExt};
use libp2p::{
    Multiaddr, Swarm,
    swarm::{ConnectionId, DialError, dial_opts::DialOpts},
};
use spore_base::{fetch::FetchError, peer_id::node_of, private_file, random, warnings::Warnings};
use spore_ingest::{IngestHandle, StoreEvent, Want, missing_parents::MissingParents};
use spore_storage::Store;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};

use self::reach::Reach;
use super::{
    addresses::{AddressPolicy, is_circuit},
    behaviour::{self, Behaviour, SharedRelayUse},
    config::{NetworkConfig, NetworkError, check_free},
    exchange::{Exchange, NoAnswer},
    guard::AddressGuard,
    handle::{NetworkCommand, NetworkHandle, PeerInfo, Snapshot},
    interfaces,
    jobs::{Fruitless, JobContext, JobMessage, TaskShards, serve},
    limits,
    messages::{ArtifactAnswer, ObjectsAnswer, SyncAnswer},
    state::{
        CallerId, ClockEvent, FetchEvent, GossipEvent, KnownTask, NetworkEffect, NetworkEvent, NetworkState,
        RememberedPeers, StateConfig,
    },
    transport::Transport,
    upload::Upload,
};

/// Starts the network over TCP and QUIC. Must be called within a tokio runtime. The task ends when `shutdown` turns
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
    start_over(Transport::Sockets, config, store, ingest, events, wants, shutdown)
}

/// As [`start`], over a transport of the caller's choice.
pub fn start_over(
    transport: Transport,
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
    let tasks = serve::tasks_to_follow(&store)?;
    let guard = AddressGuard::new(AddressPolicy::new(&config.bootstrap));
    let relay_use = SharedRelayUse::default();
    let mut swarm = behaviour::swarm(&config, transport, &guard, &relay_use)?;
    listen(&mut swarm, &config)?;
    let (handle, commands) = NetworkHandle::channel();
    let (messages, from_jobs) = mpsc::channel(limits::JOB_MESSAGES);
    let random = random::seeded(random::number());
    let (state, first) = NetworkState::start(state_config(&config, tasks), random, Instant::now());
    let mut service = NetworkService {
        swarm,
        upload: Upload::default(),
        state,
        context: JobContext {
            store,
            shards: TaskShards::default(),
            fruitless: Fruitless::default(),
            ingest,
            clock: config.clock.clone(),
            messages,
        },
        sync: Exchange::default(),
        objects: Exchange::default(),
        artifact: Exchange::default(),
        dials: HashMap::new(),
        callers: Callers::default(),
        jobs: JoinSet::new(),
        missed: MissingParents::default(),
        warnings: config.warnings,
        guard,
        relay_use,
        reach: Reach::default(),
        remembered: config.remembered,
        looked: Instant::now(),
        saved: Instant::now(),
    };
    service.carry_out(first);
    service.handle(NetworkEvent::OwnNetworks(interfaces::networks(&config.listen)));
    let inputs = ServiceInputs { commands, events, wants, from_jobs, shutdown };
    tracing::info!(peer = %service.swarm.local_peer_id(), "network started");
    Ok((handle, tokio::spawn(service.run(inputs))))
}

/// Listens where the configuration says, and tells others the addresses that the operator named.
fn listen(swarm: &mut Swarm<Behaviour>, config: &NetworkConfig) -> Result<(), NetworkError> {
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
    Ok(())
}

/// What the task waits for, besides the swarm.
struct ServiceInputs {
    commands: mpsc::Receiver<NetworkCommand>,
    events: broadcast::Receiver<StoreEvent>,
    wants: mpsc::Receiver<Want>,
    from_jobs: mpsc::Receiver<JobMessage>,
    shutdown: watch::Receiver<bool>,
}

struct NetworkService {
    swarm: Swarm<Behaviour>,
    upload: Upload,
    state: NetworkState,
    context: JobContext,
    sync: Exchange<SyncAnswer>,
    objects: Exchange<ObjectsAnswer>,
    artifact: Exchange<ArtifactAnswer>,
    /// What each dial under way is for. Bounded by the connections that may be pending.
    dials: HashMap<ConnectionId, DialPurpose>,
    callers: Callers,
    /// Jobs under way, each of which ends with an event or without one. Dropping the set at shutdown ends them.
    jobs: JoinSet<Option<NetworkEvent>>,
    missed: MissingParents,
    warnings: Warnings,
    guard: AddressGuard,
    relay_use: SharedRelayUse,
    reach: Reach,
    /// The file of remembered peers.
    remembered: Option<PathBuf>,
    /// When the own interfaces were last looked at, and the remembered peers last saved.
    looked: Instant,
    saved: Instant,
}

fn state_config(config: &NetworkConfig, tasks: Vec<KnownTask>) -> StateConfig {
    let clock = (config.clock)();
    StateConfig {
        named: config.bootstrap.clone(),
        tasks,
        remembered: remembered(config.remembered.as_deref(), clock),
        reachability: config.reachability,
        relay: config.relay && !config.listen.is_empty(),
        clock,
    }
}

/// The peers of earlier runs. A file that cannot be read is none, with a warning.
fn remembered(file: Option<&Path>, now: u64) -> RememberedPeers {
    let text = file.map(private_file::read_text).transpose().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the peers of earlier runs");
        None
    });
    RememberedPeers::from_text(&text.flatten().unwrap_or_default(), now)
}

/// Saves the remembered peers. A failure is logged: they are saved again with the next change.
fn save_remembered(file: &Path, text: &str) {
    if let Err(error) = private_file::write_private(file, text.as_bytes()) {
        tracing::warn!(%error, "cannot save the peers for later runs");
    }
}

/// What a dial is for.
enum DialPurpose {
    /// To stay connected with a peer at an address that the operator named.
    Named(Multiaddr),
    /// A command, whose caller waits.
    Command(oneshot::Sender<Result<(), String>>),
}

/// The callers that wait for artifacts. They are as many as the node's own tasks.
#[derive(Default)]
struct Callers {
    waiting: HashMap<CallerId, oneshot::Sender<Result<(), FetchError>>>,
    next: u64,
}

impl Callers {
    fn add(&mut self, reply: oneshot::Sender<Result<(), FetchError>>) -> CallerId {
        let caller = CallerId(self.next);
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(caller, reply);
        caller
    }

    fn answer(&mut self, caller: CallerId, result: Result<(), FetchError>) {
        if let Some(reply) = self.waiting.remove(&caller) {
            // The caller may have given up.
            let _ = reply.send(result);
        }
    }
}

impl NetworkService {
    async fn run(mut self, mut inputs: ServiceInputs) {
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
                Some(message) = inputs.from_jobs.recv() => self.on_job_message(message),
                Some(ended) = self.jobs.join_next() => {
                    match ended {
                        Ok(Some(event)) => self.handle(event),
                        Ok(None) => {}
                        Err(error) => tracing::error!(%error, "a job of the network failed"),
                    }
                }
                _ = ticks.tick() => {
                    self.handle(NetworkEvent::Tick);
                    let own = (self.context.clock)();
                    self.handle(NetworkEvent::Clock(ClockEvent::Tick { own }));
                    self.look_after();
                }
                Some(command) = inputs.commands.recv() => self.on_command(command),
                event = inputs.events.recv() => match event {
                    Ok(event) => self.handle(NetworkEvent::Gossip(GossipEvent::Stored(Box::new(event)))),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        self.handle(NetworkEvent::Gossip(GossipEvent::StoreEventsMissed(missed)));
                    }
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                want = inputs.wants.recv(), if wants_open => match want {
                    Some(want) => self.handle(NetworkEvent::Fetch(FetchEvent::Want(want))),
                    None => wants_open = false,
                },
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
            }
        }
        self.jobs.shutdown().await;
        if let (Some(file), Some(text)) = (&self.remembered, self.state.unsaved_peers()) {
            save_remembered(file, &text);
        }
        tracing::info!("network stopped");
    }

    /// What is done from time to time.
    fn look_after(&mut self) {
        self.provide();
        if self.looked.elapsed() >= limits::OWN_NETWORKS_INTERVAL {
            self.looked = Instant::now();
            self.look_at_interfaces();
            let listening: Vec<_> = self.swarm.listeners().cloned().collect();
            self.jobs.spawn(async move {
                let networks = tokio::task::spawn_blocking(move || interfaces::networks(&listening)).await.ok()?;
                Some(NetworkEvent::OwnNetworks(networks))
            });
        }
        if self.saved.elapsed() >= limits::REMEMBER_INTERVAL {
            self.saved = Instant::now();
            if let (Some(file), Some(text)) = (self.remembered.clone(), self.state.unsaved_peers()) {
                self.jobs.spawn(async move {
                    // An error means that the node stops, which saves them too.
                    let _ = tokio::task::spawn_blocking(move || save_remembered(&file, &text)).await;
                    None
                });
            }
        }
    }

    /// Hands an event to the machines and carries out what follows.
    fn handle(&mut self, event: NetworkEvent) {
        let effects = self.state.handle(event, Instant::now());
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<NetworkEffect>) {
        for effect in effects {
            self.apply(effect);
        }
    }

    /// Starts a job that ends with an event. `failed` is the event of a job that panics, so that the machines never
    /// wait for it in vain.
    fn spawn(&mut self, failed: NetworkEvent, job: impl Future<Output = NetworkEvent> + Send + 'static) {
        self.jobs.spawn(async move {
            let ended = AssertUnwindSafe(job).catch_unwind().await;
            Some(ended.unwrap_or_else(|_| {
                tracing::error!("a job of the network panicked");
                failed
            }))
        });
    }

    // --- commands and jobs -----------------------------------------------------------------

    fn on_command(&mut self, command: NetworkCommand) {
        match command {
            NetworkCommand::Dial(address, reply) => self.dial(address, reply),
            NetworkCommand::Disconnect(peer) => {
                // Otherwise discovery would soon dial it again.
                self.swarm.behaviour_mut().kad.remove_peer(&peer);
                self.handle(NetworkEvent::Dismissed(peer));
                // An error means that the peer is not connected, as the caller wants it.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            NetworkCommand::Snapshot(reply) => {
                let _ = reply.send(self.snapshot());
            }
            NetworkCommand::Follow(task) => self.handle(NetworkEvent::Gossip(GossipEvent::Follow(task))),
            NetworkCommand::FetchArtifact { cid, hint, limit, reply } => {
                let caller = self.callers.add(reply);
                self.handle(NetworkEvent::Fetch(FetchEvent::Artifact { cid, hint, limit, caller }));
            }
        }
    }

    fn dial(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<(), String>>) {
        self.handle(NetworkEvent::Named(address.clone()));
        let options = DialOpts::from(address);
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(connection, DialPurpose::Command(reply));
            }
            // The address names a peer that is connected already.
            Err(DialError::DialPeerConditionFalse(_)) => drop(reply.send(Ok(()))),
            Err(error) => drop(reply.send(Err(dial_error::in_words(&error)))),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let gossip = &self.swarm.behaviour().gossip;
        let peers = self.state.connected().iter().map(|(id, peer)| PeerInfo {
            peer_id: *id,
            node_id: node_of(id),
            address: peer.address.clone(),
            relayed: is_circuit(&peer.address),
            not_direct: self.reach.not_direct(id).cloned(),
            agent: peer.agent.clone(),
            connected: peer.since.elapsed(),
            score: gossip.peer_score(id).unwrap_or_default(),
        });
        Snapshot {
            peers: peers.collect(),
            listen_addresses: self.swarm.listeners().cloned().collect(),
            external_addresses: self.swarm.external_addresses().cloned().collect(),
            reach: self.reach_info(),
            rejected: self.state.rejected().clone(),
            tasks_followed: self.state.tasks_followed(),
        }
    }

    fn on_job_message(&mut self, message: JobMessage) {
        let (behaviour, peers) = (self.swarm.behaviour_mut(), self.state.connected());
        match message {
            // libp2p would dial a peer that is not connected, perhaps one that the user has just disconnected.
            JobMessage::AskSync(peer, _, sender) if !peers.contains(&peer) => drop(sender.send(Err(NoAnswer))),
            JobMessage::AskObjects(peer, _, sender) if !peers.contains(&peer) => drop(sender.send(Err(NoAnswer))),
            JobMessage::AskArtifact(peer, _, sender) if !peers.contains(&peer) => drop(sender.send(Err(NoAnswer))),
            JobMessage::AskSync(peer, request, sender) => {
                self.sync.asked(behaviour.sync.send_request(&peer, Ok(request)), sender);
            }
            JobMessage::AskObjects(peer, request, sender) => {
                self.objects.asked(behaviour.objects.send_request(&peer, Ok(request)), sender);
            }
            JobMessage::AskArtifact(peer, request, sender) => {
                self.artifact.asked(behaviour.artifact.send_request(&peer, Ok(request)), sender);
            }
            // An answer that can no longer be sent is returned. The peer asks again if it still needs it.
            JobMessage::AnswerSync(channel, answer) => drop(behaviour.sync.send_response(channel, answer)),
            JobMessage::AnswerObjects(channel, answer) => drop(behaviour.objects.send_response(channel, answer)),
            JobMessage::AnswerArtifact(channel, answer) => drop(behaviour.artifact.send_response(channel, answer)),
            JobMessage::Event(event) => self.handle(event),
        }
    }
}
