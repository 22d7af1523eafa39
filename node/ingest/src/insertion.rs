//! A batch on its way into the store, around what is damaged there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use spore_protocol::{ObjectId, SignedObject, VerifiedObject};
use spore_storage::{Outcome, Report, Store, StoreError};
use tracing::warn;

/// What the store did with a batch.
#[derive(Debug, Default)]
pub(super) struct Inserted {
    /// Of the objects that it took, in the order given.
    pub report: Report,
    /// The others, in that order.
    pub failed: Vec<(ObjectId, Arc<StoreError>)>,
    /// What is behind the report's changes.
    pub objects: HashMap<ObjectId, SignedObject>,
}

/// Inserts a batch. An object that a damaged part of the store is needed for fails alone: a batch that
/// meets one is tried by halves.
pub(super) fn insert(store: &Store, batch: Vec<VerifiedObject>, now: u64) -> Inserted {
    let mut inserted = Inserted::default();
    inserted.insert(store, &batch, now);
    inserted.objects = changed_objects(store, batch, &inserted.report);
    inserted
}

impl Inserted {
    /// What waited for something in a later part came in after all, or is bad. Of one batch the store's own
    /// report says so.
    fn settle(&mut self) {
        let stored: HashSet<ObjectId> = self.report.changes.iter().map(|change| change.id).collect();
        for (id, outcome) in &mut self.report.outcomes {
            if !matches!(outcome, Outcome::Pending { .. }) {
                continue;
            }
            if stored.contains(id) {
                *outcome = Outcome::New;
            } else if let Some(at) = self.report.late_rejects.iter().position(|(late, _)| late == id) {
                *outcome = Outcome::Rejected(self.report.late_rejects.remove(at).1);
            }
        }
    }

    fn insert(&mut self, store: &Store, objects: &[VerifiedObject], now: u64) {
        match store.insert(objects, now) {
            Ok(report) => {
                self.report.outcomes.extend(report.outcomes);
                self.report.changes.extend(report.changes);
                self.report.late_rejects.extend(report.late_rejects);
                self.report.dropped_pending += report.dropped_pending;
            }
            Err(StoreError::Corrupt { .. }) if objects.len() > 1 => {
                let (first, second) = objects.split_at(objects.len() / 2);
                self.insert(store, first, now);
                self.insert(store, second, now);
                self.settle();
            }
            Err(error) => {
                let error = Arc::new(error);
                self.failed.extend(objects.iter().map(|object| (object.id(), error.clone())));
            }
        }
    }
}

/// The objects behind a report's changes: most are in the batch, released ones in the store. What
/// cannot be read back is stored all the same, and only not told of.
fn changed_objects(store: &Store, batch: Vec<VerifiedObject>, report: &Report) -> HashMap<ObjectId, SignedObject> {
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
