//! The API of the reference, the Python implementation: its 21 `GET` routes and its socket, under the same paths, with the
//! same JSON. Programs and pages that were written for it work with this node.
//!
//! The data are this node's. So `verified` says what holds here, where the reference believes each claim, and `reputation`
//! is this node's number. As there, an unknown object is answered with `{"error": "not found"}` and status 200. Lists
//! are whole, as there, up to [`state::MOST_RECORDS`] records and [`state::MOST_BYTES`] bytes: more is refused with a hint.
//! The OpenAPI document describes this node's own API, which has pages.

mod feed;
mod nodes;
mod sha1;
mod shapes;
pub mod socket;
mod state;
mod tasks;

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::{Value, json};
use spore_protocol::{Cid, RecordId};

use self::{shapes::RecordJson, state::State};
use super::{content::Content, live::Live, problem::ApiError, query::Query, view::StoreView};

/// The path of the socket.
pub const SOCKET: &str = "/ws";
/// Results of a search.
const FOUND: usize = 20;
/// Characters of the shortest text that is searched for.
const LEAST_SEARCHED: usize = 2;
/// Bytes of the largest artifact that is shown as text.
const MOST_ARTIFACT_BYTES: u64 = 4 << 20;

/// A route of the reference. Values are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Feed,
    RecentKeeps,
    HotTasks,
    Stat,
    Tasks,
    Task(String),
    TaskFeed(String),
    Graph,
    Frontier,
    Experiment(String),
    Ancestors(String),
    Children(String),
    Recent,
    Nodes,
    NodeSearch,
    Node(String),
    NodeExperiments(String),
    NodeProfile(String),
    NodeActivity(String),
    Search,
    Artifact(String),
}

impl Route {
    /// The route of a path. None when the reference has no such route.
    pub fn parse(path: &str) -> Option<Self> {
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let parts: Vec<&str> = path.strip_prefix("/api/")?.split('/').collect();
        Some(match parts.as_slice() {
            ["feed"] => Self::Feed,
            ["keeps", "recent"] => Self::RecentKeeps,
            ["tasks", "hot"] => Self::HotTasks,
            ["stat"] => Self::Stat,
            ["tasks"] => Self::Tasks,
            ["task", id] => Self::Task(decoded(id)),
            ["task", id, "feed"] => Self::TaskFeed(decoded(id)),
            ["graph"] => Self::Graph,
            ["frontier"] => Self::Frontier,
            ["experiment", id] => Self::Experiment(decoded(id)),
            ["experiment", id, "ancestor"] => Self::Ancestors(decoded(id)),
            ["experiment", id, "children"] => Self::Children(decoded(id)),
            ["recent"] => Self::Recent,
            ["nodes"] => Self::Nodes,
            ["nodes", "search"] => Self::NodeSearch,
            ["node", id] => Self::Node(decoded(id)),
            ["node", id, "experiment"] => Self::NodeExperiments(decoded(id)),
            ["node", id, "profile"] => Self::NodeProfile(decoded(id)),
            ["node", id, "activity"] => Self::NodeActivity(decoded(id)),
            ["search"] => Self::Search,
            ["artifact", cid] => Self::Artifact(decoded(cid)),
            _ => return None,
        })
    }
}

/// Answers a request. Blocks while it reads the store.
///
/// # Errors
/// 400 for a parameter that is not valid, 413 for more than is served whole, and when the store cannot be read.
pub fn answer(view: &StoreView, live: &Live, route: &Route, query: &Query) -> Result<Content, ApiError> {
    let asked = Asked { view, live, query };
    match route {
        Route::Feed => body(&feed::recent(&asked, &asked.state()?, None, false)?),
        Route::RecentKeeps => body(&feed::recent(&asked, &asked.state()?, None, true)?),
        Route::HotTasks => body(&tasks::hot(&asked)?),
        Route::Stat => body(&asked.stat()?),
        Route::Tasks => body(&tasks::all(&asked)?),
        Route::Task(id) => asked.task(id),
        Route::TaskFeed(id) => match asked.known_task(id)? {
            Some(_) => body(&feed::recent(&asked, &asked.state_of(id)?, None, false)?),
            None => not_found(),
        },
        Route::Graph => body(&asked.graph()?),
        Route::Frontier => body(&asked.frontier()?),
        Route::Experiment(id) => match asked.record(id)? {
            Some(record) => body(&record),
            None => not_found(),
        },
        Route::Ancestors(id) => body(&asked.ancestors(id)?),
        Route::Children(id) => body(&asked.children(id)?),
        Route::Recent => body(&asked.recent()?),
        Route::Nodes => body(&nodes::list(&asked, 100)?),
        Route::NodeSearch => body(&nodes::search(&asked)?),
        Route::Node(id) => nodes::detail(&asked, id)?.map_or_else(not_found, |detail| body(&detail)),
        Route::NodeExperiments(id) => body(&nodes::experiments(&asked, id)?),
        Route::NodeProfile(id) => nodes::profile(&asked, id)?.map_or_else(not_found, |profile| body(&profile)),
        Route::NodeActivity(id) => body(&feed::recent(&asked, &asked.state()?, Some(id), false)?),
        Route::Search => body(&asked.search()?),
        Route::Artifact(cid) => asked.artifact(cid),
    }
}

fn body<T: Serialize>(value: &T) -> Result<Content, ApiError> {
    let body = serde_json::to_vec(value).map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(Content { content_type: "application/json", body: Arc::new(body) })
}

fn not_found() -> Result<Content, ApiError> {
    body(&json!({ "error": "not found" }))
}

/// A request with what it reads.
struct Asked<'a> {
    view: &'a StoreView,
    live: &'a Live,
    query: &'a Query,
}

impl Asked<'_> {
    /// A parameter that is a number. Absent: `default`.
    fn number(&self, name: &str, default: i64) -> Result<i64, ApiError> {
        let Some(text) = self.query.get(name) else { return Ok(default) };
        text.parse().map_err(|_| ApiError::bad_request(format!("`{name}` must be a whole number")))
    }

    /// The parameter `limit`, from 1 to `most`.
    fn limit(&self, default: i64, most: i64) -> Result<usize, ApiError> {
        Ok(usize::try_from(self.number("limit", default)?.clamp(1, most)).unwrap_or(1))
    }

    /// A parameter that is true or false. Absent: None.
    fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(text) = self.query.get(name) else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "t" | "y" => Ok(Some(true)),
            "false" | "0" | "no" | "off" | "f" | "n" => Ok(Some(false)),
            _ => Err(ApiError::bad_request(format!("`{name}` must be true or false"))),
        }
    }

    /// The node's task, or an empty text.
    fn active_task(&self) -> Result<String, ApiError> {
        Ok(self.view.status(self.live)?.active_task.unwrap_or_default())
    }

    /// The state of the task that the request names, or of the node's own, or of all tasks.
    fn state(&self) -> Result<State, ApiError> {
        self.state_of(self.query.get("task_id").unwrap_or_default())
    }

    fn state_of(&self, task: &str) -> Result<State, ApiError> {
        let task = if task.is_empty() { self.active_task()? } else { task.to_owned() };
        State::new(self.view, task)
    }

    /// Counts, from indexes: a page asks for them every few seconds, however large a task is.
    fn stat(&self) -> Result<Value, ApiError> {
        let status = self.view.status(self.live)?;
        let active = status.active_task.clone().unwrap_or_default();
        let task = self.query.get("task_id").unwrap_or(&active);
        let counts = tasks::counts(self, task)?;
        let (nodes, profiles) = nodes::counts(self)?;
        Ok(json!({
            "task_id": task,
            "task_count": status.task_count,
            "active_task_id": active,
            "experiment_count": counts.experiments,
            "frontier_size": counts.frontier,
            "best_val_bpb": counts.best,
            "peer_count": status.peer_count,
            "node_id": status.node_id,
            "ws_client": socket::open_count(),
            "node_count": nodes,
            "profile_count": profiles,
            "verified_experiment_count": status.verified_experiment_count,
            "frontier_node_count": counts.frontier_nodes,
        }))
    }

    fn known_task(&self, id: &str) -> Result<Option<tasks::TaskRow>, ApiError> {
        tasks::row(self, id)
    }

    fn task(&self, id: &str) -> Result<Content, ApiError> {
        let Some(row) = self.known_task(id)? else { return not_found() };
        let state = self.state_of(id)?;
        let mut json =
            serde_json::to_value(tasks::summary(self, &row)?).map_err(|e| ApiError::internal(e.to_string()))?;
        let (frontier, recent) = (state.frontier.clone(), state.newest(20));
        if let Some(members) = json.as_object_mut() {
            for (name, indices) in [("frontier", frontier), ("recent", recent)] {
                let shown = serde_json::to_value(state.shown(self.view, indices)?);
                members.insert(name.into(), shown.map_err(|e| ApiError::internal(e.to_string()))?);
            }
        }
        body(&json)
    }

    fn graph(&self) -> Result<Value, ApiError> {
        let state = self.state()?;
        let edges = state.records.iter().filter_map(|record| {
            let parent = record.parent?;
            Some(json!({ "source": parent.to_string(), "target": record.id.to_string() }))
        });
        let edges: Vec<_> = edges.collect();
        let frontier: Vec<_> =
            state.frontier.iter().filter_map(|index| Some(state.records.get(*index)?.id.to_string())).collect();
        let nodes = state.shown(self.view, 0..state.records.len())?;
        Ok(json!({ "task_id": state.task, "node": nodes, "edge": edges, "frontier_id": frontier }))
    }

    fn frontier(&self) -> Result<Vec<RecordJson>, ApiError> {
        let (state, gpu) = (self.state()?, self.query.get("gpu"));
        let fits = |index: &usize| {
            state.records.get(*index).is_some_and(|record| gpu.is_none_or(|gpu| record.gpu_model == gpu))
        };
        let chosen: Vec<usize> = state.frontier.iter().copied().filter(fits).collect();
        state.shown(self.view, chosen)
    }

    fn record(&self, id: &str) -> Result<Option<RecordJson>, ApiError> {
        let Ok(id) = id.parse::<RecordId>() else { return Ok(None) };
        shapes::record(self.view, &id)
    }

    fn records(&self, ids: impl IntoIterator<Item = RecordId>) -> Result<Vec<RecordJson>, ApiError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for id in ids {
            if let Some(record) = shapes::record(self.view, &id)? {
                bytes += record.bytes();
                if bytes > state::MOST_BYTES {
                    return Err(state::too_much());
                }
                found.push(record);
            }
        }
        Ok(found)
    }

    fn ancestors(&self, id: &str) -> Result<Vec<RecordJson>, ApiError> {
        let Ok(id) = id.parse::<RecordId>() else { return Ok(Vec::new()) };
        let ancestors = self.view.store().ancestors(&id, state::MOST_RECORDS)?;
        self.records([id].into_iter().chain(ancestors))
    }

    fn children(&self, id: &str) -> Result<Vec<RecordJson>, ApiError> {
        let Ok(id) = id.parse::<RecordId>() else { return Ok(Vec::new()) };
        self.records(self.view.store().children(&id, state::MOST_RECORDS)?)
    }

    fn recent(&self) -> Result<Vec<RecordJson>, ApiError> {
        let state = self.state()?;
        let limit = self.number("limit", 50)?;
        // A negative limit means all there.
        let limit = usize::try_from(limit).unwrap_or(state::MOST_RECORDS);
        state.shown(self.view, state.newest(limit))
    }

    fn search(&self) -> Result<Vec<RecordJson>, ApiError> {
        let text = self.query.get("q").unwrap_or_default();
        if text.chars().count() < LEAST_SEARCHED {
            return Ok(Vec::new());
        }
        let (state, lower) = (self.state()?, text.to_lowercase());
        let mut found = Vec::new();
        for (index, record) in state.records.iter().enumerate() {
            let has = |field: &str| field.to_lowercase().contains(&lower);
            let named = || -> Result<bool, ApiError> {
                let profile = self.view.store().profile(&record.node_id)?;
                Ok(profile.is_some_and(|profile| has(&profile.display_name)))
            };
            let fits = record.id.to_string().starts_with(text)
                || has(&record.description)
                || record.node_id.to_string().starts_with(text)
                || has(&record.gpu_model)
                || named()?;
            if fits {
                found.push(index);
            }
            if found.len() >= FOUND {
                break;
            }
        }
        state.shown(self.view, found)
    }

    fn artifact(&self, given: &str) -> Result<Content, ApiError> {
        let Ok(cid) = given.parse::<Cid>() else { return not_found() };
        let store = self.view.store();
        match store.artifact_size(&cid)? {
            None => not_found(),
            Some(size) if size > MOST_ARTIFACT_BYTES => Err(state::too_much()),
            Some(_) => match store.artifact(&cid)? {
                Some(bytes) => body(&json!({ "cid": given, "content": String::from_utf8_lossy(&bytes) })),
                None => not_found(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_reference_are_parsed_and_others_are_not() {
        assert_eq!(Route::parse("/api/tasks/hot"), Some(Route::HotTasks));
        assert_eq!(Route::parse("/api/node/a%20b/activity"), Some(Route::NodeActivity("a b".into())));
        assert_eq!(Route::parse("/api/experiment/12/ancestor"), Some(Route::Ancestors("12".into())));
        for path in ["/api", "/api/", "/api/v1/tasks", "/api/task", "/api/experiment/1/parents", "/api/tasks/", "/ws"] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
