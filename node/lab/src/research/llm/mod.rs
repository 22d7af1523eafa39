//! Proposals by a language model: its configuration, the question, and the answer.
//!
//! [`prompt`] writes the question out of the task and its records. [`asker`] asks with patience and keeps the model's
//! health; its [`client`] sends one request, whose response [`reply`] takes apart. [`answer`] reads a script and two
//! lines of reasoning out of the text, after [`reasoning`] has left out what the model wrote to itself. A reply is
//! untrusted text: its size is bounded, and a worker process traces its script before anything else happens with it. The
//! key is never logged.

pub mod answer;
pub mod asker;
pub mod client;
pub mod error;
pub mod prompt;
pub mod provider;
mod reasoning;
pub mod reply;
pub mod spending;
#[cfg(test)]
mod tests;

pub use asker::{Asker, suspected_cut};
pub use client::Client;
pub use error::LlmError;
pub use provider::{Provider, ProviderConfig, clean_key};
pub use spending::Caps;
