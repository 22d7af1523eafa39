//! The API as a document (OpenAPI 3.1), from which the page's types are made.
//!
//! `node/openapi.json` is this document under review; a test compares them.

use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{
    dto,
    upkeep::shapes::{Job, PendingPage, StoreStats, UpkeepLine},
    write,
};

/// The document, as it is served and checked in.
pub fn document() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Spore node", description = "Tasks, experiments, frontiers and what verified them, as one node knows them."),
    paths(
        status, stat, peers, tasks, task, graph, frontier, task_experiments, task_activity, task_nodes, activity,
        experiments, experiment, nodes, node, profile, artifact, events, write::create_task,
        write::submit, write::store_artifact, write::use_task, write::add_peer, write::remove_peer, upkeep, upkeep_stats,
        upkeep_pending, upkeep_pins, write::add_pin, write::remove_pin
    ),
    components(schemas(dto::Activity, dto::Progress, dto::Status)),
    modifiers(&Token)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let token = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document.components.get_or_insert_default().add_security_scheme("token", token);
    }
}

/// Declares what [`super::read::answer`] serves.
macro_rules! routes {
    ($($(#[$doc:meta])* $name:ident $path:literal ($($parameter:tt)*) -> $body:ty;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(get, path = $path, params($($parameter)*),
            responses((status = 200, body = $body), (status = "4XX", body = dto::Problem), (status = "5XX", body = dto::Problem)))]
        #[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` does the work")]
        fn $name() {}
    )*};
}

routes! {
    /// The node's state.
    status "/api/v1/status" () -> dto::Status;
    /// Counts by the keys of the Python implementation.
    stat "/api/stat" () -> serde_json::Value;
    /// Connected peers.
    peers "/api/v1/peers" () -> Vec<dto::Peer>;
    /// The tasks, the most active first.
    tasks "/api/v1/tasks" () -> Vec<dto::TaskSummary>;
    /// One task, by id, unique prefix or name.
    task "/api/v1/tasks/{id}" (("id" = String, Path)) -> dto::TaskSummary;
    /// All records of a task in columns.
    graph "/api/v1/tasks/{id}/graph" (("id" = String, Path)) -> dto::GraphColumns;
    /// The unbeaten records, best first.
    frontier "/api/v1/tasks/{id}/frontier" (("id" = String, Path), ("class" = Option<String>, Query, description = "a hardware class; without it, all together")) -> dto::Frontier;
    /// A task's records, newest first.
    task_experiments "/api/v1/tasks/{id}/experiments" (("id" = String, Path), ("before" = Option<String>, Query, description = "`next` of the page before"), ("limit" = Option<usize>, Query, description = "1 to 500")) -> dto::ExperimentPage;
    /// What happened in a task, newest first.
    task_activity "/api/v1/tasks/{id}/activity" (("id" = String, Path), ("limit" = Option<usize>, Query, description = "1 to 500")) -> Vec<dto::Activity>;
    /// Who works on a task.
    task_nodes "/api/v1/tasks/{id}/nodes" (("id" = String, Path)) -> Vec<dto::NodeSummary>;
    /// What happened, newest first.
    activity "/api/v1/activity" (("limit" = Option<usize>, Query, description = "1 to 500")) -> Vec<dto::Activity>;
    /// All records, or one node's, newest first.
    experiments "/api/v1/experiments" (("node" = Option<String>, Query, description = "a node's id or unique prefix"), ("before" = Option<String>, Query, description = "`next` of the page before"), ("limit" = Option<usize>, Query, description = "1 to 500")) -> dto::ExperimentPage;
    /// A record with its lineage, code, signed object and evidence.
    experiment "/api/v1/experiments/{id}" (("id" = String, Path, description = "id or unique prefix")) -> dto::ExperimentDetail;
    /// All nodes, the most recently active first.
    nodes "/api/v1/nodes" () -> Vec<dto::NodeSummary>;
    /// One node, by id or unique prefix.
    node "/api/v1/nodes/{id}" (("id" = String, Path)) -> dto::NodeSummary;
    /// A node's profile as it was signed.
    profile "/api/v1/nodes/{id}/profile" (("id" = String, Path)) -> serde_json::Value;
}

/// An artifact's bytes.
#[utoipa::path(get, path = "/api/v1/artifacts/{cid}", params(("cid" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 404, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` does the work")]
fn artifact() {}

/// Server-sent events: `ready`, `activity` (whose ids can be resumed from with `Last-Event-ID`),
/// `status` and `progress`.
#[utoipa::path(get, path = "/api/v1/events", params(("task" = Option<String>, Query, description = "one task's events only")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 503, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `events` does the work")]
fn events() {}

/// Does a job on the store, one at a time. The answer is a JSON text a line: progress, and at last the
/// report or an error. A job ends early when its reader goes away.
#[utoipa::path(post, path = "/api/v1/upkeep", request_body = Job, security(("token" = [])),
    responses((status = 200, content_type = "application/x-ndjson", body = UpkeepLine), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem), (status = 409, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `upkeep` does the work")]
fn upkeep() {}

/// What the store takes, column by column.
#[utoipa::path(get, path = "/api/v1/upkeep/stats", security(("token" = [])),
    responses((status = 200, body = StoreStats), (status = 401, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` does the work")]
fn upkeep_stats() {}

/// Records that wait for their parents, in the order in which they came.
#[utoipa::path(get, path = "/api/v1/upkeep/pending", security(("token" = [])),
    params(("after" = Option<String>, Query, description = "`next` of the page before"), ("limit" = Option<usize>, Query, description = "1 to 5000")),
    responses((status = 200, body = PendingPage), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` does the work")]
fn upkeep_pending() {}

/// The addresses of pinned artifacts.
#[utoipa::path(get, path = "/api/v1/upkeep/pins", security(("token" = [])),
    responses((status = 200, body = Vec<String>), (status = 401, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` does the work")]
fn upkeep_pins() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_under_review_is_the_one_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == document(),
            "node/openapi.json is not what the code declares. Regenerate it and review the change:\n  spore openapi > node/openapi.json && npm --prefix explorer-ui run types"
        );
    }
}
