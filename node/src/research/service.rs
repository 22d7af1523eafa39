//! The research loop: one experiment after the other until the node shuts down.

use std::{collections::HashSet, sync::Arc, time::Duration};

use spore_protocol::{Cid, Goal, HardwareClass, NodeId, Record, RecordId, Status, TaskId, Verified};
use spore_storage::{RecordSummary, TaskView};
use spore_trainer::{device::Backend, lang::Tunable, worker::Failure};
use tokio::{sync::broadcast, time::sleep};
use tracing::{debug, info, warn};

use super::{
    Proposal,
    choice::{candidates, choose, stalled},
    llm::{
        Client, Turn,
        answer::{self, Answer},
        prompt::{self, Situation},
    },
    record::{Measured, Parent, Runner, record},
    tuner::{self, Trial},
};
use crate::{
    engine::{Engine, EngineError, Order, Shutdown, Terms, stopped},
    ingest::StoreEvent,
    progress::Purpose,
};

/// First delay after a failure; it doubles with each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest delay between failures.
const BACKOFF_MOST: Duration = Duration::from_secs(600);
/// How long to wait for a task or a root before looking again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Least time between two looks, so that a flood of news does not keep this loop busy.
const LOOK_AT_MOST: Duration = Duration::from_secs(1);
/// Newest results out of which the tuner learns; each costs a small file read.
const TRIALS: usize = 512;
/// Scripts of other nodes' results fetched in one round, to learn from them.
const FETCHES: usize = 4;
/// Proposals of the tuner that a worker may refuse before another parent is chosen.
const PROPOSALS: usize = 8;
/// Answers asked of a language model for one experiment: the first, and one after its error.
const ANSWERS: usize = 2;

/// How a round ended.
enum Round {
    /// An experiment ran and its record is published.
    Published(Status),
    /// There is nothing to do yet, and why.
    Nothing(&'static str),
}

/// Runs experiments until the node shuts down.
pub async fn run(engine: Arc<Engine>, mut shutdown: Shutdown) {
    let client = engine.settings.llm.clone().and_then(|config| {
        info!(llm = ?config, "a language model proposes");
        Client::new(config).inspect_err(|error| warn!(%error, "the language model cannot be used")).ok()
    });
    // Subscribed before the first look, so that nothing comes between a look and the wait after it.
    let events = engine.events.subscribe();
    let mut researcher = Researcher { engine, client, events, rounds: 0, refused: HashSet::new() };
    let (mut failures, mut said) = (0, "");
    loop {
        let delay = match researcher.round(&mut shutdown).await {
            Ok(Round::Published(Status::Crash)) => {
                failures += 1;
                backoff(failures)
            }
            Ok(Round::Published(_)) => {
                failures = 0;
                Duration::ZERO
            }
            Ok(Round::Nothing(why)) => {
                if why != std::mem::replace(&mut said, why) {
                    info!("research waits: {why}");
                }
                researcher.wait_for_news(&mut shutdown).await;
                LOOK_AT_MOST
            }
            Err(EngineError::Stopped) => return,
            Err(error) => {
                failures += 1;
                warn!(%error, retry_in = ?backoff(failures), "no experiment");
                backoff(failures)
            }
        };
        tokio::select! {
            () = sleep(delay) => {}
            () = stopped(&mut shutdown) => return,
        }
    }
}

/// The delay after so many failures in a row, at least 1.
fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << (failures.saturating_sub(1)).min(16)).min(BACKOFF_MOST)
}

struct Researcher {
    engine: Arc<Engine>,
    client: Option<Client>,
    events: broadcast::Receiver<StoreEvent>,
    rounds: u64,
    /// Scripts that the language refuses, so that they are not proposed again. Cleared when large.
    refused: HashSet<Cid>,
}

/// What the store knows of the task at the beginning of a round.
struct Scene {
    terms: Terms,
    goal: Goal,
    class: HardwareClass,
    view: TaskView,
    /// In (timestamp, id) order.
    records: Vec<RecordSummary>,
    /// Scripts that were tried in the class, or refused.
    tried: HashSet<Cid>,
}

impl Researcher {
    async fn round(&mut self, shutdown: &mut Shutdown) -> Result<Round, EngineError> {
        let Some(task) = self.engine.chosen_task().await? else {
            return Ok(Round::Nothing("no task that this node can run is known yet"));
        };
        let scene = self.scene(task).await?;
        let Some(root) = scene.view.root else {
            if scene.terms.manifest.created_by != self.engine.node_id() {
                return Ok(Round::Nothing("the task's creator has not published its root yet"));
            }
            let proposal = self.base(&scene.terms, "base script", "Everything else is compared with this.").await?;
            return self.experiment(&scene.terms, None, proposal, shutdown).await;
        };
        let candidates = candidates(&scene.class, &scene.records);
        if candidates.is_empty() {
            return self.baseline(&scene, root, shutdown).await;
        }
        let stalled = stalled(scene.goal, &scene.class, &scene.records);
        let Some(pick) = choose(scene.goal, &candidates, stalled, self.seed()) else {
            return Ok(Round::Nothing("no record can be built on"));
        };
        let parent = self.parent(&scene, pick.parent).await?;
        let Some(proposal) = self.propose(&scene, &parent, pick.explore, shutdown).await? else {
            return Ok(Round::Nothing("nothing new was proposed: the script's tunables are exhausted, or it has none"));
        };
        self.experiment(&scene.terms, Some(parent), proposal, shutdown).await
    }

    async fn scene(&mut self, task: TaskId) -> Result<Scene, EngineError> {
        let terms = self.engine.terms(task).await?;
        let class = self.engine.class();
        let (view, records) =
            self.engine.read(move |store| Ok((store.task(&task)?, store.task_summaries(&task)?))).await?;
        let view = view.ok_or_else(|| EngineError::Task { task, reason: "it is not known here".into() })?;
        // Refusals belong to a task's scripts; past this many, they are of old ones.
        if self.refused.len() > TRIALS {
            self.refused.clear();
        }
        let mut tried: HashSet<Cid> = records.iter().filter(|r| r.class == class).filter_map(|r| r.code_cid).collect();
        tried.extend(&self.refused);
        Ok(Scene { goal: terms.manifest.goal, terms, class, view, records, tried })
    }

    /// The first experiment in a class: the base script, unchanged.
    async fn baseline(&mut self, scene: &Scene, root: RecordId, shutdown: &mut Shutdown) -> Result<Round, EngineError> {
        let us = self.engine.node_id();
        let base = scene.terms.base_code;
        let crashed = |r: &RecordSummary| {
            r.node_id == us && r.class == scene.class && r.code_cid == Some(base) && r.status == Status::Crash
        };
        if scene.records.iter().any(crashed) {
            let reason = format!("its base script does not run on this device ({})", scene.class);
            return Err(EngineError::Task { task: scene.terms.task_id, reason });
        }
        let parent = self.parent(scene, root).await?;
        let description = format!("baseline on {}", scene.class);
        let hypothesis = "The base script unchanged, for comparison within this hardware class.";
        let proposal = self.base(&scene.terms, &description, hypothesis).await?;
        self.experiment(&scene.terms, Some(parent), proposal, shutdown).await
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

    async fn parent(&self, scene: &Scene, id: RecordId) -> Result<Parent, EngineError> {
        let refuse = |reason: &str| EngineError::Task {
            task: scene.terms.task_id,
            reason: format!("record {}: {reason}", id.short()),
        };
        let summary =
            scene.records.iter().find(|r| r.id == id).ok_or_else(|| refuse("not among the task's records"))?;
        let code = summary.code_cid.ok_or_else(|| refuse("it names no script"))?;
        let script = self.engine.script(code, Some(summary.node_id)).await?;
        Ok(Parent { id, depth: summary.depth, metric: summary.metric, class: summary.class.clone(), script })
    }

    async fn propose(
        &mut self,
        scene: &Scene,
        parent: &Parent,
        explore: bool,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        if let Some(client) = self.client.clone() {
            let asked = tokio::select! {
                asked = self.ask(&client, scene, parent, explore) => asked?,
                () = stopped(shutdown) => return Err(EngineError::Stopped),
            };
            if asked.is_some() {
                return Ok(asked);
            }
            info!("the built-in proposer stands in for the language model");
        }
        let tunables = match self.engine.inspect(&parent.script).await? {
            Ok(tunables) => tunables,
            Err(reason) => {
                info!(%reason, parent = %parent.id.short(), "the parent's script cannot be changed");
                return Ok(None);
            }
        };
        self.tune(scene, parent, &tunables).await
    }

    async fn tune(
        &mut self,
        scene: &Scene,
        parent: &Parent,
        tunables: &[Tunable],
    ) -> Result<Option<Proposal>, EngineError> {
        let trials = self.trials(scene, parent, tunables).await?;
        let mut tried = scene.tried.clone();
        for _ in 0..PROPOSALS {
            let Some(proposal) = tuner::propose(&parent.script, tunables, &trials, &tried, scene.goal, self.seed())
            else {
                return Ok(None);
            };
            match self.engine.inspect(&proposal.script).await? {
                Ok(_) => return Ok(Some(proposal)),
                Err(reason) => {
                    debug!(%reason, change = %proposal.description, "a proposal that the language refuses");
                    let cid = Cid::of(proposal.script.as_bytes());
                    tried.insert(cid);
                    self.refused.insert(cid);
                }
            }
        }
        Ok(None)
    }

    /// Earlier results of the class whose scripts differ from the parent's in tunable values only.
    async fn trials(&self, scene: &Scene, parent: &Parent, tunables: &[Tunable]) -> Result<Vec<Trial>, EngineError> {
        let known: Vec<(Cid, NodeId, Option<f64>)> = scene
            .records
            .iter()
            .rev()
            .filter(|r| r.class == scene.class && !r.stray)
            .filter_map(|r| Some((r.code_cid?, r.node_id, (r.status != Status::Crash).then_some(r.metric))))
            .take(TRIALS)
            .collect();
        let missing: Vec<_> =
            known.iter().filter(|(cid, ..)| self.engine.store.artifact_path(cid).is_none()).take(FETCHES).collect();
        if self.engine.network.is_some() {
            for (cid, node, _) in missing {
                if let Err(error) = self.engine.artifact(*cid, Some(*node)).await {
                    debug!(%error, "a result to learn from is left out");
                    break;
                }
            }
        }
        let (script, tunables) = (parent.script.clone(), tunables.to_vec());
        self.engine
            .read(move |store| {
                let mut trials = Vec::new();
                for (cid, _, metric) in known {
                    let text = store.artifact(&cid)?.and_then(|bytes| String::from_utf8(bytes).ok());
                    let settings = text.and_then(|text| tuner::settings_of(&script, &tunables, &text));
                    trials.extend(settings.map(|settings| Trial { settings, metric }));
                }
                Ok(trials)
            })
            .await
    }

    /// Asks the language model. None when it gives no usable answer.
    async fn ask(
        &self,
        client: &Client,
        scene: &Scene,
        parent: &Parent,
        explore: bool,
    ) -> Result<Option<Proposal>, EngineError> {
        let Some(summary) = scene.records.iter().find(|r| r.id == parent.id) else { return Ok(None) };
        let of_class: Vec<_> = scene.records.iter().filter(|r| r.class == scene.class).cloned().collect();
        let manifest = &scene.terms.manifest;
        let situation = Situation {
            task_name: &manifest.name,
            task_description: &manifest.description,
            metric: &manifest.metric,
            goal: scene.goal,
            time_budget: manifest.time_budget,
            class: &scene.class,
            gpu_model: &self.engine.device.gpu_model,
            parent: summary,
            parent_script: &parent.script,
            records: &of_class,
            explore,
        };
        let mut turns = vec![Turn::User(prompt::question(&situation))];
        for _ in 0..ANSWERS {
            let reply = match client.ask(&prompt::system(), &turns).await {
                Ok(reply) => reply,
                Err(error) => {
                    warn!(%error, "the language model gave no answer");
                    return Ok(None);
                }
            };
            match self.check(&reply, &scene.tried).await? {
                Ok(Answer { script, description, hypothesis }) => {
                    let agent_model = answer::one_line(client.model(), 100);
                    return Ok(Some(Proposal { script, description, hypothesis, agent_model }));
                }
                Err(problem) => {
                    info!(%problem, "the language model's answer cannot be used");
                    turns.push(Turn::Assistant(reply));
                    turns.push(Turn::User(prompt::complaint(&problem)));
                }
            }
        }
        Ok(None)
    }

    async fn check(&self, reply: &str, tried: &HashSet<Cid>) -> Result<Result<Answer, String>, EngineError> {
        let answer = match answer::read(reply) {
            Ok(answer) => answer,
            Err(problem) => return Ok(Err(problem)),
        };
        if tried.contains(&Cid::of(answer.script.as_bytes())) {
            return Ok(Err("exactly this script has been tried already".into()));
        }
        Ok(self.engine.inspect(&answer.script).await?.map(|_| answer))
    }

    /// Runs a proposal and publishes its record.
    async fn experiment(
        &self,
        terms: &Terms,
        parent: Option<Parent>,
        proposal: Proposal,
        shutdown: &mut Shutdown,
    ) -> Result<Round, EngineError> {
        let script = proposal.script.clone();
        // Before the record: whoever reads that may ask for the script at once.
        self.engine.read(move |store| store.put_artifact(script.as_bytes())).await?;
        let order = Order {
            terms,
            purpose: Purpose::Research,
            record: parent.as_ref().map(|p| p.id),
            script: proposal.script.clone(),
            steps: None,
            description: proposal.description.clone(),
        };
        info!(task = %terms.task_id.short(), change = %proposal.description, "experiment begins");
        let result = self.engine.train(order, shutdown).await?;
        let published = self.publish(terms, parent.as_ref(), &proposal, result).await?;
        let metric = published.val_bpb;
        info!(id = %published.id().short(), status = %published.status, metric, steps = published.num_steps, "experiment published");
        Ok(Round::Published(published.status))
    }

    async fn publish(
        &self,
        terms: &Terms,
        parent: Option<&Parent>,
        proposal: &Proposal,
        result: Result<spore_trainer::worker::Outcome, Failure>,
    ) -> Result<Verified<Record>, EngineError> {
        let device = &self.engine.device;
        let backend = match device.backend {
            Backend::Wgpu => "wgpu",
            Backend::Flex => "flex",
        };
        let runner = Runner { node_id: self.engine.node_id(), gpu_model: device.gpu_model.clone(), backend };
        let measured = match &result {
            Ok(o) => Ok(Measured {
                metric: o.val_bpb,
                peak_memory: o.peak_memory_mb,
                steps: o.num_steps,
                params: o.num_params,
            }),
            Err(failure) => Err(failure.reason.as_str()),
        };
        if parent.is_none()
            && let Err(reason) = measured
        {
            // A root that crashed would be the task's root for ever.
            let reason = format!("its base script does not run here: {reason}");
            return Err(EngineError::Task { task: terms.task_id, reason });
        }
        let record = record(&terms.manifest, parent, proposal, &runner, measured, self.engine.now());
        self.engine.publish(&record).await
    }

    /// Waits until the store changes, or a while.
    async fn wait_for_news(&mut self, shutdown: &mut Shutdown) {
        let mut pinned = self.engine.settings.pinned.clone();
        tokio::select! {
            // Lagging means news, too.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) = self.events.recv() => {}
            Ok(()) = pinned.changed() => {}
            () = sleep(LOOK_AGAIN) => {}
            () = stopped(shutdown) => {}
        }
    }

    /// A fresh seed for a choice: of the node, the time and a count, so that two nodes differ.
    fn seed(&mut self) -> u64 {
        self.rounds += 1;
        let mut bytes = self.engine.node_id().0.to_vec();
        bytes.extend(self.engine.now().to_be_bytes());
        bytes.extend(self.rounds.to_be_bytes());
        Cid::of(&bytes).0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_end() {
        assert_eq!(backoff(1), BACKOFF_FIRST);
        assert_eq!(backoff(4), BACKOFF_FIRST * 8);
        assert_eq!(backoff(u32::MAX), BACKOFF_MOST);
    }
}
