//! Research's view of a task in a real store, full of fakes and of other nodes' records.

use std::{collections::BTreeSet, time::Instant};

use spore_protocol::{Record, Verified, VerifiedObject};
use spore_trainer::{evaluate::EvalSpec, worker::DatasetSource};

use super::*;
use crate::made_up::world::{World, key};

impl World {
    fn terms(&self) -> Terms {
        Terms {
            task_id: self.task,
            manifest: self.manifest.clone().into_signed(),
            base_code: Cid([1; 32]),
            dataset: DatasetSource::Builtin,
            eval: EvalSpec::for_budget(20),
        }
    }

    fn measured(&self, record: &Verified<Record>, value: f64) {
        self.challenge(&self.us, record.id().into(), record.timestamp, value);
    }

    fn read(&self) -> TaskSnapshot {
        read(&self.store, self.us.node_id(), Self::class(), self.terms(), NodeId([0; 32])).unwrap()
    }

    fn compared_with(&self, parent: &Verified<Record>) -> Option<f64> {
        reference(&self.store, self.us.node_id(), &Self::class(), parent.id().into()).unwrap().map(|found| found.metric)
    }
}

fn untrusting() -> World {
    World::of_another(BTreeSet::new())
}

#[test]
fn task_is_not_believed_before_this_node_measured_its_root() {
    let world = untrusting();
    let snapshot = world.read();
    assert!(snapshot.believed.is_empty() && snapshot.claims.is_empty() && snapshot.best.is_none());
    let root = snapshot.root.unwrap();
    assert!(is_open_to(&root, world.us.node_id(), &World::class()));
    assert!(!is_open_to(&root, root.node_id, &World::class()));
    world.measured(&world.root, 2.5);
    let snapshot = world.read();
    assert_eq!(snapshot.best.map(|r| r.id), Some(world.root.id().into()));
    assert_eq!(snapshot.believed.len(), 1);
}

#[test]
fn child_is_compared_with_what_was_measured_and_past_refuted_parents() {
    let mut world = untrusting();
    let root = world.root.clone();
    assert_eq!(world.compared_with(&root), None, "the root is a claim");
    world.measured(&root, 2.501);
    assert_eq!(world.compared_with(&root), Some(2.501));
    let fake = world.keep(&key(3), &root, 0.0001, 0);
    let grandchild = world.keep(&key(4), &fake, 0.00005, 0);
    world.insert(&[fake.clone().into(), grandchild.clone().into()]);
    assert_eq!(world.compared_with(&grandchild), Some(2.501), "claims are no numbers");
    world.measured(&fake, 2.5);
    assert_eq!(world.compared_with(&fake), Some(2.501));
    let own = world.keep(&world.us.clone(), &fake, 2.4, 0);
    world.insert(&[own.clone().into()]);
    assert_eq!(world.compared_with(&own), Some(2.4), "own records go on");
    let snapshot = world.read();
    let believed: HashSet<RecordId> = snapshot.believed.iter().map(|r| r.id).collect();
    assert_eq!(believed, HashSet::from([root.id().into(), own.id().into()]));
}

#[test]
fn record_that_only_others_measured_is_no_reference_and_one_refuted_here_no_parent() {
    let friend = key(9);
    let mut world = World::of_another(BTreeSet::from([friend.node_id()]));
    let root = world.root.clone();
    world.measured(&root, 2.501);
    let (false_one, other) = (world.keep(&friend, &root, 1.0, 0), world.keep(&friend, &root, 2.4, 0));
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
    let mut world = untrusting();
    world.measured(&world.root, 2.5);
    let (us, root) = (world.us.clone(), world.root.clone());
    let own: Vec<VerifiedObject> =
        (0..40).map(|n| world.keep(&us, &root, 2.49 - f64::from(n) / 1000.0, 0).into()).collect();
    world.insert(&own);
    let fakes: Vec<VerifiedObject> = (0..20_000).map(|n| world.keep(&key(n % 50), &root, 0.0001, 0).into()).collect();
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
