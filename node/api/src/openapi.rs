//! The API as a document (OpenAPI 3.1), from which the page's types are made.
//!
//! `node/openapi.json` is this document under review; a test compares them.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        Ref, RefOr, Schema,
        schema::ArrayItems,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    dto,
    route::{ID, Route},
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
        status, stat, peers, tasks, task, graph, graph_bin, frontier, task_experiments, improvements, task_activity,
        task_nodes, activity, experiments, experiment, children, search, nodes, node, profile, artifact, events, write::create_task,
        write::submit, write::store_artifact, write::use_task, write::add_peer, write::remove_peer, upkeep, upkeep_stats,
        upkeep_pending, upkeep_pins, write::add_pin, write::remove_pin
    ),
    components(schemas(dto::Activity, dto::Progress, dto::Status)),
    modifiers(&Token, &Pages)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let token = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document.components.get_or_insert_default().add_security_scheme("token", token);
    }
}

/// Has pages name what they are of, where the derived schemas repeat all of it.
struct Pages;

impl Modify for Pages {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for (name, schema) in &mut document.components.get_or_insert_default().schemas {
            let Some(item) = name.strip_prefix("Page_") else { continue };
            if let RefOr::T(Schema::Object(page)) = schema
                && let Some(RefOr::T(Schema::Array(items))) = page.properties.get_mut("items")
            {
                items.items = ArrayItems::from(Ref::from_schema_name(item));
            }
        }
    }
}

/// Declares what [`super::read::answer`] serves.
macro_rules! routes {
    ($($(#[$doc:meta])* $name:ident $route:expr, ($($parameter:tt)*) -> $body:ty;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(get, path = $route.template(), params($($parameter)*),
            responses((status = 200, body = $body), (status = "4XX", body = dto::Problem), (status = "5XX", body = dto::Problem)))]
        #[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` does the work")]
        fn $name() {}
    )*};
}

routes! {
    /// The node's state.
    status Route::Status, () -> dto::Status;
    /// Counts by the keys of the Python implementation.
    stat Route::Stat, () -> serde_json::Value;
    /// Connected peers.
    peers Route::Peers, () -> Vec<dto::Peer>;
    /// The tasks, the most active first.
    tasks Route::Tasks, (dto::PageQuery) -> dto::Page<dto::TaskSummary>;
    /// One task, by id, unique prefix or name.
    task Route::Task(ID), (("id" = String, Path)) -> dto::TaskSummary;
    /// The unbeaten records, best first.
    frontier Route::Frontier(ID), (("id" = String, Path), ("class" = Option<String>, Query, description = "a hardware class; without it, all together"), dto::PageQuery) -> dto::Page<dto::Experiment>;
    /// A task's records.
    task_experiments Route::TaskExperiments(ID), (("id" = String, Path), ("order" = Option<String>, Query, description = "`time`: the newest first; `metric`: the best first, without crashes and strays"), dto::PageQuery) -> dto::Page<dto::Experiment>;
    /// The records that beat all before them, by time.
    improvements Route::Improvements(ID), (("id" = String, Path), ("class" = Option<String>, Query, description = "a hardware class; without it, all together"), dto::PageQuery) -> dto::Page<dto::Improvement>;
    /// What happened in a task, newest first.
    task_activity Route::TaskActivity(ID), (("id" = String, Path), ("limit" = Option<usize>, Query, description = "1 to 500")) -> Vec<dto::Activity>;
    /// Who works on a task, by id.
    task_nodes Route::TaskNodes(ID), (("id" = String, Path), dto::PageQuery) -> dto::Page<dto::NodeSummary>;
    /// What happened, newest first.
    activity Route::Activity, (("limit" = Option<usize>, Query, description = "1 to 500")) -> Vec<dto::Activity>;
    /// All records, or one node's, newest first.
    experiments Route::Experiments, (("node" = Option<String>, Query, description = "a node's id or unique prefix"), dto::PageQuery) -> dto::Page<dto::Experiment>;
    /// A record with its lineage, code, signed object and evidence.
    experiment Route::Experiment(ID), (("id" = String, Path, description = "id or unique prefix")) -> dto::ExperimentDetail;
    /// The records built on one, by time.
    children Route::Children(ID), (("id" = String, Path, description = "id or unique prefix"), dto::PageQuery) -> dto::Page<dto::Experiment>;
    /// Records by the words of their description and hypothesis, the last to arrive first. On the first page
    /// those lead whose id begins with the question. A page may be short, even empty, and yet have a next one.
    search Route::Search, (("q" = String, Query, description = "words that must all be there, or the first digits of an id (4 at least)"), ("task" = Option<String>, Query, description = "one task's records only"), dto::PageQuery) -> dto::Page<dto::Experiment>;
    /// All nodes, by id.
    nodes Route::Nodes, (dto::PageQuery) -> dto::Page<dto::NodeSummary>;
    /// One node, by id or unique prefix.
    node Route::Node(ID), (("id" = String, Path)) -> dto::NodeSummary;
    /// A node's profile as it was signed.
    profile Route::Profile(ID), (("id" = String, Path)) -> serde_json::Value;
}

/// All records of a task in columns: as JSON, or, with `Accept: application/octet-stream`, in the compact form
/// of `graph.bin`. A task of more than 50 000 records has the compact form only.
#[utoipa::path(get, path = Route::Graph(ID).template(), params(("id" = String, Path)),
    responses((status = 200, content((dto::GraphColumns = "application/json"), (Vec<u8> = "application/octet-stream"))),
        (status = 304, description = "`If-None-Match` holds the `ETag` of the compact form"),
        (status = "4XX", body = dto::Problem), (status = "5XX", body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` and `compact` do the work")]
fn graph() {}

/// All records of a task in columns of about 46 bytes a record, or those that changed since an earlier answer. Numbers
/// are LEB128, floats little-endian, texts their length and UTF-8: `SPGR`, a version byte (2), a content byte (0 all
/// records, 1 changes), the cursor to pass as `since` (a text), the number of records and of classes, each class's name
/// (a text); then ids (32 bytes, by timestamp and id), parents (of all records: index minus parent index, zigzag, 0
/// without one; of changes: the parent's id, zeros without one), differences of the timestamps, metrics (8 bytes),
/// states (1 byte: status in bits 0 and 1, 4 verified, 8 frontier, 16 stray), classes.
#[utoipa::path(get, path = Route::CompactGraph(ID).template(),
    params(("id" = String, Path), ("since" = Option<String>, Query,
        description = "The cursor of an earlier answer: the answer then has the records that were added or changed after it. It has all records, and says so in its content byte, where the node cannot tell: after a restart, a new root of the task or thousands of changes.")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 304, description = "`If-None-Match` holds the `ETag`"),
        (status = "4XX", body = dto::Problem), (status = "5XX", body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `compact` does the work")]
fn graph_bin() {}

/// An artifact's bytes.
#[utoipa::path(get, path = Route::Artifact(ID).template(), params(("cid" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 404, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` does the work")]
fn artifact() {}

/// Server-sent events: `ready`, `activity` (whose ids can be resumed from with `Last-Event-ID`),
/// `status` and `progress`.
#[utoipa::path(get, path = Route::Events.template(), params(("task" = Option<String>, Query, description = "one task's events only")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 503, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `events` does the work")]
fn events() {}

/// Does a job on the store, one at a time. The answer is a JSON text a line: progress, and at last the
/// report or an error. A job ends early when its reader goes away.
#[utoipa::path(post, path = Route::Upkeep.template(), request_body = Job, security(("token" = [])),
    responses((status = 200, content_type = "application/x-ndjson", body = UpkeepLine), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem), (status = 409, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `upkeep` does the work")]
fn upkeep() {}

/// What the store takes, column by column.
#[utoipa::path(get, path = Route::StoreStats.template(), security(("token" = [])),
    responses((status = 200, body = StoreStats), (status = 401, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` does the work")]
fn upkeep_stats() {}

/// Records that wait for their parents, in the order in which they came.
#[utoipa::path(get, path = Route::PendingRecords.template(), security(("token" = [])),
    params(("after" = Option<String>, Query, description = "`next` of the page before"), ("limit" = Option<usize>, Query, description = "1 to 5000")),
    responses((status = 200, body = PendingPage), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` does the work")]
fn upkeep_pending() {}

/// The addresses of pinned artifacts.
#[utoipa::path(get, path = Route::Pins.template(), security(("token" = [])),
    responses((status = 200, body = Vec<String>), (status = 401, body = dto::Problem)))]
#[allow(dead_code, reason = "the attribute reads the declaration; `read::answer` does the work")]
fn upkeep_pins() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_under_review_is_the_one_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi.json");
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == document(),
            "node/openapi.json is not what the code declares. Regenerate it and review the change:\n  spore openapi > node/openapi.json && npm --prefix explorer-ui run types"
        );
    }
}
