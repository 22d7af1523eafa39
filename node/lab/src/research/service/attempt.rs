//! An experiment that a person or an agent asks for: a given script, tried once on the terms of a task.
//!
//! [`prepare`] checks everything that can be known without training, [`run`] trains, and publishes the record. Never
//! here: proposing a script, or choosing what to do next.

use std::{collections::BTreeMap, iter};

use spore_base::{progress::Purpose, script_text, shutdown::Shutdown};
use spore_protocol::{Cid, Goal, Record, RecordId, Status, TaskId, noise::Runs};
use spore_storage::{RecordSummary, Scope, Span, Store, StoreError};
use spore_trainer::{
    device::Backend,
    worker::{Failure, RunResult},
};

use super::{
    keep::{self, Candidate, Decision},
    snapshot::{self, Reference},
};
use crate::{
    engine::{Engine, EngineError, Order, Terms},
    research::{
        Proposal,
        choice::is_believed,
        record::{Measured, Parent, Runner, record},
        rule::{Ruling, is_among_best},
    },
};

/// Most characters of a description, and of a hypothesis: a paragraph.
pub const MAX_TEXT: usize = 2000;
/// Most runs with other seeds: they cost as much as the experiment each.
pub const MAX_RUNS: u32 = 32;
/// Newest records of the class, and newest own ones, among which the same script is looked for.
const NEWEST: usize = 256;
/// Best records that are looked at for one to build on.
const FRONTIER: usize = 64;
/// Scripts whose graphs are compared with the new one: the parent's and the best ones'. Each costs a process of some
/// 100 ms.
const GRAPHS: usize = 4;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub task: TaskId,
    /// The record to build on. None for the best of the class that this node believes.
    pub parent: Option<RecordId>,
    pub script: String,
    pub description: String,
    pub hypothesis: String,
    /// Who had the idea, as the record names it.
    pub agent_model: String,
    /// Exactly this many steps. None for as many as fit into the time budget.
    pub steps: Option<u64>,
    /// Runs, at least 1. The first is published, the others have other seeds. With 1 the result is repeated by the rule for
    /// keeps, if it may be one; with more exactly so often, and so is what it is compared with.
    pub runs: u32,
}

/// An attempt that may run, with what it is compared with.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub terms: Terms,
    pub parent: Parent,
    /// The metric that the result is compared with. None where nothing of the class is believed.
    pub compared_with: Option<f64>,
    pub graph_hash: String,
    /// A record of the class that is the same experiment.
    pub known: Option<RecordId>,
    attempt: Attempt,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    pub record: RecordId,
    pub status: Status,
    /// None for a crash, whose reason is then in `description`.
    pub metric: Option<f64>,
    pub steps: u64,
    pub train_seconds: f64,
    pub description: String,
    pub compared_with: Option<f64>,
    /// The noise of the script, if it ran often enough.
    pub noise: Option<Runs>,
    /// Why it is a keep or none, and the gain that decided. None for a crash and for the first result of a class.
    pub ruling: Option<Ruling>,
}

/// Checks an attempt without training: the script traces and looks back only, the task runs here, the parent is of the
/// task and its script is here, and the experiment is new.
///
/// # Errors
/// [`EngineError::Script`] for the script's own fault, [`EngineError::Task`] for a task or a parent that cannot be used
/// here, others when this machine fails.
pub async fn prepare(engine: &Engine, attempt: Attempt, shutdown: &mut Shutdown) -> Result<Prepared, EngineError> {
    let attempt = Attempt { script: script_text::normal(&attempt.script).text.into_owned(), ..attempt };
    let inspection = engine.inspect(&attempt.script, shutdown).await?;
    let terms = engine.terms(attempt.task).await?;
    let (task, us, class, wanted) = (attempt.task, engine.node_id(), engine.class(), attempt.parent);
    let refuse = |reason: &str| EngineError::Task { task, reason: reason.to_owned() };
    let best = engine.read(move |store| best(store, task, us, &class)).await?;
    let record = match wanted {
        Some(id) => engine.read(move |store| store.summary(&id)).await?.filter(|record| record.task_id == task),
        None => match best.first() {
            Some(best) => Some(best.clone()),
            None => engine.read(move |store| root(store, task)).await?,
        },
    };
    let record = record.ok_or_else(|| refuse("there is no record to build on: its root has not arrived"))?;
    let code = record.code_cid.ok_or_else(|| refuse("the record to build on names no script"))?;
    let script = engine.script(code, Some(record.node_id)).await?;
    let parent = Parent { id: record.id, depth: record.depth, script: script_text::normal(&script).text.into_owned() };
    let (class, id) = (engine.class(), record.id);
    let reference = engine.read(move |store| snapshot::reference(store, us, &class, id)).await?;
    let compared_with = reference.map(|reference| reference.metric);
    let known = known(engine, &attempt, &inspection.graph_hash, &record, &best, shutdown).await?;
    Ok(Prepared { terms, parent, compared_with, graph_hash: inspection.graph_hash, known, attempt })
}

/// The best believed records of the class, the best first.
fn best(
    store: &Store,
    task: TaskId,
    us: spore_protocol::NodeId,
    class: &spore_protocol::HardwareClass,
) -> Result<Vec<RecordSummary>, StoreError> {
    let frontier = store.frontier(&task, class, FRONTIER)?;
    let mut believed: Vec<_> = frontier.into_iter().filter(|record| is_believed(record, us)).collect();
    let own = store.recent(Scope::Node(us), None, NEWEST)?.0.into_iter();
    believed.extend(
        own.filter(|r| r.task_id == task && r.class == *class && r.status == Status::Keep && is_believed(r, us)),
    );
    let goal = store.task(&task)?.and_then(|view| view.manifest.map(|m| m.goal)).unwrap_or(Goal::Minimize);
    believed.sort_by(|a, b| goal.order(a.metric, b.metric).then(a.id.cmp(&b.id)));
    believed.dedup_by_key(|record| record.id);
    Ok(believed)
}

fn root(store: &Store, task: TaskId) -> Result<Option<RecordSummary>, StoreError> {
    let root = store.task(&task)?.and_then(|view| view.root);
    Ok(root.map(|root| store.summary(&root)).transpose()?.flatten())
}

/// A record of the class that is the same experiment: of the same text, or of the same graph where that is known.
async fn known(
    engine: &Engine,
    attempt: &Attempt,
    graph_hash: &str,
    parent: &RecordSummary,
    best: &[RecordSummary],
    shutdown: &mut Shutdown,
) -> Result<Option<RecordId>, EngineError> {
    let (task, us, class) = (attempt.task, engine.node_id(), engine.class());
    let cid = Cid::of(attempt.script.as_bytes());
    let same_class = class.clone();
    let same = engine
        .read(move |store| {
            let mut records = store.newest_in_class(&task, &same_class, &Span::first(NEWEST))?.items;
            records.extend(store.recent(Scope::Node(us), None, NEWEST)?.0);
            let same = |r: &RecordSummary| {
                r.task_id == task && r.class == same_class && r.code_cid == Some(cid) && is_believed(r, us)
            };
            Ok(records.into_iter().find(same).map(|record| record.id))
        })
        .await?;
    if same.is_some() {
        return Ok(same);
    }
    if let Ok(graph) = graph_hash.parse() {
        let class = class.clone();
        let fit = move |record: &RecordSummary| is_believed(record, us);
        let tried = engine.read(move |store| store.tried(&task, &class, &graph, fit)).await?;
        if tried.is_some() {
            return Ok(tried);
        }
    }
    for record in std::iter::once(parent).chain(best).take(GRAPHS).filter(|record| record.class == class) {
        let Some(code) = record.code_cid else { continue };
        let Some(bytes) = engine.read(move |store| store.artifact(&code)).await? else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        match engine.inspect(&text, shutdown).await {
            Ok(inspection) if inspection.graph_hash == graph_hash => return Ok(Some(record.id)),
            Err(EngineError::Stopped) => return Err(EngineError::Stopped),
            _ => {}
        }
    }
    Ok(None)
}

/// Trains, and publishes the record. Runs with other seeds follow the first, for as many steps.
///
/// # Errors
/// As [`Engine::train`] where this machine fails, and [`EngineError::Publish`] for a result that every verifier would
/// refute or that cannot be stored. A script that fails is published as a crash.
pub async fn run(engine: &Engine, prepared: &Prepared, shutdown: &mut Shutdown) -> Result<Done, EngineError> {
    let Prepared { terms, parent, attempt, .. } = prepared;
    let result = match engine.train(order(prepared, attempt.steps), shutdown).await {
        Ok(result) => Ok(result),
        Err(EngineError::Script(failure)) => Err(failure),
        Err(error) => return Err(error),
    };
    if let Ok(first) = &result {
        check_time(prepared, first)?;
    }
    let (us, class, id) = (engine.node_id(), engine.class(), parent.id);
    // Read now: the verdict on the parent may have changed meanwhile.
    let reference = engine.read(move |store| snapshot::reference(store, us, &class, id)).await?;
    let decision = match (&result, &reference) {
        // One run of another length is compared with nothing.
        (Ok(_), _) if attempt.steps.is_some() && attempt.runs <= 1 => None,
        (Ok(first), Some(reference)) => Some(judge(engine, prepared, first, reference, shutdown).await?),
        _ => None,
    };
    let alone = match (&result, &reference) {
        (Ok(first), None) => repeated(engine, prepared, first, shutdown).await?,
        _ => BTreeMap::new(),
    };
    let proposal = Proposal {
        script: attempt.script.clone(),
        description: attempt.description.clone(),
        hypothesis: attempt.hypothesis.clone(),
        agent_model: attempt.agent_model.clone(),
    };
    // A run of another length than the task's budget says nothing about what the budget brings.
    let keep = attempt.steps.is_none() && decision.as_ref().is_none_or(|decision| decision.ruling.is_keep());
    let made = made(engine, terms, Some(parent), keep, &proposal, &result);
    let script = attempt.script.clone();
    // Before the record: a peer that reads the record may ask for the script at once.
    engine.read(move |store| store.put_artifact(script.as_bytes())).await?;
    let published = engine.publish(&made, shutdown).await?;
    let record = published.id().into();
    if let (Some(script), Ok(graph)) = (published.code_cid, prepared.graph_hash.parse()) {
        engine.read(move |store| store.note_graph(script, graph, Some(record))).await?;
    }
    if let (Some(decision), Some(reference)) = (&decision, &reference) {
        keep::publish(engine, terms, decision, record, reference, shutdown).await?;
    }
    keep::publish_results(engine, terms, record, published.num_steps, &alone, shutdown).await?;
    let decided = decision.as_ref();
    Ok(Done {
        record,
        status: published.status,
        metric: (published.status != Status::Crash).then_some(published.val_bpb),
        steps: published.num_steps,
        train_seconds: result.as_ref().map_or(0.0, |result| result.train_seconds),
        description: published.description.clone(),
        compared_with: decided.map(|decision| decision.compared_with),
        noise: result.ok().and_then(|first| match decided {
            Some(decision) => decision.noise(first.val_bpb),
            None => Runs::of(&iter::once(first.val_bpb).chain(alone.into_values()).collect::<Vec<_>>()),
        }),
        ruling: decided.map(|decision| decision.ruling),
    })
}

/// Refuses a result of so many steps as were asked for that took longer than the task's budget: no verifier would repeat it.
fn check_time(prepared: &Prepared, first: &RunResult) -> Result<(), EngineError> {
    let (took, budget) = (first.train_seconds, prepared.terms.manifest.time_budget);
    match prepared.attempt.steps {
        Some(steps) if took > budget as f64 => {
            Err(EngineError::Publish(format!("{steps} steps took {took:.1} s, the task's budget is {budget} s")))
        }
        _ => Ok(()),
    }
}

/// Results of the script with the other seeds that were asked for, where no result of the class can be compared with it. A
/// run that fails ends them.
async fn repeated(
    engine: &Engine,
    prepared: &Prepared,
    first: &RunResult,
    shutdown: &mut Shutdown,
) -> Result<BTreeMap<u64, f64>, EngineError> {
    let mut results = BTreeMap::new();
    for seed in 1..u64::from(prepared.attempt.runs.min(MAX_RUNS)) {
        let again = Order { seed_offset: seed, ..order(prepared, Some(first.num_steps)) };
        match engine.train(again, shutdown).await {
            Ok(result) => results.insert(seed, result.val_bpb),
            Err(EngineError::Stopped) => return Err(EngineError::Stopped),
            Err(error) => {
                tracing::warn!(%error, seed, "a run with another seed failed");
                break;
            }
        };
    }
    Ok(results)
}

fn order(prepared: &Prepared, steps: Option<u64>) -> Order<'_> {
    Order {
        terms: &prepared.terms,
        purpose: Purpose::Research,
        record: Some(prepared.parent.id),
        script: prepared.attempt.script.clone(),
        steps,
        seed_offset: 0,
        description: prepared.attempt.description.clone(),
    }
}

/// Whether the first result is a keep, after runs with other seeds where they are asked for or needed.
async fn judge(
    engine: &Engine,
    prepared: &Prepared,
    first: &RunResult,
    reference: &Reference,
    shutdown: &mut Shutdown,
) -> Result<Decision, EngineError> {
    let (task, us, class) = (prepared.terms.task_id, engine.node_id(), engine.class());
    let best = engine.read(move |store| best(store, task, us, &class)).await?;
    let keeps = best.iter().map(|record| record.metric);
    let candidate = Candidate {
        terms: &prepared.terms,
        script: &prepared.attempt.script,
        description: &prepared.attempt.description,
        metric: first.val_bpb,
        steps: first.num_steps,
        among_best: is_among_best(prepared.terms.manifest.goal, first.val_bpb, keeps),
        equal_steps: prepared.attempt.steps.is_some(),
    };
    let runs = prepared.attempt.runs.min(MAX_RUNS);
    let runs = (runs > 1).then(|| u64::from(runs));
    keep::decide(engine, &candidate, reference, runs, shutdown).await
}

/// The record of a result on this engine's device.
pub(super) fn made(
    engine: &Engine,
    terms: &Terms,
    parent: Option<&Parent>,
    keep: bool,
    proposal: &Proposal,
    result: &Result<RunResult, Failure>,
) -> Record {
    let device = &engine.device;
    let backend = match device.backend {
        Backend::Wgpu => "wgpu",
        Backend::Flex => "flex",
    };
    let runner = Runner { node_id: engine.node_id(), gpu_model: device.gpu_model.clone(), backend };
    let measured = match result {
        Ok(o) => {
            Ok(Measured { metric: o.val_bpb, peak_memory: o.peak_memory_mb, steps: o.num_steps, params: o.num_params })
        }
        Err(failure) => Err(failure.reason.as_str()),
    };
    record(&terms.manifest, parent, keep, proposal, &runner, measured, engine.now())
}
