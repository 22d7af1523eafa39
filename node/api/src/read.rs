//! The reading half of the API: a route in, JSON or bytes out.
//!
//! The HTTP server calls [`answer`] for a request. A command that reads the store without a node calls it directly, so
//! that both give the same answers and errors.

use std::sync::Arc;

use serde::Serialize;
use spore_protocol::Cid;
use spore_storage::{MAX_PAGE, Scope};

pub use super::content::Content;
use super::{
    compact::BINARY,
    compat,
    live::Live,
    openapi,
    paging::ListingKind,
    problem::{ApiError, ProblemKind},
    query::{MAX_LIST, Query},
    route::Route,
    upkeep,
    view::{Filter, FrontierView, StoreView},
};

/// Bytes of the largest artifact that is served. Nodes pass larger ones to each other in chunks.
const MAX_ARTIFACT_BYTES: u64 = 16 << 20;

const JSON: &str = "application/json";

/// Whether the answer needs the state of the running process.
pub fn needs_live(route: &Route) -> bool {
    matches!(route, Route::Status | Route::Peers | Route::Stat)
}

/// Answers a reading request. Blocks while it reads the store.
///
/// # Errors
/// What is wrong with the request, or with the store. 404 for a route that is streamed, 405 for a route that writes.
pub fn answer(view: &StoreView, live: &Live, route: &Route, query: &Query) -> Result<Content, ApiError> {
    match route {
        Route::Status => json(&view.status(live)?),
        Route::Stat => compat::answer(view, live, &compat::Route::Stat, query),
        Route::Peers => json(&live.peers),
        Route::OpenApi => Ok(text(openapi::document())),
        Route::Tasks => json(&view.tasks(&query.span(ListingKind::Tasks)?)?),
        Route::Task(id) => json(&view.task(id)?),
        Route::Graph(id) => Ok(Content { content_type: JSON, body: view.graph(id)? }),
        Route::Frontier(id) => {
            let wanted = FrontierView::parse(query.get("view"))?;
            json(&view.frontier(id, wanted, query.get("class"), query)?)
        }
        Route::TaskExperiments(id) => task_experiments(view, id, query),
        Route::Improvements(id) => {
            json(&view.improvements(id, query.get("class"), &query.span(ListingKind::Improvements)?)?)
        }
        Route::TaskActivity(id) => json(&view.activity(Some(id), query.sequence()?, query.limit(MAX_LIST)?)?),
        Route::TaskNodes(id) => json(&view.nodes(Some(id), &query.span(ListingKind::Nodes)?)?),
        Route::Activity => json(&view.activity(None, query.sequence()?, query.limit(MAX_LIST)?)?),
        Route::Experiments => {
            let node = query.get("node").map(|node| view.resolve_node(node)).transpose()?;
            json(&view.recent(node.map_or(Scope::All, Scope::Node), &query.span(ListingKind::Recent)?)?)
        }
        Route::Experiment(id) => Ok(text(view.experiment(id)?.to_json()?)),
        Route::Judgement(id) => json(&view.judgement(id)?),
        Route::Children(id) => json(&view.children(id, &query.span(ListingKind::Children)?)?),
        Route::Search => {
            let words = query.get("q").unwrap_or_default();
            let first = query.get("after").or(query.get("before")).is_none();
            json(&view.search(words, query.get("task"), first, &query.span(ListingKind::Search)?)?)
        }
        Route::Nodes => json(&view.nodes(None, &query.span(ListingKind::Nodes)?)?),
        Route::Leaders => json(&view.leaders(query.get("task"), query.limit(MAX_LIST)?)?),
        Route::Node(id) => json(&view.node(id)?),
        Route::Profile(id) => Ok(text(view.profile(id)?)),
        Route::Artifact(cid) => artifact(view, cid),
        Route::Objects => json(&view.objects(query)?),
        Route::StoreStats => json(&upkeep::stats(view.store())?),
        Route::PendingRecords => json(&upkeep::pending(view.store(), query.get("after"), query.limit(MAX_PAGE)?)?),
        Route::Pins => json(&upkeep::pins(view.store())?),
        // The server streams these two.
        Route::Events | Route::CompactGraph(_) => Err(ApiError::unknown_route(&route.path())),
        Route::AddPeer
        | Route::RemovePeer(_)
        | Route::CreateTask
        | Route::UseTask
        | Route::StoreArtifact
        | Route::SubmitObject
        | Route::Upkeep
        | Route::AddPin(_)
        | Route::RemovePin(_) => Err(ApiError::method_not_allowed()),
    }
}

fn task_experiments(view: &StoreView, id: &str, query: &Query) -> Result<Content, ApiError> {
    if let Some(filter) = Filter::parse(query)? {
        let metric = query.get("order") == Some("metric");
        let listing = if metric { ListingKind::Best } else { ListingKind::Recent };
        return json(&view.filtered(&view.known_task(id)?, listing, &filter, &query.span(listing)?)?);
    }
    match query.get("order").unwrap_or("time") {
        "time" => json(&view.recent(Scope::Task(view.known_task(id)?), &query.span(ListingKind::Recent)?)?),
        "metric" => json(&view.best(id, &query.span(ListingKind::Best)?)?),
        other => Err(ApiError::bad_request(format!("{other:.40} is no order of experiments"))
            .hint("order=time lists the newest first, order=metric by the published metric")),
    }
}

fn json<T: Serialize>(value: &T) -> Result<Content, ApiError> {
    let body = serde_json::to_vec(value).map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(Content { content_type: JSON, body: Arc::new(body) })
}

/// JSON that is text already.
fn text(json: String) -> Content {
    Content { content_type: JSON, body: Arc::new(json.into_bytes()) }
}

fn artifact(view: &StoreView, given: &str) -> Result<Content, ApiError> {
    let cid: Cid = given.parse().map_err(|_| upkeep::no_cid())?;
    let missing = || ApiError::new(ProblemKind::UnknownArtifact, format!("this node does not have the artifact {cid}"));
    let size = view.store().artifact_size(&cid)?.ok_or_else(missing)?;
    if size > MAX_ARTIFACT_BYTES {
        let message = format!("the artifact has {size} bytes, and at most {MAX_ARTIFACT_BYTES} are served here");
        return Err(ApiError::new(ProblemKind::TooLarge, message));
    }
    let body = view.store().artifact(&cid)?.ok_or_else(missing)?;
    Ok(Content { content_type: BINARY, body: Arc::new(body) })
}
