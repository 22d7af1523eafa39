//! Makes a new task: checks the base script, stores the artifacts, signs the manifest.
//!
//! The root is not made here: the research service of the creator runs the base script and publishes the root.

use std::ops::RangeInclusive;

use spore_base::{
    name::{self, NameFault},
    script_text::normal,
};
use spore_ingest::{Disposition, IngestHandle, Origin};
use spore_protocol::{
    ArtifactType, Cid, Goal, Identity, Reject, Signed, TaskManifest, Verified,
    artifact::{python, starlark},
    manifest::MANIFEST_VERSION,
};
use spore_storage::{Store, StoreError};
use spore_trainer::{
    corpus, data,
    evaluate::{EvalError, EvalSpec},
    lang,
};
use tracing::info;

/// Longest training time of an experiment, in seconds: a day.
const MAX_BUDGET: u64 = 86_400;
/// Longest name of a task, in characters: a line of a terminal.
const MAX_NAME: usize = 80;
/// Words that stand for something else where a task is named: `auto` is the default task.
const RESERVED: [&str; 1] = ["auto"];
/// Longest description, in characters: a page of text.
const MAX_DESCRIPTION: usize = 2000;

/// A new task as a person describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDraft {
    pub name: String,
    pub description: String,
    /// Such as `ml_train`.
    pub task_type: String,
    pub artifact_type: ArtifactType,
    pub metric: String,
    pub goal: Goal,
    /// The base script's text. Empty for none, which only a Python task may have.
    pub base: String,
    /// The CID of an evaluator in the store. None for the one of the training time.
    pub evaluator: Option<Cid>,
    /// The CID of an artifact in the store. None for the built-in corpus.
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
    #[error(
        "the artifact type must be {own} with metric val_bpb and goal minimize, or {foreign}; got {0}",
        own = starlark::FORMAT.name,
        foreign = python::FORMAT.name
    )]
    Unsupported(String),
    #[error("dataset {0} is not in the store")]
    Dataset(Cid),
    #[error("evaluator {0} is not in the store")]
    Evaluator(Cid),
    #[error("the evaluator cannot be used: {0}")]
    BadEvaluator(#[from] EvalError),
    #[error("the base script has {length} bytes, at most {most} are possible")]
    LongScript { length: usize, most: usize },
    #[error(
        "the dataset has {size} bytes, but with {budget} s of training each it must have {} to {}",
        possible.start(),
        possible.end()
    )]
    DatasetSize { size: u64, budget: u64, possible: RangeInclusive<u64> },
    #[error("the task needs a name")]
    Name,
    #[error("{name:?} is no good name for a task: {fault}")]
    BadName { name: String, fault: NameFault },
    #[error("{0:?} is no name for a task: the word has a meaning of its own")]
    ReservedName(String),
    #[error("the {what} has {length} characters, at most {most} are possible")]
    TooLong { what: &'static str, length: usize, most: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the manifest cannot be signed: {0}")]
    Sign(#[from] Reject),
    #[error("the task could not be stored: {0}")]
    Publish(String),
}

/// The sizes in bytes that a dataset may have for `budget` seconds of training: its held-out part must be larger than
/// the part that is evaluated.
pub fn dataset_sizes(budget: u64) -> RangeInclusive<u64> {
    sizes_for(&EvalSpec::for_budget(budget))
}

fn sizes_for(spec: &EvalSpec) -> RangeInclusive<u64> {
    let least = (spec.eval_bytes / u64::from(spec.val_percent.max(1)) + 1) * 100;
    least.max(data::MIN_BYTES as u64)..=data::MAX_BYTES
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
        Ok(Disposition::Later(reason)) => Err(CreateError::Publish(reason.to_string())),
        Ok(Disposition::Failed(reason)) => Err(CreateError::Publish(reason.to_string())),
        Err(error) => Err(CreateError::Publish(error.to_string())),
    }
}

/// Checks the draft, stores its artifacts and signs the manifest, without publishing it. The base script is stored in
/// its normal form ([`spore_base::script_text`]).
///
/// # Errors
/// [`CreateError`].
pub fn prepare(
    store: &Store,
    identity: &Identity,
    draft: &TaskDraft,
    now: u64,
) -> Result<Verified<TaskManifest>, CreateError> {
    check_texts(draft)?;
    if !(1..=MAX_BUDGET).contains(&draft.time_budget) {
        return Err(CreateError::Budget(draft.time_budget));
    }
    let foreign = draft.artifact_type == ArtifactType::Python;
    let artifacts = if foreign { foreign_artifacts(store, draft)? } else { own_artifacts(store, draft)? };
    let Artifacts { base, evaluator, dataset } = artifacts;
    let manifest = TaskManifest {
        name: draft.name.clone(),
        description: draft.description.clone(),
        task_type: draft.task_type.clone(),
        artifact_type: draft.artifact_type.clone(),
        metric: draft.metric.clone(),
        goal: draft.goal,
        base_code_cid: base,
        prepare_cid: evaluator,
        dataset_cid: dataset,
        time_budget: draft.time_budget,
        created_by: identity.node_id(),
        timestamp: now,
        version: MANIFEST_VERSION,
    };
    Ok(identity.sign(&manifest)?)
}

/// What a manifest names.
struct Artifacts {
    base: Option<Cid>,
    /// Empty for none, as in the existing network. So is `dataset`.
    evaluator: String,
    dataset: String,
}

/// The artifacts of a task that this node's trainer can run, all of them in the store.
fn own_artifacts(store: &Store, draft: &TaskDraft) -> Result<Artifacts, CreateError> {
    let evaluated = draft.artifact_type.format().and_then(|format| format.evaluated);
    if !evaluated.is_some_and(|evaluated| evaluated.metric == draft.metric && evaluated.goal == draft.goal) {
        return Err(CreateError::Unsupported(format!(
            "{} with metric {} and goal {}",
            draft.artifact_type, draft.metric, draft.goal
        )));
    }
    let spec = match draft.evaluator {
        None => EvalSpec::for_budget(draft.time_budget),
        Some(cid) => EvalSpec::from_bytes(&store.artifact(&cid)?.ok_or(CreateError::Evaluator(cid))?)?,
    };
    let dataset = match draft.dataset {
        None => corpus::BUILTIN_CID.to_string(),
        Some(cid) => {
            check_dataset(store, cid, &spec, draft.time_budget)?;
            cid.to_string()
        }
    };
    let base = normal(&draft.base);
    if let Some(note) = base.note {
        info!("{note}");
    }
    lang::trace(&base.text, &lang::Limits::default())?;
    let base = store.put_artifact(base.text.as_bytes())?;
    let evaluator = store.put_artifact(&spec.to_bytes())?.to_string();
    Ok(Artifacts { base: Some(base), evaluator, dataset })
}

/// The artifacts of a task that only nodes of the existing network run. They have their own ways to get its data, so
/// nothing but the script needs to be here.
fn foreign_artifacts(store: &Store, draft: &TaskDraft) -> Result<Artifacts, CreateError> {
    let (length, most) = (draft.base.len(), python::FORMAT.max_bytes);
    if length > most {
        return Err(CreateError::LongScript { length, most });
    }
    let base = if draft.base.is_empty() { None } else { Some(store.put_artifact(draft.base.as_bytes())?) };
    let named = |cid: Option<Cid>| cid.map(|cid| cid.to_string()).unwrap_or_default();
    Ok(Artifacts { base, evaluator: named(draft.evaluator), dataset: named(draft.dataset) })
}

fn check_texts(draft: &TaskDraft) -> Result<(), CreateError> {
    if draft.name.trim().is_empty() {
        return Err(CreateError::Name);
    }
    name::check(&draft.name).map_err(|fault| CreateError::BadName { name: draft.name.clone(), fault })?;
    if RESERVED.contains(&draft.name.as_str()) {
        return Err(CreateError::ReservedName(draft.name.clone()));
    }
    for (what, text, most) in [("name", &draft.name, MAX_NAME), ("description", &draft.description, MAX_DESCRIPTION)] {
        let length = text.chars().count();
        if length > most {
            return Err(CreateError::TooLong { what, length, most });
        }
    }
    Ok(())
}

fn check_dataset(store: &Store, cid: Cid, spec: &EvalSpec, budget: u64) -> Result<(), CreateError> {
    // Every trainer generates the built-in corpus itself.
    if cid == corpus::BUILTIN_CID {
        return Ok(());
    }
    let size = store.artifact_size(&cid)?.ok_or(CreateError::Dataset(cid))?;
    let possible = sizes_for(spec);
    if possible.contains(&size) { Ok(()) } else { Err(CreateError::DatasetSize { size, budget, possible }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = include_str!("../../../../tests/scripts/tiny.star");

    fn draft() -> TaskDraft {
        TaskDraft {
            name: "n".into(),
            description: String::new(),
            task_type: "ml_train".into(),
            artifact_type: ArtifactType::Starlark,
            metric: "val_bpb".into(),
            goal: Goal::Minimize,
            base: String::new(),
            evaluator: None,
            dataset: None,
            time_budget: 20,
        }
    }

    #[test]
    fn smallest_dataset_holds_out_just_more_than_is_evaluated() {
        for budget in [1, 20, 300, MAX_BUDGET] {
            let (spec, least) = (EvalSpec::for_budget(budget), *dataset_sizes(budget).start());
            let held_out = |size: u64| size / 100 * u64::from(spec.val_percent);
            assert!(held_out(least) > spec.eval_bytes && held_out(least - 1) <= spec.eval_bytes, "{budget} s");
        }
    }

    #[test]
    fn python_task_names_what_its_network_has() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let identity = Identity::from_seed(&[7; 32]);
        let python = TaskDraft { artifact_type: ArtifactType::Python, metric: "val_acc".into(), ..draft() };
        let empty = prepare(&store, &identity, &python, 1).unwrap();
        assert_eq!((empty.base_code_cid, &*empty.prepare_cid, &*empty.dataset_cid), (None, "", ""));
        let (evaluator, dataset) = (Cid([1; 32]), Cid([2; 32]));
        let named =
            TaskDraft { base: "import torch\n".into(), evaluator: Some(evaluator), dataset: Some(dataset), ..python };
        let named = prepare(&store, &identity, &named, 1).unwrap();
        assert_eq!(named.base_code_cid, Some(Cid::of(b"import torch\n")));
        assert_eq!((&named.prepare_cid, &named.dataset_cid), (&evaluator.to_string(), &dataset.to_string()));
        assert!(
            store.artifact_size(&Cid::of(b"import torch\n")).unwrap().is_some(),
            "the script is here to be fetched"
        );
    }

    #[test]
    fn base_script_is_stored_without_a_mark_and_with_line_feeds() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let identity = Identity::from_seed(&[7; 32]);
        let stored = |base: String| prepare(&store, &identity, &TaskDraft { base, ..draft() }, 1).unwrap();
        let plain = stored(BASE.to_owned());
        for other in [BASE.replace('\n', "\r\n"), format!("\u{feff}{BASE}")] {
            assert_eq!(stored(other).base_code_cid, plain.base_code_cid);
        }
        assert_eq!(plain.base_code_cid, Some(Cid::of(BASE.as_bytes())));
    }

    #[test]
    fn unusable_datasets_and_long_texts_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let small = store.put_artifact(&[b'a'; 1000]).unwrap();
        let identity = Identity::from_seed(&[7; 32]);
        let refused = |change: &dyn Fn(&mut TaskDraft)| {
            let mut draft = draft();
            change(&mut draft);
            prepare(&store, &identity, &draft, 1).unwrap_err()
        };
        assert!(matches!(refused(&|d| d.dataset = Some(small)), CreateError::DatasetSize { size: 1000, .. }));
        assert!(matches!(refused(&|d| d.dataset = Some(Cid([7; 32]))), CreateError::Dataset(_)));
        assert!(matches!(refused(&|d| d.name = "x".repeat(81)), CreateError::TooLong { length: 81, .. }));
        assert!(matches!(refused(&|d| d.evaluator = Some(Cid([7; 32]))), CreateError::Evaluator(_)));
        assert!(matches!(refused(&|d| d.evaluator = Some(small)), CreateError::BadEvaluator(_)));
        assert!(matches!(refused(&|d| d.artifact_type = "other".into()), CreateError::Unsupported(_)));
        for name in ["tiny-gpt\u{200b}", "two\nlines", " blank"] {
            assert!(matches!(refused(&|d| d.name = name.into()), CreateError::BadName { .. }), "{name:?}");
        }
        assert!(matches!(refused(&|d| d.name = "auto".into()), CreateError::ReservedName(_)));
        assert!(matches!(
            refused(&|d| d.description = "x".repeat(2001)),
            CreateError::TooLong { what: "description", .. }
        ));
    }
}
