//! What the store must contain, by the protocol's definitions and the set of objects alone.

use std::collections::{BTreeMap, BTreeSet};

use spore_protocol::{
    Goal, HardwareClass, Measurement, NodeId, ObjectId, Record, RecordId, Status, TaskId, Verdict,
    frontier::{FrontierKind, FrontierRecord},
    lineage::{self, ParentPlacement},
    oracle::{self, RootRank},
    reputation,
    terms::{self, Flaw, Terms},
    trust::{Contribution, Counters, Level, Standing, Work, alike, contribution},
    verdict::{self, Assessment, Subject},
};

use super::{super::objects::task_of, CLASSES, World};
use crate::{Store, SyncScope};

/// The expected state, by definition.
pub struct Oracle {
    pub places: BTreeMap<RecordId, (Record, lineage::Placement)>,
    pub pending: BTreeSet<RecordId>,
    pub rejected: BTreeSet<RecordId>,
    pub roots: BTreeMap<TaskId, RecordId>,
    pub strays: BTreeSet<RecordId>,
    pub goals: BTreeMap<TaskId, Goal>,
    pub seeds: BTreeSet<NodeId>,
    pub flaws: BTreeMap<RecordId, Flaw>,
    /// The measurements that may count, by record and signer.
    pub measurements: BTreeMap<RecordId, BTreeMap<NodeId, Measurement>>,
    pub counters: BTreeMap<(NodeId, HardwareClass), Counters>,
    /// The local and the global verdict.
    pub judgements: BTreeMap<RecordId, (Assessment, Assessment)>,
}

impl Oracle {
    pub fn of(world: &World, seeds: &BTreeSet<NodeId>) -> Self {
        let mut oracle = Self {
            places: BTreeMap::new(),
            pending: BTreeSet::new(),
            rejected: BTreeSet::new(),
            roots: BTreeMap::new(),
            strays: BTreeSet::new(),
            goals: world.manifests.iter().map(|m| (task_of(m), m.goal)).collect(),
            seeds: seeds.clone(),
            flaws: BTreeMap::new(),
            measurements: BTreeMap::new(),
            counters: BTreeMap::new(),
            judgements: BTreeMap::new(),
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
        oracle.find_flaws(world);
        oracle.find_measurements(world);
        oracle.count();
        oracle.judge();
        oracle
    }

    pub fn subject(&self, id: &RecordId) -> Subject {
        let (record, place) = &self.places[id];
        Subject {
            id: *id,
            publisher: record.node_id,
            class: record.class(),
            status: record.status,
            metric: record.val_bpb,
            timestamp: record.timestamp,
            goal: self.goal(&place.task_id),
        }
    }

    fn find_flaws(&mut self, world: &World) {
        for (id, (record, place)) in &self.places {
            let manifest = world.manifests.iter().find(|m| task_of(m) == place.task_id);
            let legacy = self.places.contains_key(&RecordId(place.task_id.0));
            let terms = match (manifest, legacy) {
                (Some(manifest), _) => Terms::of(manifest),
                (None, true) => Terms::of_root(&self.places[&self.roots[&place.task_id]].0),
                (None, false) => Terms::default(),
            };
            if let (Some(flaw), false) = (terms::flaw(record, &terms), self.strays.contains(id)) {
                self.flaws.insert(*id, flaw);
            }
        }
    }

    fn find_measurements(&mut self, world: &World) {
        for id in self.places.keys() {
            let subject = self.subject(id);
            let mut found: Vec<_> = world
                .events
                .iter()
                .filter(|event| event.experiment_id() == Some(*id))
                .filter_map(|event| Measurement::of(event.id().into(), event))
                .filter(|m| subject.ignores(m).is_none())
                .collect();
            // The last one that is collected stays.
            found.sort_by_key(|m| std::cmp::Reverse(m.event_id));
            self.measurements.insert(*id, found.into_iter().map(|m| (m.node, m)).collect());
        }
    }

    fn count(&mut self) {
        for (id, (record, _)) in &self.places {
            let subject = self.subject(id);
            let measured = &self.measurements[id];
            let mut seeds: Vec<_> =
                measured.values().filter(|m| self.seeds.contains(&m.node)).map(|m| m.finding).collect();
            if self.seeds.contains(&record.node_id) {
                seeds.push(spore_protocol::Finding::Value(record.val_bpb));
            }
            let works = measured.values().map(|m| (m.node, Work::Measured(m.finding)));
            for (node, work) in works.chain([(record.node_id, Work::Published)]) {
                let Some(contribution) = contribution(&subject, work, &seeds) else { continue };
                if self.seeds.contains(&node) {
                    continue;
                }
                let counters = self.counters.entry((node, record.class())).or_default();
                match contribution {
                    Contribution::Confirmed => counters.confirmed += 1,
                    Contribution::Refuted => counters.refuted += 1,
                }
            }
        }
    }

    pub fn standing(&self, node: &NodeId, class: &HardwareClass) -> Standing {
        let counters = self.counters.get(&(*node, class.clone())).copied().unwrap_or_default();
        Standing::of(self.seeds.contains(node), counters)
    }

    fn judge(&mut self) {
        for (id, (record, _)) in &self.places {
            let subject = self.subject(id);
            let all = || self.measurements[id].values().cloned();
            let weight = |node: &NodeId| self.standing(node, &record.class()).level.map_or(0, Level::weight);
            let both = (verdict::assess(&subject, all(), weight), verdict::assess(&subject, all(), alike));
            self.judgements.insert(*id, both);
        }
    }

    pub fn is_comparable(&self, id: &RecordId) -> bool {
        !self.strays.contains(id) && !self.flaws.contains_key(id)
    }

    /// The nodes with a comparable record of a task that holds.
    pub fn confirmed_signers(&self, task: &TaskId) -> usize {
        let confirmed = self
            .of_task(task)
            .filter(|(id, record)| self.is_comparable(id) && record.status != Status::Crash && self.holds(id));
        confirmed.map(|(_, record)| record.node_id).collect::<BTreeSet<_>>().len()
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

    pub fn frontier(&self, task: &TaskId, kind: &FrontierKind) -> Vec<RecordId> {
        let candidate = |(id, r): (&RecordId, &Record)| FrontierRecord {
            id: *id,
            parent: r.parent,
            status: r.status,
            class: r.class(),
            metric: r.val_bpb,
            timestamp: r.timestamp,
            comparable: !self.flaws.contains_key(id),
            local: self.judgements[id].0.verdict,
            global: self.judgements[id].1.verdict,
        };
        let all: Vec<_> = self.of_task(task).filter(|(id, _)| !self.strays.contains(id)).map(candidate).collect();
        oracle::frontier(self.goal(task), kind, &all).into_iter().map(|c| c.id).collect()
    }

    pub fn holds(&self, id: &RecordId) -> bool {
        self.judgements[id].0.verdict.holds()
    }

    fn reputation(&self) -> BTreeMap<NodeId, f64> {
        let mut steps = Vec::new();
        for (id, (record, place)) in &self.places {
            let rival = |(other, r): &(&RecordId, &Record)| {
                self.is_comparable(other)
                    && self.holds(other)
                    && r.status == Status::Keep
                    && r.class() == record.class()
                    && (r.timestamp, **other) < (record.timestamp, *id)
                    && !self.goal(&place.task_id).better(record.val_bpb, r.val_bpb)
            };
            let advanced = self.is_comparable(id) && !self.of_task(&place.task_id).any(|other| rival(&other));
            steps.extend(reputation::deeds(&self.subject(id), &self.judgements[id].0, advanced));
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
        let (mut frontiers, mut claims) = (0, 0);
        for task in &tasks {
            let (on_frontiers, claimed) = self.compare_task(task, store);
            (frontiers, claims) = (frontiers + on_frontiers, claims + claimed);
        }
        assert_eq!((counts.frontier, counts.claims), (frontiers as u64, claims as u64));
        let open = |of: fn(&(Assessment, Assessment)) -> Verdict| {
            self.judgements
                .iter()
                .filter(|(_, both)| of(both) == Verdict::Disputed)
                .map(|(id, _)| *id)
                .collect::<Vec<_>>()
        };
        assert_eq!(store.open_disputes().unwrap(), open(|both| both.0.verdict));
        assert_eq!(store.globally_disputed(999).unwrap(), open(|both| both.1.verdict));
        let stats = store.nodes(None).unwrap().into_iter();
        let reputation: BTreeMap<_, _> = stats.filter_map(|node| Some((node.node_id, node.reputation?))).collect();
        assert_eq!(reputation, self.reputation());
        assert_eq!(counts.pending, self.pending.len() as u64);
        let parents = world.records.iter().filter(|r| self.pending.contains(&r.id().into())).filter_map(|r| r.parent);
        let missing: BTreeSet<_> = parents.filter(|parent| !self.pending.contains(parent)).collect();
        assert_eq!(store.missing_parents_after(None, 99).unwrap(), missing.into_iter().collect::<Vec<_>>());
        self.compare_controls(world, &tasks, store);
    }

    /// Returns the sizes of all local frontiers together, and of all lists of claims.
    fn compare_task(&self, task: &TaskId, store: &Store) -> (usize, usize) {
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

        assert_eq!(view.confirmed_signers, self.confirmed_signers(task) as u64);
        let reference = self.frontier(task, &FrontierKind::Reference);
        assert_eq!(view.reference_frontier_size, reference.len() as u64);
        let (mut local, mut global, mut claims) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut bests = Vec::new();
        for class in CLASSES.map(HardwareClass::of) {
            let lists = [FrontierKind::Local(class.clone()), FrontierKind::Global(class.clone())];
            let [on_local, on_global] = lists.map(|kind| self.frontier(task, &kind));
            let claimed = self.frontier(task, &FrontierKind::Claims(class.clone()));
            let ids: Vec<_> = store.frontier(task, &class, 99).unwrap().iter().map(|r| r.id).collect();
            assert_eq!(ids, on_local);
            if let Some(shown) = view.classes.iter().find(|c| c.class == class) {
                let sizes = [on_local.len(), on_global.len(), claimed.len()].map(|size| size as u64);
                assert_eq!([shown.frontier_size, shown.global_frontier_size, shown.claims_count], sizes);
                assert_eq!(shown.best.map(|best| best.0), on_local.first().copied());
                assert_eq!(shown.best_global.map(|best| best.0), on_global.first().copied());
                bests.extend(shown.best);
            }
            let of_class = counted.iter().filter(|(_, r)| r.class() == class).count() as u64;
            assert_eq!(view.classes.iter().find(|c| c.class == class).map_or(0, |c| c.experiment_count), of_class);
            local.extend(on_local);
            global.extend(on_global);
            claims.extend(claimed);
        }
        let sizes = [local.len(), global.len(), claims.len()].map(|size| size as u64);
        assert_eq!([view.frontier_size, view.global_frontier_size, view.claims_count], sizes);
        bests.sort_by(|a, b| self.goal(task).order(a.1, b.1));
        assert_eq!(view.best.map(|best| best.1), bests.first().map(|best| best.1));
        let sizes = (local.len(), claims.len());
        self.compare_summaries(task, &[local, global, reference.into_iter().collect(), claims], store);
        sizes
    }

    /// `lists` are the local, global and reference's frontiers, and the claims, of all classes.
    fn compare_summaries(&self, task: &TaskId, lists: &[BTreeSet<RecordId>; 4], store: &Store) {
        let mut expected: Vec<_> = self.of_task(task).map(|(id, r)| (r.timestamp, *id)).collect();
        expected.sort_unstable();
        let summaries = store.task_summaries(task).unwrap();
        assert_eq!(summaries.iter().map(|r| (r.timestamp, r.id)).collect::<Vec<_>>(), expected);
        for r in summaries {
            let on = [r.on_frontier, r.on_global_frontier, r.on_reference_frontier, r.is_claim()];
            assert_eq!(on, lists.each_ref().map(|list| list.contains(&r.id)));
            assert_eq!((r.stray, r.odd_depth), (self.strays.contains(&r.id), self.places[&r.id].1.odd_depth));
            assert_eq!(r.flaw, self.flaws.get(&r.id).copied());
            let (judged_locally, judged_globally) = &self.judgements[&r.id];
            let verdicts = (judged_locally.verdict, judged_globally.verdict);
            assert_eq!((r.verdict, r.global_verdict, r.support), (verdicts.0, verdicts.1, judged_locally.support));
            let shown = store.judgement(&r.id).unwrap().unwrap();
            assert_eq!((&shown.local, &shown.global), (judged_locally, judged_globally));
        }
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
