//! Whether this node can work on a task, for warnings where a user chooses one. The reference's tasks train in Python; a
//! node whose settings were imported may be pinned to one of them.

use spore_api::dto::TaskSummary;
use spore_protocol::ArtifactType;

use super::text;

/// Why a node of this program cannot work on a task, and what to do. None when it can.
pub fn warning(task: &TaskSummary) -> Option<String> {
    let why = if task.legacy {
        "it began in the existing network and has no manifest".to_owned()
    } else if !ArtifactType::from(task.artifact_type.as_str()).measures(&task.metric) {
        let (kind, metric) = (text::line(&task.artifact_type), text::line(&task.metric));
        format!("its scripts are of the type {kind} with the metric {metric}, which this node does not run")
    } else if task.base_code_cid.is_empty() {
        "it names no base script".to_owned()
    } else {
        return None;
    };
    Some(format!(
        "this node cannot work on the task {} ({}): {why}. It keeps and passes on what other nodes publish. `spore task use \
         auto` chooses a task that it can work on",
        text::line(&task.name),
        text::short(&task.task_id)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_of_another_program_is_named_with_the_way_out() {
        let python = TaskSummary { artifact_type: "python_train_script".into(), ..text::task("ab", "p") };
        let said = warning(&python).unwrap();
        assert!(said.contains("python_train_script") && said.contains("`spore task use auto`"), "{said}");
        let derived = TaskSummary { legacy: true, artifact_type: String::new(), ..text::task("ab", "l") };
        assert!(warning(&derived).unwrap().contains("no manifest"));
        assert!(warning(&TaskSummary { base_code_cid: String::new(), ..text::task("ab", "n") }).is_some());
        assert_eq!(warning(&text::task("ab", "ours")), None);
    }
}
