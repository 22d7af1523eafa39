//! What research and verification share: the store, the ways in and out, the device and its
//! lease, and the running of one experiment in a worker process.
//!
//! Every training of the node goes through [`Engine::train`], which holds the device's lease, so
//! that two experiments never share a device and spoil each other's step count. Never here: what
//! to try, or what to believe.

mod worker;

use std::{collections::HashSet, ops::RangeInclusive, sync::Arc, time::Duration};

use spore_base::{
    clock::Clock,
    fetch::{ARTIFACT_LIMIT, ArtifactSource},
    progress::{Purpose, RunProgress},
    shutdown::{Shutdown, stopped},
};
use spore_ingest::{Disposition, IngestHandle, Origin, StoreEvent};
use spore_protocol::{
    Cid, HardwareClass, Identity, NodeId, Object, RecordId, Signed, SignedObject, TaskId, TaskManifest, Verified,
    VerifiedObject, manifest::STARLARK_TRAIN_SCRIPT,
};
use spore_storage::{Store, StoreError, TaskView};
use spore_trainer::{
    corpus,
    device::{DeviceChoice, DeviceProfile},
    evaluate::EvalSpec,
    lang::Tunable,
    worker::{DatasetSource, Failure, FailureKind, Job, Outcome, Supervisor, threads},
};
use tokio::{
    sync::{Semaphore, broadcast, watch},
    time::sleep,
};
use tracing::warn;

use self::worker::{cancellable, run_on};

/// Main memory for a worker where the system does not tell how much there is.
const DEFAULT_MEMORY: u64 = 8 << 30;

/// Seconds of training for which a node works on a task that nobody pinned: a stranger's task may
/// ask for any time, and an hour is what a device may be lent for without being asked.
const BUDGETS: RangeInclusive<u64> = 1..=3600;

/// Longest wait before an object is handed over again.
const PUBLISH_WAIT_MOST: Duration = Duration::from_secs(60);
/// Waits after which an object is given up: 1, 2, 4 .. 32, then 60 seconds each, ten minutes in all.
/// A disk that is full for longer needs a person.
const PUBLISH_RETRIES: u32 = 15;

/// What the node does with its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Experiments of its own, and spot checks of others'.
    Research,
    /// Re-runs of others' records only.
    Verify,
}

/// What a person chose for this node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The task to work on; none: the most active one that this node can run.
    pub pinned: watch::Receiver<Option<TaskId>>,
    /// Share of others' records that are re-run, 0.0..=1.0.
    pub verify_rate: f64,
    /// Share of the processor to use, in percent.
    pub resource: u32,
    pub device: DeviceChoice,
    /// Most bytes of main memory for a worker; see [`memory_limit`].
    pub memory_limit: u64,
}

/// Everything that research and verification work with. Shared by both.
pub struct Engine {
    pub store: Store,
    pub ingest: IngestHandle,
    pub artifacts: Arc<dyn ArtifactSource>,
    pub identity: Identity,
    /// What `settings.device` means on this machine.
    pub device: DeviceProfile,
    pub supervisor: Supervisor,
    pub clock: Clock,
    pub settings: Settings,
    pub events: broadcast::Sender<StoreEvent>,
    pub progress: watch::Sender<Option<RunProgress>>,
    /// One permit: the device.
    pub lease: Arc<Semaphore>,
}

/// Why the node could not do what it was about to do. None of these is a script's fault.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("artifact {cid} cannot be had: {reason}")]
    Artifact { cid: Cid, reason: String },
    #[error("task {} cannot be worked on here: {reason}", task.short())]
    Task { task: TaskId, reason: String },
    #[error("the object could not be published: {0}")]
    Publish(String),
    /// This machine's fault: the device, the disk.
    #[error("this machine could not run the experiment: {0}")]
    Machine(Failure),
    #[error("the node is shutting down")]
    Stopped,
}

/// By what a task's experiments are compared, with everything at hand to run one.
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
    /// Exactly this many steps, to repeat a recorded run.
    pub steps: Option<u64>,
    pub description: String,
}

/// Whether this node, `us`, runs experiments of the task: its trainer can, and they take no longer
/// than an hour, or a person asked for them by making the task here or pinning it.
pub fn runnable(task: &TaskView, pinned: Option<TaskId>, us: NodeId) -> bool {
    task.manifest.as_ref().is_some_and(|m| {
        m.artifact_type == STARLARK_TRAIN_SCRIPT
            && m.base_code_cid.is_some()
            && m.metric == "val_bpb"
            && (pinned == Some(task.task_id) || m.created_by == us || BUDGETS.contains(&m.time_budget))
    })
}

/// The oldest of this node's own tasks that has no root yet: nobody else can publish that.
fn rootless_own(tasks: &[TaskView], us: NodeId, fit: impl Fn(&TaskView) -> bool) -> Option<TaskId> {
    let own = tasks.iter().filter(|t| t.root.is_none() && fit(t)).filter_map(|t| {
        let manifest = t.manifest.as_ref().filter(|m| m.created_by == us)?;
        Some((manifest.timestamp, t.task_id))
    });
    own.min().map(|(_, task)| task)
}

/// How long to wait before an object is handed over again that could not be stored, after so many
/// such waits. None to give up.
fn retry_after(attempt: u32) -> Option<Duration> {
    (attempt < PUBLISH_RETRIES).then(|| Duration::from_secs(1 << attempt.min(6)).min(PUBLISH_WAIT_MOST))
}

/// The seed of every experiment of a task: with one seed, a re-run repeats the run.
pub fn task_seed(task: &TaskId) -> u64 {
    let digest = Cid::of(&[b"spore seed".as_slice(), task.as_bytes()].concat());
    digest.0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Three quarters of the machine's main memory, times the share that the node may use.
pub fn memory_limit(percent: u32) -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kib: u64 = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse()
            .ok()?;
        Some(kib * 1024)
    });
    let usable = total.map_or(DEFAULT_MEMORY, |total| total / 4 * 3);
    (usable / 100 * u64::from(percent.clamp(1, 100))).max(1 << 30)
}

impl Engine {
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    pub fn node_id(&self) -> NodeId {
        self.identity.node_id()
    }

    /// The class in which this node's results compare.
    pub fn class(&self) -> HardwareClass {
        HardwareClass::of(&self.device.gpu_model)
    }

    /// Reads the store on a blocking thread.
    ///
    /// # Errors
    /// What the store says.
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

    /// The task to work on now: the pinned one, else an own one that waits for its root, else the
    /// most active that has one. Those of `unfit` are left out, unless pinned.
    ///
    /// # Errors
    /// What the store says.
    pub async fn chosen_task(&self, unfit: HashSet<TaskId>) -> Result<Option<TaskId>, EngineError> {
        let (pinned, us) = (*self.settings.pinned.borrow(), self.node_id());
        if pinned.is_some() {
            return Ok(pinned);
        }
        self.read(move |store| {
            let fit = |task: &TaskView| runnable(task, None, us) && !unfit.contains(&task.task_id);
            match rootless_own(&store.tasks()?, us, fit) {
                Some(own) => Ok(Some(own)),
                None => store.most_active_task_where(|task| task.root.is_some() && fit(task)),
            }
        })
        .await
    }

    /// What a task's experiments need. Fetches what is missing.
    ///
    /// # Errors
    /// [`EngineError::Task`] when this node cannot run the task, [`EngineError::Artifact`] when
    /// its evaluator or dataset cannot be had now.
    pub async fn terms(&self, task_id: TaskId) -> Result<Terms, EngineError> {
        let refuse = |reason: &str| EngineError::Task { task: task_id, reason: reason.to_owned() };
        let view =
            self.read(move |store| store.task(&task_id)).await?.ok_or_else(|| refuse("it is not known here yet"))?;
        let manifest = view.manifest.clone().ok_or_else(|| refuse("it has no manifest"))?;
        if !runnable(&view, *self.settings.pinned.borrow(), self.node_id()) {
            let reason = format!(
                "its artifact type is {} with metric {} and {} s of training; this node runs {STARLARK_TRAIN_SCRIPT} with metric val_bpb, and more than {} s only where the task is pinned or its own",
                manifest.artifact_type,
                manifest.metric,
                manifest.time_budget,
                BUDGETS.end()
            );
            return Err(refuse(&reason));
        }
        let base_code = manifest.base_code_cid.ok_or_else(|| refuse("it names no base script"))?;
        let evaluator: Cid = manifest.prepare_cid.parse().map_err(|_| refuse("its evaluator is no artifact"))?;
        let eval = EvalSpec::from_bytes(&self.artifact(evaluator, Some(manifest.created_by)).await?)
            .map_err(|error| refuse(&error.to_string()))?;
        let dataset = self.dataset(&manifest).await?;
        Ok(Terms { task_id, manifest, base_code, dataset, eval })
    }

    async fn dataset(&self, manifest: &Signed<TaskManifest>) -> Result<DatasetSource, EngineError> {
        if manifest.dataset_cid == corpus::builtin_cid() {
            return Ok(DatasetSource::Builtin);
        }
        let task = manifest.id().into();
        let refuse = |reason: &str| EngineError::Task { task, reason: reason.to_owned() };
        let cid: Cid = manifest.dataset_cid.parse().map_err(|_| refuse("its dataset is no artifact"))?;
        if self.store.artifact_path(&cid).is_none() {
            self.fetch(cid, Some(manifest.created_by)).await?;
        }
        let path = self
            .store
            .artifact_path(&cid)
            .ok_or_else(|| EngineError::Artifact { cid, reason: "it is not in the store".into() })?;
        Ok(DatasetSource::File { path, cid: cid.to_string() })
    }

    /// A dataset that a worker could not use may be damaged on disk: then it is removed, and fetched
    /// again for the next run.
    pub(crate) async fn suspect(&self, dataset: &DatasetSource, error: EngineError) -> EngineError {
        let (EngineError::Machine(failure), DatasetSource::File { cid, .. }) = (&error, dataset) else { return error };
        let Some(cid) = cid.parse().ok().filter(|_| failure.kind == FailureKind::Data) else { return error };
        match self.read(move |store: &Store| store.verify_artifact(&cid)).await {
            Ok(true) => error,
            Ok(false) => EngineError::Artifact { cid, reason: "it was damaged on disk".into() },
            Err(unread) => unread,
        }
    }

    /// An artifact's bytes, from the network if the store has it not.
    ///
    /// # Errors
    /// [`EngineError::Artifact`] when no peer has it.
    pub async fn artifact(&self, cid: Cid, hint: Option<NodeId>) -> Result<Vec<u8>, EngineError> {
        if let Some(bytes) = self.read(move |store| store.artifact(&cid)).await? {
            return Ok(bytes);
        }
        self.fetch(cid, hint).await?;
        let bytes = self.read(move |store| store.artifact(&cid)).await?;
        bytes.ok_or_else(|| EngineError::Artifact { cid, reason: "it is not in the store".into() })
    }

    /// A script's text.
    ///
    /// # Errors
    /// As [`Engine::artifact`], or it is not UTF-8.
    pub async fn script(&self, cid: Cid, hint: Option<NodeId>) -> Result<String, EngineError> {
        let bytes = self.artifact(cid, hint).await?;
        String::from_utf8(bytes).map_err(|_| EngineError::Artifact { cid, reason: "it is not a text".into() })
    }

    async fn fetch(&self, cid: Cid, hint: Option<NodeId>) -> Result<(), EngineError> {
        let fail = |reason: String| EngineError::Artifact { cid, reason };
        self.artifacts.fetch_within(cid, hint, ARTIFACT_LIMIT).await.map_err(|error| fail(error.to_string()))
    }

    /// Signs an object and hands it to `ingest`, as any other. While the store cannot take it, the
    /// same object is handed over again for about ten minutes: an experiment's work is in it.
    ///
    /// # Errors
    /// [`EngineError::Publish`] when it is refused or cannot be stored.
    pub async fn publish<T: Object>(&self, object: &T, shutdown: &mut Shutdown) -> Result<Verified<T>, EngineError>
    where
        VerifiedObject: From<Verified<T>>,
    {
        let verified = self.identity.sign(object).map_err(|reject| EngineError::Publish(reject.to_string()))?;
        let signed: SignedObject = VerifiedObject::from(verified.clone()).into_signed();
        let mut attempt = 0;
        loop {
            let reason = match self.ingest.submit(Origin::Local, signed.clone()).await {
                Ok(Disposition::Accepted | Disposition::Known | Disposition::Pending) => return Ok(verified),
                Ok(Disposition::Rejected(reject)) => return Err(EngineError::Publish(reject.to_string())),
                Ok(Disposition::Failed(reason)) => reason,
                Err(_) => return Err(EngineError::Stopped),
            };
            let Some(delay) = retry_after(attempt) else { return Err(EngineError::Publish(reason.to_string())) };
            warn!(%reason, retry_in = ?delay, "an object could not be stored");
            tokio::select! {
                () = sleep(delay) => {}
                () = stopped(shutdown) => return Err(EngineError::Stopped),
            }
            attempt += 1;
        }
    }

    /// What a script offers for change, found out by a worker process: the script may be a
    /// stranger's.
    ///
    /// # Errors
    /// `Ok(Err(..))` tells what is wrong with the script, `Err(..)` what is wrong here.
    pub async fn inspect(
        &self,
        script: &str,
        shutdown: &mut Shutdown,
    ) -> Result<Result<Vec<Tunable>, String>, EngineError> {
        let (supervisor, script) = (self.supervisor.clone(), script.to_owned());
        let result = cancellable(shutdown, move |cancel| supervisor.inspect(&script, cancel)).await?;
        Ok(result.map_err(|failure| failure.reason))
    }

    /// Waits for the device and runs an experiment in a worker process.
    ///
    /// # Errors
    /// `Ok(Err(..))` is the experiment's own failure, worth a crash record; `Err(..)` is this
    /// machine's, or a shutdown.
    pub async fn train(
        &self,
        order: Order<'_>,
        shutdown: &mut Shutdown,
    ) -> Result<Result<Outcome, Failure>, EngineError> {
        let lease = tokio::select! {
            lease = self.lease.acquire() => lease.map_err(|_| EngineError::Stopped)?,
            () = stopped(shutdown) => return Err(EngineError::Stopped),
        };
        let job = self.job(&order);
        let shown = RunProgress {
            task_id: order.terms.task_id,
            purpose: order.purpose,
            record: order.record,
            step: 0,
            steps: 0,
            loss: None,
            elapsed: Duration::ZERO,
            description: order.description,
        };
        self.progress.send_replace(Some(shown));
        let (supervisor, progress, device) = (self.supervisor.clone(), self.progress.clone(), self.device.clone());
        let result = cancellable(shutdown, move |cancel| run_on(&supervisor, &job, &device, &progress, cancel)).await;
        self.progress.send_replace(None);
        drop(lease);
        match result {
            Err(error) => Err(self.suspect(&order.terms.dataset, error).await),
            done => done,
        }
    }

    fn job(&self, order: &Order<'_>) -> Job {
        Job {
            script: order.script.clone(),
            dataset: order.terms.dataset.clone(),
            device: self.settings.device,
            seed: task_seed(&order.terms.task_id),
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
