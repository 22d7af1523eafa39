//! Tests of the store as a whole, on real files, with real signatures.

mod backup;
mod behaviour;
mod corruption;
mod digests;
mod disk_full;
mod gc;
mod graph;
mod halves;
mod hostile;
mod kill;
mod model;
mod noise;
pub mod objects;
mod pending;
mod stream;
mod verdicts;

use spore_protocol::{Record, Verified, VerifiedObject};

use crate::{InsertReport, Store, unwatched};

/// What a check of the store finds, as text. Empty for a sound store.
fn findings(store: &Store) -> Vec<String> {
    let report = store.check(&mut unwatched).unwrap();
    report.findings.iter().map(ToString::to_string).collect()
}

/// Checks that a check finds nothing.
fn sound(store: &Store) {
    assert_eq!(findings(store), Vec::<String>::new());
}

/// Inserts the objects in one batch, at the time 1000.
fn insert(store: &Store, objects: &[&VerifiedObject]) -> InsertReport {
    store.insert(&objects.iter().map(|o| (*o).clone()).collect::<Vec<_>>(), 1000).unwrap()
}

/// A record as an object of any kind.
fn any(record: &Verified<Record>) -> VerifiedObject {
    record.clone().into()
}
