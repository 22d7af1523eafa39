//! Tasks.

use std::cmp::Reverse;

use spore_protocol::TaskId;
use spore_storage::{ClassView, TaskView};

use super::{
    StoreView,
    text::{Extent, MAX_NAME, truncated},
};
use crate::{dto, problem::ApiError};

/// Most hardware classes of a task in an answer about that task.
const MAX_CLASSES: usize = 256;
/// Most hardware classes of a task in a list of up to 500 tasks. Anybody can name any number of classes.
const LISTED_CLASSES: usize = 16;

impl StoreView {
    /// A task, named by its id, a unique prefix of the id, or its exact name.
    ///
    /// # Errors
    /// 404 for an unknown task, 409 for an ambiguous prefix or name.
    pub fn task(&self, given: &str) -> Result<dto::TaskSummary, ApiError> {
        let task = self.task_view(given)?;
        let mut summary = task_summary(&task, Extent::Whole);
        self.add_noise(&task.task_id, &mut summary)?;
        Ok(summary)
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

/// A task. An item of a list shows its busiest classes only.
pub(super) fn task_summary(task: &TaskView, extent: Extent) -> dto::TaskSummary {
    let manifest = task.manifest.as_ref().map(|signed| signed.object());
    let text = |field: fn(&spore_protocol::TaskManifest) -> &String| {
        manifest.map(|manifest| extent.of(field(manifest))).unwrap_or_default()
    };
    dto::TaskSummary {
        task_id: task.task_id.to_string(),
        name: truncated(&task.name, MAX_NAME),
        description: text(|m| &m.description),
        task_type: text(|m| &m.task_type),
        artifact_type: manifest.map(|m| extent.of(m.artifact_type.name())).unwrap_or_default(),
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
        classes: shown_classes(task, extent).into_iter().map(class_summary).collect(),
    }
}

/// The busiest classes, in the order of their names.
fn shown_classes(task: &TaskView, extent: Extent) -> Vec<&ClassView> {
    let most = match extent {
        Extent::Listed => LISTED_CLASSES,
        Extent::Whole => MAX_CLASSES,
    };
    let mut classes: Vec<_> = task.classes.iter().collect();
    if classes.len() > most {
        // Classes with results that hold come first: anybody can name any number of others.
        classes.sort_by_key(|class| Reverse((class.verified_count, class.experiment_count)));
        classes.truncate(most);
        classes.sort_by(|a, b| a.class.cmp(&b.class));
    }
    classes
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
        noise: None,
    }
}

/// The hardware class of the task's best record.
fn best_class(task: &TaskView) -> Option<String> {
    let (best, _) = task.best?;
    let of = task.classes.iter().find(|class| class.best.is_some_and(|(id, _)| id == best));
    of.map(|class| class.class.to_string())
}
