//! The one door to the store: bounded inbox, verification off the async threads, batched
//! insertion, and word to everybody of what changed.
//!
//! The way of a batch: [`verification`] takes what lies in the inbox and has `protocol` verify it on
//! all cores, while [`service`] has `storage` insert the batch before in one atomic step; [`batch`]
//! decides what is worth verifying and what the store's answer means for each sender, [`insertion`] gets
//! around what is damaged. Never here:
//! sockets, or a second way to the store.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod batch;
mod handle;
mod insertion;
pub mod missed;
mod origin;
mod service;
#[cfg(test)]
mod tests;
mod trouble;
mod verification;

pub use handle::{Disposition, INBOX, Inbound, IngestClosed, IngestHandle, StoreEvent, WANTS, Want};
pub use origin::{Origin, SessionId};
pub use service::{BATCH, EVENTS, Ingest, MAX_AHEAD_SECONDS};
