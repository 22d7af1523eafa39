//! Tests of the store as a whole, on real files, with real signatures.

mod behaviour;
mod disk_full;
mod kill;
mod migrate;
mod model;
mod objects;
