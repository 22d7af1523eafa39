//! Data directories with records, for tests of programs that read them.
//!
//! Tests of the command line, the API and the page need records and no training. The objects are signed
//! and go through the real store; only their metrics are invented.

use std::{collections::BTreeSet, path::Path};

use spore_protocol::{
    Cid, Identity, NodeId, Record, RecordId, SignedObject, Status, TaskId, TaskManifest, VerifiedObject, fixtures,
};
use spore_storage::Store;

/// First timestamp (September 2025). A minute lies between two records.
pub const EPOCH: u64 = 1_757_000_000;
/// Id of a dataset that does not exist. No test trains on these tasks.
const DATASET: [u8; 32] = [0xda; 32];

/// A task with records, some of them verified.
pub struct SeededTask {
    /// Signs the manifest and all records.
    pub publisher: Identity,
    /// Signs a verification of each second record.
    pub verifier: Identity,
    pub task: TaskId,
    /// The root, then a chain in which each third record is a discard.
    pub records: Vec<RecordId>,
    objects: Vec<VerifiedObject>,
    scripts: Vec<Vec<u8>>,
}

impl SeededTask {
    /// The task with this number, with `count` records. The same number gives the same objects, and a
    /// larger `count` only adds records.
    pub fn new(number: u8, count: usize) -> Self {
        let (publisher, verifier) = (fixtures::identity(number), fixtures::identity(number ^ 0x80));
        let base = script(0);
        let manifest = fixtures::sign(&publisher, &manifest(number, &publisher, Cid::of(&base)));
        let task = TaskId::from(manifest.id());
        let mut history = Self {
            publisher,
            verifier,
            task,
            records: Vec::new(),
            objects: vec![manifest.into()],
            scripts: Vec::new(),
        };
        let mut parent = None;
        for index in 0..count {
            parent = history.extend(index, parent);
        }
        history
    }

    /// Adds a record. Returns id and depth of the next record's parent.
    fn extend(&mut self, index: usize, parent: Option<(RecordId, u64)>) -> Option<(RecordId, u64)> {
        let script = script(index);
        let record = record(&self.publisher, Some(self.task), index, parent, &script);
        let signed = fixtures::sign(&self.publisher, &record);
        let id = RecordId::from(signed.id());
        self.records.push(id);
        self.scripts.push(script);
        self.objects.push(signed.clone().into());
        if index % 2 == 1 {
            let event = fixtures::verification(&self.verifier, &signed, record.val_bpb, record.timestamp + 30);
            self.objects.push(event.into());
        }
        if record.status == Status::Keep { Some((id, record.depth)) } else { parent }
    }

    /// Ids of the verified records.
    pub fn verified(&self) -> impl Iterator<Item = &RecordId> {
        self.records.iter().skip(1).step_by(2)
    }

    /// The task's manifest in JSON.
    pub fn manifest(&self) -> String {
        self.objects.first().map(|object| object.to_json()).unwrap_or_default()
    }

    /// All objects, each after those that it builds on.
    pub fn objects(&self) -> impl Iterator<Item = SignedObject> {
        self.objects.iter().map(|object| (**object).clone())
    }

    /// The script of the record with this index.
    pub fn script(&self, index: usize) -> &[u8] {
        &self.scripts[index]
    }

    /// Writes all objects and scripts into a data directory that no node uses. Its node trusts the verifier, and those
    /// that it trusted before.
    pub fn store(&self, dir: &Path) {
        let mut seeds = Store::open(dir).and_then(|store| store.seeds()).expect("a store");
        seeds.insert(self.verifier.node_id());
        trust(dir, &seeds);
        let store = Store::open_with_trust(dir, seeds).expect("a store");
        for script in &self.scripts {
            store.put_artifact(script).expect("room for a script");
        }
        let report = store.insert(&self.objects, EPOCH).expect("room for a few records");
        assert_eq!(report.changes.len(), self.objects.len(), "all of them are stored");
    }
}

/// Writes the trusted keys into a directory's configuration.
pub fn trust(dir: &Path, seeds: &BTreeSet<NodeId>) {
    let path = dir.join("config.toml");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let others = known.lines().filter(|line| !line.starts_with("trust = "));
    let keys: Vec<_> = seeds.iter().map(|node| format!("\"{node}\"")).collect();
    let trust = format!("trust = [{}]", keys.join(", "));
    // The key is one of the top level, so it comes before all tables.
    let lines: Vec<_> = std::iter::once(trust.as_str()).chain(others).collect();
    std::fs::write(path, lines.join("\n") + "\n").expect("room for a file");
}

/// A chain of version 1 records, which sign no task. The first one founds a legacy task, and each is
/// better than the one before. A minute lies between two records.
pub fn legacy_chain(publisher: &Identity, count: usize) -> Vec<SignedObject> {
    let timestamps: Vec<_> = (0..count as u64).map(|index| EPOCH + 60 * index).collect();
    legacy_chain_at(publisher, &timestamps)
}

/// As [`legacy_chain`], with these timestamps, which need not be in order.
pub fn legacy_chain_at(publisher: &Identity, timestamps: &[u64]) -> Vec<SignedObject> {
    let mut parent = None;
    let mut made = Vec::new();
    for (index, timestamp) in timestamps.iter().enumerate() {
        let record = Record {
            status: Status::Keep,
            timestamp: *timestamp,
            val_bpb: 4.0 - 0.1 * index as f64,
            ..record(publisher, None, index, parent, &script(index))
        };
        let signed = fixtures::sign(publisher, &record);
        parent = Some((RecordId::from(signed.id()), record.depth));
        made.push(VerifiedObject::from(signed).into_signed());
    }
    made
}

/// A second root of this task, which is stray because the task's creator did not sign it.
pub fn stray_root(publisher: &Identity, task: TaskId) -> SignedObject {
    let record = record(publisher, Some(task), 0, None, &script(0));
    VerifiedObject::from(fixtures::sign(publisher, &record)).into_signed()
}

fn script(index: usize) -> Vec<u8> {
    let text = include_str!("../scripts/tiny.star").replace("0.005,", &format!("0.{:03},", 5 + index));
    text.into_bytes()
}

pub(crate) fn manifest(number: u8, by: &Identity, base: Cid) -> TaskManifest {
    TaskManifest {
        name: format!("history-{number}"),
        description: "Made for a test".into(),
        base_code_cid: Some(base),
        prepare_cid: Cid(DATASET).to_string(),
        dataset_cid: Cid(DATASET).to_string(),
        timestamp: EPOCH,
        ..fixtures::manifest(by)
    }
}

pub(crate) fn record(
    by: &Identity,
    task: Option<TaskId>,
    index: usize,
    parent: Option<(RecordId, u64)>,
    script: &[u8],
) -> Record {
    let discard = index % 3 == 2;
    Record {
        parent: parent.map(|(id, _)| id),
        depth: parent.map_or(0, |(_, depth)| depth + 1),
        code_cid: Some(Cid::of(script)),
        diff: if index == 0 {
            String::new()
        } else {
            format!("--- a/train.star\n+++ b/train.star\n@@ -4 +4 @@\n-rate {}\n+rate {index}\n", index - 1)
        },
        dataset_cid: Cid(DATASET).to_string(),
        prepare_cid: Cid(DATASET).to_string(),
        val_bpb: 3.0 - 0.01 * index as f64 + if discard { 0.5 } else { 0.0 },
        peak_vram_mb: 120.5,
        num_steps: 400 + index as u64,
        num_params: 45_000,
        status: if discard { Status::Discard } else { Status::Keep },
        description: format!("learning rate number {index}"),
        hypothesis: "a made-up one".into(),
        cuda_version: "none".into(),
        torch_version: "none".into(),
        timestamp: EPOCH + 60 * (index as u64 + 1),
        ..fixtures::record(by, task, None)
    }
}
