//! The spore node: everything that touches the network, the clock, the terminal or a person.
//!
//! The way of an object: [`network`] or [`bridge`] (or the local researcher, or an import) decodes it
//! and hands it to [`ingest`], the one door to the store; `ingest` verifies, inserts, and tells
//! everybody what changed; [`network`] and [`bridge`] pass it on, [`research`] and [`verify`] react, [`api`] shows it.
//! [`runtime`] puts the parts together; [`cli`] is the only place that reads the environment, the
//! home directory and the terminal.
//!
//! Never here: rules about what is valid or best, which are `spore-protocol`'s.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod api;
pub mod artifacts;
pub mod backoff;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod data_dir;
#[cfg(feature = "trainer")]
pub mod engine;
pub mod export;
pub mod genesis;
pub mod housekeeping;
pub mod identity_file;
pub mod import;
pub mod ingest;
pub mod mirror;
pub mod missed;
pub mod network;
pub mod peer;
pub mod progress;
pub mod research;
pub mod runtime;
pub mod shutdown;
pub mod verify;
