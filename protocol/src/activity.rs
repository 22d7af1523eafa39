//! Which task a node follows when none is pinned.

use crate::TaskId;

/// How many of a task's newest records count as its activity.
pub const ACTIVITY_WINDOW: usize = 25;

/// What a task shows of its newest [`ACTIVITY_WINDOW`] records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskActivity {
    pub task_id: TaskId,
    /// Records among the newest [`ACTIVITY_WINDOW`].
    pub recent: usize,
    /// How many of these are keeps.
    pub keeps: usize,
    /// Unix seconds of the newest, or of the manifest where there is none.
    pub newest: u64,
}

/// The task with most activity, then most keeps, then the newest; ties by id, so that every node
/// chooses alike.
pub fn most_active(tasks: impl IntoIterator<Item = TaskActivity>) -> Option<TaskId> {
    tasks.into_iter().max_by_key(|t| (t.recent, t.keeps, t.newest, std::cmp::Reverse(t.task_id))).map(|t| t.task_id)
}
