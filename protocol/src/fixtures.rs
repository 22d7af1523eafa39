//! Builders of signed objects, for tests and for programs that fill a store (feature `fixtures`).
//!
//! Each builder returns a plain object with usual values. The caller changes the fields that matter
//! to it with struct update syntax, and signs the result:
//!
//! ```
//! use spore_protocol::{Record, TaskManifest, fixtures};
//!
//! let publisher = fixtures::identity(1);
//! let manifest = fixtures::sign(&publisher, &TaskManifest { time_budget: 60, ..fixtures::manifest(&publisher) });
//! let task = Some(manifest.id().into());
//! let root = fixtures::sign(&publisher, &fixtures::record(&publisher, task, None));
//! let child = Record { val_bpb: 1.5, ..fixtures::record(&publisher, task, Some(&root)) };
//! assert_eq!(fixtures::sign(&publisher, &child).depth, 1);
//! ```
//!
//! The same arguments give the same bytes, ids and signatures. Never here: keys that are in use
//! outside tests, for every seed is guessable.
#![allow(clippy::panic, reason = "a test that builds an invalid object must stop and say why")]

use crate::{
    ArtifactType, Cid, ControlEvent, Goal, Identity, NodeProfile, Object, Reason, Record, RecordId, Signed,
    SignedObject, Status, TaskId, TaskManifest, Verified,
    control::{Refutation, Rerun},
    manifest::MANIFEST_VERSION,
    profile::PROFILE_VERSION,
    record::RECORD_VERSION,
};

/// Timestamp of every manifest and root, in Unix seconds (November 2023). Each level of depth is a
/// minute later.
pub const EPOCH: u64 = 1_700_000_000;

/// The key of a 32-byte seed that repeats `number`.
pub fn identity(number: u8) -> Identity {
    Identity::from_seed(&[number; 32])
}

/// Signs an object that names `by` as its signer.
///
/// # Panics
/// When the object is invalid, or names another signer.
pub fn sign<T: Object>(by: &Identity, object: &T) -> Verified<T> {
    by.sign(object).unwrap_or_else(|reject| panic!("cannot sign {object:?}: {reject}"))
}

/// A manifest of a task that the trainer can run: minimize `val_bpb` within 20 seconds.
pub fn manifest(by: &Identity) -> TaskManifest {
    TaskManifest {
        name: "task".into(),
        description: String::new(),
        task_type: "ml_train".into(),
        artifact_type: ArtifactType::Starlark,
        metric: "val_bpb".into(),
        goal: Goal::Minimize,
        base_code_cid: Some(Cid::of(b"base")),
        prepare_cid: String::new(),
        dataset_cid: String::new(),
        time_budget: 20,
        created_by: by.node_id(),
        timestamp: EPOCH,
        version: MANIFEST_VERSION,
    }
}

/// A `keep` on a CPU, a child of `parent` or else a root. With a task it is of the current version,
/// without one of version 1. The metric improves by 0.001 with each level of depth, from 3.0.
#[allow(clippy::cast_precision_loss, reason = "depths of tests are far below 2^53")]
pub fn record(by: &Identity, task: Option<TaskId>, parent: Option<&Signed<Record>>) -> Record {
    let depth = parent.map_or(0, |parent| parent.depth + 1);
    Record {
        parent: parent.map(|parent| RecordId::from(parent.id())),
        depth,
        code_cid: Some(Cid::of(b"script")),
        diff: String::new(),
        dataset_cid: String::new(),
        prepare_cid: String::new(),
        time_budget: 20,
        val_bpb: 3.0 - 0.001 * depth as f64,
        peak_vram_mb: 12.5,
        num_steps: 100,
        num_params: 1000,
        status: Status::Keep,
        description: "a wider layer".into(),
        hypothesis: String::new(),
        agent_model: "test".into(),
        gpu_model: "CPU".into(),
        cuda_version: String::new(),
        torch_version: String::new(),
        node_id: by.node_id(),
        task_id: task,
        timestamp: EPOCH + 60 * depth,
        version: if task.is_some() { RECORD_VERSION } else { 1 },
    }
}

/// An endless chain of records: a root, then a child of each record before. `change` is called with
/// the depth of each record and the record, before it is signed. The chain keeps one record, so it
/// can be as long as the store that it fills.
pub fn chain(
    by: &Identity,
    task: Option<TaskId>,
    mut change: impl FnMut(u64, &mut Record),
) -> impl Iterator<Item = Verified<Record>> {
    let mut parent: Option<Verified<Record>> = None;
    std::iter::from_fn(move || {
        let mut next = record(by, task, parent.as_deref());
        change(next.depth, &mut next);
        let signed = sign(by, &next);
        parent = Some(signed.clone());
        Some(signed)
    })
}

/// A profile with a display name and nothing else.
pub fn profile(by: &Identity, display_name: &str) -> NodeProfile {
    NodeProfile {
        node_id: by.node_id(),
        display_name: display_name.into(),
        bio: String::new(),
        website: String::new(),
        avatar_url: String::new(),
        donation_address: String::new(),
        timestamp: EPOCH,
        schema_version: PROFILE_VERSION,
    }
}

/// A re-run of `record` by the node of `by`, on the record's own device, that measured `value`.
pub fn rerun(by: &Identity, record: &Signed<Record>, value: f64) -> Rerun {
    Rerun {
        experiment_id: record.id().into(),
        task_id: record.task_id,
        node_id: by.node_id(),
        gpu: record.gpu_model.clone(),
        value,
    }
}

/// A `verification` of `record` that measured `value`.
pub fn verification(by: &Identity, record: &Signed<Record>, value: f64, timestamp: u64) -> Verified<ControlEvent> {
    sign(by, &ControlEvent::verification(rerun(by, record, value), record.node_id, false, timestamp))
}

/// A `challenge` of `record` that measured `value`.
pub fn challenge(by: &Identity, record: &Signed<Record>, value: f64, timestamp: u64) -> Verified<ControlEvent> {
    sign(by, &ControlEvent::challenge(rerun(by, record, value), timestamp))
}

/// A `refutation` of `record` for `reason`, on the record's own device.
pub fn refutation(by: &Identity, record: &Signed<Record>, reason: Reason, timestamp: u64) -> Verified<ControlEvent> {
    let (experiment_id, task_id, node_id) = (record.id().into(), record.task_id, by.node_id());
    let gpu = record.gpu_model.clone();
    sign(by, &ControlEvent::refutation(Refutation { experiment_id, task_id, node_id, gpu, reason }, timestamp))
}

/// The same object with a signature that does not verify.
///
/// # Panics
/// Never: only the signature differs, and reading an object does not check it.
pub fn forged(object: &SignedObject) -> SignedObject {
    let mut signature = *object.signature();
    if let Some(byte) = signature.first_mut() {
        *byte ^= 1;
    }
    SignedObject::from_canonical(object.kind(), object.canonical(), signature)
        .unwrap_or_else(|reject| panic!("{object:?} cannot be read again: {reject}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VerifiedObject;

    #[test]
    fn objects_are_valid_and_the_same_on_each_call() {
        let (publisher, other) = (identity(1), identity(2));
        let objects = || -> Vec<VerifiedObject> {
            let manifest = sign(&publisher, &manifest(&publisher));
            let root = sign(&publisher, &record(&publisher, Some(manifest.id().into()), None));
            let event = verification(&other, &root, 3.0, EPOCH + 10);
            let profile = sign(&other, &profile(&other, "other"));
            vec![manifest.into(), root.into(), event.into(), profile.into()]
        };
        assert_eq!(objects(), objects());
    }

    #[test]
    fn chain_of_records_descends_from_one_root() {
        let publisher = identity(1);
        let chain: Vec<_> = chain(&publisher, None, |depth, record| record.num_steps = 10 + depth).take(5).collect();
        assert_eq!(chain.len(), 5);
        for (depth, record) in chain.iter().enumerate() {
            let parent = depth.checked_sub(1).map(|before| RecordId::from(chain[before].id()));
            assert_eq!((record.parent, record.depth, record.num_steps), (parent, depth as u64, 10 + depth as u64));
        }
    }

    #[test]
    fn forged_object_has_the_same_id_and_does_not_verify() {
        let publisher = identity(1);
        let object = VerifiedObject::from(sign(&publisher, &profile(&publisher, "one")));
        let forged = forged(&object);
        assert_eq!(forged.id(), object.id());
        assert_eq!(forged.verify(), Err(crate::Reject::BadSignature));
    }
}
