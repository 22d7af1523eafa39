//! What only a running process knows: peers, addresses, what it is doing.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use spore_base::mode::Mode;
use spore_base::progress::RunProgress;
use spore_ingest::{IngestHandle, StoreEvent};
use spore_protocol::TaskId;
use tokio::sync::{broadcast, watch};

use super::{
    dto,
    ports::{Networks, TaskMaker},
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
    pub mode: Mode,
    pub started: Instant,
    pub networks: Arc<dyn Networks>,
    pub tasks: Arc<dyn TaskMaker>,
    pub ingest: IngestHandle,
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
        let networks = self.networks.snapshot().await;
        let progress = self.progress.borrow().clone();
        let pinned = *self.pinned.borrow();
        // The network counts what it cannot decode, `ingest` what is decoded and not valid.
        let mut rejected: BTreeMap<String, u64> = BTreeMap::new();
        for (code, count) in networks.rejected.iter().chain(&self.ingest.rejected()) {
            *rejected.entry((*code).to_owned()).or_default() += count;
        }
        Live {
            mode: self.mode.name(),
            active_task: progress.as_ref().map(|progress| progress.task_id).or(pinned),
            hardware_class: self.hardware_class.clone(),
            device: self.device.clone(),
            listen_addresses: networks.listen_addresses,
            legacy_listen_addresses: networks.legacy_listen_addresses,
            activity: self.activity(progress.as_ref(), networks.peers.len()),
            peers: networks.peers,
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
            (None, Mode::Research) => format!("choosing the next experiment ({peers})"),
            (None, Mode::Verify) => format!("waiting for records to verify ({peers})"),
            (None, Mode::Relay) => format!("passing records on ({peers})"),
        }
    }
}

fn doing(progress: &RunProgress) -> &'static str {
    match progress.purpose {
        spore_base::progress::Purpose::Research => "training:",
        spore_base::progress::Purpose::Verify => "re-running:",
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
