//! The composition root: opens what a node needs, starts its parts, and ends them together.
//!
//! One watch tells every part to end; a part that ends before that takes the node down with a
//! message, for a node without its network or its ingest service is none. Everything that the
//! environment or a person decides comes in through [`Options`]: `cli` asks, this file is told.

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::Multiaddr;
use spore_api::{Api, live::LiveNode, problem::ApiError, view::StoreView};
use spore_base::{
    clock::unix_now, fetch::ArtifactSource, mode::Mode, peer_address::PeerAddress, private_file::FileError,
    progress::RunProgress, shutdown::Shutdown,
};
use spore_bridge::{BridgeConfig, ListenError, Listeners, PublicPeer};
use spore_ingest::{Ingest, StoreEvent};
use spore_network::{NetworkConfig, NetworkError};
use spore_protocol::{Identity, NodeId};
use spore_storage::{Store, StoreError};
use tokio::{
    net::TcpListener,
    sync::{broadcast, watch},
    task::JoinSet,
};

use crate::{
    artifacts::ArtifactSources,
    data_dir::{DataDir, RunningNode},
    genesis::{self, GenesisError},
    housekeeping::{self, CacheBounds},
    identity_file, mirror,
    networks::NodeNetworks,
    task_maker::NodeTaskMaker,
};

/// How long the parts may take to end: a worker is killed, the store flushed, streams closed.
const END_WITHIN: Duration = Duration::from_secs(20);

/// How a node is to run.
#[derive(Clone)]
pub struct Options {
    pub mode: Mode,
    /// A task's id, unique prefix or name; none: the most active one.
    pub task: Option<String>,
    /// Where libp2p listens.
    pub listen: Vec<Multiaddr>,
    /// Peers to stay connected with over libp2p.
    pub peers: Vec<Multiaddr>,
    /// The existing network. Its known peers are kept in the data directory, whatever is said here.
    pub bridge: BridgeConfig,
    pub mdns: bool,
    /// Where the API is served; none: on this machine alone, at any free port, for commands.
    pub web: Option<SocketAddr>,
    /// `auto`, `wgpu` or `flex`.
    pub device: String,
    /// Percent of the machine for training, 1..=100.
    pub resource: u8,
    /// Share of others' records that are re-run; none: the mode's own.
    pub verify_rate: Option<f64>,
    /// What the artifacts kept may come to.
    pub cache: CacheBounds,
    pub llm: Option<spore_lab::research::llm::ProviderConfig>,
    /// This program, which also runs experiments.
    pub program: PathBuf,
    /// The environment, of which a worker gets what graphics drivers need.
    pub environment: Vec<(OsString, OsString)>,
}

/// Without the environment, which may hold secrets.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("mode", &self.mode)
            .field("task", &self.task)
            .field("listen", &self.listen)
            .field("peers", &self.peers)
            .field("bridge", &self.bridge)
            .field("web", &self.web)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Web(#[from] WebError),
    #[error(transparent)]
    Bridge(#[from] ListenError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    #[error(transparent)]
    Task(#[from] ApiError),
    #[error("{0}")]
    Device(String),
    #[error("this program was built without the trainer")]
    NoTrainer,
}

/// The API's address could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the explorer on {address}: {reason}")]
pub struct WebError {
    pub address: SocketAddr,
    reason: String,
    /// Another program has the port.
    pub in_use: bool,
}

impl WebError {
    pub fn new(address: SocketAddr, error: &std::io::Error) -> Self {
        let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
        let reason = if in_use { "another program has that port".to_owned() } else { error.to_string() };
        Self { address, reason, in_use }
    }
}

/// What the services that train take from the rest of the node.
#[cfg_attr(not(feature = "trainer"), expect(dead_code, reason = "a relay trains nothing"))]
struct Lab<'a> {
    options: &'a Options,
    live: &'a LiveNode,
    identity: Identity,
    store: Store,
    artifacts: Arc<dyn ArtifactSource>,
    progress: watch::Sender<Option<RunProgress>>,
    shutdown: Shutdown,
}

/// A running node.
pub struct Node {
    pub live: LiveNode,
    pub view: StoreView,
    pub node_id: NodeId,
    /// Where the API answers on this machine.
    pub address: SocketAddr,
    pub identity_was_loose: bool,
    /// See [`Store::lost_changes`].
    pub lost_changes: Option<RangeInclusive<u64>>,
    /// The public peer, where it is tried.
    pub tries: Option<PeerAddress>,
    stop: watch::Sender<bool>,
    parts: JoinSet<&'static str>,
    data: DataDir,
}

/// A node ended, though nobody had asked it to.
#[derive(Debug, thiserror::Error)]
#[error("the node ends because its {0} ended unexpectedly")]
pub struct PartEnded(&'static str);

impl Node {
    /// Opens everything and starts every part.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(options: Options, data: DataDir) -> Result<Self, StartError> {
        data.create()?;
        let found = identity_file::load_or_create(&data.identity())?;
        let store = Store::open(data.root())?;
        let token = data.token_or_new()?;
        let (listener, address) = listen_for_api(options.web).await?;
        let legacy = Listeners::bind(options.bridge.listen).await?;
        let trainer = trainer::prepare(&options, &data).await?;

        let (stop, shutdown) = watch::channel(false);
        let mut parts = JoinSet::new();
        let (ingest, events, wants, ingesting) = Ingest::spawn(store.clone(), Arc::new(unix_now), shutdown.clone());
        watch_over(&mut parts, "ingest service", ingesting);
        genesis::install(&ingest, &store).await?;

        let config = network_config(&options, &found.identity);
        let (network, swarm) =
            spore_network::start(config, store.clone(), ingest.clone(), events.subscribe(), wants, shutdown.clone())?;
        watch_over(&mut parts, "network", swarm);
        let config = BridgeConfig { known: Some(data.known_peers()), ..options.bridge.clone() };
        let (bridge, hub) = spore_bridge::start(
            config,
            legacy,
            store.clone(),
            ingest.clone(),
            events.clone(),
            Arc::new(unix_now),
            shutdown.clone(),
        );
        watch_over(&mut parts, "bridge", hub);
        let sources: Arc<dyn ArtifactSource> =
            Arc::new(ArtifactSources::new(store.clone(), network.clone(), Some(bridge.clone())));
        look_after(&mut parts, &store, sources.clone(), options.cache, events.subscribe(), &shutdown);

        let node_id = found.identity.node_id();
        let view = StoreView::new(store.clone(), Some(node_id));
        let task = options.task.as_deref().map(|task| view.resolve_task(task)).transpose()?;
        if let Some(task) = task {
            // It may be known to others only: following it brings it here.
            let _ = network.follow(task).await;
        }
        let (progress, shown) = watch::channel(None);
        let live = LiveNode {
            mode: options.mode,
            started: Instant::now(),
            networks: Arc::new(NodeNetworks { network, bridge }),
            tasks: Arc::new(NodeTaskMaker {
                store: store.clone(),
                ingest: ingest.clone(),
                identity: found.identity.clone(),
            }),
            ingest,
            events,
            progress: shown,
            pinned: Arc::new(watch::channel(task).0),
            hardware_class: trainer.hardware_class(),
            device: trainer.device(),
        };
        let lab = Lab {
            options: &options,
            live: &live,
            identity: found.identity,
            store: store.clone(),
            artifacts: sources,
            progress,
            shutdown: shutdown.clone(),
        };
        trainer.start(lab, &mut parts);

        let page = options.web.is_some();
        let api =
            Api { view: view.clone(), node: Some(live.clone()), pinned: task, token: Some(token), page, shutdown };
        watch_over(&mut parts, "API", tokio::spawn(spore_api::serve(api, listener)));
        announce(&data, address, page)?;
        let tries = match options.bridge.public {
            PublicPeer::Tried(peer) => Some(peer),
            PublicPeer::LikeOthers | PublicPeer::Avoided(_) => None,
        };
        let lost_changes = store.lost_changes();
        Ok(Self {
            live,
            view,
            node_id,
            address,
            identity_was_loose: found.was_loose,
            lost_changes,
            tries,
            stop,
            parts,
            data,
        })
    }

    /// Runs until `asked`, or until a part ends by itself; then ends everything.
    ///
    /// # Errors
    /// [`PartEnded`] when nobody had asked.
    pub async fn run(mut self, asked: impl Future<Output = ()>) -> Result<(), PartEnded> {
        let ended = tokio::select! {
            () = asked => None,
            part = self.parts.join_next() => Some(part.and_then(Result::ok).unwrap_or("runtime")),
        };
        self.end().await;
        ended.map_or(Ok(()), |part| Err(PartEnded(part)))
    }

    async fn end(&mut self) {
        self.data.forget_node();
        // An error means that nothing listens any more, which is what is wanted.
        let _ = self.stop.send(true);
        let all = async { while self.parts.join_next().await.is_some() {} };
        if tokio::time::timeout(END_WITHIN, all).await.is_err() {
            tracing::warn!("some parts of the node did not end in time");
            self.parts.abort_all();
        }
    }
}

/// Resolves when Ctrl-C or SIGTERM asks this process to end.
pub async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    match signals {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        _ => {
            tracing::error!("signals cannot be received; end this process with SIGKILL");
            std::future::pending::<()>().await;
        }
    }
}

/// Starts what keeps the store whole and tidy.
fn look_after(
    parts: &mut JoinSet<&'static str>,
    store: &Store,
    sources: Arc<dyn ArtifactSource>,
    cache: CacheBounds,
    events: broadcast::Receiver<StoreEvent>,
    shutdown: &Shutdown,
) {
    let keeping = mirror::run(store.clone(), sources, events, shutdown.clone());
    watch_over(parts, "artifact mirror", tokio::spawn(keeping));
    let keeping = housekeeping::run(store.clone(), cache, Arc::new(unix_now), shutdown.clone());
    watch_over(parts, "housekeeping", tokio::spawn(keeping));
}

fn watch_over<T: Send + 'static>(
    parts: &mut JoinSet<&'static str>,
    name: &'static str,
    task: tokio::task::JoinHandle<T>,
) {
    parts.spawn(async move {
        if let Err(error) = task.await {
            tracing::error!(%error, "{name}");
        }
        name
    });
}

async fn listen_for_api(web: Option<SocketAddr>) -> Result<(TcpListener, SocketAddr), WebError> {
    let wanted = web.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let failed = |e: std::io::Error| WebError::new(wanted, &e);
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let mut address = listener.local_addr().map_err(failed)?;
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::from(std::net::Ipv6Addr::LOCALHOST) };
        address.set_ip(loopback);
    }
    Ok((listener, address))
}

fn announce(data: &DataDir, address: SocketAddr, explorer: bool) -> Result<(), FileError> {
    let node = RunningNode { pid: std::process::id(), address: address.to_string(), explorer, started: unix_now() };
    data.announce_node(&node)
}

fn network_config(options: &Options, identity: &Identity) -> NetworkConfig {
    NetworkConfig {
        seed: identity.seed(),
        listen: options.listen.clone(),
        bootstrap: options.peers.clone(),
        external: Vec::new(),
        mdns: options.mdns,
        agent: concat!("spore/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

#[cfg(feature = "trainer")]
mod trainer {
    //! The loops that train.

    use spore_protocol::HardwareClass;
    use spore_trainer::{
        device::{DeviceChoice, DeviceProfile},
        worker::Supervisor,
    };
    use tokio::sync::Semaphore;

    use super::*;
    use spore_lab::{
        engine::{self, Engine, EngineSettings},
        research, verify,
    };

    /// The device, ready to train; none in a relay.
    pub struct Trainer(Option<Ready>);

    struct Ready {
        profile: DeviceProfile,
        supervisor: Supervisor,
    }

    /// Finds out what the device is, in a process of its own.
    pub async fn prepare(options: &Options, data: &DataDir) -> Result<Trainer, StartError> {
        if options.mode == Mode::Relay {
            return Ok(Trainer(None));
        }
        let choice: DeviceChoice = options.device.parse().map_err(|e| StartError::Device(format!("{e}")))?;
        let scratch = data.work();
        spore_base::private_file::create_private_dir(&scratch)?;
        let supervisor =
            Supervisor::new(options.program.clone(), scratch).with_environment(options.environment.clone());
        // The store's lock is held by now, so no other node uses this directory.
        if let Err(error) = supervisor.clear_scratch() {
            tracing::warn!(%error, "what earlier workers left behind stays");
        }
        let probing = supervisor.clone();
        let probed = tokio::task::spawn_blocking(move || probing.probe(choice)).await;
        let profile =
            probed.map_err(|e| StartError::Device(e.to_string()))?.map_err(|e| StartError::Device(e.reason))?;
        Ok(Trainer(Some(Ready { profile, supervisor })))
    }

    impl Trainer {
        pub fn hardware_class(&self) -> Option<String> {
            self.0.as_ref().map(|ready| HardwareClass::of(&ready.profile.gpu_model).to_string())
        }

        pub fn device(&self) -> Option<String> {
            self.0.as_ref().map(|ready| ready.profile.gpu_model.clone())
        }

        pub fn start(self, lab: Lab<'_>, parts: &mut JoinSet<&'static str>) {
            let Lab { options, live, identity, store, artifacts, progress, shutdown } = lab;
            let Some(ready) = self.0 else { return };
            let settings = EngineSettings {
                pinned: live.pinned.subscribe(),
                verify_rate: options.verify_rate.unwrap_or(verify::default_rate(options.mode)),
                resource: options.resource.into(),
                // Not the choice that was asked for: `auto` might mean another device later.
                device: ready.profile.backend.into(),
                memory_limit: engine::memory_limit(options.resource.into()),
            };
            let engine = Arc::new(Engine {
                store,
                ingest: live.ingest.clone(),
                artifacts,
                identity,
                device: ready.profile,
                supervisor: ready.supervisor,
                clock: Arc::new(unix_now),
                settings,
                events: live.events.clone(),
                progress,
                permit: Arc::new(Semaphore::new(1)),
            });
            if options.mode == Mode::Research {
                watch_over(
                    parts,
                    "research",
                    tokio::spawn(research::run(engine.clone(), options.llm.clone(), shutdown.clone())),
                );
            }
            watch_over(parts, "verification", tokio::spawn(verify::run(engine, shutdown.clone())));
        }
    }
}

#[cfg(not(feature = "trainer"))]
mod trainer {
    //! A relay's program: nothing trains.

    use super::*;

    /// Nothing.
    pub struct Trainer;

    /// Refuses every mode that trains.
    pub async fn prepare(options: &Options, _data: &DataDir) -> Result<Trainer, StartError> {
        if options.mode == Mode::Relay { Ok(Trainer) } else { Err(StartError::NoTrainer) }
    }

    impl Trainer {
        pub fn hardware_class(&self) -> Option<String> {
            None
        }

        pub fn device(&self) -> Option<String> {
            None
        }

        pub fn start(self, _lab: Lab<'_>, _parts: &mut JoinSet<&'static str>) {}
    }
}
