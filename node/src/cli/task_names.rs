//! Tasks that have one name: told where a second one is made.

use spore_api::{dto::TaskSummary, route::Route};

use super::{ErrorKind, access::NodeAccess, text, warn};

/// Warns when a task of this name is known already. The name then stands for no task any more.
pub async fn warn_of_twin(source: &NodeAccess, name: &str) {
    let twin = match source.get::<TaskSummary>(&Route::Task(name.to_owned())).await {
        // A prefix of an id is no name.
        Ok(task) if task.name == name => format!("task {}", text::short(&task.task_id)),
        Err(error) if error.kind == ErrorKind::Usage => "more than one task".to_owned(),
        _ => return,
    };
    warn(&format!("{twin} has the name {} already: tell the tasks apart by their ids", text::name(name)));
}
