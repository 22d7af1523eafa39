//! Questions that the store answers, each from a snapshot. [`crate::lookup`] has the single reads that they are made of.

mod digests;
mod graph;
mod graph_changes;
mod listing;
mod nodes;
mod noise;
mod pending;
mod records;
mod search;
mod stream;
mod sync;
mod tasks;
mod whole;

pub use digests::{TASK_DIGEST_BYTES, TaskDigest};
pub use graph::{GraphChanges, ParentColumn, SHORT_ID, TaskGraph, WHOLE_ID};
pub use noise::{ClassNoise, RecordGain, same_length};
pub use stream::{ObjectText, Position};
pub use sync::SyncSet;
