//! Verification: asks the policy which record to re-run, trains, and signs the measurement.

use std::{cmp::Reverse, collections::HashSet, sync::Arc, time::Duration};

use spore_base::{
    backoff::Backoff,
    cooldown::Cooldown,
    mode::Mode,
    progress::Purpose,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::StoreEvent;
use spore_protocol::{ControlBody, ControlEvent, NodeId, RecordId, TaskId, control::Rerun, verdict::Verdict};
use spore_storage::{RecordSummary, Scope, Store, StoreError};
use tokio::{sync::broadcast, time::Instant};
use tracing::{debug, info, warn};

use super::policy::{Assignment, OpenDispute, Policy, Ruling, closing, rule, to_answer};
use crate::{
    engine::{Blame, Engine, EngineError, Order},
    work_loop::{self, Round, Rounds, event_or_deadline},
};

/// Newest records among which the policy chooses.
const WINDOW: usize = 512;
/// Frontier records of all tasks together among which the policy chooses, at least one of each task. A publisher dates
/// its own records, so an old date must not hide a record that others build on.
const FRONTIERS: usize = 1024;
/// Open disputes to choose from. One is answered at a time.
const DISPUTES: usize = 64;
/// Longest wait for a store event before the next round: by then a stand-in may be due.
const NEWS_WAIT: Duration = Duration::from_secs(20);
/// Seconds of cooldown of a record whose artifacts cannot be fetched: a relay that passed the record on is still
/// fetching them.
const ARTIFACT_COOLDOWN: u64 = 20;
/// Seconds of cooldown of a record whose re-run failed on this machine. Without it, one record on which the machine always fails
/// would end all verification.
const FAILURE_COOLDOWN: u64 = 600;
/// First wait after a failure of this machine, and the longest.
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
const BACKOFF_MOST: Duration = Duration::from_secs(600);
/// Most records on cooldown. At some fifty bytes each.
const COOLDOWNS: usize = 4096;

/// Re-runs records until the node shuts down.
pub async fn run(engine: Arc<Engine>, shutdown: Shutdown) {
    let policy =
        Policy { node: engine.node_id(), class: engine.class(), rate: engine.settings.verify_rate.clamp(0.0, 1.0) };
    // Subscribe before the first round: no event between a round and the wait after it is missed.
    let events = engine.events.subscribe();
    let verifier = Verifier { engine, policy, cooldown: Cooldown::new(COOLDOWNS), events };
    work_loop::run(verifier, Backoff::new(BACKOFF_FIRST, BACKOFF_MOST), shutdown).await;
}

struct Verifier {
    engine: Arc<Engine>,
    policy: Policy,
    /// Records that cannot be re-run before a time in Unix seconds; `u64::MAX` for never.
    cooldown: Cooldown<RecordId, u64>,
    events: broadcast::Receiver<StoreEvent>,
}

/// What the policy chooses from.
struct Candidates {
    /// Frontier records first, then the newest; all of tasks that this node can run.
    records: Vec<RecordSummary>,
    disputes: Vec<OpenDispute>,
    /// Records among these that this node has measured.
    measured: HashSet<RecordId>,
}

impl Rounds for Verifier {
    const NAME: &'static str = "verification";

    /// Re-runs one record.
    async fn round(&mut self, shutdown: &mut Shutdown) -> Result<Round, EngineError> {
        self.close_own_disputes(shutdown).await?;
        let pinned = *self.engine.settings.pinned.borrow();
        let policy = self.policy.clone();
        let now = self.engine.now();
        let skipped = self.cooldown.cooling(now);
        let left_out = skipped.clone();
        let candidates = self.engine.read(move |store| look(store, &policy, pinned, &left_out, now)).await?;
        let done = |id: &RecordId| candidates.measured.contains(id) || skipped.contains(id);
        let idle = || Ok(Round::Idle("there is no record to re-run".into()));
        let Some(next) = self.policy.next(&candidates.records, &candidates.disputes, now, done) else { return idle() };
        let (id, challenger) = match next {
            Assignment::Check(id) => (id, None),
            Assignment::Respond { record, challenger } => (record, Some(challenger)),
        };
        let disputed = candidates.disputes.iter().map(|open| &open.record);
        let Some(record) = candidates.records.iter().chain(disputed).find(|r| r.id == id).cloned() else {
            return idle();
        };
        let Err(error) = self.measure(&record, challenger, shutdown).await else { return Ok(Round::Done) };
        let Some(setback) = setback(&error, self.engine.now()) else { return Err(error) };
        self.cooldown.put(id, setback.until);
        if setback.machine {
            return Err(error);
        }
        debug!(record = %id.short(), %error, "a record cannot be re-run now");
        Ok(Round::Done)
    }

    /// Waits for a record or control event of another node, at most [`NEWS_WAIT`].
    async fn wait_for_news(&mut self, shutdown: &mut Shutdown) {
        let (deadline, us) = (Instant::now() + NEWS_WAIT, self.policy.node);
        tokio::select! {
            () = event_or_deadline(&mut self.events, deadline, |event| event.object.signer() != us) => {}
            () = stopped(shutdown) => {}
        }
    }
}

impl Verifier {
    async fn measure(
        &mut self,
        record: &RecordSummary,
        challenger: Option<NodeId>,
        shutdown: &mut Shutdown,
    ) -> Result<(), EngineError> {
        let Some(first) = self.rerun(record, shutdown).await? else { return Ok(()) };
        if let Some(challenger) = self.challenger(record.id, challenger).await? {
            return self.respond(record, first, challenger, shutdown).await;
        }
        let tolerance = record.class.tolerance();
        let mut ruling = rule(record.metric, tolerance, first, None);
        if ruling == Ruling::RunAgain {
            info!(record = %record.id.short(), claimed = record.metric, value = first, "a result does not hold: running it once more, to be sure");
            let Some(second) = self.rerun(record, shutdown).await? else { return Ok(()) };
            ruling = rule(record.metric, tolerance, first, Some(second));
        }
        let (Ruling::Holds(value) | Ruling::Fails(value)) = ruling else {
            warn!(record = %record.id.short(), first, "two runs of one script differ on this device: no measurement is published");
            self.cooldown.put(record.id, u64::MAX);
            return Ok(());
        };
        if let Some(challenger) = self.challenger(record.id, None).await? {
            return self.respond(record, value, challenger, shutdown).await;
        }
        let (measurement, now) = (self.measurement(record, value), self.engine.now());
        if ruling == Ruling::Holds(value) {
            info!(record = %record.id.short(), claimed = record.metric, value, "a result holds");
            let event = ControlEvent::verification(measurement, record.node_id, record.on_frontier, now);
            return self.sign(event, shutdown).await;
        }
        warn!(record = %record.id.short(), claimed = record.metric, value, "a result does not hold: challenged");
        self.sign(ControlEvent::challenge(measurement, now), shutdown).await
    }

    /// The challenger whom a measurement of the record answers: `known`, or one whose challenge arrived during the
    /// re-run. Of two challenges of one record only the first counts.
    async fn challenger(&self, record: RecordId, known: Option<NodeId>) -> Result<Option<NodeId>, EngineError> {
        if known.is_some() {
            return Ok(known);
        }
        let us = self.policy.node;
        let judgement = self.engine.read(move |store| store.judgement(&record)).await?;
        Ok(judgement.and_then(|judgement| to_answer(&judgement, us)))
    }

    async fn respond(
        &self,
        record: &RecordSummary,
        value: f64,
        challenger: NodeId,
        shutdown: &mut Shutdown,
    ) -> Result<(), EngineError> {
        info!(record = %record.id.short(), value, "answering a challenge");
        let measurement = self.measurement(record, value);
        self.sign(ControlEvent::challenge_response(measurement, challenger, self.engine.now()), shutdown).await
    }

    /// Runs a record's script for the recorded number of steps, on the terms of its task. None, with a warning in the
    /// log, when the script fails here.
    async fn rerun(&mut self, record: &RecordSummary, shutdown: &mut Shutdown) -> Result<Option<f64>, EngineError> {
        let terms = self.engine.terms(record.task_id).await?;
        let refuse = |reason: &str| EngineError::Task { task: record.task_id, reason: reason.to_owned() };
        let code = record.code_cid.ok_or_else(|| refuse("the record names no script"))?;
        let script = self.engine.script(code, Some(record.node_id)).await?;
        let order = Order {
            terms: &terms,
            purpose: Purpose::Verify,
            record: Some(record.id),
            script,
            steps: Some(record.num_steps),
            description: record.description.clone(),
        };
        info!(record = %record.id.short(), steps = record.num_steps, "re-run begins");
        match self.engine.train(order, shutdown).await {
            Ok(result) => Ok(Some(result.val_bpb)),
            Err(EngineError::Script(failure)) => {
                warn!(record = %record.id.short(), reason = %failure.reason, "a published result could not be re-run here");
                self.cooldown.put(record.id, u64::MAX);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn measurement(&self, record: &RecordSummary, value: f64) -> Rerun {
        Rerun {
            experiment_id: record.id,
            task_id: Some(record.task_id),
            node_id: self.engine.node_id(),
            gpu: self.engine.device.gpu_model.clone(),
            value,
        }
    }

    async fn sign(&self, event: ControlEvent, shutdown: &mut Shutdown) -> Result<(), EngineError> {
        self.engine.publish(&event, shutdown).await.map(|_| ())
    }

    /// Publishes the `dispute` event of each own challenge that is due to be closed.
    async fn close_own_disputes(&self, shutdown: &mut Shutdown) -> Result<(), EngineError> {
        let (us, now) = (self.engine.node_id(), self.engine.now());
        let closed = self.engine.read(move |store| own_closings(store, us, now)).await?;
        for closing in closed {
            info!(record = %closing.experiment_id.short(), outcome = closing.outcome.name(), "own challenge closed");
            self.sign(ControlEvent::dispute(&closing, now), shutdown).await?;
        }
        Ok(())
    }
}

/// What follows from an error while a record was re-run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setback {
    /// The end of the record's cooldown, in Unix seconds.
    until: u64,
    /// The machine failed: other records would likely fail too, so the next round waits for the backoff.
    machine: bool,
}

/// None for a shutdown.
fn setback(error: &EngineError, now: u64) -> Option<Setback> {
    let (until, machine) = match error.blame() {
        Blame::Shutdown => return None,
        Blame::Artifact | Blame::Task => (now.saturating_add(ARTIFACT_COOLDOWN), false),
        // A record's script and a task's dataset never change.
        Blame::Script | Blame::Dataset => (u64::MAX, false),
        Blame::Machine | Blame::Store => (now.saturating_add(FAILURE_COOLDOWN), true),
    };
    Some(Setback { until, machine })
}

/// Reads the candidates. When a task is pinned, only its records are candidates.
fn look(
    store: &Store,
    policy: &Policy,
    pinned: Option<TaskId>,
    skipped: &HashSet<RecordId>,
    now: u64,
) -> Result<Candidates, StoreError> {
    let tasks = store.tasks()?;
    let runnable = tasks.iter().filter(|t| crate::engine::runnable(t, pinned, policy.node)).map(|t| t.task_id);
    let followed: HashSet<TaskId> = runnable.filter(|task| pinned.is_none_or(|pinned| pinned == *task)).collect();
    let records = candidates(store, policy, pinned, &followed)?;
    let mut measured = HashSet::new();
    for id in records.iter().map(|r| r.id) {
        if measured_by(store, &id, policy.node)? {
            measured.insert(id);
        }
    }
    let disputes = answerable(store, policy, &followed, skipped, now)?;
    Ok(Candidates { records, disputes, measured })
}

/// Own events about one record that are read. A node measures a record once, and disputes it once.
const OWN_EVENTS: usize = 64;

/// The frontier of this node's class in each task, whatever the records' dates, then the newest records.
fn candidates(
    store: &Store,
    policy: &Policy,
    pinned: Option<TaskId>,
    followed: &HashSet<TaskId>,
) -> Result<Vec<RecordSummary>, StoreError> {
    let each = (FRONTIERS / followed.len().max(1)).max(1);
    let mut records = Vec::new();
    for task in followed {
        records.extend(store.frontier(task, Some(&policy.class), each)?);
    }
    // Newest first in each of the two parts, in the same order every time.
    records.sort_by_key(|r| Reverse((r.timestamp, r.id)));
    records.extend(store.recent(pinned.map_or(Scope::All, Scope::Task), None, WINDOW)?.0);
    let mut seen = HashSet::new();
    records.retain(|r| followed.contains(&r.task_id) && policy.wants(r) && seen.insert(r.id));
    Ok(records)
}

/// Open disputes that this node has to answer now. Others do not count towards the bound.
fn answerable(
    store: &Store,
    policy: &Policy,
    followed: &HashSet<TaskId>,
    skipped: &HashSet<RecordId>,
    now: u64,
) -> Result<Vec<OpenDispute>, StoreError> {
    let mut disputes = Vec::new();
    for id in store.open_disputes()? {
        if disputes.len() == DISPUTES {
            break;
        }
        let fit = |r: &RecordSummary| followed.contains(&r.task_id) && policy.can_measure(r) && !skipped.contains(&id);
        let Some(record) = store.summary(&id)?.filter(fit) else { continue };
        let Some(dispute) = store.judgement(&id)?.and_then(|j| j.dispute) else { continue };
        let published_before = store.published_before(&record.task_id, &record.class, dispute.opened.0)?;
        let open = OpenDispute { record, dispute, published_before: published_before.into_iter().collect() };
        if policy.answers(&open, now) && !measured_by(store, &id, policy.node)? {
            disputes.push(open);
        }
    }
    Ok(disputes)
}

fn measured_by(store: &Store, record: &RecordId, node: NodeId) -> Result<bool, StoreError> {
    let by_node = |event: &ControlEvent| event.rerun().is_some_and(|rerun| rerun.node_id == node);
    Ok(store.events_of(record, &node, OWN_EVENTS)?.iter().any(|event| by_node(event)))
}

/// Own challenges that are due to be closed: open ones, and decided ones of the newest records.
fn own_closings(
    store: &Store,
    us: NodeId,
    now: u64,
) -> Result<Vec<spore_protocol::control::ClosedDispute>, StoreError> {
    let mut closings = Vec::new();
    let settled = |v: Verdict| matches!(v, Verdict::Disputed | Verdict::Upheld | Verdict::Rejected);
    let (mut records, _) = store.recent(Scope::All, None, WINDOW)?;
    let newest: HashSet<RecordId> = records.iter().map(|r| r.id).collect();
    for id in store.open_disputes()?.iter().filter(|id| !newest.contains(*id)) {
        records.extend(store.summary(id)?);
    }
    for record in records.iter().filter(|r| settled(r.verdict)) {
        let Some(judgement) = store.judgement(&record.id)? else { continue };
        let by_us =
            |e: &ControlEvent| matches!(&e.body, ControlBody::Dispute { challenger_id, .. } if *challenger_id == us);
        let closed = store.events_of(&record.id, &us, OWN_EVENTS)?.iter().any(|event| by_us(event));
        closings.extend(closing(record, &judgement, us, closed, now));
    }
    Ok(closings)
}

/// The share of records that a node in this mode re-runs, unless its operator chose another.
pub const fn default_rate(mode: Mode) -> f64 {
    match mode {
        // Research comes first; one record in ten keeps the class honest.
        Mode::Research => 0.1,
        Mode::Verify => 1.0,
        Mode::Relay => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use spore_trainer::worker::{Failure, FailureKind};

    use super::*;

    #[test]
    fn failed_record_is_on_cooldown() {
        let failure = |kind| EngineError::Machine(Failure { kind, reason: String::new() });
        let task = EngineError::Task { task: TaskId([1; 32]), reason: String::new() };
        assert_eq!(setback(&task, 50), Some(Setback { until: 70, machine: false }));
        assert_eq!(setback(&failure(FailureKind::Data), 50), Some(Setback { until: u64::MAX, machine: false }));
        for error in [failure(FailureKind::Device), failure(FailureKind::Internal), EngineError::Publish("full".into())]
        {
            assert_eq!(setback(&error, 50), Some(Setback { until: 650, machine: true }), "{error}");
        }
        assert_eq!(setback(&EngineError::Stopped, 50), None);
    }
}
