//! The ingest service: the only way into the store. It has a bounded inbox, verifies objects off the async threads,
//! inserts them in batches, and announces what changed.
//!
//! A batch goes through two stages that overlap. [`verification`] takes objects out of the inbox and has `protocol`
//! verify them on all cores, while [`service`] has `storage` insert the batch before in one atomic step. [`batch`]
//! decides which objects are worth verifying and what the store's report means for each sender, [`admission`] which
//! objects there is room for.
//!
//! Never here: sockets, or a second way into the store.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod admission;
mod announce;
mod batch;
mod blocking;
pub mod blocks;
mod deferral;
mod early;
mod gate;
mod handle;
mod insertion;
mod limits;
pub mod missing_parents;
mod origin;
mod service;
mod space;
#[cfg(test)]
mod tests;
mod trouble;
mod verification;

pub use admission::{confirmed_signers, introducers::Source};
pub use deferral::{Deferral, QuotaName};
pub use handle::{Disposition, Inbound, IngestClosed, IngestFailure, IngestHandle, StoreEvent, Want};
pub use limits::{BATCH, EVENTS, INBOX, MAX_AHEAD_SECONDS, WANTS};
pub use origin::{Origin, SessionId};
pub use service::{Ingest, IngestParts};
pub use trouble::Trouble;
