//! The reading half of the API: a route in, JSON out.
//!
//! One function for both ways in: the HTTP server calls it for a request, and a command that reads
//! the store without a node calls it directly, so that both give the same answers and errors.

use std::sync::Arc;

use serde::Serialize;
use spore_protocol::Cid;
use spore_storage::{MAX_PAGE, Scope};

use super::{
    dto,
    live::Live,
    openapi,
    paging::Listing,
    problem::ApiError,
    query::{MAX_LIST, Query},
    route::Route,
    upkeep,
    view::View,
};

/// Bytes of an artifact that are served: larger ones travel between nodes in chunks.
const MAX_ARTIFACT_BYTES: u64 = 16 << 20;

/// An answer's bytes and what they are.
#[derive(Clone, Debug)]
pub struct Answer {
    pub content_type: &'static str,
    pub body: Arc<Vec<u8>>,
}

/// Whether the answer needs the state of the running process.
pub fn needs_live(route: &Route) -> bool {
    matches!(route, Route::Status | Route::Peers | Route::Stat)
}

/// Answers a reading request. Blocks while it reads the store.
///
/// # Errors
/// What is wrong with the request, or with the store.
pub fn answer(view: &View, live: &Live, route: &Route, query: &Query) -> Result<Answer, ApiError> {
    match route {
        Route::Status => json(&view.status(live)?),
        Route::Stat => json(&stat(&view.status(live)?)),
        Route::Peers => json(&live.peers),
        Route::OpenApi => Ok(Answer { content_type: JSON, body: Arc::new(openapi::document().into_bytes()) }),
        Route::Tasks => json(&view.tasks(&query.span(Listing::Tasks)?)?),
        Route::Task(id) => json(&view.task(id)?),
        Route::Graph(id) => Ok(Answer { content_type: JSON, body: view.graph(id)? }),
        Route::Frontier(id) => json(&view.frontier(id, query.get("class"), &query.span(Listing::Frontier)?)?),
        Route::TaskExperiments(id) => task_experiments(view, id, query),
        Route::Improvements(id) => {
            json(&view.improvements(id, query.get("class"), &query.span(Listing::Improvements)?)?)
        }
        Route::TaskActivity(id) => json(&view.activity(Some(id), query.limit(MAX_LIST)?)?),
        Route::TaskNodes(id) => json(&view.nodes(Some(id), &query.span(Listing::Nodes)?)?),
        Route::Activity => json(&view.activity(None, query.limit(MAX_LIST)?)?),
        Route::Experiments => {
            let node = query.get("node").map(|node| view.resolve_node(node)).transpose()?;
            json(&view.recent(node.map_or(Scope::All, Scope::Node), &query.span(Listing::Recent)?)?)
        }
        Route::Experiment(id) => {
            let body = Arc::new(view.experiment(id)?.to_json()?.into_bytes());
            Ok(Answer { content_type: JSON, body })
        }
        Route::Children(id) => json(&view.children(id, &query.span(Listing::Children)?)?),
        Route::Search => {
            let words = query.get("q").unwrap_or_default();
            let first = query.get("after").or(query.get("before")).is_none();
            json(&view.search(words, query.get("task"), first, &query.span(Listing::Search)?)?)
        }
        Route::Nodes => json(&view.nodes(None, &query.span(Listing::Nodes)?)?),
        Route::Node(id) => json(&view.node(id)?),
        Route::Profile(id) => Ok(Answer { content_type: JSON, body: Arc::new(view.profile(id)?.into_bytes()) }),
        Route::Artifact(cid) => artifact(view, cid),
        Route::StoreStats => json(&upkeep::stats(view.store())?),
        Route::PendingRecords => json(&upkeep::pending(view.store(), query.get("after"), query.limit(MAX_PAGE)?)?),
        Route::Pins => json(&upkeep::pins(view.store())?),
        // The server streams these two, and `write` answers the others.
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

fn task_experiments(view: &View, id: &str, query: &Query) -> Result<Answer, ApiError> {
    match query.get("order").unwrap_or("time") {
        "time" => json(&view.recent(Scope::Task(view.known_task(id)?), &query.span(Listing::Recent)?)?),
        "metric" => json(&view.best(id, &query.span(Listing::Best)?)?),
        other => Err(ApiError::bad_request(format!("{other:.40} is no order of experiments"))
            .hint("order=time gives the newest first, order=metric the best first")),
    }
}

const JSON: &str = "application/json";

fn json<T: Serialize>(value: &T) -> Result<Answer, ApiError> {
    let body = serde_json::to_vec(value).map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(Answer { content_type: JSON, body: Arc::new(body) })
}

/// The reference's statistics, by its keys.
fn stat(status: &dto::Status) -> serde_json::Value {
    serde_json::json!({
        "experiment_count": status.experiment_count,
        "verified_experiment_count": status.verified_experiment_count,
        "task_count": status.task_count,
        "peer_count": status.peer_count,
        "frontier_size": status.frontier_size,
        "node_id": status.node_id,
    })
}

fn artifact(view: &View, cid: &str) -> Result<Answer, ApiError> {
    let cid: Cid =
        cid.parse().map_err(|_| ApiError::bad_request("an artifact is named by 64 lower-case hex digits"))?;
    let missing = || ApiError::not_found(format!("this node does not have artifact {cid}"));
    let size = view.store().artifact_size(&cid)?.ok_or_else(missing)?;
    if size > MAX_ARTIFACT_BYTES {
        return Err(ApiError::too_large(MAX_ARTIFACT_BYTES).hint("nodes pass larger artifacts on in chunks"));
    }
    let body = view.store().artifact(&cid)?.ok_or_else(missing)?;
    Ok(Answer { content_type: "application/octet-stream", body: Arc::new(body) })
}
