//! What other programs and pages show of this node: pictures of charts, badges and feeds.
//!
//! `/t/ID/chart.svg` and `/t/ID/chart.png` are a task's chart, `/t/ID/badge.svg` its best confirmed result, and
//! `/t/ID/feed.atom`, `/n/ID/feed.atom` and `/search/feed.atom?q=WORDS` list what is new. All texts are untrusted and
//! escaped, all answers are bounded and have an ETag.

mod badge;
mod canvas;
mod chart;
mod feed;

use std::sync::Arc;

use spore_protocol::Cid;

use super::{
    encoding,
    page::decoded,
    problem::ApiError,
    query::Query,
    view::{Form, StoreView},
};

/// A document of a task, a node or a search. The values are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    Chart(String),
    ChartPicture(String),
    Badge(String),
    TaskFeed(String),
    NodeFeed(String),
    SearchFeed,
}

/// A document as it is sent.
pub struct Document {
    pub content_type: &'static str,
    pub body: Arc<Vec<u8>>,
    /// The same in gzip, where that saves bytes.
    pub gzip: Option<Arc<Vec<u8>>>,
    pub etag: String,
}

const SVG: &str = "image/svg+xml";
const PNG: &str = "image/png";
const ATOM: &str = "application/atom+xml; charset=utf-8";

impl Shared {
    /// The document at an address. None when the address is another one's.
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix('/')?;
        if rest == "search/feed.atom" {
            return Some(Self::SearchFeed);
        }
        let mut parts = rest.split('/');
        let (kind, id, name) = (parts.next()?, parts.next()?, parts.next()?);
        if id.is_empty() || parts.next().is_some() {
            return None;
        }
        let made = match (kind, name) {
            ("t", "chart.svg") => Self::Chart,
            ("t", "chart.png") => Self::ChartPicture,
            ("t", "badge.svg") => Self::Badge,
            ("t", "feed.atom") => Self::TaskFeed,
            ("n", "feed.atom") => Self::NodeFeed,
            _ => return None,
        };
        Some(made(decoded(id)))
    }
}

/// Makes a document. Blocks while it reads the store. `origin` begins absolute addresses, such as
/// `https://explorer.example.org`.
///
/// # Errors
/// As the API's answer about the same object: 404 when there is none.
pub fn answer(view: &StoreView, shared: &Shared, query: &Query, origin: &str) -> Result<Document, ApiError> {
    let class = query.get("class");
    let (content_type, body) = match shared {
        Shared::Chart(task) => (SVG, picture(view, task, class, PictureKind::Svg)?),
        Shared::ChartPicture(task) => (PNG, picture(view, task, class, PictureKind::Png)?),
        Shared::Badge(task) => (SVG, Arc::new(badge::of_task(&view.task(task)?, class).into_bytes())),
        Shared::TaskFeed(task) => (ATOM, Arc::new(feed::of_task(view, task, origin)?.into_bytes())),
        Shared::NodeFeed(node) => (ATOM, Arc::new(feed::of_node(view, node, origin)?.into_bytes())),
        Shared::SearchFeed => (ATOM, Arc::new(feed::of_search(view, query, origin)?.into_bytes())),
    };
    let etag = format!("\"{}\"", Cid::of(&body));
    let gzip = if content_type == PNG { None } else { encoding::gzip(&body) };
    Ok(Document { content_type, body, gzip, etag })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PictureKind {
    Svg,
    Png,
}

/// The picture of a task's chart, made once for a state of the task.
fn picture(view: &StoreView, task: &str, class: Option<&str>, kind: PictureKind) -> Result<Arc<Vec<u8>>, ApiError> {
    let about = view.task(task)?;
    let known = view.known_task(task)?;
    let class = chart::chosen_class(&about, class);
    let state = (view.store().drops()?, view.store().task_sequence(&known)?);
    let form = Form::Picture { class: class.clone(), png: kind == PictureKind::Png };
    let kept = view.graphs.get_or_make(known, form, state, || {
        let graph = view.store().graph(&known)?;
        let chart = chart::Chart::new(&about, &graph, class.as_deref());
        let body = match kind {
            PictureKind::Svg => chart.svg().into_bytes(),
            PictureKind::Png => chart.png().map_err(|error| ApiError::internal(error.to_string()))?,
        };
        Ok((graph.sequence, body))
    })?;
    Ok(kept.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_a_document_is_parsed_and_others_are_not() {
        assert_eq!(Shared::parse("/t/a%20b/chart.svg"), Some(Shared::Chart("a b".into())));
        assert_eq!(Shared::parse("/n/12ab/feed.atom"), Some(Shared::NodeFeed("12ab".into())));
        assert_eq!(Shared::parse("/search/feed.atom"), Some(Shared::SearchFeed));
        for path in ["/", "/t/a", "/t//chart.svg", "/t/a/chart.svg/b", "/e/a/chart.svg", "/n/a/badge.svg", "/t/a/feed"]
        {
            assert_eq!(Shared::parse(path), None, "{path}");
        }
    }
}
