//! How long work tells of itself, and is told to stop. The store has no clock and no terminal:
//! whoever waits decides how often a person hears of it.

use std::{fmt, ops::ControlFlow};

use crate::error::{Result, StoreError};

/// How far a piece of long work has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    /// Of `total`, in the stage's own unit.
    pub done: u64,
    /// An estimate where the work cannot know it; 0 where nothing is known.
    pub total: u64,
}

/// What is being done, which says what the numbers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Objects are verified and inserted again; counts objects.
    Replay,
    /// Two databases are compared; counts columns.
    Compare,
    /// Every block of a column is read; counts columns.
    Scan,
    /// Columns are compacted; counts them.
    Compact,
    /// Files of the database are copied; counts nothing.
    Copy,
    /// Artifacts are read or copied; counts them.
    Artifacts,
    /// Records are asked which artifacts they name; counts records.
    References,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replay => "objects inserted again",
            Self::Compare => "columns compared",
            Self::Scan => "columns read",
            Self::Compact => "columns compacted",
            Self::Copy => "copying the database",
            Self::Artifacts => "artifacts",
            Self::References => "records asked for their artifacts",
        })
    }
}

/// Is told of progress, some thousand times at most for a large store; breaks to cancel.
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// For work that nobody watches.
pub fn unwatched(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Tells the watcher.
///
/// # Errors
/// [`StoreError::Cancelled`] when it asks to stop.
pub fn tell(watch: &mut Watch<'_>, stage: Stage, done: u64, total: u64) -> Result<()> {
    match watch(Progress { stage, done, total }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(StoreError::Cancelled),
    }
}
