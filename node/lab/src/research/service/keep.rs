//! Decides whether a result is a keep: runs what the rule asks for, and publishes the repeats.
//!
//! A result of another number of steps than the one that it is compared with may be better by the machine's load alone.
//! Then the other script runs once more beside it, for the time budget; if the load changed its steps too, that run is what the
//! result is compared with. Never here: the rule itself ([`crate::research::rule`]).

use std::collections::BTreeMap;

use spore_base::{progress::Purpose, script_text, shutdown::Shutdown};
use spore_protocol::{
    ControlEvent, Goal, RecordId, Repeats,
    noise::{Runs, improvement},
    repeats::by_seed,
};
use spore_storage::same_length;
use tracing::{info, warn};

use super::snapshot::Reference;
use crate::{
    engine::{Engine, EngineError, Order, Terms},
    research::rule::{self, Evidence, Next, Ruling, Side, Why},
};

/// A result that may be a keep.
pub(super) struct Candidate<'a> {
    pub terms: &'a Terms,
    pub script: &'a str,
    pub description: &'a str,
    pub metric: f64,
    pub steps: u64,
    /// See [`rule::is_among_best`].
    pub among_best: bool,
    /// The number of steps was chosen: the other script runs for as many.
    pub equal_steps: bool,
}

/// The decision, with the runs that it took.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    pub ruling: Ruling,
    /// What the result was compared with: the record's metric, or that of a run beside the result.
    pub compared_with: f64,
    /// Results of the result's script by seed, without the first one.
    child: BTreeMap<u64, f64>,
    /// Results of the other script that are new.
    parent: BTreeMap<u64, f64>,
    child_steps: u64,
    parent_steps: u64,
}

/// One run of a script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    pub metric: f64,
    pub steps: u64,
}

/// What runs the two scripts. Tests have one of their own.
pub(super) trait Bench {
    /// Runs a script with so much added to the task's seed: for so many steps, or for the time budget.
    ///
    /// # Errors
    /// As [`Engine::train`].
    fn run(
        &mut self,
        side: Side,
        steps: Option<u64>,
        seed: u64,
    ) -> impl Future<Output = Result<Outcome, EngineError>> + Send;
}

/// What is known before anything is run again.
pub(super) struct Known {
    pub goal: Goal,
    pub tolerance: f64,
    pub evidence: Evidence,
    /// Repeats of the record that the result is compared with.
    pub repeats: Vec<Repeats>,
    pub class: spore_protocol::HardwareClass,
    pub child_steps: u64,
    pub parent_steps: u64,
}

impl Decision {
    /// The noise of the result's own script, whose first run brought `first`, if it ran often enough.
    pub fn noise(&self, first: f64) -> Option<Runs> {
        let results: Vec<f64> = std::iter::once(first).chain(self.child.values().copied()).collect();
        Runs::of(&results)
    }
}

/// Decides about a result that is compared with `reference`: by the rule, or, where its author chose the number of runs, by
/// so many of both scripts.
///
/// # Errors
/// [`EngineError::Stopped`] at shutdown, and the store's errors. A run that this machine fails ends the repeats: the result is
/// then judged by what is known.
pub(super) async fn decide(
    engine: &Engine,
    candidate: &Candidate<'_>,
    reference: &Reference,
    runs: Option<u64>,
    shutdown: &mut Shutdown,
) -> Result<Decision, EngineError> {
    let known = known(engine, candidate, reference).await?;
    let parent = engine.script(reference.code, Some(reference.publisher)).await;
    let parent = parent.map(|script| script_text::normal(&script).text.into_owned());
    let mut bench = EngineBench { engine, candidate, parent, shutdown };
    let decision = ruled(&mut bench, known, runs).await?;
    let Ruling { why, gain } = decision.ruling;
    let (repeats, p) = (decision.child.len(), gain.map(|gain| gain.p));
    info!(change = %candidate.description, %why, repeats, p, "a result is judged");
    Ok(decision)
}

/// What the store knows about both.
async fn known(engine: &Engine, candidate: &Candidate<'_>, reference: &Reference) -> Result<Known, EngineError> {
    let (task, class, steps, id) = (candidate.terms.task_id, engine.class(), candidate.steps, reference.record);
    let (of_class, noise_class) = (class.clone(), class.clone());
    let noise = engine.read(move |store| store.noise(&task, &noise_class, Some(steps))).await?;
    let repeats = engine.read(move |store| store.repeats(&id)).await?;
    let parent_steps = if candidate.equal_steps { candidate.steps } else { reference.steps };
    let mut evidence = Evidence {
        noise: noise.map(|known| known.noise),
        among_best: candidate.among_best,
        parent: by_seed(&repeats, &of_class, parent_steps),
        ..Evidence::default()
    };
    evidence.add(Side::Child, 0, candidate.metric);
    if parent_steps == reference.steps {
        evidence.add(Side::Parent, 0, reference.metric);
    }
    Ok(Known {
        goal: candidate.terms.manifest.goal,
        tolerance: class.tolerance(),
        evidence,
        repeats,
        class,
        child_steps: candidate.steps,
        parent_steps,
    })
}

/// Runs what the rule asks for, or `runs` runs of both scripts, until it is decided.
async fn ruled(bench: &mut impl Bench, mut known: Known, runs: Option<u64>) -> Result<Decision, EngineError> {
    let mut fresh = BTreeMap::new();
    let failed = beside(bench, &mut known, &mut fresh).await?;
    let ruling = loop {
        if let Some(why) = failed {
            break Ruling { why, gain: None };
        }
        let next = match runs {
            Some(runs) => known.evidence.next_of(runs, known.goal, known.tolerance),
            None => rule::next(&known.evidence, known.goal, known.tolerance),
        };
        let (side, seed) = match next {
            Next::Ruled(ruling) => break ruling,
            Next::Run(side, seed) => (side, seed),
        };
        let steps = if side == Side::Child { known.child_steps } else { known.parent_steps };
        match bench.run(side, Some(steps), seed).await {
            Ok(outcome) => {
                known.evidence.add(side, seed, outcome.metric);
                if side == Side::Parent {
                    fresh.insert(seed, outcome.metric);
                }
            }
            Err(error) => break Ruling { why: given_up(error)?, gain: None },
        }
    };
    let Known { mut evidence, child_steps, parent_steps, .. } = known;
    let compared_with = evidence.parent.get(&0).copied().unwrap_or_default();
    evidence.child.remove(&0);
    Ok(Decision { ruling, compared_with, child: evidence.child, parent: fresh, child_steps, parent_steps })
}

/// Runs the other script beside a result of another length that the load may have made. Returns why the result cannot be
/// judged, if that run fails.
async fn beside(
    bench: &mut impl Bench,
    known: &mut Known,
    fresh: &mut BTreeMap<u64, f64>,
) -> Result<Option<Why>, EngineError> {
    let first = |results: &BTreeMap<u64, f64>| results.get(&0).copied().unwrap_or(f64::NAN);
    let gain = improvement(known.goal, first(&known.evidence.child), first(&known.evidence.parent));
    let chance = known.evidence.noise.map_or(0.0, |noise| noise.believable(1, 1));
    let held_back = known.child_steps < known.parent_steps && gain > -chance;
    if same_length(known.child_steps, known.parent_steps) || !(gain > known.tolerance || held_back) {
        return Ok(None);
    }
    let control = match bench.run(Side::Parent, None, 0).await {
        Ok(control) => control,
        Err(error) => return given_up(error).map(Some),
    };
    if !same_length(control.steps, known.parent_steps) {
        info!(
            before = known.parent_steps,
            now = control.steps,
            "the machine's speed changed: the result is compared with a run of its parent beside it"
        );
        known.parent_steps = control.steps;
        known.evidence.parent = by_seed(&known.repeats, &known.class, control.steps);
        known.evidence.add(Side::Parent, 0, control.metric);
        fresh.insert(0, control.metric);
    }
    Ok(None)
}

/// Why a result is no keep when a run for its judgement fails.
fn given_up(error: EngineError) -> Result<Why, EngineError> {
    match error {
        EngineError::Stopped => Err(EngineError::Stopped),
        EngineError::Script(_) => Ok(Why::Fails),
        error => {
            warn!(%error, "a result could not be repeated, and counts as within noise");
            Ok(Why::WithinNoise)
        }
    }
}

/// Publishes the repeats of a decision about the record `id`, which is published.
///
/// # Errors
/// As [`Engine::publish`].
pub(super) async fn publish(
    engine: &Engine,
    terms: &Terms,
    decision: &Decision,
    id: RecordId,
    reference: &Reference,
    shutdown: &mut Shutdown,
) -> Result<(), EngineError> {
    for (record, steps, results) in
        [(id, decision.child_steps, &decision.child), (reference.record, decision.parent_steps, &decision.parent)]
    {
        publish_results(engine, terms, record, steps, results, shutdown).await?;
    }
    Ok(())
}

/// Publishes results of a record's script by seed, in one event for each row of seeds.
///
/// # Errors
/// As [`Engine::publish`].
pub(super) async fn publish_results(
    engine: &Engine,
    terms: &Terms,
    record: RecordId,
    steps: u64,
    results: &BTreeMap<u64, f64>,
    shutdown: &mut Shutdown,
) -> Result<(), EngineError> {
    for (first_seed, results) in rows(results) {
        let repeats = Repeats {
            experiment_id: record,
            task_id: Some(terms.task_id),
            node_id: engine.node_id(),
            gpu: engine.device.gpu_model.clone(),
            steps,
            first_seed,
            results,
        };
        engine.publish(&ControlEvent::repeats(repeats, engine.now()), shutdown).await?;
    }
    Ok(())
}

/// The results of seeds that follow each other, with the first of these seeds.
fn rows(results: &BTreeMap<u64, f64>) -> Vec<(u64, Vec<f64>)> {
    let mut rows: Vec<(u64, Vec<f64>)> = Vec::new();
    for (seed, result) in results {
        match rows.last_mut() {
            Some((first, row)) if first.saturating_add(row.len() as u64) == *seed => row.push(*result),
            _ => rows.push((*seed, vec![*result])),
        }
    }
    rows
}

/// Runs on this node's device.
struct EngineBench<'a> {
    engine: &'a Engine,
    candidate: &'a Candidate<'a>,
    /// The script that the result is compared with, or why it cannot be had.
    parent: Result<String, EngineError>,
    shutdown: &'a mut Shutdown,
}

impl Bench for EngineBench<'_> {
    async fn run(&mut self, side: Side, steps: Option<u64>, seed: u64) -> Result<Outcome, EngineError> {
        let candidate = self.candidate;
        let (script, what) = match (side, &self.parent) {
            (Side::Child, _) => (candidate.script.to_owned(), "the same with another seed"),
            (Side::Parent, Ok(script)) => (script.clone(), "its parent, to compare"),
            (Side::Parent, Err(error)) => {
                return Err(EngineError::Task { task: candidate.terms.task_id, reason: error.to_string() });
            }
        };
        let order = Order {
            terms: candidate.terms,
            purpose: Purpose::Research,
            record: None,
            script,
            steps,
            seed_offset: seed,
            description: format!("{what}: {}", candidate.description),
        };
        let result = self.engine.train(order, self.shutdown).await?;
        Ok(Outcome { metric: result.val_bpb, steps: result.num_steps })
    }
}

#[cfg(test)]
mod tests;
