//! The store against an oracle that knows only the set of objects and the protocol's definitions. Both agree,
//! whatever the order and the batches.

mod dump;
mod graph;
mod listings;
mod oracle;
mod trust;

use proptest::prelude::*;
use std::collections::BTreeSet;

use spore_protocol::{
    ControlEvent, Goal, HardwareClass, NodeId, Reason, Record, RecordId, Status, TaskId, TaskManifest, Verified,
    VerifiedObject,
    control::{ClosedDispute, DisputeOutcome, Refutation, Rerun},
};

pub use self::dump::dump;
use self::oracle::Oracle;
use super::{
    findings,
    objects::{identity, manifest, profile, record, rerun, sign, task_of},
};
use crate::Store;

const CLASSES: [&str; 3] = ["CPU", "H100", "RTX 4090"];
const SIGNERS: u8 = 5;
/// Signers of events: some publish, too.
const VERIFIERS: u8 = SIGNERS + 4;
/// A signer that measures many records, and is often trusted, so that others get levels.
const SWEEPER: u8 = VERIFIERS;
const WORDS: [&str; 4] = ["Wide", "ärmel", "lr", "0.003"];

/// How to make one record from those made before.
#[derive(Clone, Debug)]
struct RecordPlan {
    /// One time in eight the record has no parent, else the parent is the record at this place.
    parent: u8,
    task: u8,
    signer: u8,
    class: u8,
    status: u8,
    metric: u8,
    timestamp: u8,
    /// One time in sixteen the record breaks the lineage rules.
    flaw: u8,
    /// One time in sixteen the record is not given to the store.
    lost: u8,
    /// Which of [`WORDS`] describe it.
    words: u8,
    /// Which of the task's terms it breaks, one time in four.
    terms: u8,
}

#[derive(Clone, Debug)]
struct EventPlan {
    about: u8,
    signer: u8,
    challenger: u8,
    kind: u8,
    class: u8,
    offset: u8,
    timestamp: u8,
    claim: u8,
}

#[derive(Clone, Debug)]
struct Plan {
    records: Vec<RecordPlan>,
    events: Vec<EventPlan>,
    order: Vec<u16>,
    batch: usize,
    /// Which signers are trusted, by their bits; before, and in the end.
    seeds: (u16, u16),
    /// Which records [`SWEEPER`] measures, and what it finds.
    sweep: u8,
}

/// Plans with so many records.
fn plans(records: std::ops::Range<usize>) -> impl Strategy<Value = Plan> {
    let byte = any::<u8>;
    let record = (byte(), byte(), byte(), byte(), byte(), byte(), 0..20u8, byte(), (byte(), byte(), byte())).prop_map(
        |(parent, task, signer, class, status, metric, timestamp, flaw, (lost, words, terms))| RecordPlan {
            parent,
            task,
            signer,
            class,
            status,
            metric,
            timestamp,
            flaw,
            lost,
            words,
            terms,
        },
    );
    let event = (byte(), byte(), byte(), byte(), byte(), byte(), 0..40u8, byte()).prop_map(
        |(about, signer, challenger, kind, class, offset, timestamp, claim)| EventPlan {
            about,
            signer,
            challenger,
            kind,
            class,
            offset,
            timestamp,
            claim,
        },
    );
    let order = prop::collection::vec(any::<u16>(), 90);
    let trust = (any::<(u16, u16)>(), byte());
    (prop::collection::vec(record, records), prop::collection::vec(event, 0..60), order, 1..12usize, trust).prop_map(
        |(records, events, order, batch, (seeds, sweep))| Plan { records, events, order, batch, seeds, sweep },
    )
}

/// All objects of a plan that are given to the store.
struct World {
    records: Vec<Verified<Record>>,
    events: Vec<Verified<ControlEvent>>,
    manifests: Vec<Verified<TaskManifest>>,
}

impl World {
    fn objects(&self) -> Vec<VerifiedObject> {
        let mut objects: Vec<VerifiedObject> = Vec::new();
        objects.extend(self.records.iter().cloned().map(VerifiedObject::from));
        objects.extend(self.events.iter().cloned().map(VerifiedObject::from));
        objects.extend(self.manifests.iter().cloned().map(VerifiedObject::from));
        objects.extend((0..3).map(|i| profile(i / 2, "p", u64::from(i)).into()));
        objects
    }
}

fn world(plan: &Plan) -> World {
    let bound = TaskManifest { dataset_cid: "text".into(), ..manifest(0, Goal::Minimize).object().clone() };
    let manifests = vec![identity(0).sign(&bound).unwrap(), manifest(1, Goal::Maximize)];
    // The third task's manifest never arrives.
    let tasks: Vec<_> = manifests.iter().map(task_of).chain([TaskId([3; 32])]).collect();
    let mut all: Vec<(Verified<Record>, TaskId, bool)> = Vec::new();
    for p in &plan.records {
        let parent = if p.parent % 8 == 0 { None } else { all.get(usize::from(p.parent / 8) % all.len().max(1)) };
        let legacy = p.task % 5 == 0;
        let task = parent.map_or(tasks[usize::from(p.task) % tasks.len()], |(_, task, _)| *task);
        let (signer, metric) = (p.signer % SIGNERS, f64::from(p.metric % 6) / 1000.0 + 1.0);
        let mut record =
            record(signer, (!legacy).then_some(task), parent.map(|p| &p.0), metric, u64::from(p.timestamp));
        record.description = WORDS
            .iter()
            .zip(0..)
            .filter(|(_, bit)| p.words >> bit & 1 == 1)
            .map(|(w, _)| *w)
            .collect::<Vec<_>>()
            .join(" ");
        record.dataset_cid = "text".into();
        break_terms(&mut record, p.terms);
        // Most are of one class, so that signers can reach levels in it.
        record.gpu_model = CLASSES[(usize::from(p.class) % 8).saturating_sub(5)].into();
        record.status = [Status::Keep, Status::Keep, Status::Discard, Status::Crash][usize::from(p.status) % 4];
        match p.flaw % 16 {
            0 => record.depth += 1,
            1 if !legacy => record.task_id = Some(tasks[usize::from(p.flaw / 16) % tasks.len()]),
            _ => {}
        }
        let record = sign(signer, &record);
        let task = record
            .task_id
            .unwrap_or_else(|| parent.map_or_else(|| RecordId::from(record.id()).into(), |(_, task, _)| *task));
        // Two equal plans make one record.
        if all.iter().all(|(other, _, _)| other.id() != record.id()) {
            all.push((record, task, p.lost % 16 == 0));
        }
    }
    let events = events(plan, &all, tasks[0]);
    let records = all.into_iter().filter(|(_, _, lost)| !lost).map(|(record, _, _)| record).collect();
    World { records, events, manifests }
}

/// Breaks one of the task's terms, one time in four.
fn break_terms(record: &mut Record, which: u8) {
    match which {
        0..16 => record.dataset_cid = "other".into(),
        16..32 => record.time_budget += 1,
        32..48 => record.num_steps = 0,
        48..56 => record.code_cid = None,
        56..64 => record.val_bpb = 0.0,
        _ => {}
    }
}

/// The events about these records. Some claim to belong to `other`.
fn events(plan: &Plan, all: &[(Verified<Record>, TaskId, bool)], other: TaskId) -> Vec<Verified<ControlEvent>> {
    let mut events = Vec::new();
    for p in &plan.events {
        // Half of the events are about one record, so that there are more than its verdict considers.
        let among = if p.about % 2 == 0 { 1 } else { all.len() };
        let Some((about, task, _)) = all.get(usize::from(p.about / 2) % among) else { continue };
        let claim = [Some(*task), Some(other), None][usize::from(p.claim) % 3];
        let signer = p.signer % VERIFIERS;
        let value = about.val_bpb + f64::from(p.offset % 4) / 1000.0;
        let gpu = if p.class % 4 == 0 { "H100" } else { about.gpu_model.as_str() };
        let run = rerun(signer, about.id().into(), claim, gpu, value);
        let challenger = identity(p.challenger % 3).node_id();
        let at = u64::from(p.timestamp);
        let event = match p.kind % 6 {
            0 => ControlEvent::verification(run, about.node_id, false, at),
            1 => ControlEvent::challenge(run, at),
            2 => ControlEvent::dispute(&closed(about, claim, identity(signer).node_id()), at),
            3 => ControlEvent::refutation(refuted(run, p.offset), at),
            _ => ControlEvent::challenge_response(run, challenger, at),
        };
        events.push(identity(signer).sign(&event).unwrap());
    }
    for (i, (about, task, _)) in all.iter().enumerate().filter(|(i, _)| i % 4 < usize::from(plan.sweep % 5)) {
        let value = about.val_bpb + if i % 16 == usize::from(plan.sweep / 16) { 1.0 } else { 0.0 };
        let run = rerun(SWEEPER, about.id().into(), Some(*task), &about.gpu_model, value);
        events.push(identity(SWEEPER).sign(&ControlEvent::verification(run, about.node_id, false, 30)).unwrap());
    }
    events
}

fn refuted(run: Rerun, which: u8) -> Refutation {
    let Rerun { experiment_id, task_id, node_id, gpu, .. } = run;
    let reason = Reason::ALL[usize::from(which) % Reason::ALL.len()];
    Refutation { experiment_id, task_id, node_id, gpu, reason }
}

/// The trusted keys of a plan.
fn trusted(bits: u16) -> BTreeSet<NodeId> {
    (0..=SWEEPER).filter(|i| bits >> i & 1 == 1).map(|i| identity(i).node_id()).collect()
}

/// A challenger's claim that it won, whatever the responses say.
fn closed(about: &Verified<Record>, task_id: Option<TaskId>, challenger: NodeId) -> ClosedDispute {
    ClosedDispute {
        experiment_id: about.id().into(),
        task_id,
        publisher: about.node_id,
        challenger,
        challenger_value: 9.0,
        outcome: DisputeOutcome::Rejected,
        ground_truth: 9.0,
        winners: Vec::new(),
        losers: Vec::new(),
    }
}

fn fill(objects: &[VerifiedObject], batch: usize, seeds: &BTreeSet<NodeId>) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with_trust(dir.path(), seeds.clone()).unwrap();
    for (i, chunk) in objects.chunks(batch).enumerate() {
        store.insert(chunk, i as u64).unwrap();
    }
    (dir, store)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn store_matches_the_oracle_in_any_order_and_any_batches(plan in plans(1..40)) {
        let world = world(&plan);
        let (before, seeds) = (trusted(plan.seeds.0), trusted(plan.seeds.1));
        let oracle = Oracle::of(&world, &seeds);
        let objects = world.objects();
        let (_a, forward) = fill(&objects, objects.len(), &seeds);
        oracle.compare(&world, &forward);
        oracle.compare_listings(&world, &forward);
        let mut shuffled: Vec<_> = objects.into_iter().zip(plan.order.iter().cycle()).collect();
        shuffled.sort_by_key(|(_, key)| **key);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(object, _)| object).collect();
        // Other keys are trusted at first.
        let (first, rest) = shuffled.split_at(shuffled.len() * 3 / 4);
        let (dir, other) = fill(first, plan.batch, &before);
        drop(other);
        let other = Store::open_with_trust(dir.path(), seeds.clone()).unwrap();
        prop_assert_eq!(&other.seeds().unwrap(), &seeds);
        for chunk in rest.chunks(plan.batch) {
            other.insert(chunk, 1_000).unwrap();
        }
        oracle.compare(&world, &other);
        oracle.compare_listings(&world, &other);
        prop_assert_eq!(dump(&forward), dump(&other));
        for store in [forward, other] {
            prop_assert_eq!(findings(&store), Vec::<String>::new());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// Each change of the trusted keys takes many batches here, so that one batch changes levels whose effects an
    /// earlier batch left.
    #[test]
    fn store_matches_the_oracle_after_changes_of_trust(plan in plans(30..60)) {
        let world = world(&plan);
        let seeds = trusted(plan.seeds.1);
        let objects = world.objects();
        let (_a, whole) = fill(&objects, objects.len(), &seeds);
        let (dir, mut store) = fill(&objects, objects.len(), &trusted(plan.seeds.0));
        for bits in plan.order.iter().take(2).chain([&plan.seeds.1]) {
            drop(store);
            store = Store::open_with_trust(dir.path(), trusted(*bits)).unwrap();
        }
        Oracle::of(&world, &seeds).compare(&world, &store);
        prop_assert_eq!(dump(&whole), dump(&store));
        for store in [whole, store] {
            prop_assert_eq!(findings(&store), Vec::<String>::new());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, ..ProptestConfig::default() })]

    /// Enough records that words are used in several blocks of numbers, and that cached values are dropped between the
    /// batches and read again.
    #[test]
    fn many_small_batches_give_the_same_columns_as_one(mut plan in plans(400..450)) {
        for record in &mut plan.records {
            // No record is lost or refused, and so no descendant.
            (record.lost, record.flaw) = (1, 2);
        }
        plan.sweep = 3;
        let mut objects = world(&plan).objects();
        let seeds = trusted(plan.seeds.1 & 1 | 1 << SWEEPER);
        let (_a, whole) = fill(&objects, objects.len(), &seeds);
        objects.reverse();
        let (_b, other) = fill(&objects, plan.batch, &seeds);
        let weighty = whole.weighty(&HardwareClass::of(CLASSES[0]), 99).unwrap();
        prop_assert!(weighty.len() > seeds.len(), "some signers have a level");
        prop_assert!(other.sequence() > 256);
        prop_assert_eq!(dump(&whole), dump(&other));
        for store in [whole, other] {
            prop_assert_eq!(findings(&store), Vec::<String>::new());
        }
    }
}
