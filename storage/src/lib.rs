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
mod overlay;
mod read;
pub mod sporemesh;
mod store;
#[cfg(test)]
mod tests;
mod types;
mod values;
mod write;

pub use artifacts::ArtifactWriter;
pub use error::StoreError;
pub use read::{ObjectText, Position};
pub use store::Store;
pub use types::{
    BadCursor, Change, ClassView, Counts, Cursor, NodeStats, Outcome, RecordSummary, RecordView, Report, Scope,
    SyncScope, TaskView,
};
