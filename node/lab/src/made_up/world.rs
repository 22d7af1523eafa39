//! A task in a real store, with its root, for tests of what research and verification read of a store.

use std::collections::BTreeSet;

use spore_protocol::{
    Cid, ControlEvent, HardwareClass, Identity, NodeId, Record, RecordId, TaskId, TaskManifest, Verified,
    VerifiedObject, control::Rerun, fixtures,
};
use spore_storage::Store;

/// The device of all records.
pub const DEVICE: &str = "CPU 4x8 (test)";
/// When all objects arrived, in Unix seconds.
const ARRIVED: u64 = 1_700_000_000;
/// Objects that are inserted at once.
const BATCH: usize = 512;

/// A store of the node `us` with one task.
pub struct World {
    _dir: tempfile::TempDir,
    pub store: Store,
    pub us: Identity,
    pub manifest: Verified<TaskManifest>,
    pub task: TaskId,
    pub root: Verified<Record>,
    made: u64,
}

impl World {
    /// A task of this node, which trusts itself, so the root holds.
    pub fn of_us() -> Self {
        Self::created_by(&fixtures::identity(1), BTreeSet::new())
    }

    /// A task of another node. This one trusts these keys and its own.
    pub fn of_another(trusted: BTreeSet<NodeId>) -> Self {
        Self::created_by(&fixtures::identity(9), trusted)
    }

    fn created_by(creator: &Identity, mut trusted: BTreeSet<NodeId>) -> Self {
        let (dir, us) = (tempfile::tempdir().unwrap(), fixtures::identity(1));
        trusted.insert(us.node_id());
        let store = Store::open_with_trust(dir.path(), trusted).unwrap();
        let manifest = fixtures::sign(creator, &fixtures::manifest(creator));
        let task = TaskId::from(manifest.id());
        let root = Record { gpu_model: DEVICE.into(), val_bpb: 2.5, ..fixtures::record(creator, Some(task), None) };
        let root = fixtures::sign(creator, &root);
        let world = Self { _dir: dir, store, us, manifest: manifest.clone(), task, root: root.clone(), made: 0 };
        world.insert(&[manifest.into(), root.into()]);
        world
    }

    pub fn class() -> HardwareClass {
        HardwareClass::of(DEVICE)
    }

    pub fn insert(&self, objects: &[VerifiedObject]) {
        for batch in objects.chunks(BATCH) {
            let report = self.store.insert(batch, ARRIVED).unwrap();
            assert_eq!(report.changes.len(), batch.len(), "{:?}", report.outcomes);
        }
    }

    /// A keep of `by` with a script of its own, not in the store. It is dated after all others, and `ahead` seconds more.
    pub fn keep(&mut self, by: &Identity, parent: &Verified<Record>, metric: f64, ahead: u64) -> Verified<Record> {
        self.made += 1;
        let record = Record {
            gpu_model: DEVICE.into(),
            val_bpb: metric,
            code_cid: Some(Cid::of(&self.made.to_be_bytes())),
            timestamp: self.root.timestamp + ahead + self.made,
            ..fixtures::record(by, Some(self.task), Some(parent))
        };
        fixtures::sign(by, &record)
    }

    /// Inserts what a re-run by `by` found.
    pub fn challenge(&self, by: &Identity, experiment_id: RecordId, timestamp: u64, value: f64) {
        let rerun = Rerun { experiment_id, task_id: Some(self.task), node_id: by.node_id(), gpu: DEVICE.into(), value };
        let event = ControlEvent::challenge(rerun, timestamp);
        self.insert(&[fixtures::sign(by, &event).into()]);
    }
}

/// The identity of this number.
pub fn key(number: u64) -> Identity {
    Identity::from_seed(&Cid::of(&number.to_le_bytes()).0)
}
