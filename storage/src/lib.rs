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
mod check;
mod columns;
mod db;
mod error;
mod keys;
mod lock;
mod migrate;
mod overlay;
mod read;
mod store;
#[cfg(test)]
mod tests;
mod types;
mod values;
mod write;

pub use artifacts::ArtifactWriter;
pub use error::StoreError;
pub use migrate::Progress;
pub use read::{Graph, SyncSet};
pub use store::Store;
pub use types::{
    BadCursor, Change, ClassView, Counts, Cursor, Direction, Improvement, MAX_PAGE, Measured, NodeStats, Outcome, Page,
    PendingView, RecordSummary, RecordView, Report, Scope, Span, SyncScope, TaskView,
};
