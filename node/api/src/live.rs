//! The state that only a running process knows: its peers, its addresses, and what it does.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use spore_base::{
    mode::Mode,
    progress::{Purpose, RunProgress},
};
use spore_ingest::{IngestHandle, StoreEvent, Trouble};
use spore_protocol::TaskId;
use tokio::sync::{broadcast, watch};

use super::{
    dto,
    ports::{Networks, TaskMaker},
    problem::ProblemKind,
};

/// The state of the process at one moment.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// `research`, `verify` or `relay`. `offline` without a node.
    pub mode: &'static str,
    /// The task that the node works on or that is pinned. None: the default task.
    pub active_task: Option<TaskId>,
    pub hardware_class: Option<String>,
    pub device: Option<String>,
    pub listen_addresses: Vec<String>,
    pub legacy_listen_addresses: Vec<String>,
    pub peers: Vec<dto::ConnectedPeer>,
    pub rejected: BTreeMap<String, u64>,
    pub uptime: Duration,
    /// What keeps the store from taking objects. None while nothing does.
    pub problem: Option<ProblemKind>,
    pub activity: String,
}

impl Live {
    /// The state without a node. `pinned` is the task that the configuration names.
    pub fn offline(pinned: Option<TaskId>) -> Self {
        Self { mode: "offline", active_task: pinned, activity: "no node is running".into(), ..Self::default() }
    }
}

/// Handle to the running node. Cheap to clone.
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
    /// The state of the node now.
    pub async fn now(&self) -> Live {
        let networks = self.networks.snapshot().await;
        let progress = self.progress.borrow().clone();
        let pinned = *self.pinned.borrow();
        let trouble = self.ingest.trouble();
        // The network counts messages that it cannot decode. The ingest service counts objects that are not valid.
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
            activity: self.activity(trouble.as_ref(), progress.as_ref(), networks.peers.len()),
            problem: trouble.as_ref().map(problem_of),
            peers: networks.peers,
            rejected,
            uptime: self.started.elapsed(),
        }
    }

    fn activity(&self, trouble: Option<&Trouble>, progress: Option<&RunProgress>, peers: usize) -> String {
        if let Some(trouble) = trouble {
            return trouble.to_string();
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
            (None, Mode::Relay) => format!("relaying records ({peers})"),
        }
    }
}

const fn problem_of(trouble: &Trouble) -> ProblemKind {
    match trouble {
        Trouble::Refusing => ProblemKind::DiskFull,
        Trouble::Damaged(_) => ProblemKind::DamagedStore,
    }
}

fn doing(progress: &RunProgress) -> &'static str {
    match progress.purpose {
        Purpose::Research => "training:",
        Purpose::Verify => "re-running:",
    }
}

/// The progress of the running experiment.
pub fn progress(progress: &RunProgress) -> dto::ExperimentProgress {
    dto::ExperimentProgress {
        task_id: progress.task_id.to_string(),
        purpose: progress.purpose.name().into(),
        step: progress.step,
        steps: progress.steps,
        loss: progress.loss.unwrap_or_default(),
        elapsed_seconds: progress.elapsed.as_secs_f64(),
        description: progress.description.clone(),
    }
}
