//! The built-in task: manifest, base script, evaluator and root record. Every copy of this program has the same ones, so
//! that nodes which start alone share a task when they meet.
//!
//! `examples/make_genesis.rs` made the files and discarded the key, so nobody can sign as the creator of this task again.
//! Never here: a way around the ingest service, which verifies these objects like any others.

use spore_ingest::{Disposition, IngestClosed, IngestHandle, Origin};
use spore_protocol::{Cid, Kind, Record, Reject, Signed, SignedObject, TaskId, TaskManifest};
use spore_storage::{Store, StoreError};

const MANIFEST: &str = include_str!("../genesis/manifest.json");
const ROOT: &str = include_str!("../genesis/root.json");
/// The built-in task's base script.
pub const SCRIPT: &str = include_str!("../genesis/train.star");
const EVALUATOR: &[u8] = include_bytes!("../genesis/evaluator.json");

/// Why the built-in task could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    #[error("the built-in task is damaged: {0}")]
    Damaged(#[from] Reject),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the built-in task could not be stored: {0}")]
    Refused(String),
    #[error(transparent)]
    Closed(#[from] IngestClosed),
}

/// The built-in task's manifest.
///
/// # Errors
/// Never in a released program, because a test reads the file.
pub fn manifest() -> Result<Signed<TaskManifest>, Reject> {
    Signed::from_json(MANIFEST.trim().as_bytes())
}

/// The built-in task's root record.
///
/// # Errors
/// As [`manifest`].
pub fn root() -> Result<Signed<Record>, Reject> {
    Signed::from_json(ROOT.trim().as_bytes())
}

/// The ids of the built-in tasks.
///
/// # Errors
/// As [`manifest`].
pub fn tasks() -> Result<Vec<TaskId>, Reject> {
    Ok(vec![TaskId::from(manifest()?.id())])
}

/// Puts the built-in task into the store, through the ingest service. Does nothing if the task is there already.
///
/// # Errors
/// [`GenesisError`].
pub async fn install(ingest: &IngestHandle, store: &Store) -> Result<TaskId, GenesisError> {
    let (manifest, root) = (manifest()?, root()?);
    let task = TaskId::from(manifest.id());
    for artifact in [SCRIPT.as_bytes(), EVALUATOR] {
        if store.artifact_path(&Cid::of(artifact)).is_none() {
            store.put_artifact(artifact)?;
        }
    }
    for object in [SignedObject::Task(manifest), SignedObject::Experiment(root)] {
        if store.contains(object.kind(), &object.id())? {
            continue;
        }
        let what = if object.kind() == Kind::Task { "manifest" } else { "root" };
        match ingest.submit(Origin::Import, object).await? {
            Disposition::Accepted | Disposition::Known => {}
            other => return Err(GenesisError::Refused(format!("{what}: {other:?}"))),
        }
    }
    Ok(task)
}

#[cfg(test)]
mod tests {
    use spore_protocol::Status;

    use super::*;

    #[test]
    fn built_in_task_is_complete() {
        let manifest = manifest().unwrap().verify().unwrap();
        let root = root().unwrap().verify().unwrap();
        assert_eq!(root.task_id, Some(manifest.id().into()));
        assert_eq!((root.parent, root.depth, root.status), (None, 0, Status::Keep));
        assert_eq!(root.node_id, manifest.created_by);
        assert_eq!(manifest.base_code_cid, Some(Cid::of(SCRIPT.as_bytes())));
        assert_eq!(root.code_cid, manifest.base_code_cid);
        assert_eq!(manifest.prepare_cid, Cid::of(EVALUATOR).to_string());
        assert_eq!(
            (&root.prepare_cid, &root.dataset_cid, root.time_budget),
            (&manifest.prepare_cid, &manifest.dataset_cid, manifest.time_budget)
        );
        assert!(root.val_bpb > 0.0 && root.num_steps > 0);
    }

    #[cfg(feature = "trainer")]
    #[test]
    fn trainer_accepts_the_built_in_task() {
        use spore_trainer::{corpus, evaluate::EvalSpec, lang};
        let manifest = manifest().unwrap();
        assert_eq!(manifest.dataset_cid, corpus::BUILTIN_CID.to_string());
        let spec = EvalSpec::from_bytes(EVALUATOR).unwrap();
        assert_eq!(spec, EvalSpec::for_budget(manifest.time_budget));
        let script = SCRIPT;
        let traced = lang::trace(script, &lang::Limits::default()).unwrap();
        assert!(traced.tunables.len() >= 3);
        assert_eq!(traced.graph.num_params(), root().unwrap().num_params);
        // The charge for the base script's description is far below the tolerance of verification.
        assert!(8.0 * (traced.graph.description_bytes() as f64) < 0.005 * corpus::BUILTIN_BYTES as f64 / 10.0);
    }
}
