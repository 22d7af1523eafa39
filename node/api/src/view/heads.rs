//! What an address of the explorer's page is about: the title and the description that a link preview shows.

use super::{
    StoreView,
    text::{DisplayNames, Extent, plain_line},
};
use crate::problem::ApiError;

/// Fewest digits of an id in an address.
const LEAST_DIGITS: usize = 4;
/// Longest title: more is not shown anywhere.
const MAX_TITLE: usize = 120;

/// The head of one address of the page. The texts are untrusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub title: String,
    pub description: String,
    /// The path by which the same page is found for good: with the whole id.
    pub path: String,
    /// The path of a picture.
    pub picture: Option<String>,
    /// The path of a feed.
    pub feed: Option<String>,
}

impl StoreView {
    /// The head of an address, such as `/t/ID`, whose last part is decoded. None for an address without a head of its own.
    ///
    /// # Errors
    /// As the API's answer about the same object: 404 when there is none.
    pub fn head(&self, kind: &str, id: &str) -> Result<Head, ApiError> {
        match kind {
            "t" => self.task_head(id),
            "e" if id.len() >= LEAST_DIGITS => self.experiment_head(id),
            "n" if id.len() >= LEAST_DIGITS => self.node_head(id),
            _ => Err(ApiError::unknown_route(kind)),
        }
    }

    fn task_head(&self, id: &str) -> Result<Head, ApiError> {
        let task = self.task(id)?;
        let best = match (task.best, &task.best_class) {
            (Some(best), Some(class)) => format!("Best confirmed {} {best:.4} on {class}. ", task.metric),
            _ => "Nothing is confirmed yet. ".to_owned(),
        };
        let counts = format!("{} experiments by {} nodes. ", task.experiment_count, task.node_count);
        let path = format!("/t/{}", task.task_id);
        let feed = Some(format!("{path}/feed.atom"));
        let made = head(&task.name, &format!("{best}{counts}{}", task.description), path);
        Ok(Head { picture: Some(picture_of(&task.task_id)), feed, ..made })
    }

    fn experiment_head(&self, id: &str) -> Result<Head, ApiError> {
        let record = self.known_record(id)?;
        let summary = self.store().summary(&record)?.ok_or_else(|| ApiError::unknown_experiment(id))?;
        let experiment = self.experiment_of(&summary, Extent::Listed, &mut DisplayNames::default())?;
        let task = self.task(&experiment.task_id)?;
        let result = match experiment.status.as_str() {
            "crash" => "crash".to_owned(),
            status => format!("{} {:.4}, {status}", task.metric, experiment.val_bpb),
        };
        let text = format!("{}: {result}, {} on {}", task.name, experiment.verdict, experiment.hardware_class);
        let made = head(&experiment.description, &text, format!("/e/{}", experiment.id));
        Ok(Head { picture: Some(picture_of(&task.task_id)), ..made })
    }

    fn node_head(&self, id: &str) -> Result<Head, ApiError> {
        let node = self.node(id)?;
        let name = node.display_name.clone().unwrap_or_else(|| node.node_id.chars().take(8).collect());
        let text = format!("{} experiments, {} verifications", node.experiment_count, node.verification_count);
        let path = format!("/n/{}", node.node_id);
        Ok(Head { feed: Some(format!("{path}/feed.atom")), ..head(&name, &text, path) })
    }
}

/// The path of a task's chart.
fn picture_of(task: &str) -> String {
    format!("/t/{task}/chart.png")
}

fn head(title: &str, description: &str, path: String) -> Head {
    let title = plain_line(title, MAX_TITLE);
    let title = if title.is_empty() { "unnamed".to_owned() } else { title };
    Head { title, description: plain_line(description, super::text::MAX_LISTED), path, ..Head::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_has_one_short_line_without_hidden_characters() {
        let made = head("a\u{202e}b\n\u{200d}\u{3164}c", &"x".repeat(9_000), "/t/1".into());
        assert_eq!((made.title.as_str(), made.description.len()), ("ab c", 300));
        assert_eq!(head("\u{200b}\u{2800}", "", String::new()).title, "unnamed");
    }
}
