//! Research: choose a record to build on, propose a change, run it, publish what came out.
//!
//! The way of an experiment: [`choice`] picks the parent, [`tuner`] or a language model ([`llm`])
//! proposes a script, the engine trains it in a worker process, [`record`] makes a record of it,
//! which goes through `ingest` as any other. [`create`] makes new tasks. Never here: running a
//! script in this process, or believing a record's claims about itself.

#[cfg(feature = "trainer")]
mod aside;
pub mod choice;
#[cfg(feature = "trainer")]
pub mod create;
pub mod llm;
pub mod record;
#[cfg(feature = "trainer")]
mod service;
#[cfg(feature = "trainer")]
pub mod tuner;

#[cfg(feature = "trainer")]
pub use service::run;

/// A script to try, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub script: String,
    /// What is changed, for people.
    pub description: String,
    pub hypothesis: String,
    /// Who proposed it.
    pub agent_model: String,
}
