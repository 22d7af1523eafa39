//! Tests of the store as a whole, on real files, with real signatures.

mod backup;
mod behaviour;
mod corruption;
mod disk_full;
mod gc;
mod graph;
mod halves;
mod hostile;
mod kill;
mod model;
pub mod objects;
mod pending;
mod stream;
mod verdicts;

use crate::{Store, unwatched};

/// What a check of the store finds, as text. Empty for a sound store.
fn findings(store: &Store) -> Vec<String> {
    let report = store.check(&mut unwatched).unwrap();
    report.findings.iter().map(ToString::to_string).collect()
}
