//! What research does about failures that may be this machine's: a second run, and a word about other work.
//!
//! Never here: how long something is left alone (`cooldowns`).

use spore_base::shutdown::Shutdown;
use spore_protocol::{Cid, Status};
use spore_storage::Scope;
use spore_trainer::worker::{Failure, FailureKind, RunResult};
use tracing::warn;

use super::{Researcher, cooldowns::repeats};
use crate::{
    engine::{EngineError, Order},
    work_loop::Round,
};

/// Crashes in a row before the start that are counted: as many make the longest wait.
const CRASHES: usize = 10;
/// Spoiled experiments in a row after which the node says what to do. Fewer may be a passing load.
const BUSY_TOLD: u32 = 3;

impl Researcher {
    /// The newest own records that are crashes, with nothing between them: at most [`CRASHES`], and none when the store
    /// cannot be read.
    pub(super) async fn crashes_in_a_row(&self) -> usize {
        let us = self.engine.node_id();
        let newest = self.engine.read(move |store| store.recent(Scope::Node(us), None, CRASHES)).await;
        let records = newest.map(|(records, _)| records).unwrap_or_default();
        records.iter().take_while(|record| record.status == Status::Crash).count()
    }

    /// Runs an experiment. A failure that the load of this machine, its memory or somebody else may have caused counts
    /// only when a second run fails, too. A script whose worker is ended both times is not proposed again, and gets no
    /// record.
    pub(super) async fn train_surely(
        &mut self,
        order: Order<'_>,
        shutdown: &mut Shutdown,
    ) -> Result<Result<RunResult, Failure>, EngineError> {
        let script = Cid::of(order.script.as_bytes());
        let mut outcome = self.engine.train(order.clone(), shutdown).await;
        if let Err(error) = &outcome
            && may_pass(error)
        {
            warn!(%error, "an experiment failed, which this machine may have caused: it runs once more");
            outcome = self.engine.train(order, shutdown).await;
        }
        match outcome {
            Ok(result) => Ok(Ok(result)),
            Err(EngineError::Script(failure)) => Ok(Err(failure)),
            Err(error) => {
                if matches!(error, EngineError::Killed(_)) {
                    self.refused.insert(script);
                }
                Err(error)
            }
        }
    }

    /// Counts the experiments in a row that other work on this machine spoiled, and says what to do about it once in
    /// [`BUSY_TOLD`] of them.
    pub(super) fn note_load(&mut self, result: &Result<Round, EngineError>) {
        match result {
            Err(EngineError::Machine(failure)) if failure.kind == FailureKind::Busy => self.spoiled += 1,
            Ok(Round::Done | Round::Crashed) => self.spoiled = 0,
            _ => return,
        }
        if self.spoiled > 0 && self.spoiled.is_multiple_of(BUSY_TOLD) {
            warn!(
                experiments = self.spoiled,
                "other work on this machine changes its speed, which spoils experiments: end that work, or let training use less of the processor"
            );
        }
    }
}

/// Whether another run of the same script may end well.
fn may_pass(error: &EngineError) -> bool {
    match error {
        EngineError::Script(failure) => !repeats(failure.kind),
        EngineError::Killed(_) => true,
        // These start the backoff, and the next round tries again.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experiment_runs_once_more_only_if_this_machine_may_have_failed_it() {
        let failure = |kind| Failure { kind, reason: String::new() };
        assert!(may_pass(&EngineError::Killed(failure(FailureKind::Killed))));
        for kind in [FailureKind::Deadline, FailureKind::Memory, FailureKind::Crashed] {
            assert!(may_pass(&EngineError::Script(failure(kind))), "{kind:?}");
        }
        for kind in [FailureKind::Script, FailureKind::Causality, FailureKind::Diverged] {
            assert!(!may_pass(&EngineError::Script(failure(kind))), "{kind:?}");
        }
        assert!(!may_pass(&EngineError::Machine(failure(FailureKind::Busy))));
        assert!(!may_pass(&EngineError::Stopped));
    }
}
