//! What research does about failures that may be this machine's: a second run, and a word about other work.
//!
//! Never here: how long something is left alone (`cooldowns`).

use spore_base::{backoff::Backoff, random, shutdown::Shutdown};
use spore_protocol::{Cid, NodeId, Status};
use spore_storage::{Scope, Store, StoreError};
use spore_trainer::worker::{Failure, FailureKind, RunResult};
use tracing::warn;

use super::{BACKOFF_FIRST, BACKOFF_MOST, Researcher, cooldowns::repeats};
use crate::{
    engine::{EngineError, Order},
    work_loop::Round,
};

/// Crashes in a row before the start that are counted: as many make the longest wait.
const CRASHES: usize = 10;
/// Spoiled experiments in a row after which the node says what to do. Fewer may be a passing load.
const BUSY_TOLD: u32 = 3;

impl Researcher {
    /// The backoff of a node that starts. A restart does not forget the crashes before it.
    pub(super) async fn first_backoff(&self) -> Backoff {
        let us = self.engine.node_id();
        let crashes = self.engine.read(move |store| crashes_in_a_row(store, us)).await.unwrap_or_default();
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MOST);
        for _ in 0..crashes {
            backoff.next(random::number());
        }
        backoff
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
            Err(EngineError::Machine(failure)) if failure.kind == FailureKind::Busy => self.spoiled.add(),
            Ok(Round::Done | Round::Crashed) => self.spoiled.forget(),
            _ => return,
        }
        if let Some(experiments) = self.spoiled.told() {
            warn!(
                experiments,
                "other work on this machine changes its speed, which spoils experiments: end that work, or let training use less of the processor"
            );
        }
    }
}

/// The newest records of this node that are crashes, with nothing between them: at most [`CRASHES`].
fn crashes_in_a_row(store: &Store, us: NodeId) -> Result<usize, StoreError> {
    let (records, _) = store.recent(Scope::Node(us), None, CRASHES)?;
    Ok(records.iter().take_while(|record| record.status == Status::Crash).count())
}

/// Experiments in a row that other work on this machine spoiled.
#[derive(Debug, Default)]
pub(super) struct Spoiled(u32);

impl Spoiled {
    fn add(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    fn forget(&mut self) {
        self.0 = 0;
    }

    /// The number, when it is time to say what to do.
    fn told(&self) -> Option<u32> {
        (self.0 > 0 && self.0.is_multiple_of(BUSY_TOLD)).then_some(self.0)
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
    use spore_protocol::{Identity, Record, TaskId, fixtures};

    use super::*;

    #[test]
    fn restart_keeps_the_backoff_of_crashes_in_a_row() {
        let (dir, us, other) = (tempfile::tempdir().unwrap(), fixtures::identity(1), fixtures::identity(2));
        let store = Store::open(dir.path()).unwrap();
        let manifest = fixtures::sign(&us, &fixtures::manifest(&us));
        let task = TaskId::from(manifest.id());
        let root = fixtures::sign(&us, &fixtures::record(&us, Some(task), None));
        store.insert(&[manifest.into(), root.clone().into()], 1).unwrap();
        assert_eq!(crashes_in_a_row(&store, us.node_id()).unwrap(), 0);
        let mut made = 0;
        let mut publish = |by: &Identity, status: Status| {
            made += 1;
            let record = fixtures::record(by, Some(task), Some(&root));
            let val_bpb = if status == Status::Crash { 0.0 } else { 2.0 };
            let record = Record { status, val_bpb, timestamp: root.timestamp + made, ..record };
            let report = store.insert(&[fixtures::sign(by, &record).into()], 1).unwrap();
            assert_eq!(report.changes.len(), 1, "{:?}", report.outcomes);
        };
        publish(&us, Status::Crash);
        publish(&us, Status::Discard);
        for _ in 0..3 {
            publish(&us, Status::Crash);
            publish(&other, Status::Discard);
        }
        assert_eq!(crashes_in_a_row(&store, us.node_id()).unwrap(), 3, "since the discard, whatever others did");
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(crashes_in_a_row(&store, us.node_id()).unwrap(), 3, "after a restart too");
    }

    #[test]
    fn machine_that_is_always_busy_is_told_now_and_then() {
        let mut spoiled = Spoiled::default();
        let mut told = Vec::new();
        assert_eq!(spoiled.told(), None, "nothing is spoiled yet");
        for _ in 0..2 * BUSY_TOLD {
            spoiled.add();
            told.extend(spoiled.told());
        }
        assert_eq!(told, [BUSY_TOLD, 2 * BUSY_TOLD]);
        spoiled.forget();
        spoiled.add();
        assert_eq!(spoiled.told(), None, "an experiment that ran well begins a new count");
    }

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
