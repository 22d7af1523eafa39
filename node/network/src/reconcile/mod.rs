//! Range-based set reconciliation: what does another node have that this one lacks?
//!
//! Both sides hold (timestamp, id) pairs in the same order. The side that wants to learn sends fingerprints of ranges
//! of its set. The other side answers for each range whose fingerprint differs: with the fingerprints of sixteen
//! smaller ranges, or with its ids once a range is small. The messages are those of negentropy, version 1
//! (<https://github.com/hoytech/negentropy>); the crate `negentropy` is the oracle in the tests. We have our own
//! implementation because the store keeps sums of its ids: [`ItemSet::sum`] gives the fingerprint of a range without
//! reading the range, and the crate has no hook for that.
//!
//! | file | holds |
//! |---|---|
//! | `wire` | the bytes of a message |
//! | `set` | what a comparison asks of a set |
//! | `compare` | making, answering and reading one message |
//! | `progress` | the state machine of one reconciliation over many messages |
//!
//! Pure: messages and sets come in, messages go out. Never here: sockets, clocks, which scopes there are.

mod compare;
mod progress;
mod set;
mod wire;

#[cfg(test)]
mod tests;

use spore_storage::StoreError;

pub use compare::Comparison;
pub use progress::{ReconcileEffect, ReconcileEnd, ReconcileEvent, Reconciliation};

/// Why a message is not one that this side can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed catch-up message: {0}")]
pub struct BadMessage(&'static str);

impl BadMessage {
    const TRUNCATED: Self = Self("it ends too early");

    /// `why` completes the error's text.
    pub const fn new(why: &'static str) -> Self {
        Self(why)
    }
}

/// Why sets could not be compared, or a request could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The other side's fault.
    #[error(transparent)]
    Bad(#[from] BadMessage),
    #[error(transparent)]
    Store(#[from] StoreError),
}
