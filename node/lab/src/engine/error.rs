//! Why the engine did not do what it was asked, and whose fault that is.

use spore_base::fetch::FetchError;
use spore_protocol::{Cid, TaskId};
use spore_storage::StoreError;
use spore_trainer::worker::{Failure, FailureKind};

/// Why the engine did not do what it was asked. [`EngineError::blame`] says whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The script failed: it does not trace, it diverges, it sees later bytes, or it takes too much.
    #[error("the script failed: {0}")]
    Script(Failure),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("artifact {cid} cannot be fetched: {reason}")]
    Artifact { cid: Cid, reason: String },
    /// The connected peers were asked, and none has it.
    #[error("no connected peer has artifact {0}")]
    Missing(Cid),
    #[error("task {} cannot be worked on here: {reason}", task.short())]
    Task { task: TaskId, reason: String },
    #[error("the object could not be published: {0}")]
    Publish(String),
    /// The device, the disk or the memory of this machine failed.
    #[error("this machine could not run the experiment: {0}")]
    Machine(Failure),
    /// The system or a driver ended the worker, or held it up for long. Another run may end well.
    #[error("the experiment was ended from outside: {0}")]
    Killed(Failure),
    #[error("the node is shutting down")]
    Stopped,
}

/// Whose fault an [`EngineError`] is. Research and verification decide by this what to try next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The script: it would fail on other machines too.
    Script,
    /// The task's terms: this node cannot run them.
    Task,
    /// The task's dataset: its bytes are not what the task needs.
    Dataset,
    /// An artifact that is not here now. A peer that has it may come.
    Artifact,
    /// This machine.
    Machine,
    /// The store, which cannot take or give objects now.
    Store,
    /// Nobody: the node shuts down.
    Shutdown,
}

impl EngineError {
    /// The error of a fetch. A full disk, a large file or a shutdown here does not say that an artifact is missing.
    pub(crate) fn of_fetch(cid: Cid, error: &FetchError) -> Self {
        match error {
            FetchError::NotFound(_) => Self::Missing(cid),
            FetchError::TooLarge { .. } | FetchError::Busy(_) | FetchError::Store { .. } | FetchError::Closed => {
                Self::Artifact { cid, reason: error.to_string() }
            }
        }
    }

    /// Whose fault this is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Script(_) => Blame::Script,
            Self::Task { .. } => Blame::Task,
            Self::Machine(failure) if failure.kind == FailureKind::Data => Blame::Dataset,
            Self::Artifact { .. } | Self::Missing(_) => Blame::Artifact,
            Self::Machine(_) | Self::Killed(_) => Blame::Machine,
            Self::Store(_) | Self::Publish(_) => Blame::Store,
            Self::Stopped => Blame::Shutdown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_is_missing_only_if_no_peer_has_it() {
        let cid = Cid([1; 32]);
        let missing = EngineError::of_fetch(cid, &FetchError::NotFound(cid));
        assert!(matches!(missing, EngineError::Missing(_)) && missing.blame() == Blame::Artifact);
        let others = [
            FetchError::TooLarge { cid, size: 2, limit: 1 },
            FetchError::Busy(cid),
            FetchError::Store { cid, reason: "the disk is full".into() },
            FetchError::Closed,
        ];
        for other in others {
            let error = EngineError::of_fetch(cid, &other);
            assert!(matches!(error, EngineError::Artifact { .. }) && error.blame() == Blame::Artifact, "{error}");
        }
    }
}
