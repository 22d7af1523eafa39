//! The verification loop: asks the policy what to re-run, trains, signs what came out.

use std::{cmp::Reverse, collections::HashSet, sync::Arc, time::Duration};

use spore_base::{
    progress::Purpose,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::StoreEvent;
use spore_protocol::{ControlBody, ControlEvent, NodeId, RecordId, TaskId, control::Rerun, verdict::Verdict};
use spore_storage::{RecordSummary, Scope, Store, StoreError};
use spore_trainer::worker::FailureKind;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};

use super::policy::{Open, Policy, Ruling, Skipped, Work, closing, rule, to_answer};
use crate::engine::{Engine, EngineError, Order, Role};

/// Newest records that are looked at: older ones have had their chance.
const WINDOW: usize = 512;
/// Frontier records that are looked at in all tasks together, at least one of each: a publisher
/// dates its records itself, so an old date must not hide what others build on.
const FRONTIERS: usize = 1024;
/// Open disputes to choose from: one is answered at a time.
const DISPUTES: usize = 64;
/// How long to wait for news before looking again: a stand-in's turn may have come.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Least time between two looks, so that a flood of records does not keep this loop busy.
const LOOK_AT_MOST: Duration = Duration::from_secs(1);
/// Seconds for which a record is left alone whose artifacts could not be had: a relay that passed
/// the record on is still fetching them.
const RETRY_ARTIFACT: u64 = 20;
/// Seconds for which a record is left alone whose re-run this machine failed: were it picked again
/// at once, one record on which the machine always fails would end all verification.
const RETRY_FAILED: u64 = 600;
/// Delay after this machine failed; it doubles up to [`BACKOFF_MOST`].
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
const BACKOFF_MOST: Duration = Duration::from_secs(600);

/// Re-runs records until the node shuts down.
pub async fn run(engine: Arc<Engine>, mut shutdown: Shutdown) {
    let policy =
        Policy { node: engine.node_id(), class: engine.class(), rate: engine.settings.verify_rate.clamp(0.0, 1.0) };
    // Subscribed before the first look, so that nothing comes between a look and the wait after it.
    let events = engine.events.subscribe();
    let mut verifier = Verifier { engine, policy, skipped: Skipped::default(), events };
    let mut failures = 0_u32;
    loop {
        let looked = Instant::now();
        let delay = match verifier.round(&mut shutdown).await {
            Ok(true) => {
                failures = 0;
                Duration::ZERO
            }
            Ok(false) => {
                verifier.wait_for_news(&mut shutdown).await;
                LOOK_AT_MOST.saturating_sub(looked.elapsed())
            }
            Err(EngineError::Stopped) => return,
            Err(error) => {
                failures = failures.saturating_add(1);
                let delay = BACKOFF_FIRST.saturating_mul(1 << (failures - 1).min(16)).min(BACKOFF_MOST);
                warn!(%error, retry_in = ?delay, "no verification");
                delay
            }
        };
        tokio::select! {
            () = sleep(delay) => {}
            () = stopped(&mut shutdown) => return,
        }
    }
}

struct Verifier {
    engine: Arc<Engine>,
    policy: Policy,
    skipped: Skipped,
    events: broadcast::Receiver<StoreEvent>,
}

/// What the policy looks at.
struct Scene {
    /// The frontier first, then newest first; each of a task that this node can run.
    records: Vec<RecordSummary>,
    disputes: Vec<Open>,
    /// Those of `records` that this node has measured.
    measured: HashSet<RecordId>,
}

impl Verifier {
    /// Does one thing. False when there is nothing to do.
    async fn round(&mut self, shutdown: &mut Shutdown) -> Result<bool, EngineError> {
        self.close_own_disputes(shutdown).await?;
        let pinned = *self.engine.settings.pinned.borrow();
        let policy = self.policy.clone();
        let now = self.engine.now();
        let skipped = self.skipped.now(now);
        let left = skipped.clone();
        let scene = self.engine.read(move |store| look(store, &policy, pinned, &left, now)).await?;
        let done = |id: &RecordId| scene.measured.contains(id) || skipped.contains(id);
        let Some(work) = self.policy.next(&scene.records, &scene.disputes, now, done) else { return Ok(false) };
        let (id, challenger) = match work {
            Work::Check(id) => (id, None),
            Work::Respond { record, challenger } => (record, Some(challenger)),
        };
        let disputed = scene.disputes.iter().map(|open| &open.record);
        let Some(record) = scene.records.iter().chain(disputed).find(|r| r.id == id).cloned() else { return Ok(false) };
        let Err(error) = self.measure(&record, challenger, shutdown).await else { return Ok(true) };
        let Some(setback) = setback(&error, self.engine.now()) else { return Err(error) };
        self.skipped.until(id, setback.until);
        if setback.machine {
            return Err(error);
        }
        debug!(record = %id.short(), %error, "a record cannot be re-run now");
        Ok(true)
    }

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
            info!(record = %record.id.short(), claimed = record.metric, value = first, "a result does not hold: once more, to be sure");
            let Some(second) = self.rerun(record, shutdown).await? else { return Ok(()) };
            ruling = rule(record.metric, tolerance, first, Some(second));
        }
        let (Ruling::Holds(value) | Ruling::Fails(value)) = ruling else {
            warn!(record = %record.id.short(), first, "two runs of one script differ on this device: nothing is claimed");
            self.skipped.until(record.id, u64::MAX);
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

    /// Whose challenge a measurement of the record answers: `known`, or one that was opened while
    /// the record was re-run, for of two challenges of one record only the first counts.
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
        info!(record = %record.id.short(), value, "answers a challenge");
        let measurement = self.measurement(record, value);
        self.sign(ControlEvent::challenge_response(measurement, challenger, self.engine.now()), shutdown).await
    }

    /// Runs a record's script for the recorded number of steps, on its task's terms. None, and a
    /// note, when it does not run to the end here.
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
        match self.engine.train(order, shutdown).await? {
            Ok(outcome) => Ok(Some(outcome.val_bpb)),
            Err(failure) => {
                warn!(record = %record.id.short(), reason = %failure.reason, "a published result could not be re-run here");
                self.skipped.until(record.id, u64::MAX);
                Ok(None)
            }
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

    /// Publishes the `dispute` event of each own challenge that is settled.
    async fn close_own_disputes(&self, shutdown: &mut Shutdown) -> Result<(), EngineError> {
        let (us, now) = (self.engine.node_id(), self.engine.now());
        let closed = self.engine.read(move |store| own_closings(store, us, now)).await?;
        for closing in closed {
            info!(record = %closing.experiment_id.short(), upheld = closing.upheld, "own challenge closed");
            self.sign(ControlEvent::dispute(&closing, now), shutdown).await?;
        }
        Ok(())
    }

    /// Waits for a record or control event of another node, or a while.
    async fn wait_for_news(&mut self, shutdown: &mut Shutdown) {
        let deadline = Instant::now() + LOOK_AGAIN;
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Ok(StoreEvent { object, .. }) if object.signer() == self.policy.node => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => sleep_until(deadline).await,
                },
                () = sleep_until(deadline) => return,
                () = stopped(shutdown) => return,
            }
        }
    }
}

/// What follows for a record from an error while it was re-run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setback {
    /// The record is left alone until then, in Unix seconds.
    until: u64,
    /// Other records would likely fail, too, so that a delay is due.
    machine: bool,
}

/// None for a shutdown.
fn setback(error: &EngineError, now: u64) -> Option<Setback> {
    match error {
        EngineError::Stopped => None,
        EngineError::Artifact { .. } | EngineError::Task { .. } => {
            Some(Setback { until: now.saturating_add(RETRY_ARTIFACT), machine: false })
        }
        // The dataset is the task's; it will not get better by trying.
        EngineError::Machine(failure) if failure.kind == FailureKind::Data => {
            Some(Setback { until: u64::MAX, machine: false })
        }
        EngineError::Machine(_) | EngineError::Store(_) | EngineError::Publish(_) => {
            Some(Setback { until: now.saturating_add(RETRY_FAILED), machine: true })
        }
    }
}

/// Reads what the policy needs. A pinned task is the only one that is looked at.
fn look(
    store: &Store,
    policy: &Policy,
    pinned: Option<TaskId>,
    skipped: &HashSet<RecordId>,
    now: u64,
) -> Result<Scene, StoreError> {
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
    Ok(Scene { records, disputes, measured })
}

/// Own events about one record that are looked at: a node measures a record once, and disputes it once.
const OWN_EVENTS: usize = 64;

/// The frontier of this node's class in each task, whatever its records' publishers say of their
/// age, then the newest records.
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
    // Newest first in each of the two parts, and the same on every look.
    records.sort_by_key(|r| Reverse((r.timestamp, r.id)));
    records.extend(store.recent(pinned.map_or(Scope::All, Scope::Task), None, WINDOW)?.0);
    let mut seen = HashSet::new();
    records.retain(|r| followed.contains(&r.task_id) && policy.wants(r) && seen.insert(r.id));
    Ok(records)
}

/// Open disputes that this node should answer now. What it may not answer is left out before the
/// bound, so that it takes no place.
fn answerable(
    store: &Store,
    policy: &Policy,
    followed: &HashSet<TaskId>,
    skipped: &HashSet<RecordId>,
    now: u64,
) -> Result<Vec<Open>, StoreError> {
    let mut disputes = Vec::new();
    for id in store.open_disputes()? {
        if disputes.len() == DISPUTES {
            break;
        }
        let fit = |r: &RecordSummary| followed.contains(&r.task_id) && policy.can_measure(r) && !skipped.contains(&id);
        let Some(record) = store.summary(&id)?.filter(fit) else { continue };
        let Some(dispute) = store.judgement(&id)?.and_then(|j| j.dispute) else { continue };
        let published_before = store.published_before(&record.task_id, &record.class, dispute.opened.0)?;
        let open = Open { record, dispute, published_before: published_before.into_iter().collect() };
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

/// Own challenges that it is time to close: open ones, and settled ones of the newest records.
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

/// The share of records that a node of this role re-runs when nobody says otherwise.
pub const fn default_rate(role: Role) -> f64 {
    match role {
        // Research comes first; one in ten keeps the class honest.
        Role::Research => 0.1,
        Role::Verify => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use spore_trainer::worker::Failure;

    use super::*;

    #[test]
    fn no_error_has_the_same_record_tried_again_at_once() {
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
