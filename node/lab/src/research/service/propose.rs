//! Making a proposal out of a parent: the language model is asked, and the tuner stands in for it.
//!
//! Never here: running a script in this process, or training.

use std::collections::HashSet;

use spore_base::shutdown::{Shutdown, stopped};
use spore_protocol::{Cid, NodeId, Status};
use spore_trainer::lang::Tunable;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Researcher, Scene, UNFIT};
use crate::{
    engine::EngineError,
    research::{
        Proposal,
        llm::{
            Client, Turn,
            answer::{self, Answer},
            prompt::{self, Situation},
        },
        record::Parent,
        tuner::{self, Trial},
    },
};

/// Newest results out of which the tuner learns; each costs a small file read.
const TRIALS: usize = 512;
/// Scripts of other nodes' results fetched in one round, to learn from them.
const FETCHES: usize = 4;
/// Proposals of the tuner that a worker may refuse before another parent is chosen.
const PROPOSALS: usize = 8;
/// Answers asked of a language model for one experiment: the first, and one after its error.
const ANSWERS: usize = 2;

impl Researcher {
    /// A change of the parent's script. None when there is none that is new.
    pub(super) async fn propose(
        &mut self,
        scene: &Scene,
        parent: &Parent,
        explore: bool,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        if let Some(client) = self.client.clone() {
            let asked = self.ask(&client, scene, parent, explore, shutdown).await?;
            if asked.is_some() {
                return Ok(asked);
            }
            info!("the built-in proposer stands in for the language model");
        }
        let tunables = match self.engine.inspect(&parent.script, shutdown).await? {
            Ok(tunables) => tunables,
            Err(reason) => {
                info!(%reason, parent = %parent.id.short(), "the parent's script cannot be changed");
                self.barren.put(parent.id, Instant::now(), UNFIT);
                return Ok(None);
            }
        };
        self.tune(scene, parent, &tunables, shutdown).await
    }

    async fn tune(
        &mut self,
        scene: &Scene,
        parent: &Parent,
        tunables: &[Tunable],
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        let trials = self.trials(scene, parent, tunables).await?;
        let mut tried = scene.tried.clone();
        for _ in 0..PROPOSALS {
            let Some(proposal) = tuner::propose(&parent.script, tunables, &trials, &tried, scene.goal, self.seed())
            else {
                return Ok(None);
            };
            match self.engine.inspect(&proposal.script, shutdown).await? {
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
        for (cid, node, _) in missing {
            if let Err(error) = self.engine.artifact(*cid, Some(*node)).await {
                debug!(%error, "a result to learn from is left out");
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

    /// Asks the language model. None when it gives no usable answer.
    async fn ask(
        &self,
        client: &Client,
        scene: &Scene,
        parent: &Parent,
        explore: bool,
        shutdown: &mut Shutdown,
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
            match self.check(&reply, &scene.tried, shutdown).await? {
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

    async fn check(
        &self,
        reply: &str,
        tried: &HashSet<Cid>,
        shutdown: &mut Shutdown,
    ) -> Result<Result<Answer, String>, EngineError> {
        let answer = match answer::read(reply) {
            Ok(answer) => answer,
            Err(problem) => return Ok(Err(problem)),
        };
        if tried.contains(&Cid::of(answer.script.as_bytes())) {
            return Ok(Err("exactly this script has been tried already".into()));
        }
        Ok(self.engine.inspect(&answer.script, shutdown).await?.map(|_| answer))
    }
}
