//! Why the engine did not do what it was asked, and whose fault that is.

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
    #[error("task {} cannot be worked on here: {reason}", task.short())]
    Task { task: TaskId, reason: String },
    #[error("the object could not be published: {0}")]
    Publish(String),
    /// The device, the disk or the memory of this machine failed.
    #[error("this machine could not run the experiment: {0}")]
    Machine(Failure),
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
    /// Whose fault this is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Script(_) => Blame::Script,
            Self::Task { .. } => Blame::Task,
            Self::Machine(failure) if failure.kind == FailureKind::Data => Blame::Dataset,
            Self::Artifact { .. } => Blame::Artifact,
            Self::Machine(_) => Blame::Machine,
            Self::Store(_) | Self::Publish(_) => Blame::Store,
            Self::Stopped => Blame::Shutdown,
        }
    }
}
