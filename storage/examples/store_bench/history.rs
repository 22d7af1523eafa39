//! A synthetic history of a research network: tasks, nodes with their devices, and records that build on each other,
//! in the order of publication.
//!
//! One task has most records, one has exactly [`GRAPH_TASK`] if the history is long enough, and some are small. A
//! record's parent is a recent keep of its task, so the trees grow deep and wide.

use std::{error::Error, thread};

use spore_protocol::{
    Cid, Goal, Identity, Record, RecordId, SignedObject, Status, TaskId, TaskManifest, VerifiedObject,
    manifest::MANIFEST_VERSION, record::RECORD_VERSION,
};

use crate::{dice::Dice, prose};

/// Records of the task whose graph is requested.
pub const GRAPH_TASK: usize = 50_000;
/// Tasks besides the two large ones.
const SMALL_TASKS: usize = 24;
/// One record in this many belongs to a small task.
const SMALL_SHARE: usize = 20;
const NODES: usize = 250;
const BEGIN: u64 = 1_730_000_000;
/// Most records made at once. Each builds only on records of earlier rounds.
const ROUND: usize = 8192;

const DEVICES: &[&str] = &[
    "NVIDIA GeForce RTX 4090",
    "NVIDIA H100 80GB HBM3",
    "NVIDIA GeForce RTX 3090",
    "Apple M4 Max",
    "NVIDIA A100-SXM4-80GB",
    "NVIDIA GeForce RTX 5090",
    "AMD Radeon RX 7900 XTX",
    "NVIDIA RTX A6000",
    "NVIDIA GeForce RTX 4070 Ti",
    "CPU",
];

/// A node and its devices.
struct MadeNode {
    identity: Identity,
    devices: Vec<&'static str>,
}

/// What a child needs to know of its parent.
#[derive(Clone, Copy)]
struct Keep {
    id: RecordId,
    depth: u64,
    metric: f64,
}

/// A task while the history grows.
struct TaskHistory {
    id: TaskId,
    manifest: TaskManifest,
    keeps: Vec<Keep>,
    records: usize,
}

fn nodes() -> Vec<MadeNode> {
    let mut dice = Dice::new(1);
    (0..NODES)
        .map(|_| MadeNode {
            identity: Identity::from_seed(&dice.bytes()),
            devices: (0..1 + dice.below(2)).map(|_| dice.word(DEVICES)).collect(),
        })
        .collect()
}

fn manifest(number: usize, creator: &Identity) -> TaskManifest {
    let mut dice = Dice::new(1000 + number as u64);
    TaskManifest {
        name: format!("benchmark task {number}"),
        description: "Bits per byte on held-out text, within the time budget.".into(),
        task_type: "ml_train".into(),
        artifact_type: "starlark_train_script".into(),
        metric: "val_bpb".into(),
        goal: Goal::Minimize,
        base_code_cid: Some(Cid(dice.bytes())),
        prepare_cid: Cid(dice.bytes()).to_string(),
        dataset_cid: Cid(dice.bytes()).to_string(),
        time_budget: 300,
        created_by: creator.node_id(),
        timestamp: BEGIN - 1000 + number as u64,
        version: MANIFEST_VERSION,
    }
}

/// The task of the next record. Each task gets its root first.
fn next_task(number: usize, total: usize, lines: &[TaskHistory], dice: &mut Dice) -> usize {
    if number < lines.len() {
        return number;
    }
    let graph = lines.get(1).map_or(0, |line| line.records);
    if total >= 2 * GRAPH_TASK && graph < GRAPH_TASK && graph * total < number * GRAPH_TASK + total {
        1
    } else if dice.below(SMALL_SHARE) == 0 {
        2 + dice.below(SMALL_TASKS)
    } else {
        0
    }
}

/// The place, among the objects of a history of `total` records, of the manifest of the task with [`GRAPH_TASK`]
/// records; of the largest task when the history is too short.
pub fn graph_task(total: usize) -> usize {
    usize::from(total >= 2 * GRAPH_TASK)
}

/// All objects in order: manifests first, then `total` records.
///
/// # Errors
/// When an object cannot be signed, which only a fault in this file can cause.
pub fn make(total: usize) -> Result<Vec<SignedObject>, Box<dyn Error>> {
    let nodes = nodes();
    let creator = nodes.first().ok_or("there are no nodes")?;
    let mut lines = Vec::new();
    let mut objects = Vec::with_capacity(total + SMALL_TASKS + 2);
    for number in 0..SMALL_TASKS + 2 {
        let manifest = manifest(number, &creator.identity);
        let signed = creator.identity.sign(&manifest)?;
        lines.push(TaskHistory { id: signed.id().into(), manifest, keeps: Vec::new(), records: 0 });
        objects.push(VerifiedObject::from(signed).into_signed());
    }
    let mut done = 0;
    while done < total {
        // First the roots, then rounds that grow with the trees, so that there are parents to choose from.
        let count = if done == 0 { lines.len() } else { (done / 8).clamp(1, ROUND) }.min(total - done);
        let mut drafts = Vec::with_capacity(count);
        for number in done..done + count {
            let mut dice = Dice::new(1 << 40 | number as u64);
            let line = next_task(number, total, &lines, &mut dice);
            if let Some(line) = lines.get_mut(line) {
                line.records += 1;
            }
            drafts.push((number, line, dice));
        }
        let cores = thread::available_parallelism()?.get();
        let signed: Vec<_> = thread::scope(|scope| {
            let (lines, nodes) = (&lines, &nodes);
            let parts = drafts.chunks(count.div_ceil(cores));
            let workers: Vec<_> = parts
                .map(|part| scope.spawn(move || part.iter().map(|draft| sign(draft, lines, nodes)).collect::<Vec<_>>()))
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        });
        for made in signed {
            let (line, keep, object) = made.map_err(|error| error.to_string())?;
            objects.push(object);
            if let (Some(line), Some(keep)) = (lines.get_mut(line), keep) {
                line.keeps.push(keep);
            }
        }
        done += count;
    }
    if objects.len() != total + lines.len() {
        return Err("a signing thread ended early".into());
    }
    Ok(objects)
}

type Draft = (usize, usize, Dice);
type SignedRecord = Result<(usize, Option<Keep>, SignedObject), Box<dyn Error + Send + Sync>>;

fn sign((number, line, dice): &Draft, lines: &[TaskHistory], nodes: &[MadeNode]) -> SignedRecord {
    let mut dice = dice.clone();
    let task = lines.get(*line).ok_or("no such task")?;
    let parent = parent(task, &mut dice);
    // A few nodes publish most of the records, and the creator publishes every root.
    let active = 1 + dice.below(nodes.len());
    let node = if parent.is_some() { nodes.get(dice.below(active)) } else { nodes.first() };
    let record = record(*number, task, node.ok_or("no such node")?, parent, &mut dice);
    let signed = node.ok_or("no such node")?.identity.sign(&record).map_err(|reject| reject.to_string())?;
    let keep = Keep { id: signed.id().into(), depth: record.depth, metric: record.val_bpb };
    Ok((*line, (record.status == Status::Keep).then_some(keep), VerifiedObject::from(signed).into_signed()))
}

/// Mostly one of the newest keeps. None for the first record.
fn parent(task: &TaskHistory, dice: &mut Dice) -> Option<Keep> {
    let recent = 1 + task.keeps.len() / 20;
    let back = if dice.chance(0.8) { dice.below(recent) } else { dice.below(task.keeps.len()) };
    let at = task.keeps.len().checked_sub(back + 1)?;
    task.keeps.get(at).copied()
}

#[allow(clippy::cast_precision_loss, reason = "made-up measurements")]
fn record(number: usize, task: &TaskHistory, node: &MadeNode, parent: Option<Keep>, dice: &mut Dice) -> Record {
    let texts = prose::texts(dice);
    let status = match dice.below(100) {
        _ if parent.is_none() => Status::Keep,
        0..25 => Status::Keep,
        25..88 => Status::Discard,
        _ => Status::Crash,
    };
    let from = parent.map_or(3.2, |parent| parent.metric);
    let val_bpb = match status {
        // The possible gain shrinks as a task progresses.
        Status::Keep => from - (from - 0.6) * dice.unit() * 0.02,
        Status::Discard => from + dice.unit() * 0.2,
        Status::Crash => 0.0,
    };
    Record {
        parent: parent.map(|parent| parent.id),
        depth: parent.map_or(0, |parent| parent.depth + 1),
        code_cid: Some(Cid(dice.bytes())),
        diff: if parent.is_some() { texts.diff } else { String::new() },
        dataset_cid: task.manifest.dataset_cid.clone(),
        prepare_cid: task.manifest.prepare_cid.clone(),
        time_budget: 300,
        val_bpb,
        peak_vram_mb: (dice.unit() * 240_000.0).round() / 10.0,
        num_steps: 200 + dice.below(20_000) as u64,
        num_params: (64 + dice.below(4096) as u64) * 12_288,
        status,
        description: texts.description,
        hypothesis: texts.hypothesis,
        agent_model: texts.author.into(),
        gpu_model: dice.word(&node.devices).into(),
        cuda_version: "12.8".into(),
        torch_version: "2.9.1+cu128".into(),
        node_id: node.identity.node_id(),
        task_id: Some(task.id),
        timestamp: BEGIN + number as u64 * 30 + dice.below(600) as u64,
        version: RECORD_VERSION,
    }
}
