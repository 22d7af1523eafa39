//! The spore program: combines the components of the node and is its user interface.
//!
//! The path of an object: `spore-network` or `spore-bridge` (or the local researcher, or an import) decodes it and hands
//! it to `spore-ingest`, the only way into the store. The ingest service verifies the object, inserts it, and announces
//! what changed: the networks pass it on, `spore-lab` reacts, `spore-api` shows it. [`runtime`] puts the parts together;
//! [`cli`] is the only place that reads the environment, the home directory and the terminal.
//!
//! Never here: rules about what is valid or best, which are `spore-protocol`'s.
#![deny(clippy::print_stderr, clippy::print_stdout)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod artifacts;
pub mod block_list;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod disk_budget;
pub mod genesis;
mod hash;
pub mod housekeeping;
pub mod identity_file;
pub mod import;
pub mod mirror;
pub mod networks;
pub mod process_file;
pub mod runtime;
pub mod task_maker;
