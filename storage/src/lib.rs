//! Spore's store: the record graph, its indexes and the artifacts, on one disk.
//!
//! Verified objects come in through [`Store::insert`], which writes them, every index, the
//! frontiers, the verdicts and the counters in one atomic, durable batch, and tells what is new.
//! Readers look through snapshots and never wait for the writer. What is a valid lineage, a
//! better record or a verdict is `spore-protocol`'s to say: this crate only keeps the answers
//! up to date.
//!
//! Never here: the network, training, clocks, the environment.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod artifacts;
mod backup;
mod columns;
mod db;
mod error;
mod gc;
mod keys;
mod lock;
mod mark;
mod migrate;
mod overlay;
mod progress;
mod read;
mod repair;
pub mod sporemesh;
mod store;
#[cfg(test)]
mod tests;
mod tuning;
mod types;
mod upkeep;
mod values;
mod write;

pub use artifacts::{ArtifactReader, ArtifactWriter};
pub use backup::{Backup, BackupReport, RestorePlan, RestoreReport};
pub use error::StoreError;
pub use gc::{DropReason, Dropped, GcPlan, GcReport};
pub use progress::{Progress, Stage, Watch, unwatched};
pub use read::{Graph, GraphChanges, ObjectText, ParentColumn, Position, SyncSet};
pub use repair::{CheckReport, DamagedFile, Fault, FilesReport, Finding, RepairReport};
pub use store::Store;
pub use types::{
    BadCursor, Change, ClassView, Counts, Cursor, Direction, Improvement, MAX_PAGE, Measured, NodeStats, Outcome, Page,
    PendingView, RecordSummary, RecordView, Report, Scope, Span, SyncScope, TaskView,
};
pub use upkeep::{ColumnStats, StoreStats};
