//! Spore's store: the record graph, its indexes and the artifacts, on one disk.
//!
//! [`Store::insert`] takes verified objects. It writes them, every index, the frontiers, the verdicts and the
//! counters in one atomic, durable batch, and reports what is new. Readers use snapshots and never wait for the
//! writer. `spore-protocol` decides what is a valid lineage, a better record or a verdict; this crate keeps the
//! results up to date.
//!
//! Never here: the network, training, clocks, the environment.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod artifacts;
mod backup;
mod columns;
mod db;
mod error;
mod files;
mod gc;
mod keys;
mod layout;
mod lock;
mod lookup;
mod mark;
mod overlay;
mod progress;
mod read;
mod repair;
mod room;
mod salvage;
pub mod sporemesh;
mod store;
#[cfg(test)]
mod tests;
mod tuning;
mod types;
mod upkeep;
mod values;
mod words;
mod write;

pub use artifacts::ArtifactWriter;
pub use backup::{Backup, BackupReport, RestorePlan, RestoreReport};
pub use error::{Damage, PinsFault, StoreError};
pub use gc::{DropReason, Dropped, GcPlan, GcReport};
pub use progress::{Stage, StageProgress, Watch, unwatched};
pub use read::{
    ClassNoise, GraphChanges, ObjectText, ParentColumn, Position, RecordGain, SHORT_ID, SyncSet, TASK_DIGEST_BYTES,
    TaskDigest, TaskGraph, WHOLE_ID, same_length,
};
pub use repair::{CheckReport, Fault, FilesReport, RepairReport, StoreFinding};
pub use room::{DiskSpace, RoomPlan, RoomReport, Unwanted};
pub use store::Store;
pub use types::{
    BadCursor, Change, ClassView, Counts, Cursor, DamagedFile, Improvement, InsertOutcome, InsertReport, Judgement,
    MAX_PAGE, NodeStats, Page, PageDirection, PendingView, RecordSummary, RecordView, Scope, Span, SyncScope, TaskView,
};
pub use upkeep::{ColumnStats, StoreStats};
