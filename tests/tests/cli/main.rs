//! The command line: what it prints and how it ends, with and without a node.
//!
//! `snapshot` compares the whole output of a command with a file under `snapshots/`. After an intended change, run the
//! tests with `INSTA_UPDATE=always` and review the changed files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod daemon;
mod errors;
mod help;
mod llm;
mod parity;
mod processes;
mod reading;
mod running;
mod scripts;
mod snapshot;
mod tables;
mod terminal;
mod world;
