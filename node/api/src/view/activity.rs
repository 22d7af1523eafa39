//! Activity: the store's changes, each with a sentence for people.

use spore_protocol::{ControlBody, ControlEvent, HardwareClass, Kind, NodeId, RecordId, SignedObject, Status};
use spore_storage::{Change, RecordSummary};

use super::{
    StoreView,
    judgements::reason,
    text::{DisplayNames, MAX_NAME, listed, truncated},
};
use crate::{dto, problem::ApiError};

impl StoreView {
    /// The newest changes before a sequence number, `limit` at most, newest first: of a task, or of all tasks.
    ///
    /// # Errors
    /// As [`StoreView::task`].
    pub fn activity(&self, task: Option<&str>, before: u64, limit: usize) -> Result<Vec<dto::Activity>, ApiError> {
        let task = task.map(|task| self.known_task(task)).transpose()?;
        self.activities_of(&self.store().changes_before(before, task.as_ref(), limit)?)
    }

    /// Changes in words. Objects that the store has replaced, such as an older profile, are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn activities_of(&self, changes: &[Change]) -> Result<Vec<dto::Activity>, ApiError> {
        let mut names = DisplayNames::default();
        let found: Result<Vec<_>, _> = changes.iter().map(|change| self.activity_of(change, &mut names)).collect();
        Ok(found?.into_iter().flatten().collect())
    }

    fn activity_of(&self, change: &Change, names: &mut DisplayNames) -> Result<Option<dto::Activity>, ApiError> {
        // A record may be of many megabytes, and its summary never is.
        if change.kind == Kind::Experiment {
            let Some(record) = self.store().summary(&RecordId::from(change.id))? else { return Ok(None) };
            let (mut activity, who) = self.begun(change, record.node_id, names)?;
            activity.experiment_id = Some(activity.id.clone());
            activity.status = Some(record.status.name().into());
            activity.hardware_class = Some(record.class.to_string());
            activity.value = (record.status != Status::Crash).then_some(record.metric);
            activity.text = experiment_text(&who, &record);
            activity.timestamp = record.timestamp;
            return Ok(Some(activity));
        }
        let Some(object) = self.store().object(change.kind, &change.id)? else { return Ok(None) };
        let (mut activity, who) = self.begun(change, object.signer(), names)?;
        activity.timestamp = object.timestamp();
        match &object {
            SignedObject::Experiment(_) => return Ok(None),
            SignedObject::Control(event) => {
                activity.kind = listed(event.kind.name());
                activity.experiment_id = event.experiment_id().map(|id| id.to_string());
                activity.value = event.rerun().map(|rerun| rerun.value);
                activity.hardware_class = event.rerun().map(|rerun| HardwareClass::of(&rerun.gpu).to_string());
                if let ControlBody::Refutation(refutation) = &event.body {
                    activity.hardware_class = Some(HardwareClass::of(&refutation.gpu).to_string());
                    activity.reason = Some(reason(refutation.reason));
                }
                activity.text = control_text(&who, event);
            }
            SignedObject::Task(manifest) => {
                activity.text = format!("{who} created the task {}", truncated(&manifest.name, MAX_NAME));
            }
            SignedObject::Profile(_) => activity.text = format!("{who} changed their profile"),
        }
        Ok(Some(activity))
    }

    /// What is the same for changes of all kinds, and the signer's name in a sentence.
    fn begun(
        &self,
        change: &Change,
        signer: NodeId,
        names: &mut DisplayNames,
    ) -> Result<(dto::Activity, String), ApiError> {
        let name = self.display_name(names, &signer)?;
        let who = name.clone().unwrap_or_else(|| signer.short());
        let activity = dto::Activity {
            sequence: change.sequence,
            kind: change.kind.name().into(),
            id: change.id.to_string(),
            task_id: change.task_id.map(|id| id.to_string()),
            node_id: signer.to_string(),
            display_name: name,
            experiment_id: None,
            value: None,
            reason: None,
            status: None,
            hardware_class: None,
            text: String::new(),
            timestamp: 0,
        };
        Ok((activity, who))
    }
}

fn experiment_text(who: &str, record: &RecordSummary) -> String {
    let what = listed(&record.description);
    match record.status {
        Status::Crash => format!("{who} crashed: {what}"),
        Status::Keep => format!("{who} kept {:.4}: {what}", record.metric),
        Status::Discard => format!("{who} discarded {:.4}: {what}", record.metric),
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
        ControlBody::Repeats(repeats) => {
            let (runs, id) = (repeats.results.len(), repeats.experiment_id.short());
            format!("{who} ran the script of {id} with other seeds, {runs} times")
        }
        ControlBody::Dispute { experiment_id, .. } => {
            format!("{who} closed the dispute over {}", experiment_id.short())
        }
        ControlBody::Other { .. } => format!("{who} signed a {:.40} event", event.kind),
    }
}
