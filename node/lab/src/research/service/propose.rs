//! Makes a proposal out of a parent: asks the language model, or the tuner when the model gives no usable answer.
//!
//! Never here: running a script in this process, or training.

use std::{collections::HashSet, time::Instant};

use spore_base::shutdown::{Shutdown, stopped};
use spore_protocol::{Cid, NodeId, Status};
use spore_trainer::lang::Tunable;
use tracing::{debug, info, warn};

use super::{Researcher, UNFIT_COOLDOWN, snapshot::TaskSnapshot};
use crate::{
    engine::EngineError,
    research::{
        Proposal,
        llm::{
            Client, Turn,
            answer::{self, ScriptReply},
            prompt::{self, Situation},
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
/// Questions to a language model for one experiment: the first, and one after an answer that cannot be used.
const ANSWERS: usize = 2;

impl Researcher {
    /// A change of the parent's script. None when there is no new one.
    pub(super) async fn propose(
        &mut self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        explore: bool,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        if let Some(client) = self.client.clone() {
            let asked = self.ask(&client, snapshot, parent, explore, shutdown).await?;
            if asked.is_some() {
                return Ok(asked);
            }
            info!("the built-in proposer stands in for the language model");
        }
        let tunables = match self.engine.inspect(&parent.script, shutdown).await {
            Ok(inspection) => inspection.tunables,
            Err(EngineError::Script(failure)) => {
                info!(%failure, parent = %parent.id.short(), "the parent's script cannot be changed");
                self.barren.put(parent.id, Instant::now() + UNFIT_COOLDOWN);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.tune(snapshot, parent, &tunables, shutdown).await
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
            match self.engine.inspect(&proposal.script, shutdown).await {
                Ok(_) => return Ok(Some(proposal)),
                Err(EngineError::Script(failure)) => {
                    debug!(%failure, change = %proposal.description, "the language refuses a proposal");
                    let cid = Cid::of(proposal.script.as_bytes());
                    tried.insert(cid);
                    self.refused.insert(cid);
                }
                Err(error) => return Err(error),
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

    /// Asks the language model. None when the model gives no usable answer.
    async fn ask(
        &self,
        client: &Client,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        explore: bool,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        let Some(summary) = snapshot.record(parent.id) else { return Ok(None) };
        let manifest = &snapshot.terms.manifest;
        let situation = Situation {
            task_name: &manifest.name,
            task_description: &manifest.description,
            metric: &manifest.metric,
            goal: snapshot.goal,
            time_budget: manifest.time_budget,
            class: &snapshot.class,
            gpu_model: &self.engine.device.gpu_model,
            parent: summary,
            parent_script: &parent.script,
            records: &snapshot.believed,
            explore,
        };
        let (system, mut turns) = (prompt::system(), vec![Turn::User(prompt::question(&situation))]);
        for _ in 0..ANSWERS {
            let reply = tokio::select! {
                reply = client.ask(&system, &turns) => reply,
                () = stopped(shutdown) => return Err(EngineError::Stopped),
            };
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) => {
                    warn!(%error, "the language model gave no answer");
                    return Ok(None);
                }
            };
            match self.check(&reply, &snapshot.tried, shutdown).await? {
                Ok(ScriptReply { script, description, hypothesis }) => {
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

    async fn check(
        &self,
        reply: &str,
        tried: &HashSet<Cid>,
        shutdown: &mut Shutdown,
    ) -> Result<Result<ScriptReply, String>, EngineError> {
        let answer = match answer::read(reply) {
            Ok(answer) => answer,
            Err(problem) => return Ok(Err(problem)),
        };
        if tried.contains(&Cid::of(answer.script.as_bytes())) {
            return Ok(Err("exactly this script has been tried already".into()));
        }
        match self.engine.inspect(&answer.script, shutdown).await {
            Ok(_) => Ok(Ok(answer)),
            Err(EngineError::Script(failure)) => Ok(Err(failure.reason)),
            Err(error) => Err(error),
        }
    }
}
