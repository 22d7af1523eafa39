//! Makes a proposal out of a parent: asks the language model, or the tuner when the model gives no usable answer.
//!
//! Never here: running a script in this process, or training.

use std::{collections::HashMap, time::Instant};

use spore_base::{
    llm_health::LlmFault,
    shutdown::{Shutdown, stopped},
};
use spore_protocol::{Cid, NodeId, RecordId, Status, noise::Gain};
use spore_storage::{ClassNoise, RecordSummary};
use spore_trainer::lang::Tunable;
use tracing::{debug, info};

use super::{Researcher, UNFIT_COOLDOWN, snapshot::TaskSnapshot};
use crate::{
    engine::EngineError,
    research::{
        Proposal,
        choice::is_believed,
        llm::{
            Asker,
            answer::{self, ScriptReply},
            prompt::{self, Flawed, Reached, Situation},
            reply::{Answer, Finish},
        },
        record::Parent,
        tuner::{self, Trial},
    },
};

/// Newest results that the tuner learns from. Each costs a small file read.
const TRIALS: usize = 512;
/// Scripts of other nodes that are fetched in one round, to learn from their results.
const FETCHES: usize = 4;
/// Proposals of the tuner that a worker may refuse before the round ends.
const PROPOSALS: usize = 8;
/// Questions to a language model for one experiment: the first, and two after answers that cannot be used.
const ANSWERS: usize = 3;
/// Ancestors of the parent that the question tells.
const LINEAGE: usize = 12;
/// Records whose gains are read for one question: those that it may tell.
const GAINS: usize = 64;
/// Scripts that are inspected in one round to know their graphs. Each costs a process of some 100 ms.
const GRAPHS_A_ROUND: usize = 8;
/// Most characters of a problem that is shown.
const MAX_PROBLEM: usize = 300;

/// The script is the same experiment as another one, in words for the language model.
const SAME_EXPERIMENT: &str = "it is the same experiment as one that has been tried: it differs only in comments, layout or names. Change what is computed";

/// What a question to a language model tells beside the records.
struct Told {
    lineage: Vec<RecordSummary>,
    gains: HashMap<RecordId, Gain>,
    noise: Option<ClassNoise>,
}

impl Researcher {
    /// A change of the parent's script. None when there is no new one.
    pub(super) async fn propose(
        &mut self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        explore: bool,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        let inspection = match self.engine.inspect(&parent.script, shutdown).await {
            Ok(inspection) => inspection,
            Err(EngineError::Script(failure)) => {
                info!(%failure, parent = %parent.id.short(), "the parent's script cannot be changed");
                self.barren.put(parent.id, Instant::now() + UNFIT_COOLDOWN);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.note_graph(Cid::of(parent.script.as_bytes()), inspection.graph_hash, None).await?;
        self.learn_graphs(snapshot, parent, shutdown).await?;
        if let Some(mut asker) = self.asker.take_if(|asker| asker.is_ready(Instant::now())) {
            // Out of `self` meanwhile, because both are changed.
            let asked = self.ask(&mut asker, snapshot, parent, explore, shutdown).await;
            self.asker = Some(asker);
            if let Some(proposal) = asked? {
                return Ok(Some(proposal));
            }
        }
        let seed = self.seed();
        if let Some(proposal) = self.mix_sometimes(snapshot, parent, seed, shutdown).await? {
            return Ok(Some(proposal));
        }
        match self.tune(snapshot, parent, &inspection.tunables, shutdown).await? {
            Some(proposal) => Ok(Some(proposal)),
            // What can be tuned is exhausted.
            None => self.mix(snapshot, parent, seed, shutdown).await,
        }
    }

    async fn tune(
        &mut self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        tunables: &[Tunable],
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        let trials = self.trials(snapshot, parent, tunables).await?;
        let mut tried = snapshot.tried.clone();
        for _ in 0..PROPOSALS {
            let Some(proposal) = tuner::propose(&parent.script, tunables, &trials, &tried, snapshot.goal, self.seed())
            else {
                return Ok(None);
            };
            tried.insert(Cid::of(proposal.script.as_bytes()));
            if let Some(proposal) = self.new_one(snapshot, parent, proposal, shutdown).await? {
                return Ok(Some(proposal));
            }
        }
        Ok(None)
    }

    /// Earlier results of the class, own ones and those that hold, whose scripts differ from the parent's only in tunable values.
    async fn trials(
        &self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        tunables: &[Tunable],
    ) -> Result<Vec<Trial>, EngineError> {
        let known: Vec<(Cid, NodeId, Option<f64>)> = snapshot
            .believed
            .iter()
            .rev()
            .filter_map(|r| Some((r.code_cid?, r.node_id, (r.status != Status::Crash).then_some(r.metric))))
            .take(TRIALS)
            .collect();
        let missing: Vec<_> =
            known.iter().filter(|(cid, ..)| self.engine.store.artifact_path(cid).is_none()).take(FETCHES).collect();
        for (cid, node, _) in missing {
            if let Err(error) = self.engine.artifact(*cid, Some(*node)).await {
                debug!(%error, "the script of an earlier result cannot be fetched");
                break;
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

    /// Inspects scripts of earlier results whose graphs are not known, children of the parent first, a few each round.
    async fn learn_graphs(
        &mut self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        shutdown: &mut Shutdown,
    ) -> Result<(), EngineError> {
        let (children, others): (Vec<_>, Vec<_>) =
            snapshot.believed.iter().rev().partition(|record| record.parent == Some(parent.id));
        let records = children.into_iter().chain(others).filter_map(|record| Some((record.code_cid?, record.id)));
        // A script that is not here is not fetched for this alone.
        let unknown = |cid: &Cid| !self.graphs.knows(cid) && self.engine.store.artifact_path(cid).is_some();
        let unknown: Vec<(Cid, RecordId)> = records.filter(|(cid, _)| unknown(cid)).collect();
        let mut left = GRAPHS_A_ROUND;
        for (cid, record) in unknown {
            // Traced before a restart.
            if let Some(graph) = self.engine.read(move |store| store.graph_of(&cid)).await? {
                self.note_graph(cid, graph.to_string(), Some(record)).await?;
                continue;
            }
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => break,
            };
            let bytes = self.engine.read(move |store| store.artifact(&cid)).await?;
            let script = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
            match self.engine.inspect(&script, shutdown).await {
                Ok(inspection) => self.note_graph(cid, inspection.graph_hash, Some(record)).await?,
                Err(EngineError::Stopped) => return Err(EngineError::Stopped),
                // The round needs no graph of this script.
                Err(_) => self.graphs.insert(cid, String::new()),
            }
        }
        Ok(())
    }

    /// The record that tried an experiment with this graph in the class: the parent, or another that this node believes.
    pub(super) async fn same_experiment(
        &self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        graph: &str,
    ) -> Result<Option<RecordId>, EngineError> {
        if self.graphs.of(&Cid::of(parent.script.as_bytes())) == Some(graph) {
            return Ok(Some(parent.id));
        }
        let same = |record: &&RecordSummary| record.code_cid.is_some_and(|cid| self.graphs.of(&cid) == Some(graph));
        if let Some(record) = snapshot.believed.iter().find(same) {
            return Ok(Some(record.id));
        }
        let Ok(graph) = graph.parse() else { return Ok(None) };
        let (task, class, us) = (snapshot.terms.task_id, snapshot.class.clone(), self.engine.node_id());
        self.engine.read(move |store| store.tried(&task, &class, &graph, |record| is_believed(record, us))).await
    }

    /// Notes what a script computes, and the record that ran it.
    pub(super) async fn note_graph(
        &mut self,
        script: Cid,
        graph: String,
        record: Option<RecordId>,
    ) -> Result<(), EngineError> {
        if let Ok(hash) = graph.parse() {
            self.engine.read(move |store| store.note_graph(script, hash, record)).await?;
        }
        self.graphs.insert(script, graph);
        Ok(())
    }

    /// What the question tells beside the records themselves.
    async fn told(&self, snapshot: &TaskSnapshot, parent: &RecordSummary) -> Result<Told, EngineError> {
        let (task, class, goal) = (snapshot.terms.task_id, snapshot.class.clone(), snapshot.goal);
        let parent = parent.clone();
        // Children of the parent and the newest ones are told first.
        let (own, others): (Vec<_>, Vec<_>) =
            snapshot.believed.iter().rev().cloned().partition(|record| record.parent == Some(parent.id));
        let records: Vec<_> = own.into_iter().chain(others).take(GAINS).collect();
        self.engine
            .read(move |store| {
                let mut lineage = Vec::new();
                for id in store.ancestors(&parent.id, LINEAGE)?.into_iter().rev() {
                    lineage.extend(store.summary(&id)?);
                }
                lineage.push(parent.clone());
                let mut gains = HashMap::new();
                for record in lineage.iter().chain(&records) {
                    if let Some(gain) = store.gain(record, goal)?.and_then(|found| found.gain) {
                        gains.insert(record.id, gain);
                    }
                }
                let noise = store.noise(&task, &class, Some(parent.num_steps))?;
                Ok(Told { lineage, gains, noise })
            })
            .await
    }

    /// Asks the language model. None when the model gives no usable answer.
    async fn ask(
        &mut self,
        asker: &mut Asker,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        explore: bool,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        let Some(record) = snapshot.record(parent.id) else { return Ok(None) };
        let gpu_model = self.engine.device.gpu_model.clone();
        let told = self.told(snapshot, record).await?;
        let manifest = &snapshot.terms.manifest;
        let situation = Situation {
            task_name: &manifest.name,
            task_description: &manifest.description,
            metric: &manifest.metric,
            goal: snapshot.goal,
            time_budget: manifest.time_budget,
            class: &snapshot.class,
            gpu_model: &gpu_model,
            reached: Reached { metric: record.metric, steps: record.num_steps, params: record.num_params },
            parent_script: &parent.script,
            peak_memory: record.peak_vram_mb,
            records: &snapshot.believed,
            parent: parent.id,
            lineage: &told.lineage,
            gains: &told.gains,
            noise: told.noise.as_ref(),
            explore,
        };
        let mut flawed: Option<Flawed> = None;
        let mut fault = LlmFault::Unusable;
        for _ in 0..ANSWERS {
            let question = |context| prompt::conversation(&situation, context, flawed.as_ref());
            let answer = tokio::select! {
                answer = asker.ask(question) => answer,
                () = stopped(shutdown) => return Err(EngineError::Stopped),
            };
            // The reason is in the model's health.
            let Some(answer) = answer else { return Ok(None) };
            match self.check(&answer, snapshot, parent, shutdown).await? {
                Ok(ScriptReply { script, description, hypothesis }) => {
                    asker.judged(Ok(()));
                    let agent_model = answer::one_line(asker.model(), 100);
                    return Ok(Some(Proposal { script, description, hypothesis, agent_model }));
                }
                Err(problem) => {
                    debug!(%problem, "the language model's answer cannot be used");
                    fault = if answer.finish == Finish::Cut { LlmFault::Cut } else { LlmFault::Unusable };
                    flawed = Some(Flawed { reply: answer.text, problem });
                }
            }
        }
        let problem = flawed.map(|flawed| answer::one_line(&flawed.problem, MAX_PROBLEM)).unwrap_or_default();
        asker.judged(Err((fault, problem)));
        Ok(None)
    }

    /// Whether the script of an answer can be run, and is new. The error is in words for the language model.
    async fn check(
        &mut self,
        answer: &Answer,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        shutdown: &mut Shutdown,
    ) -> Result<Result<ScriptReply, String>, EngineError> {
        let script_reply = match answer::of(answer, &parent.script) {
            Ok(script_reply) => script_reply,
            Err(problem) => return Ok(Err(problem)),
        };
        let cid = Cid::of(script_reply.script.as_bytes());
        if self.refused.contains(&cid) || snapshot.tried.contains(&cid) {
            return Ok(Err("exactly this script has been tried already".into()));
        }
        match self.engine.inspect(&script_reply.script, shutdown).await {
            Ok(inspection) => match self.same_experiment(snapshot, parent, &inspection.graph_hash).await? {
                Some(record) => {
                    self.refused.insert(cid);
                    Ok(Err(format!("{SAME_EXPERIMENT} ({})", record.short())))
                }
                None => {
                    self.note_graph(cid, inspection.graph_hash, None).await?;
                    Ok(Ok(script_reply))
                }
            },
            Err(EngineError::Script(failure)) => Ok(Err(failure.reason)),
            Err(error) => Err(error),
        }
    }
}
