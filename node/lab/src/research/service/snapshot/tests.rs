//! Research's view of a task in a real store, full of fakes and of other nodes' records.

use std::{collections::BTreeSet, time::Instant};

use spore_protocol::{ControlEvent, Identity, Record, TaskId, Verified, VerifiedObject, control::Rerun, fixtures};
use spore_trainer::{evaluate::EvalSpec, worker::DatasetSource};

use super::*;

const MODEL: &str = "CPU 4x8 (test)";

struct World {
    _dir: tempfile::TempDir,
    store: Store,
    us: Identity,
    terms: Terms,
    root: Verified<Record>,
    made: u64,
}

impl World {
    fn new() -> Self {
        Self::trusting(BTreeSet::new())
    }

    /// A world in which this node trusts these keys and its own.
    fn trusting(mut trusted: BTreeSet<NodeId>) -> Self {
        let (dir, us, creator) = (tempfile::tempdir().unwrap(), fixtures::identity(1), fixtures::identity(9));
        trusted.insert(us.node_id());
        let store = Store::open_with_trust(dir.path(), trusted).unwrap();
        let manifest = fixtures::sign(&creator, &fixtures::manifest(&creator));
        let task = TaskId::from(manifest.id());
        let root = Record { gpu_model: MODEL.into(), val_bpb: 2.5, ..fixtures::record(&creator, Some(task), None) };
        let root = fixtures::sign(&creator, &root);
        let terms = Terms {
            task_id: task,
            manifest: manifest.clone().into_signed(),
            base_code: Cid([1; 32]),
            dataset: DatasetSource::Builtin,
            eval: EvalSpec::for_budget(20),
        };
        let world = Self { _dir: dir, store, us, terms, root: root.clone(), made: 0 };
        world.insert(&[manifest.into(), root.into()]);
        world
    }

    fn insert(&self, objects: &[VerifiedObject]) {
        for batch in objects.chunks(512) {
            let report = self.store.insert(batch, 1_700_000_000).unwrap();
            assert_eq!(report.changes.len(), batch.len(), "{:?}", report.outcomes);
        }
    }

    fn keep(&mut self, by: &Identity, parent: &Verified<Record>, metric: f64) -> Verified<Record> {
        self.made += 1;
        let record = Record {
            gpu_model: MODEL.into(),
            val_bpb: metric,
            code_cid: Some(Cid::of(&self.made.to_be_bytes())),
            timestamp: self.root.timestamp + self.made,
            ..fixtures::record(by, Some(self.terms.task_id), Some(parent))
        };
        fixtures::sign(by, &record)
    }

    fn measured(&self, record: &Verified<Record>, value: f64) {
        let rerun = Rerun {
            experiment_id: record.id().into(),
            task_id: record.task_id,
            node_id: self.us.node_id(),
            gpu: MODEL.into(),
            value,
        };
        let event = ControlEvent::challenge(rerun, record.timestamp);
        self.insert(&[fixtures::sign(&self.us, &event).into()]);
    }

    fn read(&self) -> TaskSnapshot {
        let class = HardwareClass::of(MODEL);
        read(&self.store, self.us.node_id(), class, self.terms.clone(), NodeId([0; 32])).unwrap()
    }

    fn compared_with(&self, parent: &Verified<Record>) -> Option<f64> {
        reference(&self.store, self.us.node_id(), &HardwareClass::of(MODEL), parent.id().into()).unwrap()
    }
}

fn key(number: u64) -> Identity {
    Identity::from_seed(&Cid::of(&number.to_le_bytes()).0)
}

#[test]
fn task_is_not_believed_before_this_node_measured_its_root() {
    let world = World::new();
    let snapshot = world.read();
    assert!(snapshot.believed.is_empty() && snapshot.claims.is_empty() && snapshot.best.is_none());
    let root = snapshot.root.unwrap();
    assert!(is_open_to(&root, world.us.node_id(), &HardwareClass::of(MODEL)));
    assert!(!is_open_to(&root, root.node_id, &HardwareClass::of(MODEL)));
    world.measured(&world.root, 2.5);
    let snapshot = world.read();
    assert_eq!(snapshot.best.map(|r| r.id), Some(world.root.id().into()));
    assert_eq!(snapshot.believed.len(), 1);
}

#[test]
fn child_is_compared_with_what_was_measured_and_past_refuted_parents() {
    let mut world = World::new();
    let root = world.root.clone();
    assert_eq!(world.compared_with(&root), None, "the root is a claim");
    world.measured(&root, 2.501);
    assert_eq!(world.compared_with(&root), Some(2.501));
    let fake = world.keep(&key(3), &root, 0.0001);
    let grandchild = world.keep(&key(4), &fake, 0.00005);
    world.insert(&[fake.clone().into(), grandchild.clone().into()]);
    assert_eq!(world.compared_with(&grandchild), Some(2.501), "claims are no numbers");
    world.measured(&fake, 2.5);
    assert_eq!(world.compared_with(&fake), Some(2.501));
    let own = world.keep(&world.us.clone(), &fake, 2.4);
    world.insert(&[own.clone().into()]);
    assert_eq!(world.compared_with(&own), Some(2.4), "own records go on");
    let snapshot = world.read();
    let believed: HashSet<RecordId> = snapshot.believed.iter().map(|r| r.id).collect();
    assert_eq!(believed, HashSet::from([root.id().into(), own.id().into()]));
}

#[test]
fn record_that_only_others_measured_is_no_reference_and_one_refuted_here_no_parent() {
    let friend = key(9);
    let mut world = World::trusting(BTreeSet::from([friend.node_id()]));
    let root = world.root.clone();
    world.measured(&root, 2.501);
    let (false_one, other) = (world.keep(&friend, &root, 1.0), world.keep(&friend, &root, 2.4));
    world.insert(&[false_one.clone().into(), other.clone().into()]);
    let summary = |record: &Verified<Record>| world.store.summary(&record.id().into()).unwrap().unwrap();
    assert!(is_believed(&summary(&other), world.us.node_id()), "a trusted key's own claim holds");
    assert_eq!(world.compared_with(&false_one), Some(2.501), "past what this node has not measured");
    let confirms = |record: &Verified<Record>| confirms(&world.store, world.us.node_id(), &summary(record)).unwrap();
    assert_eq!(confirms(&other), None);
    world.measured(&other, 2.401);
    world.measured(&false_one, 2.5);
    assert_eq!((confirms(&other), confirms(&false_one)), (Some(true), Some(false)));
    assert_eq!(world.compared_with(&other), Some(2.401));
}

#[test]
fn round_in_a_task_full_of_fakes_reads_little_and_keeps_its_own_history() {
    let mut world = World::new();
    world.measured(&world.root, 2.5);
    let (us, root) = (world.us.clone(), world.root.clone());
    let own: Vec<VerifiedObject> =
        (0..40).map(|n| world.keep(&us, &root, 2.49 - f64::from(n) / 1000.0).into()).collect();
    world.insert(&own);
    let fakes: Vec<VerifiedObject> = (0..20_000).map(|n| world.keep(&key(n % 50), &root, 0.0001).into()).collect();
    world.insert(&fakes);
    let begin = Instant::now();
    let snapshot = world.read();
    println!(
        "a task of {} records: {} believed, {} claims read, in {:?}",
        fakes.len() + own.len() + 1,
        snapshot.believed.len(),
        snapshot.claimed.len(),
        begin.elapsed()
    );
    // The root is older than the records that are read, and beaten.
    assert_eq!(snapshot.believed.len(), 40);
    assert!(snapshot.claimed.len() <= PUBLISHERS * CLAIMS_OF_ONE && snapshot.claims.is_empty(), "all are implausible");
    assert_eq!(snapshot.tried.len(), 40, "nobody else says what was tried");
}
