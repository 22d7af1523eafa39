//! Small signed objects, as a node would make them.

use spore_protocol::{
    Cid, ControlEvent, Goal, Identity, NodeProfile, Record, RecordId, Status, TaskId, TaskManifest, Verified,
    VerifiedObject, control::Rerun,
};

pub fn identity(n: u8) -> Identity {
    Identity::from_seed(&[n; 32])
}

pub fn manifest(creator: u8, goal: Goal) -> Verified<TaskManifest> {
    let creator = identity(creator);
    let manifest = TaskManifest {
        name: "tiny".into(),
        description: String::new(),
        task_type: "ml_train".into(),
        artifact_type: "starlark_train_script".into(),
        metric: "val_bpb".into(),
        goal,
        base_code_cid: Some(Cid::of(b"base")),
        prepare_cid: String::new(),
        dataset_cid: String::new(),
        time_budget: 20,
        created_by: creator.node_id(),
        timestamp: 10,
        version: 1,
    };
    creator.sign(&manifest).unwrap()
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
        parent: parent.map(|parent| RecordId::from(parent.id())),
        depth: parent.map_or(0, |parent| parent.depth + 1),
        code_cid: Some(Cid::of(b"script")),
        diff: "-a\n+b\n".into(),
        dataset_cid: String::new(),
        prepare_cid: String::new(),
        time_budget: 20,
        val_bpb: metric,
        peak_vram_mb: 12.5,
        num_steps: 100,
        num_params: 1000,
        status: Status::Keep,
        description: "a wider layer".into(),
        hypothesis: "more width helps".into(),
        agent_model: "built-in".into(),
        gpu_model: "CPU".into(),
        cuda_version: String::new(),
        torch_version: String::new(),
        node_id: identity(signer).node_id(),
        task_id: task,
        timestamp,
        version: if task.is_some() { 2 } else { 1 },
    }
}

pub fn sign(signer: u8, record: &Record) -> Verified<Record> {
    identity(signer).sign(record).unwrap()
}

pub fn task_of(manifest: &Verified<TaskManifest>) -> TaskId {
    manifest.id().into()
}

pub fn rerun(signer: u8, about: RecordId, task: Option<TaskId>, gpu: &str, value: f64) -> Rerun {
    Rerun { experiment_id: about, task_id: task, node_id: identity(signer).node_id(), gpu: gpu.into(), value }
}

pub fn verification(signer: u8, record: &Verified<Record>, value: f64, timestamp: u64) -> VerifiedObject {
    let rerun = rerun(signer, record.id().into(), record.task_id, &record.gpu_model, value);
    identity(signer).sign(&ControlEvent::verification(rerun, record.node_id, false, timestamp)).unwrap().into()
}

pub fn profile(signer: u8, name: &str, timestamp: u64) -> Verified<NodeProfile> {
    let identity = identity(signer);
    let profile = NodeProfile {
        node_id: identity.node_id(),
        display_name: name.into(),
        bio: String::new(),
        website: String::new(),
        avatar_url: String::new(),
        donation_address: String::new(),
        timestamp,
        schema_version: 1,
    };
    identity.sign(&profile).unwrap()
}
