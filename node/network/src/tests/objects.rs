//! Signed objects for tests.

use spore_protocol::{Identity, Record, RecordId, SignedObject, TaskId, TaskManifest, VerifiedObject, fixtures};

/// A manifest by a node that no test runs.
pub fn manifest(name: &str) -> SignedObject {
    manifest_by(&fixtures::identity(200), name)
}

pub fn manifest_by(by: &Identity, name: &str) -> SignedObject {
    let manifest = TaskManifest { name: name.into(), ..fixtures::manifest(by) };
    SignedObject::Task(fixtures::sign(by, &manifest).into_signed())
}

/// A record that differs from others by `n`. `parent`: id and depth.
pub fn verified(
    by: &Identity,
    task: TaskId,
    parent: Option<(RecordId, u64)>,
    n: u64,
    description: &str,
) -> VerifiedObject {
    let record = Record {
        parent: parent.map(|(id, _)| id),
        depth: parent.map_or(0, |(_, depth)| depth + 1),
        val_bpb: 2.0 - n as f64 * 1e-5,
        num_steps: n,
        description: description.into(),
        timestamp: fixtures::EPOCH + 1 + n / 3,
        ..fixtures::record(by, Some(task), None)
    };
    fixtures::sign(by, &record).into()
}

pub fn record(by: &Identity, task: TaskId, parent: Option<(RecordId, u64)>, n: u64) -> SignedObject {
    verified(by, task, parent, n, "a record").into_signed()
}

/// A task with a chain of records: the manifest first, then the root and its descendants.
pub fn chain(by: &Identity, name: &str, length: u64) -> (TaskId, Vec<SignedObject>) {
    let manifest = manifest_by(by, name);
    let task = TaskId(manifest.id().0);
    let mut objects = vec![manifest];
    let mut parent = None;
    for n in 0..length {
        let next = record(by, task, parent, n);
        parent = Some((next.id().into(), n));
        objects.push(next);
    }
    (task, objects)
}
