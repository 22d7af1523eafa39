//! Research: chooses a record to build on, proposes a change, runs it and publishes the result.
//!
//! [`choice`] picks the parent, [`tuner`] or a language model ([`llm`]) proposes a script, the engine trains it in a
//! worker process, and [`record`] makes a record of the result, which goes through the ingest service like any other.
//! [`create`] makes new tasks. Never here: running a script in this process, or believing a record's own claims.

pub mod choice;
#[cfg(feature = "trainer")]
pub mod create;
pub mod llm;
pub mod mixing;
pub mod record;
pub mod rule;
#[cfg(feature = "trainer")]
mod service;
#[cfg(feature = "trainer")]
pub mod tuner;

#[cfg(feature = "trainer")]
pub use service::{attempt, base_noise, run};

/// A script to try, with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub script: String,
    /// The change, for people.
    pub description: String,
    pub hypothesis: String,
    /// The name of the proposer.
    pub agent_model: String,
}
