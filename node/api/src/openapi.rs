//! The API as a document (OpenAPI 3.1), from which the page's types are generated.
//!
//! Paths come from [`Route`]; a test compares the routes of the document with the routes that are served.
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
    compact::BINARY,
    dto,
    objects::ObjectLines,
    problem::Problem,
    route::{ID, Route},
    upkeep::shapes::{PendingPage, PinOutcome, StoreStats, UpkeepJob, UpkeepLine},
};

/// The document, as it is served and checked in.
pub fn document() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Spore node",
        description = "Tasks, experiments, frontiers and verdicts, as one Spore node knows them.\n\nIds and hashes are lower-case hex. Times are Unix seconds. Metrics are plain numbers in the task's own unit. \"The existing network\" is the one of the Python implementation, whose peers are called legacy peers."
    ),
    paths(
        status, stat, openapi, peers, tasks, task, graph, graph_bin, frontier, task_experiments, improvements,
        task_activity, task_nodes, activity, experiments, experiment, judgement, children, search, nodes, leaders, node, profile, artifact,
        events, create_task, submit, store_artifact, use_task, add_peer, remove_peer, upkeep, upkeep_stats,
        upkeep_pending, upkeep_pins, add_pin, remove_pin, objects
    ),
    components(schemas(dto::Activity, dto::ExperimentProgress, dto::NodeStatus)),
    modifiers(&Token, &PageItems)
)]
struct Document;

/// Adds the scheme of the token that requests need to change the node.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The node's token. The file `api_token` of the node's data directory holds it."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(token.build()));
    }
}

/// Makes each page refer to the schema of its items. The derived schemas repeat that schema in full.
struct PageItems;

impl Modify for PageItems {
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

const TASK: &str = "Id of the task, a unique prefix of the id, or the exact name of the task.";
const ONE_TASK: &str =
    "Only this task: its id, a unique prefix of the id, or its exact name. All tasks when not given.";
const SINCE: &str = "The cursor of an earlier answer: this answer has the experiments that were added or changed after it. \
    It has all experiments, and says so in its content byte, where the node cannot tell the changes: after a restart, a \
    new root of the task or thousands of changes.";
const EXPERIMENT: &str = "Id of the experiment, or a unique prefix of the id.";
const NODE: &str = "Id of the node, or a unique prefix of the id.";
const CID: &str = "Content id of the artifact: the SHA-256 of its bytes, 64 lower-case hex digits.";
const CLASS: &str = "Only this hardware class, such as `RTX_4090` or `CPU`. All classes together when not given.";
const FRONTIER_CLASS: &str =
    "Only this hardware class, such as `RTX_4090` or `CPU`. One class after the other when not given.";
const VIEW: &str = "`frontier`: what holds here. `global`: what holds when every signer counts alike. `claims`: kept \
    experiments that are neither confirmed nor rejected here. `reference`: the frontier as the Python implementation \
    shows it, of claims, all classes together and without `class`. `frontier` when not given.";
const BEFORE: &str = "Only changes with a smaller sequence number: the `sequence` of an earlier answer's last item.";
const LIMIT: &str = "Most items in the answer, from 1 to 500. 50 when not given.";
const ORDER: &str = "`time`: newest first. `metric`: by the published metric, claims too, without crashed and stray experiments. `time` \
    when not given.";

const AFTER: &str =
    "The stream goes on after this sequence number, as with `Last-Event-ID`, which a page cannot send by itself.";
const STATUS: &str = "Only these statuses: `keep`, `discard` and `crash`, separated by commas. All when not given.";

/// Declares operations for the attributes, which describe them.
macro_rules! operations {
    ($($(#[$attribute:meta])* $name:ident;)*) => {$(
        $(#[$attribute])*
        #[allow(dead_code, reason = "the attribute reads the declaration; `read` and `write` answer the requests")]
        fn $name() {}
    )*};
}

/// Declares operations that answer `GET` with JSON.
macro_rules! reading {
    ($($(#[$doc:meta])* $name:ident $route:expr, ($($parameter:tt)*) -> $body:ty;)*) => {
        operations! {$(
            $(#[$doc])*
            #[utoipa::path(get, path = $route.template(), params($($parameter)*),
                responses((status = 200, body = $body), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
            $name;
        )*}
    };
}

reading! {
    /// State of the node: counts of its store, its addresses and peers, and what it does now.
    status Route::Status, () -> dto::NodeStatus;
    /// Counts of the store, under the names that the Python implementation uses.
    stat Route::Stat, () -> serde_json::Value;
    /// This document.
    openapi Route::OpenApi, () -> serde_json::Value;
    /// Connected peers, of both networks.
    peers Route::Peers, () -> Vec<dto::ConnectedPeer>;
    /// Lists tasks, the most active first.
    tasks Route::Tasks, (dto::PageQuery) -> dto::Page<dto::TaskSummary>;
    /// One task.
    task Route::Task(ID), (("id" = String, Path, description = TASK)) -> dto::TaskSummary;
    /// Lists the frontier of a task, best first: what holds here.
    ///
    /// The frontier of a hardware class has each kept, comparable experiment that holds here and that no child of the
    /// class that holds beats on the metric. Without `class`, the frontiers of all classes follow each other in the
    /// order of their names. `view` chooses another list: claims, or what holds by other rules.
    frontier Route::Frontier(ID), (("id" = String, Path, description = TASK), ("view" = Option<String>, Query, description = VIEW), ("class" = Option<String>, Query, description = FRONTIER_CLASS), dto::PageQuery) -> dto::Page<dto::Experiment>;
    /// Lists the experiments of a task. With a filter, a page may be short or empty and still have a `next`.
    task_experiments Route::TaskExperiments(ID), (("id" = String, Path, description = TASK), ("order" = Option<String>, Query, description = ORDER), ("class" = Option<String>, Query, description = CLASS), ("status" = Option<String>, Query, description = STATUS), dto::PageQuery) -> dto::Page<dto::Experiment>;
    /// Lists the experiments of a task that hold here and were better than all that hold before them, oldest first.
    improvements Route::Improvements(ID), (("id" = String, Path, description = TASK), ("class" = Option<String>, Query, description = CLASS), dto::PageQuery) -> dto::Page<dto::Improvement>;
    /// Lists the latest activity in a task, newest first.
    task_activity Route::TaskActivity(ID), (("id" = String, Path, description = TASK), ("before" = Option<u64>, Query, description = BEFORE), ("limit" = Option<usize>, Query, description = LIMIT)) -> Vec<dto::Activity>;
    /// Lists the nodes that published experiments or measurements in a task, by id.
    task_nodes Route::TaskNodes(ID), (("id" = String, Path, description = TASK), dto::PageQuery) -> dto::Page<dto::NodeSummary>;
    /// Lists the latest activity in all tasks, newest first.
    activity Route::Activity, (("before" = Option<u64>, Query, description = BEFORE), ("limit" = Option<usize>, Query, description = LIMIT)) -> Vec<dto::Activity>;
    /// Lists experiments of all tasks, newest first.
    experiments Route::Experiments, (("node" = Option<String>, Query, description = "Only experiments that this node published: its id, or a unique prefix of the id. All nodes when not given."), dto::PageQuery) -> dto::Page<dto::Experiment>;
    /// One experiment with its lineage, script, signed record and the measurements of other nodes.
    experiment Route::Experiment(ID), (("id" = String, Path, description = EXPERIMENT)) -> dto::ExperimentDetail;
    /// What the measurements of an experiment say: each measurement with its weight, whether it counts, and the verdicts.
    judgement Route::Judgement(ID), (("id" = String, Path, description = EXPERIMENT)) -> dto::Judgement;
    /// Lists the experiments that are based on an experiment, oldest first.
    children Route::Children(ID), (("id" = String, Path, description = EXPERIMENT), dto::PageQuery) -> dto::Page<dto::Experiment>;
    /// Finds experiments by words of their description and hypothesis, or by the first digits of their id.
    ///
    /// Matches by id come first, on the first page only. Matches by words follow, the last to arrive first. A page may
    /// hold fewer items than the limit, even none, and still have a `next`.
    search Route::Search, (("q" = String, Query, description = "Words that must all occur, or the first digits of an id (4 at least)."), ("task" = Option<String>, Query, description = ONE_TASK), dto::PageQuery) -> dto::Page<dto::Experiment>;
    /// Lists the nodes that published experiments or measurements, by id.
    nodes Route::Nodes, (dto::PageQuery) -> dto::Page<dto::NodeSummary>;
    /// Lists the nodes with confirmed work here, those with the most first.
    ///
    /// Confirmed are the results of a node that a trusted node measured and agrees with, in all hardware classes together.
    /// Nodes without confirmed work are in no such list: anybody can make any number of them.
    leaders Route::Leaders, (("task" = Option<String>, Query, description = "Only the hardware classes of this task: its id, a unique prefix of the id, or its exact name. Those of all tasks when not given."), ("limit" = Option<usize>, Query, description = LIMIT)) -> Vec<dto::NodeSummary>;
    /// One node.
    node Route::Node(ID), (("id" = String, Path, description = NODE)) -> dto::NodeSummary;
    /// The newest profile of a node, as the node signed it.
    profile Route::Profile(ID), (("id" = String, Path, description = NODE)) -> serde_json::Value;
    /// Lists signed objects as lines, for a copy of all: tasks, then experiments, control events and profiles.
    objects Route::Objects, (("kind" = Option<String>, Query, description = "`task`, `experiment`, `control` or `profile`. All kinds, one after the other, when not given."), ("task" = Option<String>, Query, description = ONE_TASK), ("after" = Option<String>, Query, description = "`next` of the page before. The first page when not given."), ("limit" = Option<usize>, Query, description = LIMIT)) -> ObjectLines;
}

operations! {
    /// Graph of a task: all its experiments, in columns.
    ///
    /// The answer is JSON. With `Accept: application/octet-stream` it has the compact form of `graph.bin`, which is
    /// the only form for a task of more than 50 000 experiments.
    #[utoipa::path(get, path = Route::Graph(ID).template(), params(("id" = String, Path, description = TASK)),
        responses((status = 200, content((dto::GraphColumns = "application/json"), (Vec<u8> = "application/octet-stream"))),
            (status = 304, description = "`If-None-Match` holds the `ETag` of the compact form."),
            (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    graph;

    /// Graph of a task in a compact form: all its experiments, in columns of about 22 bytes an experiment, or those that
    /// changed since an earlier answer.
    ///
    /// Whole numbers are LEB128, floats are little-endian, a text is its length in bytes and UTF-8. The form begins with
    /// `SPGR`, a version byte (4), a content byte (0 all experiments, 1 changes), the length of an id (1 byte: 8, or 32
    /// where 8 do not tell the experiments apart), the cursor to pass as `since` (a text), the number of experiments and
    /// the number of hardware classes, then each class's name (a text). The columns follow in (timestamp, id) order: ids
    /// (their first bytes); parents (of all experiments: the index minus the parent's index, zigzag, 0 without a parent; of
    /// changes: the parent's id in the same length, zero bytes without a parent); timestamps (each as the difference to the
    /// one before); metrics (8 bytes each: the lowest byte of all, then the next byte of all, and so on); states (1 byte
    /// each: status in bits 0 and 1, 4 result holds here, 8 on the frontier, 16 stray, 32 rejected here or not comparable,
    /// 64 disputed here); classes (each as an index into the names).
    #[utoipa::path(get, path = Route::CompactGraph(ID).template(),
        params(("id" = String, Path, description = TASK), ("since" = Option<String>, Query, description = SINCE)),
        responses((status = 200, content_type = BINARY, body = Vec<u8>),
            (status = 304, description = "`If-None-Match` holds the `ETag` of this graph."),
            (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    graph_bin;

    /// Bytes of an artifact: a script or a dataset. An artifact of more than 16 MiB is not served here.
    #[utoipa::path(get, path = Route::Artifact(ID).template(), params(("cid" = String, Path, description = CID)),
        responses((status = 200, content_type = BINARY, body = Vec<u8>),
            (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    artifact;

    /// Stream of server-sent events.
    ///
    /// `ready` comes first: `{"sequence", "resumed"}`, the sequence number from which the stream goes on and whether it
    /// goes on where `Last-Event-ID` says. `activity` follows for each new object (schema `Activity`); its event id is
    /// the sequence number, so a client that reconnects with `Last-Event-ID` misses nothing. `status` comes when the
    /// state changed, and every 15 seconds (schema `NodeStatus`). `progress` comes while this node runs an experiment
    /// (schema `ExperimentProgress`).
    #[utoipa::path(get, path = Route::Events.template(), params(("task" = Option<String>, Query, description = ONE_TASK), ("after" = Option<u64>, Query, description = AFTER)),
        responses((status = 200, content_type = "text/event-stream", body = String),
            (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    events;

    /// Creates a task: checks its base script, signs its manifest with the node's key and publishes it.
    #[utoipa::path(post, path = Route::CreateTask.template(), request_body = dto::NewTask, security(("token" = [])),
        responses((status = 200, body = dto::TaskSummary), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    create_task;

    /// Hands a signed object to the node, which verifies, stores and publishes it.
    #[utoipa::path(post, path = Route::SubmitObject.template(), security(("token" = [])),
        request_body(content = String, content_type = "application/json", description = "A signed object, with `id` and `signature`: an experiment record, a control event, a task manifest or a profile."),
        responses((status = 200, body = dto::SubmittedObject), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    submit;

    /// Stores an artifact: a script or a dataset, of at most 4 GiB.
    #[utoipa::path(post, path = Route::StoreArtifact.template(), security(("token" = [])),
        params(("cid" = String, Query, description = "SHA-256 of the bytes, 64 lower-case hex digits. The node refuses other bytes.")),
        request_body(content = String, content_type = "application/octet-stream", description = "The bytes."),
        responses((status = 200, body = dto::StoredArtifact), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    store_artifact;

    /// Chooses the task that the node works on.
    ///
    /// Without a task the node follows the most active one. The choice holds until the node stops; the node's
    /// configuration decides what the next start does.
    #[utoipa::path(post, path = Route::UseTask.template(), request_body = dto::UseTask, security(("token" = [])),
        responses((status = 200, body = dto::UseTask), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    use_task;

    /// Connects to a peer, and answers when the connection stands.
    ///
    /// The node dials a legacy peer again whenever it is not connected, until the peer is removed or the node stops.
    #[utoipa::path(post, path = Route::AddPeer.template(), request_body = dto::NewPeer, security(("token" = [])),
        responses((status = 200, body = dto::NewPeer),
            (status = 409, body = Problem, description = "The peer is this node itself, or may not be dialled."),
            (status = 503, body = Problem, description = "The peer does not answer."),
            (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    add_peer;

    /// Closes the connections to a peer. The node does not dial a legacy peer again before its next start.
    #[utoipa::path(delete, path = Route::RemovePeer(ID).template(), security(("token" = [])),
        params(("peer" = String, Path, description = "The libp2p peer id, or `host:port` of a legacy peer.")),
        responses((status = 200, body = String, description = "The peer as the node names it."),
            (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    remove_peer;

    /// Runs a job on the store and reports its progress. One job runs at a time.
    ///
    /// The answer is newline-delimited JSON, one `UpkeepLine` a line: progress lines, then the report or an error. The
    /// job stops when the client disconnects.
    #[utoipa::path(post, path = Route::Upkeep.template(), request_body = UpkeepJob, security(("token" = [])),
        responses((status = 200, content_type = "application/x-ndjson", body = UpkeepLine),
            (status = 409, body = Problem, description = "Another job is running."),
            (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    upkeep;

    /// Size of the store, column by column.
    #[utoipa::path(get, path = Route::StoreStats.template(), security(("token" = [])),
        responses((status = 200, body = StoreStats), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    upkeep_stats;

    /// Lists pending records: records whose parent the node does not have yet, in the order of their arrival.
    #[utoipa::path(get, path = Route::PendingRecords.template(), security(("token" = [])),
        params(("after" = Option<String>, Query, description = "`next` of the page before. The first page when not given."),
            ("limit" = Option<usize>, Query, description = "Most records in the answer, from 1 to 5000. 50 when not given.")),
        responses((status = 200, body = PendingPage), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    upkeep_pending;

    /// Lists the content ids of the pinned artifacts, in order. The node never drops a pinned artifact.
    #[utoipa::path(get, path = Route::Pins.template(), security(("token" = [])),
        responses((status = 200, body = Vec<String>), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    upkeep_pins;

    /// Pins an artifact, whether the node has it or not. The node never drops a pinned artifact.
    #[utoipa::path(post, path = Route::AddPin(ID).template(), params(("cid" = String, Path, description = CID)), security(("token" = [])),
        responses((status = 200, body = PinOutcome), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    add_pin;

    /// Removes the pin of an artifact.
    #[utoipa::path(delete, path = Route::RemovePin(ID).template(), params(("cid" = String, Path, description = CID)), security(("token" = [])),
        responses((status = 200, body = PinOutcome), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
    remove_pin;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_under_review_is_the_one_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi.json");
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == document(),
            "node/openapi.json is not what the code declares. Regenerate it and review the change:\n  spore openapi > node/openapi.json && npm --prefix explorer-ui run types"
        );
    }
}
