//! Inserts manifests, which may arrive after records of their task, and ranks tasks by activity.

use std::ops::ControlFlow;

use spore_protocol::{Signed, SignedObject, Status, TaskId, TaskManifest, activity::ACTIVITY_WINDOW, terms::Terms};

use super::{InsertBatch, cache::is_large};
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::Result,
    keys::{self, ActivityRank, Moment, TimeList},
    types::InsertOutcome,
    values::{GraphPoint, ManifestFacts},
};

impl InsertBatch<'_> {
    /// The manifest decides the goal and whose roots precede. What was assumed before is corrected.
    pub(super) fn insert_manifest(&mut self, manifest: &Signed<TaskManifest>) -> Result<InsertOutcome> {
        let task = TaskId::from(manifest.id());
        let number = self.store_object(&SignedObject::Task(manifest.clone()), Some(task))?;
        let moment = Moment { timestamp: manifest.timestamp, id: manifest.id(), number };
        self.add_to_list(TimeList::Manifests, &moment, Vec::new())?;
        let mut known = self.task(&task)?.clone();
        known.manifest = Some(ManifestFacts {
            name: manifest.name.clone(),
            metric: manifest.metric.clone(),
            goal: manifest.goal,
            created_by: manifest.created_by,
            timestamp: manifest.timestamp,
            terms: Terms::of(manifest),
        });
        self.view.put(Column::Creators, keys::created(&manifest.created_by, &task), Vec::new());
        self.cache.large |= is_large(&known);
        self.update_task(&task, known)?;
        self.rank_changed.insert(task);
        Ok(InsertOutcome::New)
    }

    /// Updates the tasks' order by activity. The rows are written before.
    pub(super) fn rank_tasks(&mut self) -> Result<()> {
        for task in std::mem::take(&mut self.rank_changed) {
            let (mut newest, mut seen, mut recent, mut keeps) = (None, 0, 0, 0);
            let prefix = TimeList::TaskRecords(task).prefix();
            self.view.walk(Column::Timeline, &prefix, None, KeyOrder::Descending, &mut |key, value| {
                newest = Some(newest.unwrap_or(keys::time_before_id(key)?));
                let point = GraphPoint::decode(value)?;
                seen += 1;
                recent += u8::from(!point.stray());
                keeps += u8::from(!point.stray() && point.status == Status::Keep);
                Ok(if seen < ACTIVITY_WINDOW { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            let state = self.task(&task)?;
            if state.is_bare() {
                if let Some(old) = state.activity.take() {
                    self.view.delete(Column::Activity, keys::activity(&old, &task));
                }
                continue;
            }
            let newest = newest.or(state.manifest.as_ref().map(|manifest| manifest.timestamp)).unwrap_or_default();
            let confirmed_signers = u32::try_from(state.confirmed_signers).unwrap_or(u32::MAX);
            let now = ActivityRank { confirmed_signers, recent, keeps, newest };
            if let Some(old) = state.activity.replace(now).filter(|old| *old != now) {
                self.view.delete(Column::Activity, keys::activity(&old, &task));
            }
            self.view.put(Column::Activity, keys::activity(&now, &task), Vec::new());
        }
        Ok(())
    }
}
