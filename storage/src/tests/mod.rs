//! Tests of the store as a whole, on real files, with real signatures.

mod behaviour;
mod disk_full;
mod kill;
mod model;
mod objects;
mod stream;
