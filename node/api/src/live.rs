//! The state that only a running process knows: its peers, its addresses, and what it does.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use spore_base::{
    llm_health::LlmHealth,
    mode::Mode,
    progress::{Purpose, RunProgress},
    research_state::ResearchState,
    warnings::Warnings,
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
    /// None without a node.
    pub network: Option<dto::NetworkStatus>,
    pub peers: Vec<dto::ConnectedPeer>,
    pub rejected: BTreeMap<String, u64>,
    pub uptime: Duration,
    /// What keeps the store from taking objects. None while nothing does.
    pub problem: Option<ProblemKind>,
    pub activity: String,
    /// Seconds by which the peers' clocks are ahead of this machine's. None while no clock was read.
    pub clock_offset_seconds: Option<f64>,
    /// What is wrong with the node or its machine now.
    pub warnings: Vec<String>,
    /// The language model that proposes. None without one.
    pub proposer: Option<LlmHealth>,
    /// None in a node that does no research.
    pub research: Option<dto::ResearchStatus>,
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
    /// The language model that proposes.
    pub proposer: watch::Receiver<Option<LlmHealth>>,
    pub research: watch::Receiver<ResearchState>,
    /// The pinned task; research and verification watch it.
    pub pinned: Arc<watch::Sender<Option<TaskId>>>,
    pub hardware_class: Option<String>,
    pub device: Option<String>,
    pub warnings: Warnings,
}

impl LiveNode {
    /// The state of the node now.
    pub async fn now(&self) -> Live {
        let networks = self.networks.snapshot().await;
        let progress = self.progress.borrow().clone();
        let pinned = *self.pinned.borrow();
        let research = research(&self.research.borrow(), progress.as_ref(), Instant::now());
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
            network: Some(networks.network),
            activity: self.activity(trouble.as_ref(), progress.as_ref(), research.as_ref(), networks.peers.len()),
            problem: trouble.as_ref().map(problem_of),
            peers: networks.peers,
            rejected,
            uptime: self.started.elapsed(),
            clock_offset_seconds: self.ingest.clock().map(|offset| offset.seconds as f64),
            warnings: self.warnings(),
            proposer: self.proposer.borrow().clone(),
            research,
        }
    }

    fn warnings(&self) -> Vec<String> {
        let clock = self.ingest.clock().filter(|offset| offset.is_far()).map(|offset| {
            if offset.is_wrong() {
                format!("{offset}: nothing is signed until the clock is right")
            } else {
                format!("{offset}: if the clock is wrong, other nodes refuse what this node signs")
            }
        });
        clock.into_iter().chain(self.warnings.all()).collect()
    }

    fn activity(
        &self,
        trouble: Option<&Trouble>,
        progress: Option<&RunProgress>,
        research: Option<&dto::ResearchStatus>,
        peers: usize,
    ) -> String {
        if let Some(trouble) = trouble {
            return trouble.to_string();
        }
        let peers = match peers {
            0 => "no peers yet".to_owned(),
            1 => "1 peer".to_owned(),
            n => format!("{n} peers"),
        };
        let waits = research.and_then(|research| match (research.reason.as_ref()?, research.retry_seconds) {
            (reason, Some(seconds)) => Some(format!("trying again in {seconds:.0} s: {reason}")),
            (reason, None) => Some(format!("research waits: {reason}")),
        });
        match (progress, self.mode) {
            (Some(progress), _) => format!("{} {}", doing(progress), progress.description),
            (None, Mode::Research) => waits.unwrap_or_else(|| format!("choosing the next experiment ({peers})")),
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

/// The language model that proposes, as it is at `now`.
pub fn proposer(health: &LlmHealth, now: Instant) -> dto::ProposerStatus {
    dto::ProposerStatus {
        provider: health.provider.clone(),
        model: health.model.clone(),
        state: health.state.name().into(),
        fault: health.fault.map(|fault| fault.name().into()),
        failure: health.fault.map(|_| health.failure.clone()),
        failures_in_a_row: health.failures,
        asked: health.asked,
        answered: health.answered,
        prompt_tokens: health.prompt_tokens,
        answer_tokens: health.answer_tokens,
        tokens_today: health.tokens_today,
        cost_today: health.cost_today,
        tokens_by_day: health.tokens_by_day,
        cost_by_day: health.cost_by_day,
        context_tokens: health.context,
        shortened: health.shortened,
        retry_seconds: health.retry_at.map(|at| at.saturating_duration_since(now).as_secs_f64()),
    }
}

/// What research does at `now`. None in a node that does none. A re-run of another's record is no research, though
/// research may wait for it.
fn research(state: &ResearchState, progress: Option<&RunProgress>, now: Instant) -> Option<dto::ResearchStatus> {
    let named = |state: &str| dto::ResearchStatus { state: state.into(), ..Default::default() };
    Some(match state {
        ResearchState::Off => return None,
        ResearchState::BackingOff { until, reason } => dto::ResearchStatus {
            reason: Some(reason.clone()),
            retry_seconds: Some(until.saturating_duration_since(now).as_secs_f64()),
            ..named("backing_off")
        },
        ResearchState::Waiting { reason } => dto::ResearchStatus { reason: Some(reason.clone()), ..named("waiting") },
        ResearchState::Choosing => match progress.filter(|progress| progress.purpose == Purpose::Research) {
            Some(progress) => dto::ResearchStatus {
                step: Some(progress.step),
                steps: Some(progress.steps).filter(|steps| *steps > 0),
                eta_seconds: eta(progress),
                ..named("training")
            },
            None => named("choosing"),
        },
    })
}

/// Seconds until the last step, at the mean speed so far. None until a step is done.
fn eta(progress: &RunProgress) -> Option<f64> {
    let left = progress.steps.checked_sub(progress.step)?;
    (progress.step > 0).then(|| progress.elapsed.as_secs_f64() / progress.step as f64 * left as f64)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn running(purpose: Purpose, step: u64, steps: u64) -> RunProgress {
        RunProgress {
            task_id: TaskId([1; 32]),
            purpose,
            record: None,
            step,
            steps,
            loss: None,
            elapsed: Duration::from_secs(4),
            description: "wider".into(),
        }
    }

    #[test]
    fn status_tells_the_backoff_with_its_reason_and_its_rest() {
        let now = Instant::now();
        let state = ResearchState::BackingOff { until: now + Duration::from_secs(90), reason: "it crashed".into() };
        let shown = research(&state, None, now).unwrap();
        assert_eq!((shown.state.as_str(), shown.reason.as_deref()), ("backing_off", Some("it crashed")));
        assert_eq!((shown.retry_seconds, shown.step), (Some(90.0), None));
        assert_eq!(research(&state, None, now + Duration::from_secs(99)).unwrap().retry_seconds, Some(0.0));
    }

    #[test]
    fn status_of_a_training_node_has_steps_and_the_rest_of_its_time() {
        let shown =
            |progress: Option<&RunProgress>| research(&ResearchState::Choosing, progress, Instant::now()).unwrap();
        let training = shown(Some(&running(Purpose::Research, 20, 80)));
        assert_eq!((training.state.as_str(), training.step, training.steps), ("training", Some(20), Some(80)));
        assert_eq!(training.eta_seconds, Some(12.0));
        let measured_not_yet = shown(Some(&running(Purpose::Research, 0, 0)));
        assert_eq!((measured_not_yet.steps, measured_not_yet.eta_seconds), (None, None));
        assert_eq!(shown(Some(&running(Purpose::Verify, 1, 2))).state, "choosing", "a re-run is no research");
    }

    #[test]
    fn status_of_research_without_a_task_says_why() {
        let state = ResearchState::Waiting { reason: "no task".into() };
        let shown = research(&state, None, Instant::now()).unwrap();
        assert_eq!((shown.state.as_str(), shown.reason.as_deref()), ("waiting", Some("no task")));
        assert_eq!(research(&ResearchState::Off, None, Instant::now()), None);
    }
}
