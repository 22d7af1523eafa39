//! What the store must contain, by the protocol's definitions and the set of objects alone.

use std::collections::{BTreeMap, BTreeSet};

use spore_protocol::{
    ControlEvent, Goal, HardwareClass, NodeId, ObjectId, Record, RecordId, Status, TaskId, Verdict, Verified,
    frontier::{FrontierRecord, FrontierView},
    lineage::{self, ParentPlacement},
    oracle::{self, RootRank},
    reputation,
    verdict::{self, Assessment, Subject},
};

use super::{super::objects::task_of, CLASSES, World};
use crate::{
    Store, SyncScope,
    lookup::{MAX_JUDGED, MAX_JUDGED_OF_ONE},
};

/// The expected state, by definition.
pub struct Oracle {
    pub places: BTreeMap<RecordId, (Record, lineage::Placement)>,
    pub pending: BTreeSet<RecordId>,
    pub rejected: BTreeSet<RecordId>,
    pub roots: BTreeMap<TaskId, RecordId>,
    pub strays: BTreeSet<RecordId>,
    pub judgements: BTreeMap<RecordId, Assessment>,
    pub goals: BTreeMap<TaskId, Goal>,
}

fn subject(id: RecordId, record: &Record) -> Subject {
    Subject { id, publisher: record.node_id, class: record.class(), status: record.status, metric: record.val_bpb }
}

/// The first events about a record by (timestamp, id), and of each signer the first few.
fn window<'a>(world: &'a World, id: &RecordId) -> Vec<&'a Verified<ControlEvent>> {
    let mut events: Vec<_> = world.events.iter().filter(|event| event.experiment_id() == Some(*id)).collect();
    events.sort_by_key(|event| (event.timestamp, event.id()));
    events.dedup_by_key(|event| event.id());
    let mut of_each = BTreeMap::<NodeId, usize>::new();
    events.retain(|event| {
        let count = of_each.entry(event.node_id).or_default();
        *count += 1;
        *count <= MAX_JUDGED_OF_ONE
    });
    events.truncate(MAX_JUDGED);
    events
}

impl Oracle {
    pub fn of(world: &World) -> Self {
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
                    Some((record, place)) => Some(ParentPlacement { task_id: place.task_id, depth: record.depth }),
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
            let events = window(world, id).into_iter().map(|e| (e.id().into(), e.object()));
            oracle.judgements.insert(*id, verdict::assess(&subject(*id, record), events));
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
            |(id, (_, place)): &(&RecordId, &(Record, lineage::Placement))| self.roots[&place.task_id] != root_of(id);
        self.strays = self.places.iter().filter(stray).map(|(id, _)| *id).collect();
    }

    pub fn goal(&self, task: &TaskId) -> Goal {
        self.goals.get(task).copied().unwrap_or(Goal::Minimize)
    }

    pub fn of_task<'a>(&'a self, task: &'a TaskId) -> impl Iterator<Item = (&'a RecordId, &'a Record)> {
        self.places.iter().filter(move |(_, (_, place))| place.task_id == *task).map(|(id, (record, _))| (id, record))
    }

    fn frontier(&self, task: &TaskId, view: &FrontierView) -> Vec<RecordId> {
        let candidate = |(id, r): (&RecordId, &Record)| FrontierRecord {
            id: *id,
            parent: r.parent,
            status: r.status,
            class: r.class(),
            metric: r.val_bpb,
            timestamp: r.timestamp,
        };
        let all: Vec<_> = self.of_task(task).filter(|(id, _)| !self.strays.contains(id)).map(candidate).collect();
        oracle::frontier(self.goal(task), view, &all).into_iter().map(|c| c.id).collect()
    }

    pub fn holds(&self, id: &RecordId) -> bool {
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
        oracle::reputation(steps)
    }

    pub fn compare(&self, world: &World, store: &Store) {
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
        let stats = store.nodes(None).unwrap().into_iter();
        let reputation: BTreeMap<_, _> = stats.filter_map(|node| Some((node.node_id, node.reputation?))).collect();
        assert_eq!(reputation, self.reputation());
        assert_eq!(counts.pending, self.pending.len() as u64);
        let parents = world.records.iter().filter(|r| self.pending.contains(&r.id().into())).filter_map(|r| r.parent);
        let missing: BTreeSet<_> = parents.filter(|parent| !self.pending.contains(parent)).collect();
        assert_eq!(store.missing_parents_after(None, 99).unwrap(), missing.into_iter().collect::<Vec<_>>());
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

        let blind = self.frontier(task, &FrontierView::ClassBlind);
        let ids = |class: Option<&HardwareClass>| {
            store.frontier(task, class, 99).unwrap().iter().map(|r| r.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(None), blind);
        assert_eq!((view.frontier_size, view.best.map(|b| b.0)), (blind.len() as u64, blind.first().copied()));
        let mut on_class = BTreeSet::new();
        for class in CLASSES.map(HardwareClass::of) {
            let expected = self.frontier(task, &FrontierView::Class(class.clone()));
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
