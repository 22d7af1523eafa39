//! A batch on its way into the store, and the objects behind what changed there.

use std::collections::HashMap;

use spore_protocol::{ObjectId, SignedObject, VerifiedObject};
use spore_storage::{InsertReport, Store, StoreError};
use tracing::warn;

/// What the store did with a batch.
#[derive(Debug, Default)]
pub(super) struct Inserted {
    /// One outcome for each object, in the order given.
    pub report: InsertReport,
    /// The objects behind the report's changes.
    pub objects: HashMap<ObjectId, SignedObject>,
}

/// Inserts a batch.
///
/// # Errors
/// When the store refused the whole batch, of which nothing is stored then.
pub(super) fn insert(store: &Store, batch: Vec<VerifiedObject>, now: u64) -> Result<Inserted, StoreError> {
    let report = store.insert(&batch, now)?;
    let objects = changed_objects(store, batch, &report);
    Ok(Inserted { report, objects })
}

/// The objects behind a report's changes: most are in the batch, released ones in the store. An object
/// that cannot be read back is stored all the same, and only causes no event.
fn changed_objects(
    store: &Store,
    batch: Vec<VerifiedObject>,
    report: &InsertReport,
) -> HashMap<ObjectId, SignedObject> {
    let mut in_batch: HashMap<ObjectId, SignedObject> =
        batch.into_iter().map(|object| (object.id(), object.into_signed())).collect();
    let mut objects = HashMap::with_capacity(report.changes.len());
    for change in &report.changes {
        let object = match in_batch.remove(&change.id) {
            Some(object) => Some(object),
            None => store.object(change.kind, &change.id).unwrap_or_else(|error| {
                warn!(%error, id = %change.id.short(), "an object that was released cannot be read");
                None
            }),
        };
        if let Some(object) = object {
            objects.insert(change.id, object);
        }
    }
    objects
}
