//! Real nodes for tests: a swarm (over memory, unless the test is about sockets), a store in a temporary directory, and
//! the real `ingest`. And a hostile peer, which speaks libp2p but keeps to no rule.

use std::{future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use libp2p::{Multiaddr, PeerId, Swarm, gossipsub::IdentTopic, kad, swarm::SwarmEvent};
use spore_base::warnings::Warnings;
use spore_ingest::{Disposition, Ingest, IngestHandle, Origin};
use spore_protocol::{Identity, SignedObject, topic::Topic};
use spore_storage::Store;
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    NetworkConfig, NetworkHandle, Snapshot,
    addresses::AddressPolicy,
    behaviour::{self, Behaviour, BehaviourEvent, SharedRelayUse},
    guard::AddressGuard,
    jobs::{Fruitless, JobContext, JobMessage, TaskShards},
    service::start_over,
    transport::Transport,
};

/// The tests' time, so that no object is from the future.
pub const NOW: u64 = 2_000_000_000;

/// How long a test waits for what must happen before it is called hung. No test measures time.
const PATIENCE: Duration = Duration::from_secs(240);

/// Waits until something holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never happened: {what}");
}

/// The settings of a node that listens on memory.
pub fn config(seed: u8, bootstrap: Vec<Multiaddr>) -> NetworkConfig {
    NetworkConfig {
        seed: [seed; 32],
        listen: vec!["/memory/0".parse().unwrap()],
        bootstrap,
        external: Vec::new(),
        mdns: false,
        upnp: false,
        reachability: None,
        relay: true,
        remembered: None,
        agent: "spore/test".into(),
        clock: Arc::new(|| NOW),
        warnings: Warnings::default(),
    }
}

/// What jobs hold, with a channel instead of a network task.
pub fn context(store: Store, ingest: IngestHandle, messages: mpsc::Sender<JobMessage>) -> JobContext {
    let (shards, fruitless) = (TaskShards::default(), Fruitless::default());
    JobContext { store, shards, fruitless, ingest, clock: Arc::new(|| NOW), messages }
}

/// The settings of a node that listens on a socket of this machine instead.
pub fn config_on(listen: &str, seed: u8) -> NetworkConfig {
    NetworkConfig { listen: vec![listen.parse().unwrap()], ..config(seed, Vec::new()) }
}

/// Opens a store whose last user may still be finishing a read.
async fn open(dir: &TempDir) -> Store {
    for _ in 0..500 {
        if let Ok(store) = Store::open(dir.path()) {
            return store;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Store::open(dir.path()).unwrap()
}

pub struct SwarmNode {
    pub identity: Identity,
    pub store: Store,
    pub ingest: IngestHandle,
    pub network: NetworkHandle,
    pub address: Multiaddr,
    shutdown: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    dir: TempDir,
}

impl SwarmNode {
    pub async fn start(seed: u8, bootstrap: &[&SwarmNode]) -> Self {
        Self::start_in(
            tempfile::tempdir().unwrap(),
            config(seed, bootstrap.iter().map(|node| node.address.clone()).collect()),
        )
        .await
    }

    pub async fn start_in(dir: TempDir, config: NetworkConfig) -> Self {
        let store = open(&dir).await;
        let (shutdown, stopped) = watch::channel(false);
        let (ingest, events, wants, ingesting) = Ingest::spawn(store.clone(), Arc::new(|| NOW), stopped.clone());
        let identity = Identity::from_seed(&config.seed);
        let in_memory = config.listen.iter().any(|address| address.to_string().starts_with("/memory"));
        let transport = if in_memory { Transport::Memory } else { Transport::Sockets };
        let (events, ingesting_in) = (events.subscribe(), ingest.clone());
        let (network, running) =
            start_over(transport, config, store.clone(), ingesting_in, events, wants, stopped).unwrap();
        let mut address = None;
        for _ in 0..500 {
            address = network.snapshot().await.unwrap().listen_addresses.first().cloned();
            if address.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            identity,
            store,
            ingest,
            network,
            address: address.unwrap(),
            shutdown,
            tasks: vec![ingesting, running],
            dir,
        }
    }

    /// Stops the node and returns its directory, from which it can be started again.
    pub async fn stop(self) -> TempDir {
        self.shutdown.send_replace(true);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.dir
    }

    pub fn peer(&self) -> PeerId {
        libp2p::identity::Keypair::ed25519_from_bytes(self.identity.seed()).unwrap().public().to_peer_id()
    }

    pub async fn snapshot(&self) -> Snapshot {
        self.network.snapshot().await.unwrap()
    }

    pub async fn publish(&self, object: SignedObject) {
        let disposition = self.ingest.submit(Origin::Local, object).await.unwrap();
        assert_eq!(disposition, Disposition::Accepted);
    }

    pub fn has(&self, object: &SignedObject) -> bool {
        self.store.contains(object.kind(), &object.id()).unwrap()
    }

    pub async fn connected_to(&self, count: usize) {
        eventually("connected", || async { self.snapshot().await.peers.len() >= count }).await;
    }
}

/// Waits until all of these nodes have all of these objects.
pub async fn all_have(nodes: &[&SwarmNode], objects: &[SignedObject]) {
    eventually("all nodes have all objects", || async {
        nodes.iter().all(|node| objects.iter().all(|object| node.has(object)))
    })
    .await;
}

/// Waits until a gossip mesh can have formed: everybody follows the task.
pub async fn all_follow(nodes: &[&SwarmNode]) {
    eventually("all nodes follow the task", || async {
        for node in nodes {
            if node.snapshot().await.tasks_followed == 0 {
                return false;
            }
        }
        true
    })
    .await;
}

/// A libp2p peer without a store, over memory. The test decides what it sends.
pub struct Hostile {
    pub swarm: Swarm<Behaviour>,
}

impl Hostile {
    pub async fn connect(seed: u8, victim: &SwarmNode, topics: &[Topic]) -> Self {
        let config = NetworkConfig { listen: Vec::new(), ..config(seed, Vec::new()) };
        let guard = AddressGuard::new(AddressPolicy::default());
        let mut swarm = behaviour::swarm(&config, Transport::Memory, &guard, &SharedRelayUse::default()).unwrap();
        for topic in topics {
            swarm.behaviour_mut().gossip.subscribe(&IdentTopic::new(topic.to_string())).unwrap();
        }
        swarm.dial(victim.address.clone()).unwrap();
        Self { swarm }
    }

    /// Lets the swarm run until an event of interest.
    pub async fn until<T>(
        &mut self,
        mut wanted: impl FnMut(&mut Swarm<Behaviour>, SwarmEvent<BehaviourEvent>) -> Option<T>,
    ) -> T {
        let running = async {
            loop {
                let event = self.swarm.select_next_some().await;
                // The hostile peer forgets all other nodes, so that it sends nothing to a node that the test does not
                // mean.
                if let SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::RoutingUpdated { peer, .. })) = &event {
                    self.swarm.behaviour_mut().kad.remove_peer(peer);
                }
                if let Some(found) = wanted(&mut self.swarm, event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, running).await.expect("the hostile peer saw nothing")
    }

    pub fn publish(&mut self, topic: Topic, bytes: Vec<u8>) {
        self.swarm.behaviour_mut().gossip.publish(IdentTopic::new(topic.to_string()), bytes).unwrap();
    }

    /// Runs until the victim closes the connection.
    pub async fn disconnected(&mut self) {
        self.until(|_, event| matches!(event, SwarmEvent::ConnectionClosed { num_established: 0, .. }).then_some(()))
            .await;
    }
}
