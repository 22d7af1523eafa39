//! Small signed objects: the protocol's fixtures, with the values that these tests look for.

use std::ops::Deref;

use spore_protocol::{
    Goal, NodeProfile, Record, RecordId, TaskId, TaskManifest, Verified, VerifiedObject, control::Rerun, fixtures,
};

pub use spore_protocol::fixtures::identity;

pub fn manifest(creator: u8, goal: Goal) -> Verified<TaskManifest> {
    let creator = identity(creator);
    fixtures::sign(&creator, &TaskManifest { goal, timestamp: 10, ..fixtures::manifest(&creator) })
}

/// A version 2 keep of the class CPU; tests change what they are about.
pub fn record(
    signer: u8,
    task: Option<TaskId>,
    parent: Option<&Verified<Record>>,
    metric: f64,
    timestamp: u64,
) -> Record {
    Record {
        diff: "-a\n+b\n".into(),
        hypothesis: "more width helps".into(),
        agent_model: "built-in".into(),
        val_bpb: metric,
        timestamp,
        ..fixtures::record(&identity(signer), task, parent.map(Deref::deref))
    }
}

pub fn sign(signer: u8, record: &Record) -> Verified<Record> {
    fixtures::sign(&identity(signer), record)
}

pub fn task_of(manifest: &Verified<TaskManifest>) -> TaskId {
    manifest.id().into()
}

pub fn rerun(signer: u8, about: RecordId, task: Option<TaskId>, gpu: &str, value: f64) -> Rerun {
    Rerun { experiment_id: about, task_id: task, node_id: identity(signer).node_id(), gpu: gpu.into(), value }
}

pub fn verification(signer: u8, record: &Verified<Record>, value: f64, timestamp: u64) -> VerifiedObject {
    fixtures::verification(&identity(signer), record, value, timestamp).into()
}

pub fn profile(signer: u8, name: &str, timestamp: u64) -> Verified<NodeProfile> {
    let signer = identity(signer);
    fixtures::sign(&signer, &NodeProfile { timestamp, ..fixtures::profile(&signer, name) })
}
