//! Spore's trainer: train scripts, the graph they are traced into, and burn to run it.
//!
//! For an experiment, [`lang`] traces a script (Starlark text) into a checked [`graph::Graph`] of
//! operations ([`ops`]). [`exec`] runs the graph with burn on a device. [`evaluate`] computes the
//! metric on held-out bytes. [`worker`] does all of that in a child process of the same binary,
//! because the node never runs untrusted code itself.
//!
//! Never here: storage, the network, signed objects.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod corpus;
pub mod data;
pub mod device;
pub mod evaluate;
pub mod exec;
pub mod graph;
pub mod lang;
pub mod memory;
pub mod ops;
mod optimizer;
mod value;
pub mod worker;
