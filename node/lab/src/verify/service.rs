//! Verification: asks the policy which record to re-run, and has it measured.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use spore_base::{
    backoff::Backoff,
    cooldown::Cooldown,
    mode::Mode,
    random,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::StoreEvent;
use spore_protocol::{Cid, ControlBody, ControlEvent, NodeId, RecordId, TaskId, control::ClosedDispute, verdict};
use spore_storage::{RecordSummary, Scope, Store, StoreError};
use tokio::{sync::broadcast, time::Instant};
use tracing::{debug, info};

use super::{
    look::{Look, Next, Turns},
    measure::{Copies, Measurer, Outcome},
    policy::{Policy, subject, waits},
};
use crate::{
    engine::{Blame, Engine, EngineError},
    work_loop::{self, Round, Rounds, event_or_deadline},
};

/// Longest wait for a store event before the next round: by then a stand-in may be due.
const NEWS_WAIT: Duration = Duration::from_secs(20);
/// Tasks that are looked at in one round. The next round begins with the next task.
const TASKS: usize = 16;
/// Seconds of cooldown of a record whose artifacts cannot be fetched: a relay that passed the record on is still
/// fetching them.
const ARTIFACT_COOLDOWN: u64 = 20;
/// The longest such time, in seconds, for a script that stays missing. A day has enough of them to say that it is lost.
const ARTIFACT_COOLDOWN_MOST: u64 = 1800;
/// Seconds of cooldown of a record whose re-run failed on this machine. Without it, one record on which the machine
/// always fails would end all verification.
const FAILURE_COOLDOWN: u64 = 600;
/// The longest such time, in seconds, for a record about which this machine proves nothing again and again. Another
/// load or another driver may end that.
const UNPROVEN_COOLDOWN_MOST: u64 = 86_400;
/// Seconds of cooldown of a copy. What it copies may be refuted until then.
const COPY_COOLDOWN: u64 = 86_400;
/// Seconds for which a publisher of several refuted records rests after each further one.
const PUBLISHER_REST: u64 = 3600;
/// First wait after a failure of this machine, and the longest.
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
const BACKOFF_MOST: Duration = Duration::from_secs(600);
/// Most records, and most publishers, on cooldown. At some fifty bytes each.
const COOLDOWNS: usize = 4096;
/// Own challenges that are remembered until they can be closed, and how many are looked at in a round.
const CHALLENGES: usize = 256;
const CHALLENGES_AT_ONCE: usize = 8;
/// Own events about one record that are read. A node measures a record once, and closes its challenge once.
const OWN_EVENTS: usize = 64;

/// Re-runs records until the node shuts down.
pub async fn run(engine: Arc<Engine>, shutdown: Shutdown) {
    let policy = Policy {
        node: engine.node_id(),
        class: engine.class(),
        rate: engine.settings.verify_rate.clamp(0.0, 1.0),
        secret: sampling_secret(),
    };
    // Subscribe before the first round: no event between a round and the wait after it is missed.
    let events = engine.events.subscribe();
    let verifier = Verifier {
        measurer: Measurer::new(engine.clone()),
        engine,
        policy,
        cooldown: Cooldown::new(COOLDOWNS),
        resting: Cooldown::new(COOLDOWNS),
        turns: Turns::default(),
        task: None,
        challenged: None,
        events,
    };
    work_loop::run(verifier, Backoff::new(BACKOFF_FIRST, BACKOFF_MOST), shutdown).await;
}

/// A new secret for each start of the node. Without randomness of the operating system, a generator that it seeded
/// before: nobody sees enough of the choices to compute the generator's numbers.
fn sampling_secret() -> [u8; 32] {
    random::secret().unwrap_or_else(|_| Cid::of(&random::number().to_be_bytes()).0)
}

struct Verifier {
    engine: Arc<Engine>,
    measurer: Measurer,
    policy: Policy,
    /// Records that cannot be re-run before a time in Unix seconds.
    cooldown: Cooldown<RecordId, u64>,
    /// Publishers that rest until a time in Unix seconds.
    resting: Cooldown<NodeId, u64>,
    turns: Turns,
    /// The task of the last re-run. The next round begins with the task after it.
    task: Option<TaskId>,
    /// Records that this node challenged and that are not closed, the oldest first. None before the first round.
    challenged: Option<VecDeque<RecordId>>,
    events: broadcast::Receiver<StoreEvent>,
}

impl Rounds for Verifier {
    const NAME: &'static str = "verification";

    /// Re-runs one record.
    async fn round(&mut self, shutdown: &mut Shutdown) -> Result<Round, EngineError> {
        self.close_own_challenges(shutdown).await?;
        let (record, copies) = match self.next().await? {
            // Who measures a copy in a dispute settles the dispute.
            Next::Respond(record) => (record, Copies::Run),
            Next::Check(record) => (record, Copies::Skip),
            Next::GoOn => return Ok(Round::PassedOver),
            Next::Nothing => return Ok(Round::Idle("there is no record to re-run".into())),
        };
        let error = match self.measurer.measure(&record, copies, shutdown).await {
            Ok(outcome) => {
                self.note(&record, outcome).await?;
                return Ok(Round::Done);
            }
            Err(error) => error,
        };
        let times = self.cooldown.times(&record.id);
        let Some(setback) = setback(&error, times, self.engine.now()) else { return Err(error) };
        self.cooldown.put(record.id, setback.until);
        if setback.machine {
            return Err(error);
        }
        debug!(record = %record.id.short(), %error, "a record cannot be re-run now");
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
    /// The next record to re-run, from the first task that has one. Tasks take turns.
    async fn next(&mut self) -> Result<Next, EngineError> {
        let mut tasks = self.engine.followed_tasks().await?;
        tasks.sort_by_key(|task| (self.task.is_some_and(|last| task.task_id <= last), task.task_id));
        tasks.truncate(TASKS);
        let (policy, now) = (self.policy.clone(), self.engine.now());
        let (skipped, resting) = (self.cooldown.cooling(now), self.resting.cooling(now));
        let mut turns = self.turns.clone();
        let look = move |store: &Store| {
            let mut next = Next::Nothing;
            for task in &tasks {
                let look = Look { store, policy: &policy, task, skipped: &skipped, resting: &resting, now };
                match look.next(&mut turns)? {
                    Next::Nothing => {}
                    Next::GoOn => next = Next::GoOn,
                    found => return Ok((found, turns)),
                }
            }
            Ok((next, turns))
        };
        let (next, turns) = self.engine.read(look).await?;
        self.turns = turns;
        if let Next::Respond(record) | Next::Check(record) = &next {
            self.task = Some(record.task_id);
        }
        Ok(next)
    }

    /// Remembers what a measurement means for the next choices.
    async fn note(&mut self, record: &RecordSummary, outcome: Outcome) -> Result<(), EngineError> {
        match outcome {
            Outcome::Holds(_) => {}
            Outcome::Copy => self.cooldown.put(record.id, self.engine.now().saturating_add(COPY_COOLDOWN)),
            Outcome::Nothing => {
                let wait = unproven_cooldown(self.cooldown.times(&record.id));
                self.cooldown.put(record.id, self.engine.now().saturating_add(wait));
            }
            Outcome::Known => self.cooldown.put(record.id, self.engine.now().saturating_add(FAILURE_COOLDOWN)),
            Outcome::Fails | Outcome::Lost => {
                let challenged = self.challenged.get_or_insert_default();
                challenged.push_back(record.id);
                if challenged.len() > CHALLENGES {
                    challenged.pop_front();
                }
                let (publisher, class) = (record.node_id, self.policy.class.clone());
                if waits(&self.engine.read(move |store| store.standing(&publisher, &class)).await?) {
                    self.resting.put(publisher, self.engine.now().saturating_add(PUBLISHER_REST));
                }
            }
        }
        Ok(())
    }

    /// Publishes the `dispute` event of some own challenges that are decided. The reference waits for it; here it
    /// decides nothing.
    async fn close_own_challenges(&mut self, shutdown: &mut Shutdown) -> Result<(), EngineError> {
        let us = self.policy.node;
        let mut waiting = match self.challenged.take() {
            Some(waiting) => waiting,
            None => self.engine.read(move |store| own_challenges(store, us)).await?,
        };
        let looked_at: Vec<_> = waiting.drain(..waiting.len().min(CHALLENGES_AT_ONCE)).collect();
        let mut closed = Vec::new();
        for id in looked_at {
            match self.engine.read(move |store| own_closing(store, id, us)).await? {
                Closing::Open => waiting.push_back(id),
                Closing::Over => {}
                Closing::Due(due, at) => closed.push((*due, at)),
            }
        }
        self.challenged = Some(waiting);
        for (closing, least) in closed {
            info!(record = %closing.experiment_id.short(), outcome = closing.outcome.name(), "own challenge closed");
            let event = ControlEvent::dispute(&closing, self.engine.now().max(least));
            self.engine.publish(&event, shutdown).await?;
        }
        Ok(())
    }
}

/// What is to be done about an own challenge.
enum Closing {
    /// The verdict is open.
    Open,
    /// There is nothing to close, or it is closed.
    Over,
    /// It is decided. The time is that of the record, which no event about it may precede.
    Due(Box<ClosedDispute>, u64),
}

fn own_closing(store: &Store, id: RecordId, us: NodeId) -> Result<Closing, StoreError> {
    let (Some(record), Some(judged)) = (store.summary(&id)?, store.judgement(&id)?) else { return Ok(Closing::Over) };
    if judged.global.verdict == verdict::Verdict::Disputed {
        return Ok(Closing::Open);
    }
    let by_us =
        |e: &ControlEvent| matches!(&e.body, ControlBody::Dispute { challenger_id, .. } if *challenger_id == us);
    if store.events_of(&id, &us, OWN_EVENTS)?.iter().any(|event| by_us(event)) {
        return Ok(Closing::Over);
    }
    let Some(task) = store.task(&record.task_id)? else { return Ok(Closing::Over) };
    let closed = verdict::closing(&subject(&record, task.goal), record.task_id, &judged.global, us);
    Ok(closed.map_or(Closing::Over, |closed| Closing::Due(Box::new(closed), record.timestamp)))
}

/// Own challenges of before the node started, among the newest records. Read once.
fn own_challenges(store: &Store, us: NodeId) -> Result<VecDeque<RecordId>, StoreError> {
    let (records, _) = store.recent(Scope::All, None, CHALLENGES)?;
    let mut own = VecDeque::new();
    for record in records {
        if record.global_verdict != verdict::Verdict::Unverified && store.measured_by(&us, &record.id)? {
            own.push_back(record.id);
        }
    }
    Ok(own)
}

/// What follows from an error while a record was re-run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setback {
    /// The end of the record's cooldown, in Unix seconds.
    until: u64,
    /// The machine failed: other records would likely fail too, so the next round waits for the backoff.
    machine: bool,
}

/// Seconds of cooldown of a record after re-runs that proved nothing. `times`: as in [`setback`].
fn unproven_cooldown(times: u32) -> u64 {
    FAILURE_COOLDOWN.saturating_mul(1 << times.min(16)).min(UNPROVEN_COOLDOWN_MOST)
}

/// None for a shutdown. `times`: how often the record was on cooldown before.
fn setback(error: &EngineError, times: u32, now: u64) -> Option<Setback> {
    let (until, machine) = match error.blame() {
        Blame::Shutdown => return None,
        Blame::Artifact | Blame::Task => {
            let wait = ARTIFACT_COOLDOWN.saturating_mul(1 << times.min(10)).min(ARTIFACT_COOLDOWN_MOST);
            (now.saturating_add(wait), false)
        }
        // The script and the dataset never change, but the load, the memory and the program of this machine do.
        Blame::Script | Blame::Dataset => (now.saturating_add(unproven_cooldown(times)), false),
        Blame::Machine | Blame::Store => (now.saturating_add(unproven_cooldown(times)), true),
    };
    Some(Setback { until, machine })
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
    fn cooldown_of_a_record_without_proof_doubles_up_to_a_day() {
        assert_eq!([0, 1, 7, 8, u32::MAX].map(unproven_cooldown), [600, 1200, 76_800, 86_400, 86_400]);
    }

    #[test]
    fn failed_record_is_tried_again_after_a_growing_cooldown() {
        let failure = |kind| EngineError::Machine(Failure { kind, reason: String::new() });
        let task = EngineError::Task { task: TaskId([1; 32]), reason: String::new() };
        for (times, until) in [(0, 70), (1, 90), (5, 690), (9, 1850), (u32::MAX, 1850)] {
            assert_eq!(setback(&task, times, 50), Some(Setback { until, machine: false }), "{times}");
        }
        let late = || EngineError::Script(Failure { kind: FailureKind::Deadline, reason: String::new() });
        for error in [failure(FailureKind::Data), late()] {
            assert_eq!(setback(&error, 0, 50), Some(Setback { until: 650, machine: false }), "{error}");
            assert_eq!(setback(&error, u32::MAX, 50), Some(Setback { until: 86_450, machine: false }), "{error}");
        }
        for error in [failure(FailureKind::Device), failure(FailureKind::Internal), EngineError::Publish("full".into())]
        {
            assert_eq!(setback(&error, 0, 50), Some(Setback { until: 650, machine: true }), "{error}");
        }
        assert_eq!(setback(&EngineError::Stopped, 0, 50), None);
    }
}
