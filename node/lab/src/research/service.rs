//! Research: chooses a task and a parent, has a change proposed, runs it and publishes the record.

pub mod attempt;
pub mod base_noise;
mod cooldowns;
mod graphs;
mod judging;
mod keep;
mod mixed;
mod plateau;
mod propose;
mod snapshot;
mod trouble;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use spore_base::{
    cooldown::Cooldown,
    progress::Purpose,
    research_state::ResearchState,
    script_text,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::StoreEvent;
use spore_protocol::{Cid, NodeId, RecordId, Status, TaskId};
use spore_storage::RecordSummary;
use spore_trainer::worker::{Failure, FailureKind};
use tokio::sync::broadcast;
use tracing::{info, warn};

use self::{
    cooldowns::{
        KNOWN_COOLDOWN, UNFIT_COOLDOWN, UNPROVEN_COOLDOWN_MOST, record_cooldown, repeats, task_cooldown,
        unproven_cooldown,
    },
    graphs::Graphs,
    snapshot::TaskSnapshot,
    trouble::Spoiled,
};
use super::{
    Proposal,
    choice::{Pick, candidates, choose, stalled},
    llm::Asker,
    record::Parent,
};
use crate::{
    engine::{Blame, Engine, EngineError, Order, Terms},
    verify::measure::{Copies, Measurer, Outcome, run_of},
    work_loop::{self, Round, Rounds, event_or_deadline},
};

/// First wait after a failure.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between failures.
const BACKOFF_MOST: Duration = Duration::from_secs(600);
/// Longest wait for a store event before the next round.
const NEWS_WAIT: Duration = Duration::from_secs(5);
/// Most tasks, and most records, on cooldown. At some fifty bytes each; an untrusted peer can make more.
const COOLDOWNS: usize = 1024;
/// Refused scripts that are remembered.
const REFUSED: usize = 512;

/// Runs experiments until the node shuts down. The language model of `asker` proposes them, or the built-in proposer
/// when there is none.
pub async fn run(engine: Arc<Engine>, asker: Option<Asker>, shutdown: Shutdown) {
    // Subscribe before the first round: no event between a round and the wait after it is missed.
    let events = engine.events.subscribe();
    let researcher = Researcher {
        measurer: Measurer::new(engine.clone()),
        engine,
        asker,
        events,
        rounds: 0,
        refused: HashSet::new(),
        graphs: Graphs::default(),
        unfit: Cooldown::new(COOLDOWNS),
        barren: Cooldown::new(COOLDOWNS),
        hopeless: HashMap::new(),
        spoiled: Spoiled::default(),
        noiseless: HashSet::new(),
        resting: Cooldown::new(COOLDOWNS),
    };
    let backoff = researcher.first_backoff().await;
    work_loop::run(researcher, backoff, shutdown).await;
}

struct Researcher {
    engine: Arc<Engine>,
    measurer: Measurer,
    /// The language model. None while it is asked, and without one.
    asker: Option<Asker>,
    events: broadcast::Receiver<StoreEvent>,
    rounds: u64,
    /// Scripts that the language refuses, so that they are not proposed again. Cleared when large.
    refused: HashSet<Cid>,
    /// What the scripts compute that were inspected.
    graphs: Graphs,
    /// Tasks that cannot be worked on now.
    unfit: Cooldown<TaskId>,
    /// Records that cannot be built on now.
    barren: Cooldown<RecordId>,
    /// Own tasks whose base script fails in every run, with the failure. They are not tried again until the node
    /// restarts, because a task's script never changes. Bounded by what a person makes: each costs a run.
    hopeless: HashMap<TaskId, String>,
    spoiled: Spoiled,
    /// Tasks whose noise could not be measured. Bounded as `hopeless` is: this node works on them.
    noiseless: HashSet<TaskId>,
    /// Tasks on which nothing gets better, and which were tried within the hour.
    resting: Cooldown<TaskId>,
}

impl Rounds for Researcher {
    const NAME: &'static str = "research";

    /// Runs one experiment on the chosen task. A task that cannot be worked on goes on cooldown, unless it is pinned.
    async fn round(&mut self, shutdown: &mut Shutdown) -> Result<Round, EngineError> {
        let hopeless: HashSet<TaskId> = self.hopeless.keys().copied().collect();
        let mut unfit: HashSet<TaskId> = self.unfit.cooling(Instant::now());
        unfit.extend(&hopeless);
        let fit = self.engine.chosen_task(unfit).await?;
        let task = match fit {
            Some(task) => Some(task),
            // A task on cooldown is better than none: its error starts the backoff.
            None => self.engine.chosen_task(hopeless).await?,
        };
        let Some(task) = task else { return Ok(Round::Idle(self.no_task_reason())) };
        // A pinned task is chosen even when it is hopeless.
        if let Some(reason) = self.hopeless.get(&task) {
            return Ok(Round::Idle(reason.clone().into()));
        }
        let result = self.work(task, shutdown).await;
        self.note_load(&result);
        let pinned = *self.engine.settings.pinned.borrow() == Some(task);
        match result {
            Err(error) if fit.is_some() && !pinned => {
                let Some(time) = task_cooldown(&error) else { return Err(error) };
                warn!(%error, task = %task.short(), cooldown = ?time, "the task cannot be worked on now");
                self.unfit.put(task, Instant::now() + time);
                Ok(Round::PassedOver)
            }
            // The operator wants this task and no other, so research waits for a change. The loop logs the reason once.
            Err(error) if pinned && error.blame() == Blame::Task => Ok(Round::Idle(error.to_string().into())),
            result => result,
        }
    }

    /// Waits for a change of the store or of the pinned task, at most [`NEWS_WAIT`].
    async fn wait_for_news(&mut self, shutdown: &mut Shutdown) {
        let mut pinned = self.engine.settings.pinned.clone();
        let deadline = tokio::time::Instant::now() + NEWS_WAIT;
        tokio::select! {
            () = event_or_deadline(&mut self.events, deadline, |_| true) => {}
            Ok(()) = pinned.changed() => {}
            () = stopped(shutdown) => {}
        }
    }

    fn show(&self, state: ResearchState) {
        self.engine.research.send_replace(state);
    }
}

impl Researcher {
    /// Why there is no task to work on.
    fn no_task_reason(&self) -> Cow<'static, str> {
        match self.hopeless.values().min() {
            Some(reason) => reason.clone().into(),
            None => "no task that this node can run is known yet".into(),
        }
    }

    async fn work(&mut self, task: TaskId, shutdown: &mut Shutdown) -> Result<Round, EngineError> {
        let snapshot = self.snapshot(task).await?;
        let Some(root) = snapshot.root.clone() else {
            if snapshot.terms.manifest.created_by != self.engine.node_id() {
                return Ok(Round::Idle("the task's creator has not published its root yet".into()));
            }
            let proposal = self.base(&snapshot.terms, "base script", "Everything else is compared with this.").await?;
            return self.experiment(&snapshot, None, proposal, shutdown).await;
        };
        let candidates = candidates(snapshot.goal, &snapshot.believed, &snapshot.unmeasured);
        if candidates.is_empty() {
            return self.first(&snapshot, root, shutdown).await;
        }
        if let Some(round) = self.measure_noise(&snapshot, shutdown).await? {
            return Ok(round);
        }
        let barren = self.barren.cooling(Instant::now());
        let fertile: Vec<_> = candidates.iter().filter(|candidate| !barren.contains(&candidate.id)).cloned().collect();
        let claims: Vec<_> = snapshot.claims.iter().filter(|claim| !barren.contains(&claim.id)).cloned().collect();
        let choices = if fertile.is_empty() { &candidates } else { &fertile };
        let stalled = stalled(snapshot.best.as_ref(), &snapshot.believed);
        if let Some(round) = self.at_plateau(task, stalled).await? {
            return Ok(round);
        }
        let Some(pick) = choose(snapshot.goal, choices, &claims, stalled, self.seed()) else {
            return Ok(Round::Idle("no record can be built on".into()));
        };
        let (parent, proposal) = match self.next(&snapshot, pick, shutdown).await {
            Ok(Some((parent, Some(proposal)))) => (parent, proposal),
            Ok(Some((_, None))) => {
                let why = "nothing new was proposed: the script's tunables are exhausted, or it has none";
                return Ok(Round::Idle(why.into()));
            }
            Ok(None) if fertile.is_empty() => return Ok(Round::Idle("no record can be built on now".into())),
            Ok(None) => return Ok(Round::PassedOver),
            // As with tasks: an error starts the backoff when every candidate is on cooldown.
            Err(error) if fertile.is_empty() => return Err(error),
            Err(error) => {
                let Some(time) = record_cooldown(&error) else { return Err(error) };
                warn!(%error, parent = %pick.parent.short(), cooldown = ?time, "a record cannot be built on now");
                self.barren.put(pick.parent, Instant::now() + time);
                return Ok(Round::PassedOver);
            }
        };
        self.experiment(&snapshot, Some(parent), proposal, shutdown).await
    }

    /// The picked parent with a proposal made out of it, if there is one. None if the parent's result was to be
    /// measured first, and cannot be built on.
    async fn next(
        &mut self,
        snapshot: &TaskSnapshot,
        pick: Pick,
        shutdown: &mut Shutdown,
    ) -> Result<Option<(Parent, Option<Proposal>)>, EngineError> {
        let refuse = || EngineError::Task { task: snapshot.terms.task_id, reason: "a picked record is gone".into() };
        let record = snapshot.record(pick.parent).ok_or_else(refuse)?;
        if !self.is_measured(record, shutdown).await? {
            return Ok(None);
        }
        let parent = self.parent(snapshot, record).await?;
        let proposal = self.propose(snapshot, &parent, pick.explore, shutdown).await?;
        Ok(Some((parent, proposal)))
    }

    /// Whether this node knows by its own run that a record's result holds. It measures another's record now, if it
    /// has not yet, and publishes what it found.
    async fn is_measured(&mut self, record: &RecordSummary, shutdown: &mut Shutdown) -> Result<bool, EngineError> {
        let (us, id, own) = (self.engine.node_id(), record.id, record.clone());
        if record.node_id == us {
            return Ok(true);
        }
        let confirmed = self.engine.read(move |store| snapshot::confirms(store, us, &own)).await?;
        if let Some(confirmed) = confirmed {
            if !confirmed {
                // It may hold by the run of another trusted key.
                self.barren.put(id, Instant::now() + UNPROVEN_COOLDOWN_MOST);
            }
            return Ok(confirmed);
        }
        // Even when there is nothing else to build on: the same re-run would fail again.
        if self.barren.is_cooling(&id, Instant::now()) {
            return Ok(false);
        }
        // What holds needs this node's number, too. A claim that copies another record does not.
        let copies = if record.verdict.holds() { Copies::Run } else { Copies::Skip };
        let cooldown = match self.measurer.measure(record, copies, shutdown).await? {
            Outcome::Holds(_) => return Ok(true),
            Outcome::Known => KNOWN_COOLDOWN,
            Outcome::Nothing => unproven_cooldown(self.barren.times(&id)),
            Outcome::Fails | Outcome::Lost | Outcome::Copy => UNFIT_COOLDOWN,
        };
        self.barren.put(id, Instant::now() + cooldown);
        Ok(false)
    }

    async fn snapshot(&mut self, task: TaskId) -> Result<TaskSnapshot, EngineError> {
        let terms = self.engine.terms(task).await?;
        let (us, class) = (self.engine.node_id(), self.engine.class());
        // Claims are read from a random place on, so that all publishers have their turn.
        let from = NodeId(Cid::of(&self.seed().to_be_bytes()).0);
        let mut snapshot = self.engine.read(move |store| snapshot::read(store, us, class, terms, from)).await?;
        // Refusals belong to a task's scripts; past this many, they are of old ones.
        if self.refused.len() > REFUSED {
            self.refused.clear();
        }
        snapshot.tried.extend(&self.refused);
        Ok(snapshot)
    }

    /// The first step in a class: measures the task's root, if it is of this class and of another node, else runs the
    /// base script unchanged.
    async fn first(
        &mut self,
        snapshot: &TaskSnapshot,
        root: RecordSummary,
        shutdown: &mut Shutdown,
    ) -> Result<Round, EngineError> {
        let (us, id, now) = (self.engine.node_id(), root.id, Instant::now());
        let open = snapshot::is_open_to(&root, us, &snapshot.class) && !self.barren.is_cooling(&id, now);
        if open && !self.engine.read(move |store| store.measured_by(&us, &id)).await? {
            match self.measurer.measure(&root, Copies::Run, shutdown).await {
                Ok(Outcome::Known) => return Ok(Round::Idle("the task's root is being measured".into())),
                Ok(Outcome::Holds(_) | Outcome::Fails | Outcome::Lost) => return Ok(Round::Done),
                Ok(Outcome::Copy | Outcome::Nothing) => {
                    self.barren.put(id, now + unproven_cooldown(self.barren.times(&id)));
                }
                Err(error) => {
                    let Some(time) = record_cooldown(&error) else { return Err(error) };
                    warn!(%error, root = %id.short(), cooldown = ?time, "the task's root cannot be measured now");
                    self.barren.put(id, now + time);
                    return Ok(Round::PassedOver);
                }
            }
        }
        self.baseline(snapshot, &root, shutdown).await
    }

    /// The first experiment in a class: the base script, unchanged.
    async fn baseline(
        &mut self,
        snapshot: &TaskSnapshot,
        root: &RecordSummary,
        shutdown: &mut Shutdown,
    ) -> Result<Round, EngineError> {
        let us = self.engine.node_id();
        let base = snapshot.terms.base_code;
        let crashed = |r: &RecordSummary| r.node_id == us && r.code_cid == Some(base) && r.status == Status::Crash;
        if snapshot.believed.iter().any(crashed) {
            let reason = format!("its base script does not run on this device ({})", snapshot.class);
            return Err(EngineError::Task { task: snapshot.terms.task_id, reason });
        }
        let parent = self.parent(snapshot, root).await?;
        let description = format!("baseline on {}", snapshot.class);
        let hypothesis = "The base script unchanged, for comparison within this hardware class.";
        let proposal = self.base(&snapshot.terms, &description, hypothesis).await?;
        self.experiment(snapshot, Some(parent), proposal, shutdown).await
    }

    async fn base(&self, terms: &Terms, description: &str, hypothesis: &str) -> Result<Proposal, EngineError> {
        let script = self.engine.script(terms.base_code, Some(terms.manifest.created_by)).await?;
        Ok(Proposal {
            script,
            description: description.into(),
            hypothesis: hypothesis.into(),
            agent_model: "baseline".into(),
        })
    }

    async fn parent(&self, snapshot: &TaskSnapshot, record: &RecordSummary) -> Result<Parent, EngineError> {
        let refuse = |reason: &str| EngineError::Task {
            task: snapshot.terms.task_id,
            reason: format!("record {}: {reason}", record.id.short()),
        };
        let code = record.code_cid.ok_or_else(|| refuse("it names no script"))?;
        let script = self.engine.script(code, Some(record.node_id)).await?;
        let normal = script_text::normal(&script);
        if let Some(note) = normal.note {
            info!(parent = %record.id.short(), "{note}, for the children of this record");
        }
        let script = normal.text.into_owned();
        Ok(Parent { id: record.id, depth: record.depth, script })
    }

    /// Runs a proposal and publishes its record.
    async fn experiment(
        &mut self,
        snapshot: &TaskSnapshot,
        parent: Option<Parent>,
        proposal: Proposal,
        shutdown: &mut Shutdown,
    ) -> Result<Round, EngineError> {
        let terms = &snapshot.terms;
        let script = proposal.script.clone();
        // Store the script before the record: a peer that reads the record may ask for the script at once.
        self.engine.read(move |store| store.put_artifact(script.as_bytes())).await?;
        let order = Order {
            terms,
            purpose: Purpose::Research,
            record: parent.as_ref().map(|p| p.id),
            script: proposal.script.clone(),
            steps: None,
            seed_offset: 0,
            description: proposal.description.clone(),
        };
        info!(task = %terms.task_id.short(), change = %proposal.description, "experiment begins");
        let result = self.train_surely(order, shutdown).await?;
        let judged = match (&result, &parent) {
            (Ok(first), Some(parent)) => self.judge(snapshot, &proposal, first, parent.id, shutdown).await?,
            _ => None,
        };
        let keep = judged.as_ref().is_none_or(|(decision, _)| decision.ruling.is_keep());
        let made = attempt::made(&self.engine, terms, parent.as_ref(), keep, &proposal, &result);
        // A crash of the base script that this machine may have caused would end the task here for ever.
        let is_base = Some(terms.base_code) == made.code_cid;
        let may_pass = is_base && result.as_ref().is_err_and(|failure| !repeats(failure.kind));
        if made.status == Status::Crash && (parent.is_none() || may_pass) {
            let failure = result.err().unwrap_or_else(|| Failure {
                kind: FailureKind::Diverged,
                reason: "its result breaks the task's terms".into(),
            });
            return self.base_script_failed(terms.task_id, &failure);
        }
        let published = self.engine.publish(&made, shutdown).await?;
        if let (Ok(result), Status::Keep | Status::Discard) = (&result, published.status) {
            let id = published.id().into();
            self.remember(id, &result.graph_hash).await?;
            let script = Cid::of(proposal.script.as_bytes());
            self.note_graph(script, result.graph_hash.clone(), Some(id)).await?;
        }
        if let Some((decision, reference)) = &judged {
            keep::publish(&self.engine, terms, decision, published.id().into(), reference, shutdown).await?;
        }
        let metric = published.val_bpb;
        info!(id = %published.id().short(), status = %published.status, metric, steps = published.num_steps, "experiment published");
        Ok(if published.status == Status::Crash { Round::Crashed } else { Round::Done })
    }

    /// Notes that an own record ran, so that copies of it are not run again.
    async fn remember(&self, id: RecordId, graph: &str) -> Result<(), EngineError> {
        if let Some(record) = self.engine.read(move |store| store.summary(&id)).await? {
            let (meaning, ran) = run_of(&record, graph);
            self.engine.works.ran(meaning, ran);
        }
        Ok(())
    }

    /// The base script of an own task failed. No crash record is published: it would be the task's root for ever.
    fn base_script_failed(&mut self, task: TaskId, failure: &Failure) -> Result<Round, EngineError> {
        if !repeats(failure.kind) {
            return Err(EngineError::Task { task, reason: format!("its base script does not run here: {failure}") });
        }
        let reason = format!("the base script of task {} fails: {failure}; make another task", task.short());
        warn!("{reason}");
        self.hopeless.insert(task, reason);
        Ok(Round::PassedOver)
    }

    /// A fresh seed for a choice, out of the node, the time and the number of the round: two nodes choose differently.
    fn seed(&mut self) -> u64 {
        self.rounds += 1;
        let mut bytes = self.engine.node_id().0.to_vec();
        bytes.extend(self.engine.now().to_be_bytes());
        bytes.extend(self.rounds.to_be_bytes());
        Cid::of(&bytes).0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}
