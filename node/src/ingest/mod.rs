//! The one door to the store: bounded inbox, verification off the async threads, batched
//! insertion, and word to everybody of what changed.

mod handle;

pub use handle::{Disposition, INBOX, IngestHandle, Inbound, Origin, StoreEvent, WANTS, Want, IngestClosed};
