//! A task's manifest on its way in, perhaps after the task's records.

use spore_protocol::{Signed, SignedObject, TaskId, TaskManifest};

use super::Batch;
use crate::{error::Result, types::Outcome, values::ManifestFacts};

impl Batch<'_> {
    /// The manifest decides the goal and whose root precedes: what was assumed before is redone.
    pub(super) fn insert_manifest(&mut self, manifest: &Signed<TaskManifest>) -> Result<Outcome> {
        let task = TaskId::from(manifest.id());
        self.store_object(&SignedObject::Task(manifest.clone()), Some(task))?;
        let mut state = self.task(&task)?.clone();
        state.manifest = Some(ManifestFacts {
            name: manifest.name.clone(),
            metric: manifest.metric.clone(),
            goal: manifest.goal,
            created_by: manifest.created_by,
            timestamp: manifest.timestamp,
        });
        let contenders = self.roots(&task)?;
        self.settle(&task, state, &contenders)?;
        Ok(Outcome::New)
    }
}
