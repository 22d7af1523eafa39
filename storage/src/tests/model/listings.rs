//! Listings, search, the graph and the sets that nodes compare, against their definitions.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use spore_protocol::{
    HardwareClass, Kind, NodeId, ObjectId, Record, RecordId, Status, TaskId, Verdict, activity::ACTIVITY_WINDOW,
    frontier::FrontierKind,
};

use super::{super::objects::task_of, CLASSES, WORDS, World, oracle::Oracle};
use crate::{Page, PageDirection, Scope, Span, Store, StoreError, SyncScope, values::Bucket};

/// Reads a listing a few items at a time, forward and backward, which must return the same items.
pub fn through<T: Clone + PartialEq + std::fmt::Debug>(page: impl Fn(&Span) -> Result<Page<T>, StoreError>) -> Vec<T> {
    let walk = |direction| {
        let (mut all, mut span) = (Vec::new(), Span { direction, ..Span::first(3) });
        loop {
            let page = page(&span).unwrap();
            all.extend(page.items);
            let Some(next) = page.next else { return all };
            span.after = Some(next.to_string().parse().unwrap());
        }
    };
    let forward = walk(PageDirection::Forward);
    let mut backward = walk(PageDirection::Backward);
    backward.reverse();
    assert_eq!(forward, backward);
    forward
}

impl Oracle {
    pub fn compare_listings(&self, world: &World, store: &Store) {
        self.compare_time(store);
        self.compare_search(store);
        self.compare_nodes(store);
        self.compare_activity(world, store);
        let tasks: BTreeSet<_> = self.places.values().map(|(_, place)| place.task_id).collect();
        for task in &tasks {
            self.compare_series(task, store);
            self.compare_metrics(task, store);
            self.compare_graph(task, store);
            compare_sets(SyncScope::Records(*task), store);
            compare_sets(SyncScope::Controls(*task), store);
        }
        compare_sets(SyncScope::Tasks, store);
        compare_sets(SyncScope::Profiles, store);
        let waiting: BTreeSet<_> = through(|span| store.pending(span)).into_iter().map(|held| held.id).collect();
        assert_eq!(waiting, self.pending);
        self.compare_trust(store);
    }

    fn by_time(&self, keep: impl Fn(&Record, &TaskId) -> bool) -> Vec<RecordId> {
        let kept = self.places.iter().filter(|(_, (record, place))| keep(record, &place.task_id));
        let mut times: Vec<_> = kept.map(|(id, (record, _))| (record.timestamp, *id)).collect();
        times.sort_unstable();
        times.into_iter().map(|(_, id)| id).collect()
    }

    fn compare_time(&self, store: &Store) {
        let recent = |scope| {
            let mut ids: Vec<_> = through(|span| store.recent_page(scope, span)).iter().map(|r| r.id).collect();
            ids.reverse();
            ids
        };
        assert_eq!(recent(Scope::All), self.by_time(|_, _| true));
        let tasks: BTreeSet<_> = self.places.values().map(|(_, place)| place.task_id).collect();
        for task in tasks {
            assert_eq!(recent(Scope::Task(task)), self.by_time(|_, in_task| *in_task == task));
        }
        let nodes: BTreeSet<_> = self.places.values().map(|(record, _)| record.node_id).collect();
        for node in nodes {
            assert_eq!(recent(Scope::Node(node)), self.by_time(|record, _| record.node_id == node));
        }
        for id in self.places.keys() {
            let children: Vec<_> = through(|span| store.children_page(id, span)).iter().map(|r| r.id).collect();
            assert_eq!(children, self.by_time(|record, _| record.parent == Some(*id)));
            assert_eq!(store.children(id, 99).unwrap(), children);
            for class in CLASSES.map(HardwareClass::of) {
                let of_class = self.by_time(|record, _| record.parent == Some(*id) && record.class() == class).len();
                assert_eq!(store.children_count(id, &class, 99).unwrap(), of_class);
                assert_eq!(store.children_count(id, &class, 1).unwrap(), of_class.min(1));
            }
        }
    }

    fn compare_search(&self, store: &Store) {
        for asked in 1u8..16 {
            let words: Vec<_> = (0..4).filter(|bit| asked >> bit & 1 == 1).map(|bit| WORDS[bit]).collect();
            let found = through(|span| store.search(&words.join(", ").to_uppercase(), None, span));
            assert!(found.is_sorted_by(|a, b| a.sequence > b.sequence));
            let found: BTreeSet<_> = found.iter().map(|r| r.id).collect();
            let fits = |record: &Record| words.iter().all(|word| record.description.contains(word));
            assert_eq!(found, self.by_time(|record, _| fits(record)).into_iter().collect());
        }
    }

    /// The records of a task that count, in (timestamp, id) order.
    fn counted<'a>(&'a self, task: &'a TaskId) -> Vec<(RecordId, &'a Record)> {
        let mut counted: Vec<_> =
            self.of_task(task).filter(|(id, _)| !self.strays.contains(id)).map(|(id, r)| (*id, r)).collect();
        counted.sort_by_key(|(id, record)| (record.timestamp, *id));
        counted
    }

    fn compare_series(&self, task: &TaskId, store: &Store) {
        let goal = self.goal(task);
        let classes = CLASSES.map(HardwareClass::of);
        for class in classes.iter().map(Some).chain([None]) {
            let mut best: Vec<(RecordId, f64)> = Vec::new();
            for (id, record) in self.counted(task) {
                let fits = record.status == Status::Keep
                    && self.is_comparable(&id)
                    && self.holds(&id)
                    && class.is_none_or(|class| *class == record.class());
                if fits && best.last().is_none_or(|(_, best)| goal.better(record.val_bpb, *best)) {
                    best.push((id, record.val_bpb));
                }
            }
            let shown = through(|span| store.improvements(task, class, span));
            assert_eq!(shown.iter().map(|i| (i.id, i.metric)).collect::<Vec<_>>(), best);
        }
    }

    fn compare_metrics(&self, task: &TaskId, store: &Store) {
        let goal = self.goal(task);
        let mut expected = self.counted(task);
        expected.retain(|(_, record)| record.status != Status::Crash);
        expected.sort_by(|(_, a), (_, b)| goal.order(a.val_bpb, b.val_bpb));
        let shown: Vec<_> = through(|span| store.by_metric(task, span)).iter().map(|r| r.id).collect();
        assert_eq!(shown, expected.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        for class in CLASSES.map(HardwareClass::of) {
            let newest: Vec<_> =
                through(|span| store.newest_in_class(task, &class, span)).iter().map(|r| r.id).collect();
            let mut expected = self.counted(task);
            expected.retain(|(_, record)| record.class() == class);
            assert_eq!(newest, expected.iter().rev().map(|(id, _)| *id).collect::<Vec<_>>());
            let kinds = [FrontierKind::Local(class.clone()), FrontierKind::Global(class.clone())];
            for kind in kinds.into_iter().chain([FrontierKind::Claims(class.clone()), FrontierKind::Reference]) {
                let shown: Vec<_> = through(|span| store.listing(task, &kind, span)).iter().map(|r| r.id).collect();
                assert_eq!(shown, self.frontier(task, &kind), "{kind:?}");
            }
            self.compare_turns(task, &class, store);
        }
    }

    fn compare_graph(&self, task: &TaskId, store: &Store) {
        let graph = store.graph(task).unwrap();
        let summaries = store.task_summaries(task).unwrap();
        assert_eq!(graph.ids, summaries.iter().map(|r| r.id).collect::<Vec<_>>());
        for (i, r) in summaries.iter().enumerate() {
            assert_eq!(graph.parents[i].map(|place| graph.ids[place as usize]), r.parent);
            assert_eq!((graph.timestamps[i], graph.metrics[i], graph.statuses[i]), (r.timestamp, r.metric, r.status));
            assert_eq!(graph.class_names[graph.classes[i] as usize], r.class);
            assert_eq!(
                (graph.verified[i], graph.on_frontier[i], graph.stray[i], graph.refused[i]),
                (r.verdict.holds(), r.on_frontier, r.stray, r.flaw.is_some() || r.verdict == Verdict::Rejected)
            );
        }
    }

    fn compare_nodes(&self, store: &Store) {
        let tasks: BTreeSet<_> = self.places.values().map(|(_, place)| place.task_id).collect();
        for task in tasks.iter().map(Some).chain([None]) {
            // Records, measurements that count, the newest of both.
            let mut expected = BTreeMap::<NodeId, (u64, u64, u64)>::new();
            for (id, (record, place)) in &self.places {
                if task.is_some_and(|task| *task != place.task_id) {
                    continue;
                }
                let node = expected.entry(record.node_id).or_default();
                (node.0, node.2) = (node.0 + 1, node.2.max(record.timestamp));
                for m in self.measurements[id].values() {
                    let node = expected.entry(m.node).or_default();
                    (node.1, node.2) = (node.1 + 1, node.2.max(m.timestamp));
                }
            }
            let shown = through(|span| store.nodes_page(task, span));
            assert_eq!(shown, store.nodes(task).unwrap());
            for stats in &shown {
                assert_eq!(store.node(task, &stats.node_id).unwrap().as_ref(), Some(stats));
            }
            let shown: BTreeMap<_, _> = shown
                .into_iter()
                .map(|s| (s.node_id, (s.experiment_count, s.verification_count, s.last_activity)))
                .collect();
            assert_eq!(shown, expected);
        }
    }

    fn compare_activity(&self, world: &World, store: &Store) {
        let tasks: BTreeSet<_> =
            self.places.values().map(|(_, p)| p.task_id).chain(world.manifests.iter().map(task_of)).collect();
        let activity = |task: &TaskId| {
            let mut newest = self.by_time(|_, in_task| in_task == task);
            newest.reverse();
            newest.truncate(ACTIVITY_WINDOW);
            let time = newest.first().map(|id| self.places[id].0.timestamp);
            let manifest = world.manifests.iter().find(|m| task_of(m) == *task).map(|m| m.timestamp);
            newest.retain(|id| !self.strays.contains(id));
            let keeps = newest.iter().filter(|id| self.places[id].0.status == Status::Keep).count();
            let newest_time = time.or(manifest).unwrap_or_default();
            (Reverse(self.confirmed_signers(task)), Reverse((newest.len(), keeps, newest_time)), *task)
        };
        let mut ranked: Vec<_> = tasks.iter().map(activity).collect();
        ranked.sort_unstable();
        let ranked: Vec<_> = ranked.into_iter().map(|(_, _, task)| task).collect();
        assert_eq!(store.most_active_task().unwrap(), ranked.first().copied());
        let shown: Vec<_> = through(|span| store.active_tasks(span)).iter().map(|task| task.task_id).collect();
        assert_eq!(shown, ranked);
        let by_seed =
            |task: &TaskId| world.manifests.iter().any(|m| task_of(m) == *task && self.seeds.contains(&m.created_by));
        for built_in in [vec![], vec![TaskId([3; 32])]] {
            let expected = ranked.iter().find(|task| by_seed(task) || built_in.contains(task)).copied();
            assert_eq!(store.default_task(&built_in, |_| true).unwrap(), expected);
        }
        assert_eq!(store.default_task(&[], |_| false).unwrap(), None);
        assert_eq!(through(|span| store.tasks_page(span)), store.tasks().unwrap());
    }
}

/// Every sum, place and item of a set, against the plain list.
fn compare_sets(scope: SyncScope, store: &Store) {
    let items = store.sync_items(scope).unwrap();
    assert!(items.is_sorted_by(|a, b| a < b));
    let set = store.sync_set(scope).unwrap();
    assert_eq!((set.len(), set.is_empty()), (items.len(), items.is_empty()));
    for begin in 0..=items.len() {
        assert_eq!(set.get(begin).unwrap(), items.get(begin).copied());
        for end in begin..=items.len() {
            let mut sum = Bucket::default();
            items[begin..end].iter().for_each(|(_, id)| sum.add(&Bucket::of(id)));
            assert_eq!(set.sum(begin, end).unwrap(), sum.sum);
        }
    }
    for (place, (timestamp, id)) in items.iter().enumerate() {
        assert_eq!(set.place_of(*timestamp, id).unwrap(), place);
        let just_after = ObjectId(std::array::from_fn(|i| if i == 31 { id.0[i].saturating_add(1) } else { id.0[i] }));
        assert_eq!(set.place_of(*timestamp, &just_after).unwrap(), place + usize::from(just_after != *id));
    }
    if let SyncScope::Records(_) = scope {
        assert!(items.iter().all(|(_, id)| store.contains(Kind::Experiment, id).unwrap()));
    }
}
