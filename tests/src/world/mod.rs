//! The store behind the browser tests of the explorer's page: several tasks and classes, a task of 50,000 records,
//! outliers, an empty task, a legacy task and hostile texts.
//!
//! The signed objects and the store are real. Their content is invented, from a seed: the same `now` gives the same
//! world. [`World::description`] has the results that a test expects, computed from the objects and the protocol's
//! definitions and never read from a node.

mod plans;
mod script;
mod verdicts;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use spore_protocol::{
    Cid, ControlEvent, HardwareClass, Identity, NodeProfile, Reason, Record, RecordId, SignedObject, Status, TaskId,
    TaskManifest, Verified, VerifiedObject,
    control::{Refutation, Rerun},
    fixtures,
    frontier::{FrontierKind, FrontierRecord},
    oracle,
};
use spore_storage::Store;

use self::{
    plans::{CHANGES, HOSTILE, PEOPLE, PLANS, Plan},
    verdicts::{Standings, Verdicts},
};
use crate::seed::{legacy_chain_at, trust};

/// Objects in one insertion into a store.
const BATCH: usize = 1024;
/// The description of a larger task has the number of its records, but not the records.
const MOST_DESCRIBED: usize = 1_000;
/// The next record of a class builds on one of so many latest keeps of the class.
const RECENT_KEEPS: usize = 30;
/// The words whose search results the description has, and the number of results.
const SEARCHED: (&str, usize) = ("weight decay", 120);
/// Number of the script that the node does not have: that of each fifth record.
const LOST_SCRIPT: usize = 4;
/// Place of the trusted node among those who measure a record.
const WARDEN: usize = 5;
/// Each record with this rest of its index trained for twice the task's budget, which makes it not comparable.
const OVERLONG: (usize, usize) = (7, 41);

/// Tasks with their records, and the signers.
pub struct World {
    people: Vec<Identity>,
    tasks: Vec<Task>,
    verdicts: Verdicts,
    random: ChaCha8Rng,
    /// Unix seconds.
    now: u64,
    /// Ids of the records that a search for the words finds, in the order of their insertion.
    searched: Vec<RecordId>,
}

struct Task {
    plan: &'static Plan,
    id: TaskId,
    records: Vec<Made>,
    /// Indices of the keeps, by device.
    keeps: BTreeMap<&'static str, Vec<usize>>,
}

/// A record, without what the description does not need.
struct Made {
    id: RecordId,
    parent: Option<usize>,
    depth: u64,
    status: Status,
    metric: f64,
    device: &'static str,
    timestamp: u64,
    description: String,
    /// Whether its terms are the task's.
    comparable: bool,
}

impl World {
    /// Creates the world and writes it into a data directory that no node has open.
    pub fn create(dir: &Path, now: u64) -> Self {
        let people: Vec<_> = (0..PEOPLE.len()).zip(1u8..).map(|(_, number)| fixtures::identity(number)).collect();
        let verdicts = Verdicts::new(people.last().expect("people"));
        let random = ChaCha8Rng::seed_from_u64(7);
        let store = Store::open_with_trust(dir, verdicts.seeds()).expect("a store");
        trust(dir, &verdicts.seeds());
        let mut world = Self { people, tasks: Vec::new(), verdicts, random, now, searched: Vec::new() };
        for number in (0..5).filter(|number| *number != LOST_SCRIPT) {
            store.put_artifact(&script::text(number)).expect("room for a script");
        }
        insert(&store, &world.profiles(), now);
        for plan in PLANS {
            world.add_task(&store, plan);
        }
        world
    }

    fn profiles(&self) -> Vec<VerifiedObject> {
        let named = self.people.iter().zip(PEOPLE).filter(|(_, person)| !person.name.is_empty());
        let profile = |(by, person): (&Identity, &plans::Person)| {
            let profile = NodeProfile {
                bio: person.bio.into(),
                website: person.website.into(),
                timestamp: self.now - 86_400,
                ..fixtures::profile(by, person.name)
            };
            fixtures::sign(by, &profile).into()
        };
        named.map(profile).collect()
    }

    fn add_task(&mut self, store: &Store, plan: &'static Plan) {
        let created = self.now - plan.span - 86_400 * 40;
        if plan.legacy {
            return self.add_legacy_task(store, plan);
        }
        let creator = &self.people[0];
        let manifest = TaskManifest {
            name: plan.name.into(),
            description: plan.description.into(),
            metric: plan.metric.into(),
            goal: plan.goal,
            time_budget: plan.seconds,
            timestamp: created,
            base_code_cid: Some(Cid::of(&script::text(0))),
            ..fixtures::manifest(creator)
        };
        let manifest = fixtures::sign(creator, &manifest);
        let id = TaskId::from(manifest.id());
        self.tasks.push(Task { plan, id, records: Vec::new(), keeps: BTreeMap::new() });
        let task = self.tasks.len() - 1;
        let mut batch = vec![manifest.into()];
        for index in 0..plan.records {
            let record = self.grow(task, self.time_of(plan, index, created));
            batch.push(record.clone().into());
            batch.extend(self.judged(task, index, &record));
            if batch.len() >= BATCH {
                insert(store, &batch, self.now);
                batch.clear();
            }
        }
        insert(store, &batch, self.now);
    }

    /// Adds a task of version 1 records, which has the id of its root.
    fn add_legacy_task(&mut self, store: &Store, plan: &'static Plan) {
        let times: Vec<_> = (0..plan.records).map(|index| self.time_of(plan, index, self.now - plan.span)).collect();
        let chain = legacy_chain_at(&self.people[2], &times);
        let verified: Vec<_> = chain.into_iter().map(|object| object.verify().expect("a signed record")).collect();
        insert(store, &verified, self.now);
        let mut task = Task { plan, id: TaskId([0; 32]), records: Vec::new(), keeps: BTreeMap::new() };
        for object in &verified {
            let SignedObject::Experiment(record) = &**object else { continue };
            let parent = task.records.len().checked_sub(1);
            task.records.push(Made::of(record, parent, "CPU"));
        }
        task.id = task.records[0].id.into();
        self.tasks.push(task);
    }

    /// The timestamp of the record at this index. The root is older than the others by weeks.
    fn time_of(&self, plan: &Plan, index: usize, created: u64) -> u64 {
        let pace = index as f64 / plan.records.max(1) as f64;
        if index == 0 { created } else { self.now - plan.span + (plan.span as f64 * pace) as u64 }
    }

    /// Makes the next record of a task.
    fn grow(&mut self, task: usize, timestamp: u64) -> Verified<Record> {
        let random = &mut self.random;
        let Task { plan, id, records, keeps } = &mut self.tasks[task];
        let index = records.len();
        let skewed = |random: &mut ChaCha8Rng, power: f64, count: usize| {
            ((random.random::<f64>().powf(power) * count as f64) as usize).min(count.saturating_sub(1))
        };
        let device = if index == 0 { plan.devices[0] } else { plan.devices[skewed(random, 1.6, plan.devices.len())] };
        let own = keeps.entry(device).or_default();
        let parent = match (index, own.len()) {
            (0, _) => None,
            (_, 0) => Some(0),
            (_, count) => Some(own[count - 1 - skewed(random, 3.0, count.min(RECENT_KEEPS))]),
        };
        let first_of_class = own.is_empty();
        let (status, metric) =
            outcome(plan, random, parent.map(|parent| records[parent].metric), first_of_class, own.len());
        let by = &self.people[skewed(random, 2.0, PEOPLE.len() - 1)];
        let (change, hypothesis) = CHANGES[random.random_range(0..CHANGES.len())];
        let description = match (plan.hostile, index) {
            (true, _) => format!("{HOSTILE} {index}"),
            (_, 0) => "Base script".into(),
            _ => change.replace('$', &format!("{:.1}", random.random::<f64>() * 10.0)),
        };
        let record = Record {
            parent: parent.map(|parent| records[parent].id),
            depth: parent.map_or(0, |parent| records[parent].depth + 1),
            code_cid: Some(Cid::of(&script::text(index % 5))),
            diff: if index == 0 { String::new() } else { script::DIFF.into() },
            time_budget: if index % OVERLONG.1 == OVERLONG.0 { 2 * plan.seconds } else { plan.seconds },
            val_bpb: metric,
            status,
            num_steps: if status == Status::Crash { 0 } else { random.random_range(800..4_800) },
            num_params: random.random_range(1_000_000..40_000_000),
            description,
            hypothesis: if index == 0 { String::new() } else { hypothesis.into() },
            agent_model: if index % 4 == 0 { "tune".into() } else { "local-7b".into() },
            gpu_model: device.into(),
            timestamp,
            ..fixtures::record(by, Some(*id), None)
        };
        let signed = fixtures::sign(by, &record);
        if status == Status::Keep {
            own.push(index);
        }
        let comparable = record.time_budget == plan.seconds;
        records.push(Made { comparable, ..Made::of(&signed, parent, device) });
        if matches(&record) {
            self.searched.push(signed.id().into());
        }
        signed
    }

    /// Control events about a record: about each third that is no crash, or each thirtieth in a large task. The trusted
    /// node measured half of those that nobody disputes.
    fn judged(&mut self, task: usize, index: usize, record: &Verified<Record>) -> Vec<VerifiedObject> {
        let plan = self.tasks[task].plan;
        let every = if plan.records > MOST_DESCRIBED { 30 } else { 3 };
        if record.status == Status::Crash || !index.is_multiple_of(every) {
            return Vec::new();
        }
        let tolerance = record.class().tolerance();
        let warden = self.people.last().expect("people");
        let mut others: Vec<_> = self.people.iter().filter(|by| by.node_id() != record.node_id).take(WARDEN).collect();
        others.push(warden);
        let rerun = |by: usize, off: f64| fixtures::rerun(others[by], record, record.val_bpb + off * tolerance);
        let at = |by: usize| record.timestamp + 5 + by as u64;
        let verification = |by, off| (by, ControlEvent::verification(rerun(by, off), record.node_id, false, at(by)));
        let response = |by, off| (by, ControlEvent::challenge_response(rerun(by, off), others[0].node_id(), at(by)));
        let challenge = |by, off| (by, ControlEvent::challenge(rerun(by, off), at(by)));
        let mut events = match index {
            index if index > 0 && index % 33 == 0 => {
                vec![verification(1, 0.2), challenge(0, 3.4), response(2, 2.9)]
            }
            index if index > 0 && index % 57 == 0 => {
                let found = if index % 2 == 0 {
                    challenge(WARDEN, 3.2)
                } else {
                    let Rerun { experiment_id, task_id, node_id, gpu, .. } = rerun(WARDEN, 0.0);
                    let reason = Reason::OverBudget;
                    let refutation = Refutation { experiment_id, task_id, node_id, gpu, reason };
                    (WARDEN, ControlEvent::refutation(refutation, at(WARDEN)))
                };
                vec![challenge(0, 3.4), response(1, 2.9), response(2, 3.1), response(3, 3.3), found]
            }
            _ => vec![verification(0, 0.3), verification(1, -0.5)],
        };
        if events.len() == 2 && index.is_multiple_of(2) {
            events.push(verification(WARDEN, 0.1));
        }
        let signed: Vec<_> = events.into_iter().map(|(by, event)| fixtures::sign(others[by], &event)).collect();
        self.verdicts.add(record, plan.goal, &signed);
        signed.into_iter().map(Into::into).collect()
    }

    /// Creates one more record of the first task, with the timestamp `now`, and its description.
    pub fn publish(&mut self, now: u64) -> (Verified<Record>, Value) {
        let newest = self.tasks[0].records.last().map_or(0, |record| record.timestamp);
        let signed = self.grow(0, now.max(newest + 1));
        let standings = self.verdicts.standings();
        let described = self.tasks[0].described(&self.verdicts, &standings).pop().unwrap_or_default();
        (signed, described)
    }

    /// The results that a test expects: tasks with their records, orders and frontiers, nodes, search results.
    pub fn description(&self) -> Value {
        let (words, most) = SEARCHED;
        let last_first = |found: &mut dyn Iterator<Item = &RecordId>| -> Vec<_> {
            let mut ids: Vec<_> = found.map(ToString::to_string).collect();
            ids.reverse();
            ids.truncate(most);
            ids
        };
        let standings = self.verdicts.standings();
        let first: Vec<_> = self.tasks[0].records.iter().map(|record| record.id).collect();
        json!({
            "tasks": self.tasks.iter().map(|task| task.description(&self.verdicts, &standings)).collect::<Vec<_>>(),
            "trusted": self.people.last().map(|person| person.node_id().to_string()),
            "nodes": self.people.iter().map(|person| person.node_id().to_string()).collect::<Vec<_>>(),
            "search": {
                "words": words,
                "everywhere": last_first(&mut self.searched.iter()),
                "first_task": last_first(&mut self.searched.iter().filter(|id| first.contains(id))),
            },
        })
    }
}

/// Status and metric of the next record: mostly a discard that is worse than its parent, sometimes a better keep.
fn outcome(
    plan: &Plan,
    random: &mut ChaCha8Rng,
    parent: Option<f64>,
    first_of_class: bool,
    keeps: usize,
) -> (Status, f64) {
    let Some(parent) = parent else { return (Status::Keep, plan.start) };
    let gap = parent - plan.floor;
    let (worse, hair) = if plan.start > plan.floor { (1.0, 1e-6) } else { (-1.0, -1e-6) };
    if random.random_bool(0.07) {
        return (Status::Crash, 0.0);
    }
    if first_of_class || random.random_bool(0.09) {
        let step = if keeps < 12 { 0.12 } else { 0.02 };
        return (Status::Keep, parent - gap * step * random.random::<f64>() - hair);
    }
    if plan.outliers && random.random_bool(0.02) {
        return (Status::Discard, 10f64.powf(1.0 + random.random::<f64>() * 5.0));
    }
    let off = gap.abs() * 0.16 * random.random::<f64>().powf(1.5) * worse;
    (Status::Discard, parent + off + 0.003 * (random.random::<f64>() - 0.4))
}

/// Whether a search for the searched words finds the record.
fn matches(record: &Record) -> bool {
    let text = format!("{} {}", record.description, record.hypothesis).to_lowercase();
    SEARCHED.0.split(' ').all(|word| text.split(|c: char| !c.is_alphanumeric()).any(|other| other == word))
}

impl Made {
    fn of(record: &spore_protocol::Signed<Record>, parent: Option<usize>, device: &'static str) -> Self {
        Self {
            id: record.id().into(),
            parent,
            depth: record.depth,
            status: record.status,
            metric: record.val_bpb,
            device,
            timestamp: record.timestamp,
            description: record.description.clone(),
            comparable: true,
        }
    }
}

impl Task {
    fn frontier_records(&self, verdicts: &Verdicts, standings: &Standings) -> Vec<FrontierRecord> {
        let facts = |record: &Made| {
            let (local, global) = verdicts.of(&record.id, standings);
            FrontierRecord {
                id: record.id,
                parent: record.parent.map(|parent| self.records[parent].id),
                status: record.status,
                class: HardwareClass::of(record.device),
                metric: record.metric,
                timestamp: record.timestamp,
                comparable: record.comparable,
                local,
                global,
            }
        };
        self.records.iter().map(facts).collect()
    }

    /// The records, in the order of their timestamps.
    fn described(&self, verdicts: &Verdicts, standings: &Standings) -> Vec<Value> {
        let record = |(index, record): (usize, &Made)| {
            let (verdict, _) = verdicts.of(&record.id, standings);
            json!({
                "index": index,
                "id": record.id.to_string(),
                "parent": record.parent.map(|parent| self.records[parent].id.to_string()),
                "depth": record.depth,
                "status": record.status.name(),
                "class": HardwareClass::of(record.device).as_str(),
                "description": record.description,
                "verdict": verdict.name(),
                "comparable": record.comparable,
            })
        };
        self.records.iter().enumerate().map(record).collect()
    }

    fn description(&self, verdicts: &Verdicts, standings: &Standings) -> Value {
        let mut description =
            json!({"name": self.plan.name, "id": self.id.to_string(), "record_count": self.records.len()});
        if self.records.len() > MOST_DESCRIBED {
            return description;
        }
        let records = self.frontier_records(verdicts, standings);
        let list = |kind: &FrontierKind| -> Vec<_> {
            oracle::frontier(self.plan.goal, kind, &records).iter().map(|record| record.id.to_string()).collect()
        };
        let classes: BTreeSet<_> = records.iter().map(|record| &record.class).collect();
        let lists = |kind: fn(HardwareClass) -> FrontierKind| -> BTreeMap<_, _> {
            classes.iter().map(|class| (class.to_string(), list(&kind((*class).clone())))).collect()
        };
        let mut best: Vec<_> = records.iter().filter(|record| record.status != Status::Crash).collect();
        best.sort_by(|a, b| {
            self.plan.goal.order(a.metric, b.metric).then((a.timestamp, a.id).cmp(&(b.timestamp, b.id)))
        });
        description["records"] = self.described(verdicts, standings).into();
        description["frontiers"] = json!(lists(FrontierKind::Local));
        description["globals"] = json!(lists(FrontierKind::Global));
        description["claims"] = json!(lists(FrontierKind::Claims));
        description["reference"] = list(&FrontierKind::Reference).into();
        description["by_metric"] = best.into_iter().map(|record| record.id.to_string()).collect::<Vec<_>>().into();
        description
    }
}

/// Stores new objects.
fn insert(store: &Store, objects: &[VerifiedObject], now: u64) {
    let report = store.insert(objects, now).expect("room for records");
    assert_eq!(report.changes.len(), objects.len(), "all of them are stored");
}
