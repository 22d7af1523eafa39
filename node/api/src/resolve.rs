//! From what a person types to one id: a whole id, a unique prefix of one, a task's name.

use spore_protocol::{Kind, NodeId, ObjectId, RecordId, TaskId};
use spore_storage::Span;

use super::{problem::ApiError, query::MAX_LIST, view::View};

/// Ids named when a prefix fits several.
const CANDIDATES: usize = 8;

impl View {
    /// A record's id from a unique prefix of it.
    ///
    /// # Errors
    /// 400, 404 or 409, with the candidates.
    pub fn resolve_record(&self, text: &str) -> Result<RecordId, ApiError> {
        if let Ok(id) = text.parse::<RecordId>() {
            return Ok(id);
        }
        self.resolve("experiment", text, |kind| kind == Kind::Experiment).map(Into::into)
    }

    /// A task's id from a unique prefix of it, or from its exact name where only one bears it.
    ///
    /// # Errors
    /// 404 or 409, with the candidates.
    pub fn resolve_task(&self, text: &str) -> Result<TaskId, ApiError> {
        if let Ok(id) = text.parse::<TaskId>() {
            return Ok(id);
        }
        let (mut named, mut fitting) = (Vec::new(), Vec::new());
        let lower = prefix(text);
        let mut span = Span::first(MAX_LIST);
        loop {
            let page = self.store().tasks_page(&span)?;
            for task in &page.items {
                if task.name == text {
                    named.push(task.task_id);
                } else if lower.as_ref().is_some_and(|lower| task.task_id.to_string().starts_with(lower)) {
                    fitting.push(task.task_id);
                }
            }
            match page.next {
                Some(next) => span = Span::after(next, MAX_LIST),
                None => break,
            }
        }
        one_of("task", text, if named.is_empty() { &fitting } else { &named })
    }

    /// A node's id from a unique prefix of it.
    ///
    /// # Errors
    /// 404 or 409, with the candidates.
    pub fn resolve_node(&self, text: &str) -> Result<NodeId, ApiError> {
        if let Ok(id) = text.parse::<NodeId>() {
            return Ok(id);
        }
        let lower = prefix(text).ok_or_else(|| unknown("node", text))?;
        one_of("node", text, &self.store().resolve_node(&lower, MAX_LIST)?)
    }

    fn resolve(&self, what: &'static str, text: &str, fits: impl Fn(Kind) -> bool) -> Result<ObjectId, ApiError> {
        let lower = prefix(text).ok_or_else(|| unknown(what, text))?;
        // Other kinds can share the prefix: ask for enough to see two that fit.
        let found = self.store().resolve(&lower, MAX_LIST)?;
        let fitting: Vec<_> = found.into_iter().filter(|(kind, _)| fits(*kind)).map(|(_, id)| id).collect();
        one_of(what, text, &fitting)
    }
}

/// What could be the beginning of an id, in lower case.
pub(super) fn prefix(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    (!lower.is_empty() && lower.len() <= 64 && lower.bytes().all(|b| b.is_ascii_hexdigit())).then_some(lower)
}

/// 404: it is not in this store.
pub fn unknown(what: &str, id: &str) -> ApiError {
    let shown: String = id.chars().take(80).collect();
    let error = ApiError::not_found(format!("no {what} {shown} is known here"));
    match what {
        "task" => error.hint("`spore tasks` lists those known"),
        "experiment" => error.hint("`spore graph` lists experiments, `spore search` finds them by words"),
        _ => error,
    }
}

fn one_of<T: Copy + ToString>(what: &str, text: &str, fitting: &[T]) -> Result<T, ApiError> {
    match fitting {
        [] => Err(unknown(what, text)),
        [one] => Ok(*one),
        many => {
            let named: Vec<_> = many.iter().take(CANDIDATES).map(ToString::to_string).collect();
            let more = if many.len() > CANDIDATES { ", ..." } else { "" };
            let hint = format!("give more of one of these: {}{more}", named.join(", "));
            Err(ApiError::conflict(format!("{text} fits more than one {what}")).hint(hint))
        }
    }
}
