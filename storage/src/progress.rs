//! Progress of long work, and its cancellation. The store has no clock and no terminal: the caller decides how often
//! a person sees the progress.

use std::{fmt, ops::ControlFlow};

use crate::error::{Result, StoreError};

/// The progress of a piece of long work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageProgress {
    pub stage: Stage,
    /// How much of `total` is done, in the unit of the stage.
    pub done: u64,
    /// An estimate where the work cannot know it; 0 where nothing is known.
    pub total: u64,
}

/// What is being done. It says what the numbers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Objects are verified and inserted again. Counts objects.
    Replay,
    /// Two databases are compared. Counts columns.
    Compare,
    /// Every block of a column is read. Counts columns.
    Scan,
    /// Columns are compacted. Counts columns.
    Compact,
    /// Files of the database are copied. Counts nothing.
    Copy,
    /// Artifacts are read or copied. Counts artifacts.
    Artifacts,
    /// Records are searched for the artifacts that they name. Counts records.
    References,
    /// Objects are searched for unwanted ones. Counts objects.
    Drop,
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
            Self::References => "records searched for artifacts",
            Self::Drop => "objects searched for unwanted ones",
        })
    }
}

/// Receives the progress, some thousand times at most for a large store, and returns `Break` to cancel the work.
pub type Watch<'a> = dyn FnMut(StageProgress) -> ControlFlow<()> + 'a;

/// For work whose progress nobody watches.
pub fn unwatched(_: StageProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Passes the progress to the callback.
///
/// # Errors
/// [`StoreError::Cancelled`] when the callback cancels the work.
pub fn notify(watch: &mut Watch<'_>, stage: Stage, done: u64, total: u64) -> Result<()> {
    match watch(StageProgress { stage, done, total }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(StoreError::Cancelled),
    }
}
