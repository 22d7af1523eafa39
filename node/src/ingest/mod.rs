//! The one door to the store: bounded inbox, verification off the async threads, batched
//! insertion, and word to everybody of what changed.
//!
//! The way of a batch: [`service`] takes what lies in the inbox, [`batch`] decides what of it is
//! worth verifying and what the store's answer means for each sender; `protocol` verifies on all
//! cores, `storage` inserts in one atomic step. Never here: sockets, or a second way to the store.

mod batch;
mod handle;
mod service;
#[cfg(test)]
mod tests;

pub use handle::{Disposition, INBOX, Inbound, IngestClosed, IngestHandle, Origin, StoreEvent, WANTS, Want};
pub use service::{BATCH, Clock, EVENTS, Ingest, MAX_AHEAD_SECONDS};
