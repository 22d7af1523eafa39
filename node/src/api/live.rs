//! What only a running process knows: peers, addresses, what it is doing.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use spore_protocol::{Identity, TaskId};
use tokio::sync::{broadcast, watch};

use super::dto;
use crate::{
    bridge::{BridgeHandle, BridgePeer, Direction},
    ingest::{IngestHandle, StoreEvent},
    network::{NetworkHandle, PeerInfo},
    progress::RunProgress,
};

/// The process at one moment, in the API's words.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// `research`, `verify` or `relay`; `offline` without a node.
    pub mode: &'static str,
    /// The task that is pinned or worked on; none: the most active one.
    pub active_task: Option<TaskId>,
    pub hardware_class: Option<String>,
    pub device: Option<String>,
    pub listen_addresses: Vec<String>,
    pub legacy_listen_addresses: Vec<String>,
    pub peers: Vec<dto::Peer>,
    pub rejected: BTreeMap<String, u64>,
    pub uptime: Duration,
    pub activity: String,
}

impl Live {
    /// No node runs; `pinned` is the task that the configuration names.
    pub fn offline(pinned: Option<TaskId>) -> Self {
        Self { mode: "offline", active_task: pinned, activity: "no node is running".into(), ..Self::default() }
    }
}

/// The running node, as the API holds it. Cheap to clone.
#[derive(Clone)]
pub struct LiveNode {
    pub mode: &'static str,
    pub started: Instant,
    pub network: NetworkHandle,
    pub bridge: BridgeHandle,
    pub ingest: IngestHandle,
    /// Signs new tasks.
    pub identity: Identity,
    pub events: broadcast::Sender<StoreEvent>,
    pub progress: watch::Receiver<Option<RunProgress>>,
    /// The pinned task; research and verification watch it.
    pub pinned: Arc<watch::Sender<Option<TaskId>>>,
    pub hardware_class: Option<String>,
    pub device: Option<String>,
}

impl LiveNode {
    /// The node now.
    pub async fn now(&self) -> Live {
        // At shutdown the network goes first; the rest is still worth telling.
        let snapshot = self.network.snapshot().await.unwrap_or_default();
        let legacy = self.bridge.snapshot();
        let peers: Vec<_> = snapshot.peers.iter().map(peer).chain(legacy.iter().map(legacy_peer)).collect();
        let progress = self.progress.borrow().clone();
        let pinned = *self.pinned.borrow();
        // The network counts what it cannot decode, `ingest` what is decoded and not valid.
        let mut rejected: BTreeMap<String, u64> = BTreeMap::new();
        for (code, count) in snapshot.rejected.iter().chain(&self.ingest.rejected()) {
            *rejected.entry((*code).to_owned()).or_default() += count;
        }
        Live {
            mode: self.mode,
            active_task: progress.as_ref().map(|progress| progress.task_id).or(pinned),
            hardware_class: self.hardware_class.clone(),
            device: self.device.clone(),
            listen_addresses: snapshot.listen_addresses.iter().map(ToString::to_string).collect(),
            legacy_listen_addresses: self.bridge.listening().iter().map(ToString::to_string).collect(),
            activity: self.activity(progress.as_ref(), peers.len()),
            peers,
            rejected,
            uptime: self.started.elapsed(),
        }
    }

    fn activity(&self, progress: Option<&RunProgress>, peers: usize) -> String {
        if let Some(trouble) = self.ingest.trouble() {
            return trouble;
        }
        let peers = match peers {
            0 => "no peers yet".to_owned(),
            1 => "1 peer".to_owned(),
            n => format!("{n} peers"),
        };
        match (progress, self.mode) {
            (Some(progress), _) => format!("{} {}", doing(progress), progress.description),
            (None, "research") => format!("choosing the next experiment ({peers})"),
            (None, "verify") => format!("waiting for records to verify ({peers})"),
            (None, _) => format!("passing records on ({peers})"),
        }
    }
}

fn doing(progress: &RunProgress) -> &'static str {
    match progress.purpose {
        crate::progress::Purpose::Research => "training:",
        crate::progress::Purpose::Verify => "re-running:",
    }
}

fn peer(peer: &PeerInfo) -> dto::Peer {
    dto::Peer {
        transport: "libp2p".into(),
        peer_id: Some(peer.peer_id.to_string()),
        node_id: peer.node_id.map(|id| id.to_string()),
        address: peer.address.to_string(),
        direction: None,
        agent: peer.agent.clone(),
        connected_seconds: peer.connected.as_secs(),
        score: peer.score,
        received: None,
        sent: None,
        state: None,
    }
}

/// A peer of the existing network. It tells no key: only what it signed itself does.
fn legacy_peer(peer: &BridgePeer) -> dto::Peer {
    let (direction, address) = match &peer.link.direction {
        Direction::Dialled(address) => ("outbound", address.to_string()),
        Direction::Accepted => ("inbound", peer.link.remote.to_string()),
    };
    dto::Peer {
        transport: "legacy".into(),
        peer_id: None,
        node_id: None,
        address,
        direction: Some(direction.into()),
        agent: None,
        connected_seconds: peer.connected.as_secs(),
        // Not negated: no points are 0.0, and not -0.0.
        score: 0.0 - f64::from(peer.points),
        received: Some(peer.stats.received),
        sent: Some(peer.stats.sent),
        state: Some(peer.stats.state.name().into()),
    }
}

/// The running experiment in the API's words.
pub fn progress(progress: &RunProgress) -> dto::Progress {
    dto::Progress {
        task_id: progress.task_id.to_string(),
        purpose: progress.purpose.name().into(),
        step: progress.step,
        steps: progress.steps,
        loss: progress.loss.unwrap_or_default(),
        elapsed_seconds: progress.elapsed.as_secs_f64(),
        description: progress.description.clone(),
    }
}
