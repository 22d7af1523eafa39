//! How long research leaves a task or a record alone after an error.
//!
//! Pure. Never here: what is tried instead.

use std::time::Duration;

use spore_trainer::worker::FailureKind;

use crate::engine::{Blame, EngineError};

/// Cooldown of a task that cannot be worked on here, and of a record that cannot be built on: their objects never
/// change, but this machine may.
pub(super) const UNFIT_COOLDOWN: Duration = Duration::from_secs(600);
/// Cooldown when an artifact is missing: a peer that has it may come.
pub(super) const ARTIFACT_COOLDOWN: Duration = Duration::from_secs(60);
/// Longest cooldown of a record about which the re-runs of this node prove nothing.
pub(super) const UNPROVEN_COOLDOWN_MOST: Duration = Duration::from_secs(86_400);
/// Cooldown of a record that verification measures at the moment.
pub(super) const KNOWN_COOLDOWN: Duration = Duration::from_secs(60);

/// Whether another run of the same script would fail in the same way.
pub(super) fn repeats(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Script | FailureKind::Causality | FailureKind::Diverged)
}

/// How long a task is on cooldown after an error. None when the task is not to blame.
pub(super) fn task_cooldown(error: &EngineError) -> Option<Duration> {
    match error.blame() {
        Blame::Task | Blame::Dataset => Some(UNFIT_COOLDOWN),
        Blame::Artifact => Some(ARTIFACT_COOLDOWN),
        Blame::Script | Blame::Machine | Blame::Store | Blame::Shutdown => None,
    }
}

/// How long a record that was to be built on is on cooldown after an error. A failure of this machine counts too:
/// inspecting the script of an untrusted peer may have caused it.
pub(super) fn record_cooldown(error: &EngineError) -> Option<Duration> {
    match error.blame() {
        Blame::Machine | Blame::Script => Some(UNFIT_COOLDOWN),
        _ => task_cooldown(error),
    }
}

/// The cooldown of a record after re-runs that proved nothing, when it was on cooldown `times` times before. Each such
/// re-run costs a time budget or two.
pub(super) fn unproven_cooldown(times: u32) -> Duration {
    UNFIT_COOLDOWN.saturating_mul(1 << times.min(16)).min(UNPROVEN_COOLDOWN_MOST)
}

#[cfg(test)]
mod tests {
    use spore_protocol::{Cid, TaskId};
    use spore_trainer::worker::Failure;

    use super::*;

    #[test]
    fn cooldown_depends_on_the_cause_of_the_error() {
        let failure = |kind| EngineError::Machine(Failure { kind, reason: String::new() });
        let artifact = EngineError::Artifact { cid: Cid([1; 32]), reason: String::new() };
        let task = EngineError::Task { task: TaskId([1; 32]), reason: String::new() };
        for error in [task, failure(FailureKind::Data)] {
            let cooldowns = (task_cooldown(&error), record_cooldown(&error));
            assert_eq!(cooldowns, (Some(UNFIT_COOLDOWN), Some(UNFIT_COOLDOWN)), "{error}");
        }
        let cooldowns = (task_cooldown(&artifact), record_cooldown(&artifact));
        assert_eq!(cooldowns, (Some(ARTIFACT_COOLDOWN), Some(ARTIFACT_COOLDOWN)));
        // A failure of this machine does not count against the task.
        let internal = failure(FailureKind::Internal);
        assert_eq!((task_cooldown(&internal), record_cooldown(&internal)), (None, Some(UNFIT_COOLDOWN)));
        assert_eq!((task_cooldown(&EngineError::Stopped), record_cooldown(&EngineError::Stopped)), (None, None));
    }

    #[test]
    fn cooldown_of_a_record_without_proof_doubles_up_to_a_day() {
        let seconds = [0, 1, 2, 7, 8, u32::MAX].map(|times| unproven_cooldown(times).as_secs());
        assert_eq!(seconds, [600, 1200, 2400, 76_800, 86_400, 86_400]);
    }

    #[test]
    fn failure_that_may_not_repeat_does_not_end_a_task() {
        use FailureKind::{Busy, Causality, Crashed, Deadline, Device, Diverged, Killed, Memory, Script};
        assert!([Script, Causality, Diverged].into_iter().all(repeats));
        assert!(![Deadline, Memory, Crashed, Killed, Busy, Device].into_iter().any(repeats));
    }
}
