//! Atom feeds (RFC 4287): what is new in a task, of a node, or among the results of a search.

use crate::{
    dto::Experiment,
    markup::{date_time, escaped},
    paging::ListingKind,
    problem::ApiError,
    query::Query,
    view::{StoreView, plain_line},
};
use spore_storage::{Scope, Span};

/// Entries of a feed: the newest. A reader that asks once a day misses none of a usual task.
const ENTRIES: usize = 50;
/// Characters of a title.
const MAX_TITLE: usize = 160;

/// An item of a feed. Texts are untrusted.
struct Entry {
    /// Kind and id, such as `experiment` and its id: they never change.
    kind: String,
    id: String,
    title: String,
    text: String,
    author: String,
    timestamp: u64,
    /// The path of the page about it.
    path: String,
}

/// A feed before it is written.
struct Feed<'a> {
    /// What the feed is about, as a part of its lasting id.
    about: String,
    title: String,
    /// The path of the feed, and that of the page with the same content.
    path: String,
    page: String,
    origin: &'a str,
    entries: Vec<Entry>,
}

/// The feed of a task: its latest activity.
///
/// # Errors
/// As [`StoreView::task`].
pub fn of_task(view: &StoreView, given: &str, origin: &str) -> Result<String, ApiError> {
    let task = view.task(given)?;
    let entries = view.activity(Some(given), u64::MAX, ENTRIES)?.into_iter().map(|row| Entry {
        author: author(row.display_name.as_deref(), &row.node_id),
        path: match &row.experiment_id {
            Some(experiment) => format!("/e/{experiment}"),
            None => format!("/t/{}", task.task_id),
        },
        title: row.text.clone(),
        text: row.text,
        kind: row.kind,
        id: row.id,
        timestamp: row.timestamp,
    });
    let page = format!("/t/{}", task.task_id);
    let feed = Feed {
        about: format!("task:{}", task.task_id),
        title: format!("{}: activity", task.name),
        path: format!("{page}/feed.atom"),
        page,
        origin,
        entries: entries.collect(),
    };
    Ok(feed.written())
}

/// The feed of a node: its newest experiments.
///
/// # Errors
/// As [`StoreView::node`].
pub fn of_node(view: &StoreView, given: &str, origin: &str) -> Result<String, ApiError> {
    let node = view.node(given)?;
    let found = view.recent(Scope::Node(view.resolve_node(given)?), &Span::first(ENTRIES))?;
    let name = author(node.display_name.as_deref(), &node.node_id);
    let page = format!("/n/{}", node.node_id);
    let feed = Feed {
        about: format!("node:{}", node.node_id),
        title: format!("{name}: experiments"),
        path: format!("{page}/feed.atom"),
        page,
        origin,
        entries: found.items.into_iter().map(entry).collect(),
    };
    Ok(feed.written())
}

/// The feed of a search: the results that arrived last.
///
/// # Errors
/// As [`StoreView::search`].
pub fn of_search(view: &StoreView, query: &Query, origin: &str) -> Result<String, ApiError> {
    let words = query.get("q").unwrap_or_default();
    let mut asked = Query::default().with("q", words);
    if let Some(task) = query.get("task") {
        asked = asked.with("task", task);
    }
    let span = Query::default().with("limit", ENTRIES).span(ListingKind::Search)?;
    let found = view.search(words, query.get("task"), false, &span)?;
    let feed = Feed {
        about: format!("search:{asked}"),
        title: format!("Search: {words}"),
        path: format!("/search/feed.atom?{asked}"),
        page: format!("/search?{asked}"),
        origin,
        entries: found.items.into_iter().map(entry).collect(),
    };
    Ok(feed.written())
}

fn author(name: Option<&str>, node: &str) -> String {
    let short = || node.chars().take(8).collect();
    name.map(|name| plain_line(name, MAX_TITLE)).filter(|name| !name.is_empty()).unwrap_or_else(short)
}

fn entry(experiment: Experiment) -> Entry {
    let result = match experiment.status.as_str() {
        "crash" => "crash".to_owned(),
        status => format!("{:.4}, {status}, {}", experiment.val_bpb, experiment.verdict),
    };
    Entry {
        kind: "experiment".into(),
        title: format!("{result}: {}", experiment.description),
        text: format!("{} On {}. {}", experiment.description, experiment.hardware_class, experiment.hypothesis),
        author: author(experiment.display_name.as_deref(), &experiment.node_id),
        timestamp: experiment.timestamp,
        path: format!("/e/{}", experiment.id),
        id: experiment.id,
    }
}

impl Feed<'_> {
    fn written(&self) -> String {
        let line = |text: &str| escaped(&plain_line(text, MAX_TITLE));
        let address = |path: &str| escaped(&format!("{}{path}", self.origin));
        let updated = self.entries.iter().map(|entry| entry.timestamp).max().unwrap_or_default();
        let mut out = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n\
             <id>urn:spore:{}</id>\n<title>{}</title>\n<updated>{}</updated>\n<author><name>Spore</name></author>\n\
             <link rel=\"self\" type=\"application/atom+xml\" href=\"{}\"/>\n<link rel=\"alternate\" type=\"text/html\" href=\"{}\"/>\n",
            escaped(&self.about),
            line(&self.title),
            date_time(updated),
            address(&self.path),
            address(&self.page),
        );
        for entry in &self.entries {
            out.push_str(&format!(
                "<entry>\n<id>urn:spore:{}:{}</id>\n<title>{}</title>\n<updated>{}</updated>\n<author><name>{}</name></author>\n\
                 <link rel=\"alternate\" type=\"text/html\" href=\"{}\"/>\n<summary>{}</summary>\n</entry>\n",
                escaped(&entry.kind),
                escaped(&entry.id),
                line(&entry.title),
                date_time(entry.timestamp),
                line(&entry.author),
                address(&entry.path),
                escaped(&entry.text),
            ));
        }
        out.push_str("</feed>\n");
        out
    }
}
