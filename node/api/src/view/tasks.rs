//! Tasks.

use spore_protocol::TaskId;
use spore_storage::{ClassView, TaskView};

use super::{
    StoreView,
    text::{MAX_NAME, MAX_TEXT, truncated},
};
use crate::{dto, problem::ApiError};

impl StoreView {
    /// A task, named by its id, a unique prefix of the id, or its exact name.
    ///
    /// # Errors
    /// 404 for an unknown task, 409 for an ambiguous prefix or name.
    pub fn task(&self, given: &str) -> Result<dto::TaskSummary, ApiError> {
        self.task_view(given).map(|task| task_summary(&task))
    }

    /// A task as the store holds it.
    ///
    /// # Errors
    /// As [`StoreView::task`].
    pub(crate) fn task_view(&self, given: &str) -> Result<TaskView, ApiError> {
        let task = self.resolve_task(given)?;
        self.store.task(&task)?.ok_or_else(|| ApiError::unknown_task(given))
    }

    /// The id of a task that the store holds.
    ///
    /// # Errors
    /// As [`StoreView::task`].
    pub fn known_task(&self, given: &str) -> Result<TaskId, ApiError> {
        self.task_view(given).map(|task| task.task_id)
    }
}

pub(super) fn task_summary(task: &TaskView) -> dto::TaskSummary {
    let manifest = task.manifest.as_ref().map(|signed| signed.object());
    let text = |field: fn(&spore_protocol::TaskManifest) -> &String| {
        manifest.map(|manifest| truncated(field(manifest), MAX_TEXT)).unwrap_or_default()
    };
    dto::TaskSummary {
        task_id: task.task_id.to_string(),
        name: truncated(&task.name, MAX_NAME),
        description: text(|m| &m.description),
        task_type: text(|m| &m.task_type),
        artifact_type: manifest.map(|m| truncated(m.artifact_type.name(), MAX_TEXT)).unwrap_or_default(),
        metric: truncated(&task.metric, MAX_NAME),
        goal: task.goal.name().into(),
        time_budget: manifest.map_or(0, |m| m.time_budget),
        created_by: manifest.map(|m| m.created_by.to_string()).unwrap_or_default(),
        timestamp: manifest.map_or(0, |m| m.timestamp),
        base_code_cid: manifest.and_then(|m| m.base_code_cid).map(|cid| cid.to_string()).unwrap_or_default(),
        prepare_cid: text(|m| &m.prepare_cid),
        dataset_cid: text(|m| &m.dataset_cid),
        legacy: task.legacy,
        root: task.root.map(|id| id.to_string()),
        experiment_count: task.experiment_count,
        keep_count: task.keep_count,
        discard_count: task.discard_count,
        crash_count: task.crash_count,
        verified_count: task.verified_count,
        frontier_size: task.frontier_size,
        global_frontier_size: task.global_frontier_size,
        reference_frontier_size: task.reference_frontier_size,
        claims_count: task.claims_count,
        node_count: task.node_count,
        confirmed_signers: task.confirmed_signers,
        best: task.best.map(|(_, metric)| metric),
        best_id: task.best.map(|(id, _)| id.to_string()),
        best_class: best_class(task),
        best_global: task.best_global.map(|(_, metric)| metric),
        best_global_id: task.best_global.map(|(id, _)| id.to_string()),
        last_activity: task.last_activity,
        classes: task.classes.iter().map(class_summary).collect(),
    }
}

fn class_summary(class: &ClassView) -> dto::ClassSummary {
    dto::ClassSummary {
        class: class.class.to_string(),
        experiment_count: class.experiment_count,
        verified_count: class.verified_count,
        frontier_size: class.frontier_size,
        global_frontier_size: class.global_frontier_size,
        claims_count: class.claims_count,
        best: class.best.map(|(_, metric)| metric),
        best_id: class.best.map(|(id, _)| id.to_string()),
        best_global: class.best_global.map(|(_, metric)| metric),
        best_global_id: class.best_global.map(|(id, _)| id.to_string()),
        tolerance: class.class.tolerance(),
    }
}

/// The hardware class of the task's best record.
fn best_class(task: &TaskView) -> Option<String> {
    let (best, _) = task.best?;
    let of = task.classes.iter().find(|class| class.best.is_some_and(|(id, _)| id == best));
    of.map(|class| class.class.to_string())
}
