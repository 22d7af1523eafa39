//! Making a new task: the base script is checked, the artifacts are stored, the manifest is signed.
//!
//! The root is not made here: the creator's research loop runs the base script and publishes it.

use spore_protocol::{
    Cid, Goal, Identity, Reject, Signed, TaskManifest, Verified,
    manifest::{MANIFEST_VERSION, STARLARK_TRAIN_SCRIPT},
};
use spore_storage::{Store, StoreError};
use spore_trainer::{corpus, evaluate::EvalSpec, lang};

use crate::ingest::{Disposition, IngestHandle, Origin};

/// Longest training time of an experiment, in seconds: a day.
const MAX_BUDGET: u64 = 86_400;

/// What a person says of a new task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDraft {
    pub name: String,
    pub description: String,
    /// Such as `ml_train`.
    pub task_type: String,
    pub artifact_type: String,
    pub metric: String,
    pub goal: Goal,
    /// The base script's text.
    pub base: String,
    /// An artifact in the store; none: the built-in corpus.
    pub dataset: Option<Cid>,
    /// Training time of each experiment, in seconds.
    pub time_budget: u64,
}

/// Why a task was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("the base script cannot be used: {0}")]
    Script(#[from] lang::ScriptError),
    #[error("the training time must be 1 to {MAX_BUDGET} seconds, not {0}")]
    Budget(u64),
    #[error("this trainer runs {STARLARK_TRAIN_SCRIPT} with metric val_bpb and goal minimize; got {0}")]
    Unsupported(String),
    #[error("dataset {0} is not in the store: add it with `spore data add FILE`")]
    Dataset(Cid),
    #[error("the task needs a name")]
    Name,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the manifest cannot be signed: {0}")]
    Sign(#[from] Reject),
    #[error("the task could not be stored: {0}")]
    Publish(String),
}

/// Makes and publishes a task. The base script is the caller's own, so it is traced right here.
///
/// # Errors
/// [`CreateError`]; nothing is published then.
pub async fn create_task(
    store: &Store,
    ingest: &IngestHandle,
    identity: &Identity,
    draft: TaskDraft,
    now: u64,
) -> Result<Signed<TaskManifest>, CreateError> {
    let (store, identity) = (store.clone(), identity.clone());
    let prepared = tokio::task::spawn_blocking(move || prepare(&store, &identity, &draft, now)).await;
    let manifest = prepared.map_err(|_| CreateError::Publish("the node is shutting down".into()))??.into_signed();
    match ingest.submit(Origin::Local, spore_protocol::SignedObject::Task(manifest.clone())).await {
        Ok(Disposition::Accepted | Disposition::Known | Disposition::Pending) => Ok(manifest),
        Ok(Disposition::Rejected(reject)) => Err(CreateError::Publish(reject.to_string())),
        Ok(Disposition::Failed(reason)) => Err(CreateError::Publish(reason.to_string())),
        Err(error) => Err(CreateError::Publish(error.to_string())),
    }
}

/// All but publishing: checks the draft, stores its artifacts, signs the manifest.
///
/// # Errors
/// [`CreateError`].
pub fn prepare(
    store: &Store,
    identity: &Identity,
    draft: &TaskDraft,
    now: u64,
) -> Result<Verified<TaskManifest>, CreateError> {
    if draft.name.trim().is_empty() {
        return Err(CreateError::Name);
    }
    if !(1..=MAX_BUDGET).contains(&draft.time_budget) {
        return Err(CreateError::Budget(draft.time_budget));
    }
    if draft.artifact_type != STARLARK_TRAIN_SCRIPT || draft.metric != "val_bpb" || draft.goal != Goal::Minimize {
        return Err(CreateError::Unsupported(format!(
            "{} with metric {} and goal {}",
            draft.artifact_type, draft.metric, draft.goal
        )));
    }
    let dataset_cid = match draft.dataset {
        None => corpus::builtin_cid().to_owned(),
        Some(cid) if store.artifact_path(&cid).is_some() => cid.to_string(),
        Some(cid) => return Err(CreateError::Dataset(cid)),
    };
    lang::trace(&draft.base, &lang::Limits::default())?;
    let base = store.put_artifact(draft.base.as_bytes())?;
    let evaluator = store.put_artifact(&EvalSpec::for_budget(draft.time_budget).to_bytes())?;
    let manifest = TaskManifest {
        name: draft.name.clone(),
        description: draft.description.clone(),
        task_type: draft.task_type.clone(),
        artifact_type: draft.artifact_type.clone(),
        metric: draft.metric.clone(),
        goal: draft.goal,
        base_code_cid: Some(base),
        prepare_cid: evaluator.to_string(),
        dataset_cid,
        time_budget: draft.time_budget,
        created_by: identity.node_id(),
        timestamp: now,
        version: MANIFEST_VERSION,
    };
    Ok(identity.sign(&manifest)?)
}
