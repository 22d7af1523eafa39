//! Starts the services of a node, each after those that it needs.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use spore_api::{Api, live::LiveNode, view::StoreView};
use spore_base::{
    clock::unix_now, fetch::ArtifactSource, peer_address::PeerAddress, private_file::FileError, shutdown::Shutdown,
};
use spore_bridge::{BridgeConfig, BridgeHandle, Listeners, PublicPeer};
use spore_ingest::{Ingest, IngestHandle, StoreEvent};
use spore_network::{NetworkConfig, NetworkHandle};
use spore_protocol::{Identity, NodeId, TaskId};
use spore_storage::{Store, StoreError};
use tokio::{
    net::TcpListener,
    sync::{broadcast, watch},
};

use super::{
    Node,
    error::{StartError, WebError},
    options::NodeOptions,
    services::Services,
    trainer::{LabParts, Trainer},
};
use crate::{
    artifacts::ArtifactSources,
    data_dir::{DataDir, RunningNode},
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
    data.create()?;
    let found = identity_file::load_or_create(&data.identity())?;
    let node_id = found.identity.node_id();
    let store = open_store(&options, &data, node_id)?;
    let token = data.token_or_new()?;
    // Busy ports and devices are found before the first service starts.
    let (listener, address) = listen_for_api(options.web).await?;
    let legacy = Listeners::bind(options.bridge.listen).await?;
    let trainer = Trainer::prepare(&options, &data).await?;

    let (stop, shutdown) = watch::channel(false);
    let mut services = Services::default();
    let core = start_core(&options, &data, &found.identity, &store, legacy, &shutdown, &mut services).await?;
    let (built_in, view) = view_of(&store, node_id)?;
    let task = options.task.as_deref().map(|task| view.resolve_task(task)).transpose()?;
    if let Some(task) = task {
        // Only other nodes may know the task. Following it brings it here.
        let _ = core.networks.network.follow(task).await;
    }
    let (progress, shown) = watch::channel(None);
    let live = LiveNode {
        mode: options.mode,
        started: Instant::now(),
        networks: Arc::new(core.networks),
        tasks: Arc::new(NodeTaskMaker {
            store: store.clone(),
            ingest: core.ingest.clone(),
            identity: found.identity.clone(),
        }),
        ingest: core.ingest,
        events: core.events,
        progress: shown,
        pinned: Arc::new(watch::channel(task).0),
        hardware_class: trainer.hardware_class(),
        device: trainer.device(),
    };
    let lost_changes = store.lost_changes();
    let parts = LabParts {
        options: &options,
        live: &live,
        identity: found.identity,
        store,
        built_in,
        artifacts: core.artifacts,
        progress,
        shutdown: shutdown.clone(),
    };
    trainer.start(parts, &mut services);

    let page = options.web.is_some();
    let api = Api { view: view.clone(), node: Some(live.clone()), pinned: task, token: Some(token), page, shutdown };
    services.watch("API", tokio::spawn(spore_api::serve(api, listener)));
    announce(&data, address, page)?;
    let public_peer = tried(options.bridge.public);
    let identity_was_loose = found.was_loose;
    Ok(Node { live, view, node_id, address, identity_was_loose, lost_changes, public_peer, stop, services, data })
}

/// The built-in tasks, and the store as the API shows it.
fn view_of(store: &Store, own: NodeId) -> Result<(Vec<TaskId>, StoreView), StartError> {
    let built_in = genesis::tasks().map_err(GenesisError::from)?;
    let view = StoreView::new(store.clone(), Some(own)).with_built_in(&built_in);
    Ok((built_in, view))
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

/// Starts the ingest service, both networks, and the services that look after the store.
async fn start_core(
    options: &NodeOptions,
    data: &DataDir,
    identity: &Identity,
    store: &Store,
    legacy: Listeners,
    shutdown: &Shutdown,
    services: &mut Services,
) -> Result<Core, StartError> {
    let (ingest, events, wants, task) = Ingest::spawn(store.clone(), Arc::new(unix_now), shutdown.clone());
    services.watch("ingest service", task);
    genesis::install(&ingest, store).await?;
    let config = network_config(options, identity);
    let (network, task) =
        spore_network::start(config, store.clone(), ingest.clone(), events.subscribe(), wants, shutdown.clone())?;
    services.watch("network", task);
    let config = BridgeConfig { known: Some(data.known_peers()), ..options.bridge.clone() };
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

/// Writes the file by which commands on this machine find the node.
fn announce(data: &DataDir, address: SocketAddr, explorer: bool) -> Result<(), FileError> {
    let node = RunningNode { pid: std::process::id(), address: address.to_string(), explorer, started: unix_now() };
    data.announce_node(&node)
}

fn network_config(options: &NodeOptions, identity: &Identity) -> NetworkConfig {
    NetworkConfig {
        seed: identity.seed(),
        listen: options.listen.clone(),
        bootstrap: options.peers.clone(),
        external: Vec::new(),
        mdns: options.mdns,
        agent: concat!("spore/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}
