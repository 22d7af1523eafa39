//! What research and verification share: handles to the store, the ingest service and the artifact source, and the
//! device, on which one experiment runs at a time in a worker process.
//!
//! Every training of the node goes through [`Engine::train`] or [`Engine::rerun`], which hold the permit of the device: two experiments on
//! one device would spoil each other's step count. Never here: what to try, or what to believe.

mod error;
mod rerun;
mod worker;
mod works;

use std::{collections::HashSet, ops::RangeInclusive, sync::Arc, time::Duration};

use spore_base::{
    backoff::Backoff,
    clock::{Clock, ClockOffset},
    fetch::{ARTIFACT_LIMIT, ArtifactSource},
    progress::{Purpose, RunProgress},
    random,
    research_state::ResearchState,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::{Disposition, IngestHandle, Origin, StoreEvent};
use spore_protocol::{
    ArtifactType, Cid, HardwareClass, Identity, NodeId, Object, RecordId, Signed, SignedObject, TaskId, TaskManifest,
    Verified, VerifiedObject,
};
use spore_storage::{Store, StoreError, TaskView};
use spore_trainer::{
    corpus,
    device::{DeviceChoice, DeviceProfile},
    evaluate::EvalSpec,
    memory,
    worker::{DatasetSource, Failure, FailureKind, Inspection, RunResult, Script, Supervisor, TrainJob, threads},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, broadcast, watch},
    time::sleep,
};
use tracing::warn;

use self::worker::{TrainingTime, Watch, cancellable, run_on};
pub use self::{
    error::{Blame, EngineError},
    rerun::{Pace, Rerun},
    works::{Meaning, Ran, Work, Works},
};

/// Bytes of main memory for a worker when the system does not report how much there is.
const DEFAULT_MEMORY: u64 = 8 << 30;

/// Least bytes of main memory for a worker, where the machine has them.
const LEAST_MEMORY: u64 = 1 << 30;

/// Time budgets, in seconds, of tasks that a node works on unless its operator pinned another. An untrusted task may ask
/// for any time; an hour is what a device is lent for without a question.
const BUDGETS: RangeInclusive<u64> = 1..=3600;

/// First wait before an object is submitted again, and the longest.
const PUBLISH_WAIT_FIRST: Duration = Duration::from_secs(1);
const PUBLISH_WAIT_MOST: Duration = Duration::from_secs(60);
/// Times that an object is submitted again before it is given up: seven to fourteen minutes with these waits. A disk
/// that is full for longer needs a person.
const PUBLISH_RETRIES: u32 = 19;

/// What the operator of this node chose.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The task to work on. None for a built-in task, or one whose manifest a trusted key signed.
    pub pinned: watch::Receiver<Option<TaskId>>,
    /// The built-in tasks. The store knows the trusted keys.
    pub built_in: Vec<TaskId>,
    /// Share of others' records that this node re-runs, 0.0..=1.0.
    pub verify_rate: f64,
    /// Percent of the processor that training may use, 1..=100.
    pub resource: u32,
    pub device: DeviceChoice,
    /// Most bytes of main memory for a worker; see [`memory_limit`].
    pub memory_limit: u64,
}

/// Everything that research and verification work with. Both share one engine.
pub struct Engine {
    pub store: Store,
    pub ingest: IngestHandle,
    pub artifacts: Arc<dyn ArtifactSource>,
    pub identity: Identity,
    /// The device that `settings.device` means on this machine.
    pub device: DeviceProfile,
    pub supervisor: Supervisor,
    pub clock: Clock,
    pub settings: EngineSettings,
    pub events: broadcast::Sender<StoreEvent>,
    pub progress: watch::Sender<Option<RunProgress>>,
    pub research: watch::Sender<ResearchState>,
    /// One permit, which stands for the device.
    pub permit: Arc<Semaphore>,
    /// The records that this node re-runs now, and what it has run.
    pub works: Works,
}

/// The terms on which a task's experiments are compared, with everything that is needed to run one.
#[derive(Clone, Debug)]
pub struct Terms {
    pub task_id: TaskId,
    pub manifest: Signed<TaskManifest>,
    /// The script that the root ran.
    pub base_code: Cid,
    pub dataset: DatasetSource,
    pub eval: EvalSpec,
}

/// An experiment to run.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    pub terms: &'a Terms,
    pub purpose: Purpose,
    /// As in [`RunProgress::record`].
    pub record: Option<RecordId>,
    pub script: String,
    /// The number of steps of a recorded run that is repeated. None to train for the time budget.
    pub steps: Option<u64>,
    /// Added to the task's seed: 0 for everything that is published, so that a re-run repeats the run.
    pub seed_offset: u64,
    pub description: String,
}

/// Whether the node `us` runs experiments of the task: its trainer can, and an experiment takes no longer than an hour
/// unless the operator made or pinned the task.
pub fn runnable(task: &TaskView, pinned: Option<TaskId>, us: NodeId) -> bool {
    task.manifest.as_ref().is_some_and(|m| {
        m.artifact_type.measures(&m.metric)
            && m.base_code_cid.is_some()
            && (pinned == Some(task.task_id) || m.created_by == us || BUDGETS.contains(&m.time_budget))
    })
}

/// The trusted tasks that are stored.
fn trusted_tasks(store: &Store, built_in: &[TaskId]) -> Result<Vec<TaskView>, StoreError> {
    store.trusted_tasks(built_in)?.iter().filter_map(|task| store.task(task).transpose()).collect()
}

/// The oldest of this node's own tasks that has no root yet. Nobody else can publish that root.
fn own_without_root(tasks: &[TaskView], us: NodeId, fit: impl Fn(&TaskView) -> bool) -> Option<TaskId> {
    let own = tasks.iter().filter(|t| t.root.is_none() && fit(t)).filter_map(|t| {
        let manifest = t.manifest.as_ref().filter(|m| m.created_by == us)?;
        Some((manifest.timestamp, t.task_id))
    });
    own.min().map(|(_, task)| task)
}

/// The seed of every experiment of a task. It is the same for all, so that a re-run repeats the run.
pub fn task_seed(task: &TaskId) -> u64 {
    let digest = Cid::of(&[b"spore seed".as_slice(), task.as_bytes()].concat());
    digest.0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Three quarters of the main memory that this process may use, times the share that the node may use. At least a
/// gibibyte where that is there: a worker with less cannot open its dataset.
pub fn memory_limit(percent: u32) -> u64 {
    share_of_memory(memory::total(), percent)
}

fn share_of_memory(total: Option<u64>, percent: u32) -> u64 {
    let usable = total.map_or(DEFAULT_MEMORY, |total| total / 4 * 3);
    (usable / 100 * u64::from(percent.clamp(1, 100))).max(LEAST_MEMORY.min(usable))
}

impl Engine {
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    pub fn node_id(&self) -> NodeId {
        self.identity.node_id()
    }

    /// The hardware class of this node's device.
    pub fn class(&self) -> HardwareClass {
        HardwareClass::of(&self.device.gpu_model)
    }

    /// Reads the store on a blocking thread.
    ///
    /// # Errors
    /// The store's error, or [`EngineError::Stopped`] at shutdown.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || read(&store)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(EngineError::Stopped),
        }
    }

    /// The task to work on now: the pinned task, else an own task without a root, else the built-in task or the one
    /// signed by a trusted key in which most signers have confirmed records. Never a task of anybody else. Tasks in
    /// `unfit` are left out, unless pinned.
    ///
    /// # Errors
    /// The store's error.
    pub async fn chosen_task(&self, unfit: HashSet<TaskId>) -> Result<Option<TaskId>, EngineError> {
        let (pinned, us) = (*self.settings.pinned.borrow(), self.node_id());
        if pinned.is_some() {
            return Ok(pinned);
        }
        let built_in = self.settings.built_in.clone();
        self.read(move |store| {
            let fit = |task: &TaskView| runnable(task, None, us) && !unfit.contains(&task.task_id);
            match own_without_root(&trusted_tasks(store, &built_in)?, us, fit) {
                Some(own) => Ok(Some(own)),
                None => store.default_task(&built_in, |task| task.root.is_some() && fit(task)),
            }
        })
        .await
    }

    /// The tasks that this node verifies: the pinned task alone, else those with a root that it works on without being
    /// asked. All of them run here.
    ///
    /// # Errors
    /// The store's error.
    pub async fn followed_tasks(&self) -> Result<Vec<TaskView>, EngineError> {
        let (pinned, us) = (*self.settings.pinned.borrow(), self.node_id());
        let built_in = self.settings.built_in.clone();
        self.read(move |store| {
            let tasks = match pinned {
                Some(pinned) => store.task(&pinned)?.into_iter().collect(),
                None => trusted_tasks(store, &built_in)?,
            };
            Ok(tasks.into_iter().filter(|task| task.root.is_some() && runnable(task, pinned, us)).collect())
        })
        .await
    }

    /// The terms of a task. Fetches its evaluator and dataset when they are not here.
    ///
    /// # Errors
    /// [`EngineError::Task`] when this node cannot run the task, [`EngineError::Artifact`] or [`EngineError::Missing`]
    /// when its evaluator or dataset cannot be fetched now.
    pub async fn terms(&self, task_id: TaskId) -> Result<Terms, EngineError> {
        let refuse = |reason: &str| EngineError::Task { task: task_id, reason: reason.to_owned() };
        let view = self
            .read(move |store| store.task(&task_id))
            .await?
            .ok_or_else(|| refuse("its manifest has not arrived yet"))?;
        let manifest = view.manifest.clone().ok_or_else(|| refuse("it has no manifest"))?;
        if !runnable(&view, *self.settings.pinned.borrow(), self.node_id()) {
            let reason = format!(
                "its artifact type is {}, its metric {}, its time budget {} s; this node runs {} with metric val_bpb, for more than {} s only when it made or pinned the task",
                manifest.artifact_type,
                manifest.metric,
                manifest.time_budget,
                ArtifactType::Starlark,
                BUDGETS.end()
            );
            return Err(refuse(&reason));
        }
        let base_code = manifest.base_code_cid.ok_or_else(|| refuse("it names no base script"))?;
        let evaluator: Cid = manifest.prepare_cid.parse().map_err(|_| refuse("its evaluator is not named by a CID"))?;
        let eval = EvalSpec::from_bytes(&self.artifact(evaluator, Some(manifest.created_by)).await?)
            .map_err(|error| refuse(&error.to_string()))?;
        let dataset = self.dataset(&manifest).await?;
        Ok(Terms { task_id, manifest, base_code, dataset, eval })
    }

    async fn dataset(&self, manifest: &Signed<TaskManifest>) -> Result<DatasetSource, EngineError> {
        if manifest.dataset_cid == corpus::BUILTIN_CID.to_string() {
            return Ok(DatasetSource::Builtin);
        }
        let task = manifest.id().into();
        let refuse = |reason: &str| EngineError::Task { task, reason: reason.to_owned() };
        let cid: Cid = manifest.dataset_cid.parse().map_err(|_| refuse("its dataset is not named by a CID"))?;
        if self.store.artifact_path(&cid).is_none() {
            self.fetch(cid, Some(manifest.created_by)).await?;
        }
        let path = self
            .store
            .artifact_path(&cid)
            .ok_or_else(|| EngineError::Artifact { cid, reason: "it is not in the store".into() })?;
        Ok(DatasetSource::File { path, cid })
    }

    /// Checks a dataset that a worker could not use. A dataset that is damaged on disk is removed, and fetched again
    /// for the next run.
    pub(crate) async fn check_dataset(&self, dataset: &DatasetSource, error: EngineError) -> EngineError {
        let (EngineError::Machine(failure), DatasetSource::File { cid, .. }) = (&error, dataset) else { return error };
        let cid = *cid;
        if failure.kind != FailureKind::Data {
            return error;
        }
        match self.read(move |store: &Store| store.verify_artifact(&cid)).await {
            Ok(true) => error,
            Ok(false) => EngineError::Artifact { cid, reason: "it was damaged on disk".into() },
            Err(unread) => unread,
        }
    }

    /// The bytes of an artifact, fetched from the network when they are not in the store.
    ///
    /// # Errors
    /// [`EngineError::Missing`] when no peer has it, [`EngineError::Artifact`] when it cannot be fetched or read here.
    pub async fn artifact(&self, cid: Cid, hint: Option<NodeId>) -> Result<Vec<u8>, EngineError> {
        if let Some(bytes) = self.read(move |store| store.artifact(&cid)).await? {
            return Ok(bytes);
        }
        self.fetch(cid, hint).await?;
        let bytes = self.read(move |store| store.artifact(&cid)).await?;
        bytes.ok_or_else(|| EngineError::Artifact { cid, reason: "it is not in the store".into() })
    }

    /// The text of a script.
    ///
    /// # Errors
    /// As [`Engine::artifact`], and [`EngineError::Script`] when the artifact is not UTF-8.
    pub async fn script(&self, cid: Cid, hint: Option<NodeId>) -> Result<String, EngineError> {
        let bytes = self.artifact(cid, hint).await?;
        let unreadable = || Failure { kind: FailureKind::Script, reason: "the script is not UTF-8 text".into() };
        String::from_utf8(bytes).map_err(|_| EngineError::Script(unreadable()))
    }

    async fn fetch(&self, cid: Cid, hint: Option<NodeId>) -> Result<(), EngineError> {
        let fetched = self.artifacts.fetch_within(cid, hint, ARTIFACT_LIMIT).await;
        fetched.map_err(|error| EngineError::of_fetch(cid, &error))
    }

    /// Signs an object and submits it to the ingest service. While the store cannot take the object, it is submitted
    /// again for about ten minutes, because the work of an experiment is in it.
    ///
    /// # Errors
    /// [`EngineError::Publish`] when the object is refused or cannot be stored.
    pub async fn publish<T: Object>(&self, object: &T, shutdown: &mut Shutdown) -> Result<Verified<T>, EngineError>
    where
        VerifiedObject: From<Verified<T>>,
    {
        let verified = self.identity.sign(object).map_err(|reject| EngineError::Publish(reject.to_string()))?;
        let signed: SignedObject = VerifiedObject::from(verified.clone()).into_signed();
        let mut backoff = Backoff::new(PUBLISH_WAIT_FIRST, PUBLISH_WAIT_MOST);
        loop {
            let reason = match self.ingest.submit(Origin::Local, signed.clone()).await {
                Ok(Disposition::Accepted | Disposition::Known | Disposition::Pending) => return Ok(verified),
                Ok(Disposition::Rejected(reject)) => return Err(EngineError::Publish(reject.to_string())),
                Ok(Disposition::Later(reason)) => reason.to_string(),
                Ok(Disposition::Failed(reason)) => reason.to_string(),
                Err(_) => return Err(EngineError::Stopped),
            };
            if backoff.failures() == PUBLISH_RETRIES {
                return Err(EngineError::Publish(reason));
            }
            let delay = backoff.next(random::number());
            warn!(%reason, retry_in = ?delay, "an object could not be stored");
            tokio::select! {
                () = sleep(delay) => {}
                () = stopped(shutdown) => return Err(EngineError::Stopped),
            }
        }
    }

    /// The values that a script declares as tunable, and its identity. A worker process traces the script, because the
    /// script may come from an untrusted peer.
    ///
    /// # Errors
    /// [`EngineError::Script`] when the script does not trace, others when this machine fails.
    pub async fn inspect(&self, script: &str, shutdown: &mut Shutdown) -> Result<Inspection, EngineError> {
        let (supervisor, script) = (self.supervisor.clone(), Script::Starlark(script.to_owned()));
        cancellable(shutdown, move |cancel| supervisor.inspect(script, cancel)).await
    }

    /// Waits for the device and runs an experiment in a worker process.
    ///
    /// # Errors
    /// [`EngineError::Script`] is the experiment's own failure, worth a crash record. Others are this machine's, or a
    /// shutdown.
    pub async fn train(&self, order: Order<'_>, shutdown: &mut Shutdown) -> Result<RunResult, EngineError> {
        let _permit = self.device_permit(shutdown).await?;
        self.run(&order, &TrainingTime::default(), shutdown).await
    }

    async fn device_permit(&self, shutdown: &mut Shutdown) -> Result<SemaphorePermit<'_>, EngineError> {
        // A result that could not be signed is not worth the time of the device.
        if let Some(offset) = self.ingest.clock().filter(ClockOffset::is_wrong) {
            return Err(EngineError::Publish(offset.to_string()));
        }
        tokio::select! {
            permit = self.permit.acquire() => permit.map_err(|_| EngineError::Stopped),
            () = stopped(shutdown) => Err(EngineError::Stopped),
        }
    }

    /// Runs an experiment. The caller has the permit of the device. `time` gets the time that training took so far.
    async fn run(
        &self,
        order: &Order<'_>,
        time: &TrainingTime,
        shutdown: &mut Shutdown,
    ) -> Result<RunResult, EngineError> {
        let job = self.job(order);
        let shown = RunProgress {
            task_id: order.terms.task_id,
            purpose: order.purpose,
            record: order.record,
            step: 0,
            steps: 0,
            loss: None,
            elapsed: Duration::ZERO,
            description: order.description.clone(),
        };
        self.progress.send_replace(Some(shown));
        let (supervisor, progress, device) = (self.supervisor.clone(), self.progress.clone(), self.device.clone());
        let watch = Watch { device, progress, time: time.clone() };
        let result = cancellable(shutdown, move |cancel| run_on(&supervisor, &job, &watch, cancel)).await;
        self.progress.send_replace(None);
        match result {
            Err(error) => Err(self.check_dataset(&order.terms.dataset, error).await),
            done => done,
        }
    }

    fn job(&self, order: &Order<'_>) -> TrainJob {
        TrainJob {
            task: order.terms.task_id,
            script: Script::Starlark(order.script.clone()),
            dataset: order.terms.dataset.clone(),
            device: self.settings.device,
            seed: task_seed(&order.terms.task_id).wrapping_add(order.seed_offset),
            time_budget: order.terms.manifest.time_budget,
            steps: order.steps,
            eval: order.terms.eval.clone(),
            threads: threads(self.settings.resource),
            memory_limit: self.settings.memory_limit,
        }
    }
}

#[cfg(test)]
mod tests;
