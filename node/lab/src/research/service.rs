//! The research loop: one experiment after the other until the node shuts down.

mod propose;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use spore_base::{
    progress::Purpose,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::StoreEvent;
use spore_protocol::{Cid, Goal, HardwareClass, Record, RecordId, Status, TaskId, Verdict, Verified};
use spore_storage::{RecordSummary, TaskView};
use spore_trainer::{
    device::Backend,
    worker::{Failure, FailureKind},
};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    Proposal,
    aside::Aside,
    choice::{Pick, candidates, choose, stalled},
    llm::{Client, ProviderConfig},
    record::{Measured, Parent, Runner, record},
};
use crate::engine::{Engine, EngineError, Order, Terms};

/// First delay after a failure; it doubles with each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest delay between failures.
const BACKOFF_MOST: Duration = Duration::from_secs(600);
/// How long to wait for a task or a root before looking again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Least time between two looks, so that a flood of news does not keep this loop busy.
const LOOK_AT_MOST: Duration = Duration::from_secs(1);
/// How long a task is left alone that cannot be worked on here, and a record that cannot be built
/// on: what its objects say does not change, but this machine may.
const UNFIT: Duration = Duration::from_secs(600);
/// How long when an artifact is missing: a peer that has it may come.
const UNFIT_ARTIFACT: Duration = Duration::from_secs(60);
/// Refused scripts that are remembered.
const REFUSED: usize = 512;

/// How a round ended.
enum Round {
    /// An experiment ran and its record is published.
    Published(Status),
    /// There is nothing to do yet, and why.
    Nothing(Cow<'static, str>),
    /// A task or a record is left alone for a while; another may do.
    PassedOver,
}

/// Runs experiments until the node shuts down.
/// Experiments are proposed by the language model `llm`, or by the built-in proposer when there is none.
pub async fn run(engine: Arc<Engine>, llm: Option<ProviderConfig>, mut shutdown: Shutdown) {
    let client = llm.and_then(|config| {
        info!(llm = ?config, "a language model proposes");
        Client::new(config).inspect_err(|error| warn!(%error, "the language model cannot be used")).ok()
    });
    // Subscribed before the first look, so that nothing comes between a look and the wait after it.
    let events = engine.events.subscribe();
    let mut researcher = Researcher {
        engine,
        client,
        events,
        rounds: 0,
        refused: HashSet::new(),
        unfit: Aside::default(),
        barren: Aside::default(),
        hopeless: HashMap::new(),
    };
    let (mut failures, mut said) = (0, Cow::Borrowed(""));
    loop {
        let delay = match researcher.round(&mut shutdown).await {
            Ok(Round::Published(Status::Crash)) => {
                failures += 1;
                backoff(failures)
            }
            Ok(Round::Published(_)) => {
                failures = 0;
                Duration::ZERO
            }
            Ok(Round::Nothing(why)) => {
                if why != said {
                    info!("research waits: {why}");
                    said = why;
                }
                researcher.wait_for_news(&mut shutdown).await;
                LOOK_AT_MOST
            }
            Ok(Round::PassedOver) => LOOK_AT_MOST,
            Err(EngineError::Stopped) => return,
            Err(error) => {
                failures += 1;
                warn!(%error, retry_in = ?backoff(failures), "no experiment");
                backoff(failures)
            }
        };
        tokio::select! {
            () = sleep(delay) => {}
            () = stopped(&mut shutdown) => return,
        }
    }
}

/// The delay after so many failures in a row, at least 1.
fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << (failures.saturating_sub(1)).min(16)).min(BACKOFF_MOST)
}

struct Researcher {
    engine: Arc<Engine>,
    client: Option<Client>,
    events: broadcast::Receiver<StoreEvent>,
    rounds: u64,
    /// Scripts that the language refuses, so that they are not proposed again. Cleared when large.
    refused: HashSet<Cid>,
    /// Tasks that cannot be worked on now.
    unfit: Aside<TaskId>,
    /// Records that cannot be built on now.
    barren: Aside<RecordId>,
    /// Own tasks whose base script fails in every run, and how: left alone until the node restarts,
    /// for a task's script never changes. As many as a person made, each at the cost of a run.
    hopeless: HashMap<TaskId, String>,
}

/// Whether another run of the same script would fail alike.
fn repeats(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Script | FailureKind::Causality | FailureKind::Diverged)
}

/// For how long an error speaks against the task it came from. None when it is not the task's.
fn unfit_for(error: &EngineError) -> Option<Duration> {
    match error {
        EngineError::Task { .. } => Some(UNFIT),
        EngineError::Machine(failure) if failure.kind == FailureKind::Data => Some(UNFIT),
        EngineError::Artifact { .. } => Some(UNFIT_ARTIFACT),
        EngineError::Machine(_) | EngineError::Store(_) | EngineError::Publish(_) | EngineError::Stopped => None,
    }
}

/// For how long an error speaks against the record that was to be built on. A machine's failure
/// counts, too: inspecting a stranger's script may bring it about.
fn barren_for(error: &EngineError) -> Option<Duration> {
    match error {
        EngineError::Machine(_) => Some(UNFIT),
        error => unfit_for(error),
    }
}

/// What the store knows of the task at the beginning of a round.
struct Scene {
    terms: Terms,
    goal: Goal,
    class: HardwareClass,
    view: TaskView,
    /// In (timestamp, id) order.
    records: Vec<RecordSummary>,
    /// Scripts that were tried in the class, or refused.
    tried: HashSet<Cid>,
}

impl Researcher {
    /// One experiment on the chosen task. A task that is not fit for one is left alone for a while,
    /// unless it is pinned.
    async fn round(&mut self, shutdown: &mut Shutdown) -> Result<Round, EngineError> {
        let hopeless: HashSet<TaskId> = self.hopeless.keys().copied().collect();
        let mut unfit = self.unfit.at(Instant::now());
        unfit.extend(&hopeless);
        let fit = self.engine.chosen_task(unfit).await?;
        let task = match fit {
            Some(task) => Some(task),
            // Better an unfit one than none; an error then delays this loop.
            None => self.engine.chosen_task(hopeless).await?,
        };
        let Some(task) = task else { return Ok(Round::Nothing(self.without_task())) };
        // A pinned one is chosen whatever is known of it.
        if let Some(reason) = self.hopeless.get(&task) {
            return Ok(Round::Nothing(reason.clone().into()));
        }
        let result = self.work(task, shutdown).await;
        let pinned = *self.engine.settings.pinned.borrow() == Some(task);
        match result {
            Err(error) if fit.is_some() && !pinned => {
                let Some(time) = unfit_for(&error) else { return Err(error) };
                warn!(%error, task = %task.short(), leave_for = ?time, "the task is passed over");
                self.unfit.put(task, Instant::now(), time);
                Ok(Round::PassedOver)
            }
            result => result,
        }
    }

    /// Why there is no task to work on.
    fn without_task(&self) -> Cow<'static, str> {
        match self.hopeless.values().min() {
            Some(reason) => reason.clone().into(),
            None => "no task that this node can run is known yet".into(),
        }
    }

    async fn work(&mut self, task: TaskId, shutdown: &mut Shutdown) -> Result<Round, EngineError> {
        let scene = self.scene(task).await?;
        let Some(root) = scene.view.root else {
            if scene.terms.manifest.created_by != self.engine.node_id() {
                return Ok(Round::Nothing("the task's creator has not published its root yet".into()));
            }
            let proposal = self.base(&scene.terms, "base script", "Everything else is compared with this.").await?;
            return self.experiment(&scene.terms, None, proposal, shutdown).await;
        };
        let candidates = candidates(&scene.class, &scene.records);
        if candidates.is_empty() {
            return self.baseline(&scene, root, shutdown).await;
        }
        let barren = self.barren.at(Instant::now());
        let fertile: Vec<_> = candidates.iter().filter(|candidate| !barren.contains(&candidate.id)).cloned().collect();
        let choices = if fertile.is_empty() { &candidates } else { &fertile };
        let stalled = stalled(scene.goal, &scene.class, &scene.records);
        let Some(pick) = choose(scene.goal, choices, stalled, self.seed()) else {
            return Ok(Round::Nothing("no record can be built on".into()));
        };
        let (parent, proposal) = match self.next(&scene, pick, shutdown).await {
            Ok((parent, Some(proposal))) => (parent, proposal),
            Ok((_, None)) => {
                let why = "nothing new was proposed: the script's tunables are exhausted, or it has none";
                return Ok(Round::Nothing(why.into()));
            }
            // As with tasks: where nothing else is left, an error is one.
            Err(error) if fertile.is_empty() => return Err(error),
            Err(error) => {
                let Some(time) = barren_for(&error) else { return Err(error) };
                warn!(%error, parent = %pick.parent.short(), leave_for = ?time, "a record cannot be built on");
                self.barren.put(pick.parent, Instant::now(), time);
                return Ok(Round::PassedOver);
            }
        };
        self.experiment(&scene.terms, Some(parent), proposal, shutdown).await
    }

    /// The picked parent with a proposal made out of it, if there is one.
    async fn next(
        &mut self,
        scene: &Scene,
        pick: Pick,
        shutdown: &mut Shutdown,
    ) -> Result<(Parent, Option<Proposal>), EngineError> {
        let parent = self.parent(scene, pick.parent).await?;
        let proposal = self.propose(scene, &parent, pick.explore, shutdown).await?;
        Ok((parent, proposal))
    }

    async fn scene(&mut self, task: TaskId) -> Result<Scene, EngineError> {
        let terms = self.engine.terms(task).await?;
        let class = self.engine.class();
        let (view, records) =
            self.engine.read(move |store| Ok((store.task(&task)?, store.task_summaries(&task)?))).await?;
        let view = view.ok_or_else(|| EngineError::Task { task, reason: "it is not known here".into() })?;
        // Refusals belong to a task's scripts; past this many, they are of old ones.
        if self.refused.len() > REFUSED {
            self.refused.clear();
        }
        let mut tried: HashSet<Cid> = records.iter().filter(|r| r.class == class).filter_map(|r| r.code_cid).collect();
        tried.extend(&self.refused);
        Ok(Scene { goal: terms.manifest.goal, terms, class, view, records, tried })
    }

    /// The first experiment in a class: the base script, unchanged.
    async fn baseline(&mut self, scene: &Scene, root: RecordId, shutdown: &mut Shutdown) -> Result<Round, EngineError> {
        let us = self.engine.node_id();
        let base = scene.terms.base_code;
        let crashed = |r: &RecordSummary| {
            r.node_id == us && r.class == scene.class && r.code_cid == Some(base) && r.status == Status::Crash
        };
        if scene.records.iter().any(crashed) {
            let reason = format!("its base script does not run on this device ({})", scene.class);
            return Err(EngineError::Task { task: scene.terms.task_id, reason });
        }
        let parent = self.parent(scene, root).await?;
        let description = format!("baseline on {}", scene.class);
        let hypothesis = "The base script unchanged, for comparison within this hardware class.";
        let proposal = self.base(&scene.terms, &description, hypothesis).await?;
        self.experiment(&scene.terms, Some(parent), proposal, shutdown).await
    }

    async fn base(&self, terms: &Terms, description: &str, hypothesis: &str) -> Result<Proposal, EngineError> {
        let script = self.engine.script(terms.base_code, Some(terms.manifest.created_by)).await?;
        Ok(Proposal {
            script,
            description: description.into(),
            hypothesis: hypothesis.into(),
            agent_model: "baseline".into(),
        })
    }

    async fn parent(&self, scene: &Scene, id: RecordId) -> Result<Parent, EngineError> {
        let refuse = |reason: &str| EngineError::Task {
            task: scene.terms.task_id,
            reason: format!("record {}: {reason}", id.short()),
        };
        let summary =
            scene.records.iter().find(|r| r.id == id).ok_or_else(|| refuse("not among the task's records"))?;
        let code = summary.code_cid.ok_or_else(|| refuse("it names no script"))?;
        let script = self.engine.script(code, Some(summary.node_id)).await?;
        Ok(Parent {
            id,
            depth: summary.depth,
            metric: summary.metric,
            class: summary.class.clone(),
            refuted: summary.verdict == Verdict::Rejected,
            script,
        })
    }

    /// Runs a proposal and publishes its record.
    async fn experiment(
        &mut self,
        terms: &Terms,
        parent: Option<Parent>,
        proposal: Proposal,
        shutdown: &mut Shutdown,
    ) -> Result<Round, EngineError> {
        let script = proposal.script.clone();
        // Before the record: whoever reads that may ask for the script at once.
        self.engine.read(move |store| store.put_artifact(script.as_bytes())).await?;
        let order = Order {
            terms,
            purpose: Purpose::Research,
            record: parent.as_ref().map(|p| p.id),
            script: proposal.script.clone(),
            steps: None,
            description: proposal.description.clone(),
        };
        info!(task = %terms.task_id.short(), change = %proposal.description, "experiment begins");
        let result = self.engine.train(order, shutdown).await?;
        if parent.is_none()
            && let Err(failure) = &result
        {
            return self.rootless(terms.task_id, failure);
        }
        let published = self.publish(terms, parent.as_ref(), &proposal, result, shutdown).await?;
        let metric = published.val_bpb;
        info!(id = %published.id().short(), status = %published.status, metric, steps = published.num_steps, "experiment published");
        Ok(Round::Published(published.status))
    }

    /// An own task's base script failed. No record tells of it: a root that crashed would be the
    /// task's root for ever.
    fn rootless(&mut self, task: TaskId, failure: &Failure) -> Result<Round, EngineError> {
        if !repeats(failure.kind) {
            return Err(EngineError::Task { task, reason: format!("its base script does not run here: {failure}") });
        }
        let reason = format!("the base script of task {} fails: {failure}; make another task", task.short());
        warn!("{reason}");
        self.hopeless.insert(task, reason);
        Ok(Round::PassedOver)
    }

    async fn publish(
        &self,
        terms: &Terms,
        parent: Option<&Parent>,
        proposal: &Proposal,
        result: Result<spore_trainer::worker::Outcome, Failure>,
        shutdown: &mut Shutdown,
    ) -> Result<Verified<Record>, EngineError> {
        let device = &self.engine.device;
        let backend = match device.backend {
            Backend::Wgpu => "wgpu",
            Backend::Flex => "flex",
        };
        let runner = Runner { node_id: self.engine.node_id(), gpu_model: device.gpu_model.clone(), backend };
        let measured = match &result {
            Ok(o) => Ok(Measured {
                metric: o.val_bpb,
                peak_memory: o.peak_memory_mb,
                steps: o.num_steps,
                params: o.num_params,
            }),
            Err(failure) => Err(failure.reason.as_str()),
        };
        let record = record(&terms.manifest, parent, proposal, &runner, measured, self.engine.now());
        self.engine.publish(&record, shutdown).await
    }

    /// Waits until the store changes, or a while.
    async fn wait_for_news(&mut self, shutdown: &mut Shutdown) {
        let mut pinned = self.engine.settings.pinned.clone();
        tokio::select! {
            // Lagging means news, too.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) = self.events.recv() => {}
            Ok(()) = pinned.changed() => {}
            () = sleep(LOOK_AGAIN) => {}
            () = stopped(shutdown) => {}
        }
    }

    /// A fresh seed for a choice: of the node, the time and a count, so that two nodes differ.
    fn seed(&mut self) -> u64 {
        self.rounds += 1;
        let mut bytes = self.engine.node_id().0.to_vec();
        bytes.extend(self.engine.now().to_be_bytes());
        bytes.extend(self.rounds.to_be_bytes());
        Cid::of(&bytes).0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_this_machines_fault_speaks_against_no_task() {
        let failure = |kind| EngineError::Machine(Failure { kind, reason: String::new() });
        let artifact = EngineError::Artifact { cid: Cid([1; 32]), reason: String::new() };
        let task = EngineError::Task { task: TaskId([1; 32]), reason: String::new() };
        for error in [task, failure(FailureKind::Data)] {
            assert_eq!((unfit_for(&error), barren_for(&error)), (Some(UNFIT), Some(UNFIT)), "{error}");
        }
        assert_eq!((unfit_for(&artifact), barren_for(&artifact)), (Some(UNFIT_ARTIFACT), Some(UNFIT_ARTIFACT)));
        let internal = failure(FailureKind::Internal);
        assert_eq!((unfit_for(&internal), barren_for(&internal)), (None, Some(UNFIT)));
        assert_eq!((unfit_for(&EngineError::Stopped), barren_for(&EngineError::Stopped)), (None, None));
    }

    #[test]
    fn what_another_run_may_cure_does_not_end_a_task() {
        use FailureKind::{Causality, Crashed, Deadline, Device, Diverged, Memory, Script};
        assert!([Script, Causality, Diverged].into_iter().all(repeats));
        assert!(![Deadline, Memory, Crashed, Device].into_iter().any(repeats));
    }

    #[test]
    fn delays_double_and_end() {
        assert_eq!(backoff(1), BACKOFF_FIRST);
        assert_eq!(backoff(4), BACKOFF_FIRST * 8);
        assert_eq!(backoff(u32::MAX), BACKOFF_MOST);
    }
}
