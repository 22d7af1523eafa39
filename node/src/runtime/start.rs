//! Starts the services of a node, each after those that it needs.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use spore_api::{Api, live::LiveNode, view::StoreView};
use spore_base::{
    clock::{system_clock, unix_now},
    fetch::ArtifactSource,
    peer_address::PeerAddress,
    private_file::FileError,
    shutdown::Shutdown,
    warnings::Warnings,
};
use spore_bridge::{BridgeConfig, BridgeHandle, Listeners, PublicPeer};
use spore_ingest::{Ingest, IngestHandle, StoreEvent};
use spore_network::{NetworkConfig, NetworkHandle};
use spore_protocol::{HardwareClass, Identity, NodeId, TaskId};
use spore_storage::{Store, StoreError};
use tokio::{
    net::TcpListener,
    sync::{broadcast, watch},
};

use super::{
    Node, admin, descriptors,
    directory::DirectoryWatch,
    error::{StartError, WebError},
    options::NodeOptions,
    services::Services,
    trainer::{LabParts, Shown, Trainer},
    twin,
    webhook::{self, Webhook},
};
use crate::{
    artifacts::ArtifactSources,
    block_list::{self, BlockFile},
    config::WebhookConfig,
    data_dir::{DataDir, RunningNode},
    disk_budget::{self, DiskBudget},
    genesis::{self, GenesisError},
    housekeeping, identity_file, mirror,
    networks::NodeNetworks,
    task_maker::NodeTaskMaker,
};

/// Opens everything and starts every service.
///
/// # Errors
/// [`StartError`]. No service is left running then.
pub async fn start(options: NodeOptions, data: DataDir) -> Result<Node, StartError> {
    let warnings = Warnings::default();
    // The store opens hundreds of files.
    let connections = descriptors::raise(&warnings);
    data.create()?;
    let found = identity_file::load_or_create(&data.identity())?;
    let node_id = found.identity.node_id();
    let (store, token) = (open_store(&options, &data, node_id)?, data.token_or_new()?);
    // Busy ports and devices are found before the first service starts.
    let Bound { api: (listener, address), admin, legacy } = bind(&options).await?;
    let trainer = Trainer::prepare(&options, &data).await?;

    let (stop, shutdown) = watch::channel(false);
    let mut services = Services::default();
    let parts =
        CoreParts { options: &options, data: &data, identity: &found.identity, store: &store, warnings: &warnings };
    let core = start_core(parts, legacy, &shutdown, &mut services).await?;
    let (built_in, view) = view_of(&store, node_id)?;
    let task = followed_task(&options, &built_in, &view, &core.networks).await?;
    let tasks = NodeTaskMaker { store: store.clone(), ingest: core.ingest.clone(), identity: found.identity.clone() };
    let shown = Shown::default();
    let live = LiveNode {
        mode: options.mode,
        started: Instant::now(),
        networks: Arc::new(core.networks),
        tasks: Arc::new(tasks),
        ingest: core.ingest,
        events: core.events,
        progress: shown.progress.subscribe(),
        proposer: shown.llm_health.subscribe(),
        research: shown.research.subscribe(),
        pinned: Arc::new(watch::channel(task).0),
        hardware_class: trainer.hardware_class(),
        device: trainer.device(),
        warnings: warnings.clone(),
    };
    let lost_changes = store.lost_changes();
    let parts = LabParts {
        options: &options,
        live: &live,
        identity: found.identity,
        store: store.clone(),
        built_in,
        artifacts: core.artifacts,
        shown,
        shutdown: shutdown.clone(),
    };
    trainer.start(parts, &mut services);
    tell_news(options.webhook.as_ref(), node_id, &live, &store, &shutdown, &mut services);
    keep_disk_budget(options.store_max, &live, &store, shutdown.clone(), &mut services);
    admin::serve(admin, &live, &view, &shutdown, &mut services);

    let (page, node, token) = (options.web.is_some(), Some(live.clone()), Some(token));
    let (view_of_api, names, proxies) = (view.clone(), options.web_names, options.web_proxies);
    let api = Api { view: view_of_api, node, pinned: task, token, page, names, proxies, connections, shutdown };
    services.watch("API", tokio::spawn(spore_api::serve(api, listener)));
    let directory = announce(data, store, address, page, warnings)?;
    let (public_peer, identity_was_loose) = (tried(options.bridge.public), found.was_loose);
    Ok(Node { live, view, node_id, address, identity_was_loose, lost_changes, public_peer, stop, services, directory })
}

/// Starts what tells the owner's webhook of news.
fn tell_news(
    config: Option<&WebhookConfig>,
    own: NodeId,
    live: &LiveNode,
    store: &Store,
    shutdown: &Shutdown,
    services: &mut Services,
) {
    let Some(config) = config else { return };
    let class = config.class.as_deref().or(live.hardware_class.as_deref());
    let webhook = Webhook {
        url: config.url.0.clone(),
        class: class.map(HardwareClass::of),
        own,
        store: store.clone(),
        changes: live.events.subscribe(),
    };
    services.spawn("webhook", webhook::run(webhook, shutdown.clone()));
}

/// Starts what keeps the store within its disk budget. The node's own key is one of the store's seeds, whose objects are
/// never dropped.
fn keep_disk_budget(max: Option<u64>, live: &LiveNode, store: &Store, shutdown: Shutdown, services: &mut Services) {
    let budget = DiskBudget {
        store: store.clone(),
        max,
        pinned: live.pinned.subscribe(),
        ingest: live.ingest.clone(),
        warnings: live.warnings.clone(),
        clock: Arc::new(unix_now),
    };
    services.spawn("disk budget", disk_budget::run(budget, shutdown));
}

/// The built-in tasks, and the store as the API shows it.
fn view_of(store: &Store, own: NodeId) -> Result<(Vec<TaskId>, StoreView), StartError> {
    let built_in = genesis::tasks().map_err(GenesisError::from)?;
    let view = StoreView::new(store.clone(), Some(own)).with_built_in(&built_in);
    Ok((built_in, view))
}

/// The task that the user named. Has it and the built-in tasks followed.
async fn followed_task(
    options: &NodeOptions,
    built_in: &[TaskId],
    view: &StoreView,
    networks: &NodeNetworks,
) -> Result<Option<TaskId>, StartError> {
    // They keep their places in gossip, however many other tasks there are.
    for task in built_in {
        let _ = networks.network.follow(*task).await;
    }
    let task = options.task.as_deref().map(|task| view.resolve_task(task)).transpose()?;
    if let Some(task) = task {
        // Only other nodes may know the task. Following it brings it here.
        let _ = networks.network.follow(task).await;
    }
    Ok(task)
}

/// Opens the store with the keys that decide what holds here: the configured ones and the node's own.
fn open_store(options: &NodeOptions, data: &DataDir, own: NodeId) -> Result<Store, StoreError> {
    let seeds = options.trust.iter().copied().chain([own]).collect();
    Store::open_with_trust(data.root(), seeds)
}

/// The public peer of the existing network, if the node tries it.
fn tried(peer: PublicPeer) -> Option<PeerAddress> {
    match peer {
        PublicPeer::Tried(peer) => Some(peer),
        PublicPeer::LikeOthers | PublicPeer::Avoided(_) => None,
    }
}

/// Handles to the services that every mode runs.
struct Core {
    ingest: IngestHandle,
    events: broadcast::Sender<StoreEvent>,
    networks: NodeNetworks,
    artifacts: Arc<dyn ArtifactSource>,
}

/// The inputs of the services that every mode runs.
struct CoreParts<'a> {
    options: &'a NodeOptions,
    data: &'a DataDir,
    identity: &'a Identity,
    store: &'a Store,
    warnings: &'a Warnings,
}

/// Starts the ingest service, both networks, and the services that look after the store.
async fn start_core(
    parts: CoreParts<'_>,
    legacy: Listeners,
    shutdown: &Shutdown,
    services: &mut Services,
) -> Result<Core, StartError> {
    let CoreParts { options, data, identity, store, warnings } = parts;
    let started = unix_now();
    let (ingest, events, wants, task) = Ingest::spawn(store.clone(), Arc::new(unix_now), shutdown.clone());
    services.watch("ingest service", task);
    let blocked = BlockFile::new(data.blocked());
    ingest.blocks().set(blocked.load()?);
    services.spawn("block list", block_list::watch(blocked, ingest.blocks().clone(), shutdown.clone()));
    let watched = twin::watch(identity.node_id(), started, warnings.clone(), events.subscribe(), shutdown.clone());
    services.spawn("watch over the node's key", watched);
    genesis::install(&ingest, store).await?;
    let config = network_config(options, data, identity, warnings);
    let (network, task) =
        spore_network::start(config, store.clone(), ingest.clone(), events.subscribe(), wants, shutdown.clone())?;
    services.watch("network", task);
    let known = (!options.genesis).then(|| data.known_peers());
    let config = BridgeConfig { known, ..options.bridge.clone() };
    let (bridge, task) = spore_bridge::start(
        config,
        legacy,
        store.clone(),
        ingest.clone(),
        events.clone(),
        Arc::new(unix_now),
        shutdown.clone(),
    );
    services.watch("bridge", task);
    let artifacts = artifact_sources(store, &network, &bridge);
    services
        .spawn("artifact mirror", mirror::run(store.clone(), artifacts.clone(), events.subscribe(), shutdown.clone()));
    services
        .spawn("housekeeping", housekeeping::run(store.clone(), options.cache, Arc::new(unix_now), shutdown.clone()));
    Ok(Core { ingest, events, networks: NodeNetworks { network, bridge }, artifacts })
}

fn artifact_sources(store: &Store, network: &NetworkHandle, bridge: &BridgeHandle) -> Arc<dyn ArtifactSource> {
    Arc::new(ArtifactSources::new(store.clone(), network.clone(), Some(bridge.clone())))
}

/// The listeners of a node.
struct Bound {
    /// With its address for commands on this machine.
    api: (TcpListener, SocketAddr),
    admin: Option<TcpListener>,
    legacy: Listeners,
}

async fn bind(options: &NodeOptions) -> Result<Bound, StartError> {
    Ok(Bound {
        api: listen_for_api(options.web).await?,
        admin: admin::bind(options.admin).await?,
        legacy: Listeners::bind(options.bridge.listen).await?,
    })
}

/// Listens at the address, or at any free port of this machine. Returns the address for commands on this machine.
async fn listen_for_api(web: Option<SocketAddr>) -> Result<(TcpListener, SocketAddr), WebError> {
    let wanted = web.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let failed = |e: std::io::Error| WebError::new(wanted, &e);
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let mut address = listener.local_addr().map_err(failed)?;
    if address.ip().is_unspecified() {
        let loopback: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    Ok((listener, address))
}

/// Writes the file by which commands on this machine find the node, and keeps it there.
fn announce(
    data: DataDir,
    store: Store,
    address: SocketAddr,
    explorer: bool,
    warnings: Warnings,
) -> Result<DirectoryWatch, FileError> {
    let address = address.to_string();
    let node = RunningNode { pid: std::process::id(), address, explorer, started: unix_now() };
    data.announce_node(&node)?;
    Ok(DirectoryWatch { store, data, node, warnings })
}

fn network_config(options: &NodeOptions, data: &DataDir, identity: &Identity, warnings: &Warnings) -> NetworkConfig {
    NetworkConfig {
        seed: identity.seed(),
        listen: options.listen.clone(),
        bootstrap: options.peers.clone(),
        external: options.external.clone(),
        mdns: options.mdns,
        upnp: options.upnp,
        reachability: options.reachability,
        relay: options.relay,
        remembered: (!options.genesis).then(|| data.reached_peers()),
        agent: concat!("spore/", env!("CARGO_PKG_VERSION")).to_owned(),
        clock: system_clock(),
        warnings: warnings.clone(),
    }
}
