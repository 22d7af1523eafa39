//! The store against an oracle that knows only the set of objects and the protocol's definitions:
//! whatever the order and the batches, both say the same.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use spore_protocol::{
    ControlEvent, Goal, HardwareClass, NodeId, ObjectId, Record, RecordId, Status, TaskId, TaskManifest, Verdict,
    Verified, VerifiedObject,
    control::ClosedDispute,
    frontier::{self, Candidate, View},
    lineage::{self, Parent, RootRank},
    reputation,
    verdict::{self, Judgement, Subject},
};

use super::objects::{identity, manifest, profile, record, rerun, sign, task_of};
use crate::{
    Store, SyncScope,
    columns::Column,
    db::Source,
    values::{self, Facts, Held, Tally},
};

const CLASSES: [&str; 3] = ["CPU", "H100", "RTX 4090"];
const SIGNERS: u8 = 5;

/// How to make one record out of those made before.
#[derive(Clone, Debug)]
struct RecordPlan {
    /// Parentless one time in eight, else a child of the record at this place.
    parent: u8,
    task: u8,
    signer: u8,
    class: u8,
    status: u8,
    metric: u8,
    timestamp: u8,
    /// Breaks the lineage rules one time in sixteen.
    flaw: u8,
    /// Never given to the store one time in sixteen.
    lost: u8,
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
}

fn plans() -> impl Strategy<Value = Plan> {
    let byte = any::<u8>;
    let record = (byte(), byte(), byte(), byte(), byte(), byte(), 0..20u8, byte(), byte()).prop_map(
        |(parent, task, signer, class, status, metric, timestamp, flaw, lost)| RecordPlan {
            parent,
            task,
            signer,
            class,
            status,
            metric,
            timestamp,
            flaw,
            lost,
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
    (prop::collection::vec(record, 1..40), prop::collection::vec(event, 0..40), order, 1..12usize)
        .prop_map(|(records, events, order, batch)| Plan { records, events, order, batch })
}

/// All objects of a plan that are given to the store.
struct World {
    records: Vec<Verified<Record>>,
    events: Vec<Verified<ControlEvent>>,
    manifests: Vec<Verified<TaskManifest>>,
}

fn world(plan: &Plan) -> World {
    let manifests = vec![manifest(0, Goal::Minimize), manifest(1, Goal::Maximize)];
    // The third task's manifest never comes.
    let tasks: Vec<_> = manifests.iter().map(task_of).chain([TaskId([3; 32])]).collect();
    let mut all: Vec<(Verified<Record>, TaskId, bool)> = Vec::new();
    for p in &plan.records {
        let parent = if p.parent % 8 == 0 { None } else { all.get(usize::from(p.parent / 8) % all.len().max(1)) };
        let legacy = p.task % 5 == 0;
        let task = parent.map_or(tasks[usize::from(p.task) % tasks.len()], |(_, task, _)| *task);
        let (signer, metric) = (p.signer % SIGNERS, f64::from(p.metric % 6) / 1000.0 + 1.0);
        let mut record =
            record(signer, (!legacy).then_some(task), parent.map(|p| &p.0), metric, u64::from(p.timestamp));
        record.gpu_model = CLASSES[usize::from(p.class) % CLASSES.len()].into();
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
    let mut events = Vec::new();
    for p in &plan.events {
        let Some((about, task, _)) = all.get(usize::from(p.about) % all.len()) else { continue };
        let claim = [Some(*task), Some(tasks[0]), None][usize::from(p.claim) % 3];
        let signer = p.signer % (SIGNERS + 4);
        let value = about.val_bpb + f64::from(p.offset % 4) / 1000.0;
        let gpu = if p.class % 4 == 0 { "H100" } else { about.gpu_model.as_str() };
        let run = rerun(signer, about.id().into(), claim, gpu, value);
        let challenger = identity(p.challenger % 3).node_id();
        let at = u64::from(p.timestamp);
        let event = match p.kind % 5 {
            0 => ControlEvent::verification(run, about.node_id, false, at),
            1 => ControlEvent::challenge(run, at),
            2 => ControlEvent::dispute(&closed(about, claim, identity(signer).node_id()), at),
            _ => ControlEvent::challenge_response(run, challenger, at),
        };
        events.push(identity(signer).sign(&event).unwrap());
    }
    let records = all.into_iter().filter(|(_, _, lost)| !lost).map(|(record, _, _)| record).collect();
    World { records, events, manifests }
}

/// A challenger's claim that it won, whatever the responses say.
fn closed(about: &Verified<Record>, task_id: Option<TaskId>, challenger: NodeId) -> ClosedDispute {
    ClosedDispute {
        experiment_id: about.id().into(),
        task_id,
        publisher: about.node_id,
        challenger,
        challenger_value: 9.0,
        upheld: false,
        ground_truth: 9.0,
        winners: Vec::new(),
        losers: Vec::new(),
    }
}

/// What must be so, by definition.
struct Oracle {
    places: BTreeMap<RecordId, (Record, lineage::Place)>,
    pending: BTreeSet<RecordId>,
    rejected: BTreeSet<RecordId>,
    roots: BTreeMap<TaskId, RecordId>,
    strays: BTreeSet<RecordId>,
    judgements: BTreeMap<RecordId, Judgement>,
    goals: BTreeMap<TaskId, Goal>,
}

fn subject(id: RecordId, record: &Record) -> Subject {
    Subject { id, publisher: record.node_id, class: record.class(), status: record.status, metric: record.val_bpb }
}

impl Oracle {
    fn of(world: &World) -> Self {
        let mut oracle = Self {
            places: BTreeMap::new(),
            pending: BTreeSet::new(),
            rejected: BTreeSet::new(),
            roots: BTreeMap::new(),
            strays: BTreeSet::new(),
            judgements: BTreeMap::new(),
            goals: world.manifests.iter().map(|m| (task_of(m), m.goal)).collect(),
        };
        // Parents were made before children.
        for record in &world.records {
            let id = RecordId::from(record.id());
            let parent = match record.parent {
                None => None,
                Some(parent) => match oracle.places.get(&parent) {
                    Some((record, place)) => Some(Parent { task_id: place.task_id, depth: record.depth }),
                    None => {
                        let doomed = oracle.rejected.contains(&parent);
                        if doomed { &mut oracle.rejected } else { &mut oracle.pending }.insert(id);
                        continue;
                    }
                },
            };
            match lineage::place(id, record, parent) {
                Ok(place) => drop(oracle.places.insert(id, (record.object().clone(), place))),
                Err(_) => drop(oracle.rejected.insert(id)),
            }
        }
        oracle.choose_roots(world);
        for (id, (record, _)) in &oracle.places {
            let events = world.events.iter().map(|e| (e.id().into(), e.object()));
            oracle.judgements.insert(*id, verdict::judge(&subject(*id, record), events));
        }
        oracle
    }

    fn choose_roots(&mut self, world: &World) {
        let mut ranks = BTreeMap::<TaskId, BTreeSet<RootRank>>::new();
        for (id, (record, place)) in self.places.iter().filter(|(_, (record, _))| record.parent.is_none()) {
            let manifest = world.manifests.iter().find(|m| task_of(m) == place.task_id).map(|m| m.created_by);
            let founder = self.places.get(&RecordId(place.task_id.0)).map(|(record, _)| record.node_id);
            ranks.entry(place.task_id).or_default().insert(RootRank::of(*id, record, manifest.or(founder)));
        }
        self.roots = ranks.iter().map(|(task, ranks)| (*task, ranks.first().unwrap().id())).collect();
        let root_of = |id: &RecordId| {
            let mut id = *id;
            while let Some(parent) = self.places[&id].0.parent {
                id = parent;
            }
            id
        };
        let stray =
            |(id, (_, place)): &(&RecordId, &(Record, lineage::Place))| self.roots[&place.task_id] != root_of(id);
        self.strays = self.places.iter().filter(stray).map(|(id, _)| *id).collect();
    }

    fn goal(&self, task: &TaskId) -> Goal {
        self.goals.get(task).copied().unwrap_or(Goal::Minimize)
    }

    fn of_task<'a>(&'a self, task: &'a TaskId) -> impl Iterator<Item = (&'a RecordId, &'a Record)> {
        self.places.iter().filter(move |(_, (_, place))| place.task_id == *task).map(|(id, (record, _))| (id, record))
    }

    fn frontier(&self, task: &TaskId, view: &View) -> Vec<RecordId> {
        let candidate = |(id, r): (&RecordId, &Record)| Candidate {
            id: *id,
            parent: r.parent,
            status: r.status,
            class: r.class(),
            metric: r.val_bpb,
            timestamp: r.timestamp,
        };
        let all: Vec<_> = self.of_task(task).filter(|(id, _)| !self.strays.contains(id)).map(candidate).collect();
        frontier::compute(self.goal(task), view, &all).into_iter().map(|c| c.id).collect()
    }

    fn holds(&self, id: &RecordId) -> bool {
        self.judgements[id].verdict.holds()
    }

    fn reputation(&self) -> BTreeMap<NodeId, f64> {
        let mut steps = Vec::new();
        for (id, (record, place)) in &self.places {
            let rival = |(other, r): &(&RecordId, &Record)| {
                !self.strays.contains(other)
                    && r.status == Status::Keep
                    && r.class() == record.class()
                    && (r.timestamp, **other) < (record.timestamp, *id)
                    && !self.goal(&place.task_id).better(record.val_bpb, r.val_bpb)
            };
            let advanced = !self.strays.contains(id) && !self.of_task(&place.task_id).any(|other| rival(&other));
            steps.extend(reputation::deeds(&subject(*id, record), &self.judgements[id], advanced));
        }
        reputation::fold(steps)
    }

    fn compare(&self, world: &World, store: &Store) {
        let counts = store.counts().unwrap();
        assert_eq!(counts.experiments, self.places.len() as u64);
        assert_eq!(counts.verified, self.places.keys().filter(|id| self.holds(id)).count() as u64);
        let tasks: BTreeSet<_> =
            self.places.values().map(|(_, p)| p.task_id).chain(world.manifests.iter().map(task_of)).collect();
        assert_eq!(
            store.tasks().unwrap().iter().map(|t| t.task_id).collect::<Vec<_>>(),
            tasks.iter().copied().collect::<Vec<_>>()
        );
        let mut frontiers = 0;
        for task in &tasks {
            frontiers += self.compare_task(task, store);
        }
        assert_eq!(counts.frontier, frontiers as u64);
        let disputed = self.judgements.iter().filter(|(_, j)| j.verdict == Verdict::Disputed).map(|(id, _)| *id);
        assert_eq!(store.open_disputes().unwrap(), disputed.collect::<Vec<_>>());
        assert_eq!(store.reputation().unwrap(), self.reputation());
        if self.rejected.is_empty() {
            assert_eq!(counts.pending, self.pending.len() as u64);
            let parents =
                world.records.iter().filter(|r| self.pending.contains(&r.id().into())).filter_map(|r| r.parent);
            let missing: BTreeSet<_> = parents.filter(|parent| !self.pending.contains(parent)).collect();
            assert_eq!(store.missing_parents(99).unwrap(), missing.into_iter().collect::<Vec<_>>());
        }
        self.compare_controls(world, &tasks, store);
    }

    fn compare_task(&self, task: &TaskId, store: &Store) -> usize {
        let view = store.task(task).unwrap().unwrap();
        assert_eq!(view.root, self.roots.get(task).copied());
        let counted: Vec<_> = self.of_task(task).filter(|(id, _)| !self.strays.contains(id)).collect();
        let of = |status| counted.iter().filter(|(_, r)| r.status == status).count() as u64;
        let strays = self.of_task(task).count() - counted.len();
        assert_eq!((view.experiment_count, view.stray_count), (counted.len() as u64, strays as u64));
        assert_eq!(
            (view.keep_count, view.discard_count, view.crash_count),
            (of(Status::Keep), of(Status::Discard), of(Status::Crash))
        );
        assert_eq!(view.verified_count, counted.iter().filter(|(id, _)| self.holds(id)).count() as u64);
        let nodes: BTreeSet<_> = self.of_task(task).map(|(_, r)| r.node_id).collect();
        assert_eq!(view.node_count, nodes.len() as u64);

        let blind = self.frontier(task, &View::ClassBlind);
        let ids = |class: Option<&HardwareClass>| {
            store.frontier(task, class, 99).unwrap().iter().map(|r| r.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(None), blind);
        assert_eq!((view.frontier_size, view.best.map(|b| b.0)), (blind.len() as u64, blind.first().copied()));
        let mut on_class = BTreeSet::new();
        for class in CLASSES.map(HardwareClass::of) {
            let expected = self.frontier(task, &View::Class(class.clone()));
            assert_eq!(ids(Some(&class)), expected);
            let shown = view.classes.iter().find(|c| c.class == class);
            assert_eq!(shown.map_or(0, |c| c.frontier_size), expected.len() as u64);
            assert_eq!(
                shown.map_or(0, |c| c.experiment_count),
                counted.iter().filter(|(_, r)| r.class() == class).count() as u64
            );
            on_class.extend(expected);
            let before =
                self.of_task(task).filter(|(_, r)| r.class() == class && r.timestamp < 10).map(|(_, r)| r.node_id);
            assert_eq!(store.published_before(task, &class, 10).unwrap(), before.collect::<BTreeSet<_>>());
        }
        let mut expected: Vec<_> = self.of_task(task).map(|(id, r)| (r.timestamp, *id)).collect();
        expected.sort_unstable();
        let summaries = store.task_summaries(task).unwrap();
        assert_eq!(summaries.iter().map(|r| (r.timestamp, r.id)).collect::<Vec<_>>(), expected);
        for r in summaries {
            assert_eq!((r.on_frontier, r.on_frontier_blind), (on_class.contains(&r.id), blind.contains(&r.id)));
            assert_eq!((r.stray, r.odd_depth), (self.strays.contains(&r.id), self.places[&r.id].1.odd_depth));
            assert_eq!(r.verdict, self.judgements[&r.id].verdict);
            assert_eq!(store.judgement(&r.id).unwrap().as_ref(), self.judgements.get(&r.id));
        }
        blind.len()
    }

    fn compare_controls(&self, world: &World, tasks: &BTreeSet<TaskId>, store: &Store) {
        let mut expected = BTreeMap::<TaskId, BTreeSet<(u64, ObjectId)>>::new();
        for event in &world.events {
            let place = event.experiment_id().and_then(|id| self.places.get(&id)).map(|(_, place)| place.task_id);
            if let Some(task) = place.or(event.claimed_task()) {
                expected.entry(task).or_default().insert((event.timestamp, event.id()));
            }
        }
        for task in tasks {
            let items = store.sync_items(SyncScope::Controls(*task)).unwrap();
            assert_eq!(items, expected.remove(task).unwrap_or_default().into_iter().collect::<Vec<_>>());
        }
    }
}

/// Everything that must not depend on the order, less what is local: sequence numbers, arrival
/// times, the log.
fn dump(store: &Store, with_pending: bool) -> BTreeMap<(Column, Vec<u8>), Vec<u8>> {
    let view = store.view();
    let mut dump = BTreeMap::new();
    for column in Column::ALL {
        let pending = matches!(column, Column::Pending | Column::PendingByParent);
        if matches!(column, Column::Log | Column::LogByTask | Column::PendingByAge) || (pending && !with_pending) {
            continue;
        }
        for mut key in view.keys(column, &[]).unwrap() {
            let mut value = view.get(column, &key).unwrap().unwrap();
            match column {
                Column::Meta if key == crate::keys::SEQUENCE => continue,
                Column::Meta if key == crate::keys::TALLY => {
                    let mut tally: Tally = values::decode(&value).unwrap();
                    tally.next_pending = 0;
                    if !with_pending {
                        (tally.pending, tally.pending_bytes) = (0, 0);
                    }
                    value = values::encode(&tally).unwrap();
                }
                Column::Records => {
                    let facts: Facts = values::decode(&value).unwrap();
                    value = values::encode(&Facts { sequence: 0, received_at: 0, ..facts }).unwrap();
                }
                Column::Pending => {
                    let held: Held = values::decode(&value).unwrap();
                    value = values::encode(&Held { order: 0, received_at: 0, ..held }).unwrap();
                }
                Column::PendingByParent => drop(key.drain(32..40)),
                _ => {}
            }
            dump.insert((column, key), value);
        }
    }
    dump
}

fn fill(objects: &[VerifiedObject], batch: usize) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (i, chunk) in objects.chunks(batch).enumerate() {
        store.insert(chunk, i as u64).unwrap();
    }
    (dir, store)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_any_batches_give_what_the_definitions_say(plan in plans()) {
        let world = world(&plan);
        let oracle = Oracle::of(&world);
        let mut objects: Vec<VerifiedObject> = Vec::new();
        objects.extend(world.records.iter().cloned().map(VerifiedObject::from));
        objects.extend(world.events.iter().cloned().map(VerifiedObject::from));
        objects.extend(world.manifests.iter().cloned().map(VerifiedObject::from));
        objects.extend((0..3).map(|i| profile(i / 2, "p", u64::from(i)).into()));

        let (_a, forward) = fill(&objects, objects.len());
        oracle.compare(&world, &forward);
        let mut shuffled: Vec<_> = objects.into_iter().zip(plan.order.iter().cycle()).collect();
        shuffled.sort_by_key(|(_, key)| **key);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(object, _)| object).collect();
        let (_b, other) = fill(&shuffled, plan.batch);
        oracle.compare(&world, &other);
        let certain = oracle.rejected.is_empty();
        prop_assert_eq!(dump(&forward, certain), dump(&other, certain));
        for store in [forward, other] {
            prop_assert_eq!(store.check().unwrap(), Vec::<String>::new());
        }
    }
}
