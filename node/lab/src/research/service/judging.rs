//! Judges first results of research, and measures the noise that judging needs.
//!
//! Never here: the rule for a keep, or running the repeats (`keep`).

use spore_base::shutdown::Shutdown;
use spore_protocol::{RecordId, Status};
use spore_trainer::worker::RunResult;
use tracing::{info, warn};

use super::{
    Researcher,
    base_noise::{self, Measured, USUAL_RUNS, Wish},
    keep::{self, Candidate, Decision},
    snapshot::{self, Reference, TaskSnapshot},
};
use crate::{
    engine::EngineError,
    research::{Proposal, rule::is_among_best},
    work_loop::Round,
};

impl Researcher {
    /// Whether a first result is a keep. None for the first result of the class, with which nothing can be compared.
    pub(super) async fn judge(
        &self,
        snapshot: &TaskSnapshot,
        proposal: &Proposal,
        first: &RunResult,
        parent: RecordId,
        shutdown: &mut Shutdown,
    ) -> Result<Option<(Decision, Reference)>, EngineError> {
        let (us, class) = (self.engine.node_id(), snapshot.class.clone());
        // Read now: the verdict on the parent may have changed while the experiment ran.
        let reference = self.engine.read(move |store| snapshot::reference(store, us, &class, parent)).await?;
        let Some(reference) = reference else { return Ok(None) };
        let keeps = snapshot.believed.iter().filter(|record| record.status == Status::Keep).map(|record| record.metric);
        let candidate = Candidate {
            terms: &snapshot.terms,
            script: &proposal.script,
            description: &proposal.description,
            metric: first.val_bpb,
            steps: first.num_steps,
            among_best: is_among_best(snapshot.goal, first.val_bpb, keeps),
            equal_steps: false,
        };
        let decision = keep::decide(&self.engine, &candidate, &reference, None, shutdown).await?;
        Ok(Some((decision, reference)))
    }

    /// Measures the noise of the task in this class, if it is not known: one round of runs of the base script. None when
    /// it is known, or cannot be measured.
    pub(super) async fn measure_noise(
        &mut self,
        snapshot: &TaskSnapshot,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Round>, EngineError> {
        let (task, class) = (snapshot.terms.task_id, snapshot.class.clone());
        if self.noiseless.contains(&task)
            || self.engine.read(move |store| store.noise(&task, &class, None)).await?.is_some()
        {
            return Ok(None);
        }
        info!(task = %task.short(), class = %snapshot.class, "the noise of this hardware class is measured, once");
        let wish = Wish { task, runs: USUAL_RUNS, steps: base_steps(snapshot) };
        match base_noise::measure(&self.engine, wish, shutdown).await {
            Ok(Measured { noise: Some(known), .. }) => {
                let (deviation, one) = (known.noise.deviation, known.noise.believable(1, 1));
                info!(runs = known.runs, deviation, believable = one, "the noise is known");
                Ok(Some(Round::Done))
            }
            Err(EngineError::Stopped) => Err(EngineError::Stopped),
            Err(error @ EngineError::Machine(_)) => Err(error),
            failed => {
                // Small gains are repeated in pairs, which needs no noise.
                let reason = failed.err().map(|error| error.to_string()).unwrap_or_default();
                warn!(%reason, "the noise cannot be measured before the node restarts");
                self.noiseless.insert(task);
                Ok(Some(Round::Done))
            }
        }
    }
}

/// Steps of the base script in this class, if it ran here: a run of as many is compared with the others.
fn base_steps(snapshot: &TaskSnapshot) -> Option<u64> {
    let base = Some(snapshot.terms.base_code);
    snapshot.believed.iter().find(|r| r.code_cid == base && r.status == Status::Keep).map(|r| r.num_steps)
}
