//! From what a person types to one id: a whole id, a unique prefix of one, or a task's name.

use spore_protocol::{Kind, NodeId, RecordId, TaskId};
use spore_storage::Span;

use super::StoreView;
use crate::{
    problem::{ApiError, ProblemKind},
    query::MAX_LIST,
};

/// The most active tasks, which can be named by their name. Anybody can create any number of tasks, and a request must
/// not read all of them.
const NAMED_TASKS: usize = 2000;
/// Ids in the hint when a prefix fits several.
const CANDIDATES: usize = 8;
/// Digits of a creator in that hint: enough to tell creators apart.
const CREATOR_DIGITS: usize = 12;

impl StoreView {
    /// A record's id, from the id or a unique prefix of it.
    ///
    /// # Errors
    /// 404, or 409 with the candidates.
    pub fn resolve_record(&self, text: &str) -> Result<RecordId, ApiError> {
        if let Ok(id) = text.parse::<RecordId>() {
            return Ok(id);
        }
        let unknown = || ApiError::unknown_experiment(text);
        let digits = prefix(text).ok_or_else(unknown)?;
        // Other kinds of objects can share the prefix: ask for enough to find two records.
        let found = self.store().resolve(&digits, MAX_LIST)?;
        let records: Vec<_> = found.into_iter().filter(|(kind, _)| *kind == Kind::Experiment).collect();
        let ids: Vec<RecordId> = records.into_iter().map(|(_, id)| id.into()).collect();
        one_of("experiment", text, &ids)?.ok_or_else(unknown)
    }

    /// A task's id, from the id, a unique prefix of it, or the exact name if only one of the [`NAMED_TASKS`] most active
    /// tasks has it.
    ///
    /// # Errors
    /// 404, or 409 with the candidates.
    pub fn resolve_task(&self, text: &str) -> Result<TaskId, ApiError> {
        if let Ok(id) = text.parse::<TaskId>() {
            return Ok(id);
        }
        let (mut by_name, mut by_prefix) = (Vec::new(), Vec::new());
        let digits = prefix(text);
        if let Some(digits) = &digits {
            let found = self.store().resolve(digits, MAX_LIST)?;
            by_prefix.extend(found.into_iter().filter(|(kind, _)| *kind == Kind::Task).map(|(_, id)| TaskId::from(id)));
        }
        let mut span = Span::first(MAX_LIST);
        for _ in 0..NAMED_TASKS.div_ceil(MAX_LIST) {
            let page = self.store().active_tasks(&span)?;
            for task in &page.items {
                if task.name == text {
                    by_name.push(task.task_id);
                } else if digits.as_ref().is_some_and(|digits| task.task_id.to_string().starts_with(digits))
                    && !by_prefix.contains(&task.task_id)
                {
                    by_prefix.push(task.task_id);
                }
            }
            match page.next {
                Some(next) => span = Span::after(next, MAX_LIST),
                None => break,
            }
        }
        if by_name.len() > 1 {
            return Err(self.twins(text, &by_name)?);
        }
        let found = if by_name.is_empty() { &by_prefix } else { &by_name };
        one_of("task", text, found)?.ok_or_else(|| ApiError::unknown_task(text))
    }

    /// The error for a name that several tasks have, with what tells them apart.
    fn twins(&self, name: &str, tasks: &[TaskId]) -> Result<ApiError, ApiError> {
        let mut named = Vec::new();
        for task in tasks.iter().take(CANDIDATES) {
            let Some(view) = self.store().task(task)? else { continue };
            let creator = view.manifest.as_ref().map(|manifest| manifest.created_by.to_string());
            let creator: String = creator.unwrap_or_else(|| "nobody".into()).chars().take(CREATOR_DIGITS).collect();
            named.push(format!("{task} (created by {creator}, experiments: {})", view.experiment_count));
        }
        let more = if tasks.len() > CANDIDATES { ", ..." } else { "" };
        let hint = format!("use one of these ids: {}{more}", named.join(", "));
        Ok(ApiError::new(ProblemKind::Ambiguous, format!("{name} is the name of more than one task")).hint(hint))
    }

    /// A node's id, from the id or a unique prefix of it.
    ///
    /// # Errors
    /// 404, or 409 with the candidates.
    pub fn resolve_node(&self, text: &str) -> Result<NodeId, ApiError> {
        if let Ok(id) = text.parse::<NodeId>() {
            return Ok(id);
        }
        let unknown = || ApiError::unknown_node(text);
        let digits = prefix(text).ok_or_else(unknown)?;
        one_of("node", text, &self.store().resolve_node(&digits, MAX_LIST)?)?.ok_or_else(unknown)
    }
}

/// The text in lower case, if an id can begin with it.
pub(super) fn prefix(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    (!lower.is_empty() && lower.len() <= 64 && lower.bytes().all(|b| b.is_ascii_hexdigit())).then_some(lower)
}

/// The only id found. None without any.
fn one_of<T: Copy + ToString>(what: &str, text: &str, found: &[T]) -> Result<Option<T>, ApiError> {
    if found.len() < 2 {
        return Ok(found.first().copied());
    }
    let named: Vec<_> = found.iter().take(CANDIDATES).map(ToString::to_string).collect();
    let more = if found.len() > CANDIDATES { ", ..." } else { "" };
    let hint = format!("give more digits of one of these ids: {}{more}", named.join(", "));
    Err(ApiError::new(ProblemKind::Ambiguous, format!("{text} fits more than one {what}")).hint(hint))
}
