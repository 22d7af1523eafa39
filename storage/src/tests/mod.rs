//! Tests of the store as a whole, on real files, with real signatures.

mod backup;
mod behaviour;
mod corruption;
mod disk_full;
mod gc;
mod graph;
mod hostile;
mod kill;
mod migrate;
mod model;
pub mod objects;
mod stream;
mod waiting;
