//! Activity: the store's changes, each with a sentence for people.

use spore_protocol::{ControlBody, ControlEvent, HardwareClass, Record, SignedObject, Status};
use spore_storage::Change;

use super::{StoreView, judgements::reason, text::DisplayNames};
use crate::{dto, problem::ApiError};

impl StoreView {
    /// The newest changes, `limit` at most, newest first: of a task, or of all tasks.
    ///
    /// # Errors
    /// As [`StoreView::task`].
    pub fn activity(&self, task: Option<&str>, limit: usize) -> Result<Vec<dto::Activity>, ApiError> {
        let task = task.map(|task| self.known_task(task)).transpose()?;
        let changes = self.store().changes_before(u64::MAX, task.as_ref(), limit)?;
        let activities: Result<Vec<_>, _> = changes.iter().map(|change| self.activity_of(change)).collect();
        Ok(activities?.into_iter().flatten().collect())
    }

    /// One change in words. None for an object that the store has replaced, such as an older profile.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn activity_of(&self, change: &Change) -> Result<Option<dto::Activity>, ApiError> {
        let Some(object) = self.store().object(change.kind, &change.id)? else { return Ok(None) };
        let signer = object.signer();
        let name = self.display_name(&mut DisplayNames::default(), &signer)?;
        let who = name.clone().unwrap_or_else(|| signer.short());
        let mut activity = dto::Activity {
            sequence: change.sequence,
            kind: object.kind().name().into(),
            id: object.id().to_string(),
            task_id: change.task_id.map(|id| id.to_string()),
            node_id: signer.to_string(),
            display_name: name,
            experiment_id: None,
            value: None,
            reason: None,
            status: None,
            hardware_class: None,
            text: String::new(),
            timestamp: object.timestamp(),
        };
        match &object {
            SignedObject::Experiment(record) => {
                activity.experiment_id = Some(activity.id.clone());
                activity.status = Some(record.status.name().into());
                activity.hardware_class = Some(record.class().to_string());
                activity.value = (record.status != Status::Crash).then_some(record.val_bpb);
                activity.text = experiment_text(&who, record);
            }
            SignedObject::Control(event) => {
                activity.kind = event.kind.name().to_owned();
                activity.experiment_id = event.experiment_id().map(|id| id.to_string());
                activity.value = event.rerun().map(|rerun| rerun.value);
                activity.hardware_class = event.rerun().map(|rerun| HardwareClass::of(&rerun.gpu).to_string());
                if let ControlBody::Refutation(refutation) = &event.body {
                    activity.hardware_class = Some(HardwareClass::of(&refutation.gpu).to_string());
                    activity.reason = Some(reason(refutation.reason));
                }
                activity.text = control_text(&who, event);
            }
            SignedObject::Task(manifest) => activity.text = format!("{who} created the task {}", manifest.name),
            SignedObject::Profile(_) => activity.text = format!("{who} changed their profile"),
        }
        Ok(Some(activity))
    }
}

fn experiment_text(who: &str, record: &Record) -> String {
    let what = &record.description;
    match record.status {
        Status::Crash => format!("{who} crashed: {what}"),
        Status::Keep => format!("{who} kept {:.4}: {what}", record.val_bpb),
        Status::Discard => format!("{who} discarded {:.4}: {what}", record.val_bpb),
    }
}

fn control_text(who: &str, event: &ControlEvent) -> String {
    match &event.body {
        ControlBody::Verification(rerun) => {
            format!("{who} re-ran {} and agrees: got {:.4}", rerun.experiment_id.short(), rerun.value)
        }
        ControlBody::Challenge(rerun) => {
            format!("{who} re-ran {} and disagrees: got {:.4}", rerun.experiment_id.short(), rerun.value)
        }
        ControlBody::ChallengeResponse { rerun, .. } => {
            format!("{who} re-ran the challenged {}: got {:.4}", rerun.experiment_id.short(), rerun.value)
        }
        ControlBody::Refutation(refutation) => {
            format!("{who} re-ran {} and refutes it: {}", refutation.experiment_id.short(), refutation.reason)
        }
        ControlBody::Dispute { experiment_id, .. } => {
            format!("{who} closed the dispute over {}", experiment_id.short())
        }
        ControlBody::Other { .. } => format!("{who} signed a {:.40} event", event.kind),
    }
}
