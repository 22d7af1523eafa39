//! The reading half of the API: a path in, JSON out.
//!
//! One function for both ways in: the HTTP server calls it for a request, and a command that reads
//! the store without a node calls it directly, so that both give the same answers and errors.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use spore_protocol::Cid;
use spore_storage::{MAX_PAGE, Scope};

use super::{
    dto,
    live::Live,
    openapi,
    paging::{Listing, MAX_LIST},
    problem::ApiError,
    upkeep,
    view::View,
};

/// Where the API begins.
pub const ROOT: &str = "/api/v1";

/// Bytes of an artifact that are served: larger ones travel between nodes in chunks.
const MAX_ARTIFACT_BYTES: u64 = 16 << 20;

/// An answer's bytes and what they are.
#[derive(Clone, Debug)]
pub struct Answer {
    pub content_type: &'static str,
    pub body: Arc<Vec<u8>>,
}

/// A request's query, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads `a=1&b=x%20y`. What is no pair is left out; of a name given twice the last counts.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    /// A parameter that is given and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Whether an answer needs to know what the process is doing.
pub fn needs_live(path: &str) -> bool {
    matches!(path, "/api/v1/status" | "/api/v1/peers" | "/api/stat")
}

/// What a path names below [`ROOT`], decoded.
fn segments(path: &str) -> Option<Vec<String>> {
    Some(path.strip_prefix(ROOT)?.split('/').skip(1).map(decode).collect())
}

/// Whether even reading it is for the node's owner alone.
pub fn needs_token(path: &str) -> bool {
    segments(path).is_some_and(|segments| segments.first().is_some_and(|first| first == "upkeep"))
}

/// Answers a reading request. Blocks while it reads the store.
///
/// # Errors
/// What is wrong with the request, or with the store.
pub fn answer(view: &View, live: &Live, path: &str, query: &Query) -> Result<Answer, ApiError> {
    if path == "/api/stat" {
        return json(&stat(&view.status(live)?));
    }
    let segments = segments(path).ok_or_else(|| no_route(path))?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["status"] => json(&view.status(live)?),
        ["peers"] => json(&live.peers),
        ["openapi.json"] => Ok(Answer { content_type: JSON, body: Arc::new(openapi::document().into_bytes()) }),
        ["tasks"] => json(&view.tasks(&query.span(Listing::Tasks)?)?),
        ["tasks", id] => json(&view.task(id)?),
        ["tasks", id, "graph"] => Ok(Answer { content_type: JSON, body: view.graph(id)? }),
        ["tasks", id, "frontier"] => json(&view.frontier(id, query.get("class"), &query.span(Listing::Frontier)?)?),
        ["tasks", id, "experiments"] => task_experiments(view, id, query),
        ["tasks", id, "improvements"] => {
            json(&view.improvements(id, query.get("class"), &query.span(Listing::Improvements)?)?)
        }
        ["tasks", id, "activity"] => json(&view.activity(Some(id), query.limit(MAX_LIST)?)?),
        ["tasks", id, "nodes"] => json(&view.nodes(Some(id), &query.span(Listing::Nodes)?)?),
        ["activity"] => json(&view.activity(None, query.limit(MAX_LIST)?)?),
        ["experiments"] => {
            let node = query.get("node").map(|node| view.resolve_node(node)).transpose()?;
            json(&view.recent(node.map_or(Scope::All, Scope::Node), &query.span(Listing::Recent)?)?)
        }
        ["experiments", id, "children"] => json(&view.children(id, &query.span(Listing::Children)?)?),
        ["search"] => {
            let words = query.get("q").unwrap_or_default();
            let first = query.get("after").or(query.get("before")).is_none();
            json(&view.search(words, query.get("task"), first, &query.span(Listing::Search)?)?)
        }
        ["experiments", id] => {
            let body = Arc::new(view.experiment(id)?.to_json()?.into_bytes());
            Ok(Answer { content_type: JSON, body })
        }
        ["nodes"] => json(&view.nodes(None, &query.span(Listing::Nodes)?)?),
        ["nodes", id] => json(&view.node(id)?),
        ["nodes", id, "profile"] => Ok(Answer { content_type: JSON, body: Arc::new(view.profile(id)?.into_bytes()) }),
        ["artifacts", cid] => artifact(view, cid),
        ["upkeep", "stats"] => json(&upkeep::stats(view.store())?),
        ["upkeep", "pending"] => json(&upkeep::pending(view.store(), query.get("after"), query.limit(MAX_PAGE)?)?),
        ["upkeep", "pins"] => json(&upkeep::pins(view.store())?),
        _ => Err(no_route(path)),
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

fn no_route(path: &str) -> ApiError {
    let shown: String = path.chars().take(80).collect();
    ApiError::not_found(format!("there is no {shown} here")).hint("GET /api/v1/openapi.json lists what there is")
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

/// Percent-decodes; what is not valid stays as it is.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(high * 16 + low);
                rest = ahead;
            }
            (b'+', ..) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encodes a path segment or a query value.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("a=1&b=x%20y+z&c=&d&e=%zz&a=2&limit=7");
        assert_eq!(
            (query.get("a"), query.get("b"), query.get("c"), query.get("e")),
            (Some("2"), Some("x y z"), None, Some("%zz"))
        );
        assert_eq!(query.limit(7).unwrap(), 7);
        assert_eq!(Query::parse("limit=x").limit(7).unwrap_err().status, 400);
        assert_eq!(decode(&encode("a/b ü%+?")), "a/b ü%+?");
    }
}
