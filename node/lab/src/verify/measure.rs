//! Measures one record: re-runs it as often as a fair conclusion takes, and publishes what was found.
//!
//! Verification measures what [`policy`](super::policy) chooses. Research measures a record of another node before it
//! builds on it. Never here: the verdict, which `protocol::verdict` computes out of all measurements.

use std::sync::Arc;

use spore_base::{progress::Purpose, shutdown::Shutdown};
use spore_protocol::{
    Cid, ControlEvent, Goal,
    control::{Refutation, Rerun as Value},
    finding::Reason,
};
use spore_storage::RecordSummary;
use spore_trainer::worker::{Failure, FailureKind};
use tracing::{info, warn};

use super::policy::{Found, Ruling, rule, subject, to_answer};
use crate::engine::{Engine, EngineError, Meaning, Order, Pace, Ran, Rerun, Terms};

/// What a measurement of a record led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Published: the result holds, and this is this node's value.
    Holds(f64),
    /// Published: the result does not hold.
    Fails,
    /// Published: the script of the record cannot be had.
    Lost,
    /// Not run: a record of the same meaning and claim arrived earlier, and a run here confirmed it.
    Copy,
    /// Not run: this node runs or has measured the record already.
    Known,
    /// Nothing was published, because this device or this program proves nothing about the record.
    Nothing,
}

/// Whether a record is run whose script means the same as one that ran here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    Run,
    Skip,
}

/// Measures records with one engine.
#[derive(Clone)]
pub struct Measurer {
    engine: Arc<Engine>,
}

impl Measurer {
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Measures a record of another node on the terms of its task, and publishes what was found.
    ///
    /// # Errors
    /// When the task cannot be worked on here, when an artifact is missing now, or when this machine fails.
    pub async fn measure(
        &self,
        record: &RecordSummary,
        copies: Copies,
        shutdown: &mut Shutdown,
    ) -> Result<Outcome, EngineError> {
        let engine = &self.engine;
        let Some(_work) = engine.works.begin(record.id) else { return Ok(Outcome::Known) };
        let (us, id) = (engine.node_id(), record.id);
        if engine.read(move |store| store.measured_by(&us, &id)).await? {
            return Ok(Outcome::Known);
        }
        let terms = engine.terms(record.task_id).await?;
        let Some(code) = record.code_cid else { return Ok(Outcome::Nothing) };
        let (found, graph) = match self.script(code, record, shutdown).await? {
            Source::Lost => {
                self.refute(record, Reason::NoScript, terms.manifest.goal, shutdown).await?;
                return Ok(Outcome::Lost);
            }
            Source::Refused(found) => (found, None),
            Source::Script { graph, .. } if copies == Copies::Skip && self.is_copy(record, &graph) => {
                return Ok(Outcome::Copy);
            }
            Source::Script { text, graph } => (self.conclude(record, &terms, &text, shutdown).await?, Some(graph)),
        };
        let outcome = self.publish(record, found, terms.manifest.goal, shutdown).await?;
        // A record that fails must not stand for an honest one with the same script.
        if let (Some(graph), Outcome::Holds(_)) = (graph, outcome) {
            let (meaning, ran) = run_of(record, &graph);
            engine.works.ran(meaning, ran);
            if let Ok(graph) = graph.parse() {
                engine.read(move |store| store.note_graph(code, graph, Some(id))).await?;
            }
        }
        Ok(outcome)
    }

    fn is_copy(&self, record: &RecordSummary, graph: &str) -> bool {
        let (meaning, ran) = run_of(record, graph);
        self.engine.works.is_copy(&meaning, ran, record.class.tolerance())
    }

    /// The script of a record with its meaning, or why there is none.
    async fn script(&self, code: Cid, record: &RecordSummary, shutdown: &mut Shutdown) -> Result<Source, EngineError> {
        let engine = &self.engine;
        let text = match engine.script(code, Some(record.node_id)).await {
            Ok(text) => text,
            Err(EngineError::Script(failure)) => return Ok(Source::Refused(refused(&failure))),
            Err(error @ EngineError::Missing(_)) => {
                let peers = engine.artifacts.peers().await;
                let lost = engine.works.is_lost(code, peers, engine.now());
                return if lost { Ok(Source::Lost) } else { Err(error) };
            }
            Err(error) => return Err(error),
        };
        engine.works.found(&code);
        // What this machine's load may cause is tried twice.
        let mut first = None;
        loop {
            match engine.inspect(&text, shutdown).await {
                Ok(inspection) => return Ok(Source::Script { text, graph: inspection.graph_hash }),
                Err(EngineError::Script(failure) | EngineError::Killed(failure)) => {
                    let found = finding(Err(failure));
                    match first {
                        None => first = Some(found),
                        Some(first) => return Ok(Source::Refused(rule(&first, Some(&found), |_| false))),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs the script once, or twice if the first run does not confirm the record.
    async fn conclude(
        &self,
        record: &RecordSummary,
        terms: &Terms,
        script: &str,
        shutdown: &mut Shutdown,
    ) -> Result<Ruling, EngineError> {
        let near = |value: f64, other: f64| (value - other).abs() <= record.class.tolerance();
        let judge = |first: &Found, second: Option<&Found>| match (first, second) {
            (Found::Value(a), Some(Found::Value(b))) if !near(*a, *b) => Ruling::Unreliable,
            _ => rule(first, second, |value| near(value, record.metric)),
        };
        let first = self.run(record, terms, script, shutdown).await?;
        let ruling = judge(&first, None);
        if ruling != Ruling::RunAgain {
            return Ok(ruling);
        }
        info!(record = %record.id.short(), claimed = record.metric, found = %first, "a result does not hold: running it once more, to be sure");
        let second = self.run(record, terms, script, shutdown).await?;
        Ok(judge(&first, Some(&second)))
    }

    /// Runs the script for the recorded number of steps.
    async fn run(
        &self,
        record: &RecordSummary,
        terms: &Terms,
        script: &str,
        shutdown: &mut Shutdown,
    ) -> Result<Found, EngineError> {
        let order = Order {
            terms,
            purpose: Purpose::Verify,
            record: Some(record.id),
            script: script.to_owned(),
            steps: Some(record.num_steps),
            seed_offset: 0,
            description: record.description.clone(),
        };
        info!(record = %record.id.short(), steps = record.num_steps, "re-run begins");
        let Rerun { result, pace } = self.engine.rerun(order, shutdown).await?;
        Ok(match pace {
            Pace::Possible => finding(result.map(|result| result.val_bpb)),
            Pace::OverBudget => Found::Reason(Reason::OverBudget),
            Pace::Unknown => Found::Nothing("the steps took longer than the time budget allows".into()),
        })
    }

    async fn publish(
        &self,
        record: &RecordSummary,
        ruling: Ruling,
        goal: Goal,
        shutdown: &mut Shutdown,
    ) -> Result<Outcome, EngineError> {
        let (claimed, id) = (record.metric, record.id.short());
        match ruling {
            Ruling::Holds(value) => {
                info!(record = %id, claimed, value, "a result holds");
                self.report(record, value, true, goal, shutdown).await?;
                Ok(Outcome::Holds(value))
            }
            Ruling::Fails(value) => {
                warn!(record = %id, claimed, value, "a result does not hold: challenged");
                self.report(record, value, false, goal, shutdown).await?;
                Ok(Outcome::Fails)
            }
            Ruling::Refuted(reason) => {
                warn!(record = %id, claimed, %reason, "a result cannot hold: refuted");
                self.refute(record, reason, goal, shutdown).await?;
                Ok(Outcome::Fails)
            }
            Ruling::RunAgain | Ruling::Unreliable => {
                warn!(record = %id, claimed, "the re-runs of this device prove nothing: no measurement is published");
                Ok(Outcome::Nothing)
            }
        }
    }

    /// Publishes a value: as the response to another's challenge if there is one, else as a verification or a challenge.
    async fn report(
        &self,
        record: &RecordSummary,
        value: f64,
        holds: bool,
        goal: Goal,
        shutdown: &mut Shutdown,
    ) -> Result<(), EngineError> {
        let (engine, id) = (&self.engine, record.id);
        let judged = engine.read(move |store| store.judgement(&id)).await?;
        let challenger = judged.and_then(|judged| to_answer(&judged.global, engine.node_id()));
        let at = subject(record, goal).measured_at(engine.now());
        let rerun = Value {
            experiment_id: record.id,
            task_id: Some(record.task_id),
            node_id: engine.node_id(),
            gpu: engine.device.gpu_model.clone(),
            value,
        };
        let event = match challenger {
            Some(challenger) => ControlEvent::challenge_response(rerun, challenger, at),
            None if holds => ControlEvent::verification(rerun, record.node_id, record.on_reference_frontier, at),
            None => ControlEvent::challenge(rerun, at),
        };
        engine.publish(&event, shutdown).await.map(|_| ())
    }

    async fn refute(
        &self,
        record: &RecordSummary,
        reason: Reason,
        goal: Goal,
        shutdown: &mut Shutdown,
    ) -> Result<(), EngineError> {
        let engine = &self.engine;
        let refutation = Refutation {
            experiment_id: record.id,
            task_id: Some(record.task_id),
            node_id: engine.node_id(),
            gpu: engine.device.gpu_model.clone(),
            reason,
        };
        let at = subject(record, goal).measured_at(engine.now());
        engine.publish(&ControlEvent::refutation(refutation, at), shutdown).await.map(|_| ())
    }
}

/// The run that a record claims, in the form in which [`Works`](crate::engine::Works) remembers runs.
pub fn run_of(record: &RecordSummary, graph: &str) -> (Meaning, Ran) {
    let meaning = Meaning { task: record.task_id, graph_hash: graph.to_owned(), steps: record.num_steps };
    (meaning, Ran { sequence: record.sequence, metric: record.metric })
}

/// A record's script.
enum Source {
    Script {
        text: String,
        graph: String,
    },
    /// It is here and does not trace.
    Refused(Ruling),
    /// Nobody has had it for long.
    Lost,
}

/// What one run of a script found.
fn finding(result: Result<f64, Failure>) -> Found {
    match result {
        Ok(value) if value.is_finite() => Found::Value(value),
        Ok(_) => Found::Reason(Reason::Diverges),
        Err(failure) => reason(failure.kind).map_or_else(|| Found::Nothing(failure.reason), Found::Reason),
    }
}

/// The conclusion about a script that cannot even be read, which does not depend on this machine.
fn refused(failure: &Failure) -> Ruling {
    reason(failure.kind).map_or(Ruling::Unreliable, Ruling::Refuted)
}

/// The reason that a failure of a script gives against its record. None when another machine may not fail so.
fn reason(kind: FailureKind) -> Option<Reason> {
    match kind {
        FailureKind::Script => Some(Reason::DoesNotTrace),
        FailureKind::Causality => Some(Reason::NotCausal),
        FailureKind::Diverged => Some(Reason::Diverges),
        FailureKind::Deadline
        | FailureKind::Memory
        | FailureKind::Crashed
        | FailureKind::Killed
        | FailureKind::Busy
        | FailureKind::Device
        | FailureKind::Data
        | FailureKind::Internal
        | FailureKind::Cancelled => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_counts_against_a_record_only_if_other_machines_would_fail_too() {
        use FailureKind::{
            Busy, Cancelled, Causality, Crashed, Data, Deadline, Device, Diverged, Internal, Killed, Memory, Script,
        };
        assert_eq!(reason(Causality), Some(Reason::NotCausal));
        assert_eq!(reason(Script), Some(Reason::DoesNotTrace));
        assert_eq!(reason(Diverged), Some(Reason::Diverges));
        assert!(
            [Deadline, Memory, Crashed, Killed, Busy, Device, Data, Internal, Cancelled]
                .into_iter()
                .all(|k| reason(k).is_none())
        );
    }

    #[test]
    fn metric_that_is_not_finite_is_a_divergence() {
        assert_eq!(finding(Ok(2.5)), Found::Value(2.5));
        assert_eq!(finding(Ok(f64::NAN)), Found::Reason(Reason::Diverges));
        let slow = Failure { kind: FailureKind::Deadline, reason: "slow".into() };
        assert_eq!(finding(Err(slow)), Found::Nothing("slow".into()));
    }
}
