//! The shapes of the HTTP API, converted from protocol and storage types at this edge only.
//!
//! `openapi.json` and the page's TypeScript types are generated from these. Ids are lower-case
//! hex, times are Unix seconds, metrics are plain numbers in the task's own unit.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// `GET /api/v1/status`; its first keys are those of the reference's `/api/stat`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub experiment_count: u64,
    pub verified_experiment_count: u64,
    pub task_count: u64,
    /// Of both networks.
    pub peer_count: u64,
    pub frontier_size: u64,
    pub node_id: String,
    /// libp2p's name for the same key.
    pub peer_id: String,
    pub version: String,
    /// `research`, `verify` or `relay`; `offline` when read from a store without a node.
    pub mode: String,
    pub active_task: Option<String>,
    pub hardware_class: Option<String>,
    pub device: Option<String>,
    /// libp2p's, as multiaddrs.
    pub listen_addresses: Vec<String>,
    /// Where peers of the existing network are listened for, as host:port.
    pub legacy_listen_addresses: Vec<String>,
    /// Connected peers of the existing network.
    pub legacy_peer_count: u64,
    /// Signed objects refused since the start, by reason.
    pub rejected: std::collections::BTreeMap<String, u64>,
    pub pending_count: u64,
    /// Sequence number of the newest change in the store.
    pub sequence: u64,
    pub uptime_seconds: u64,
    /// What the node is doing now, in words, for people.
    pub activity: String,
}

/// A row of `GET /api/v1/tasks`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskSummary {
    pub task_id: String,
    pub name: String,
    pub description: String,
    pub task_type: String,
    pub artifact_type: String,
    pub metric: String,
    /// `minimize` or `maximize`.
    pub goal: String,
    pub time_budget: u64,
    pub created_by: String,
    pub timestamp: u64,
    pub base_code_cid: String,
    pub prepare_cid: String,
    pub dataset_cid: String,
    /// Founded by a record that carries no manifest.
    pub legacy: bool,
    pub root: Option<String>,
    pub experiment_count: u64,
    pub keep_count: u64,
    pub discard_count: u64,
    pub crash_count: u64,
    pub verified_count: u64,
    pub frontier_size: u64,
    pub node_count: u64,
    pub best: Option<f64>,
    pub best_id: Option<String>,
    pub last_activity: u64,
    pub classes: Vec<ClassSummary>,
}

/// One hardware class within a task.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClassSummary {
    pub class: String,
    pub experiment_count: u64,
    pub frontier_size: u64,
    pub best: Option<f64>,
    /// Largest difference on the metric that counts as the same result.
    pub tolerance: f64,
}

/// A record in lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Experiment {
    pub id: String,
    pub task_id: String,
    pub parent: Option<String>,
    pub depth: u64,
    /// `keep`, `discard` or `crash`.
    pub status: String,
    /// The task's metric; for `ml_train` tasks bits per byte.
    pub val_bpb: f64,
    pub node_id: String,
    /// From the signer's newest profile.
    pub display_name: Option<String>,
    pub hardware_class: String,
    pub gpu_model: String,
    pub num_steps: u64,
    pub num_params: u64,
    pub peak_vram_mb: f64,
    pub time_budget: u64,
    pub description: String,
    pub hypothesis: String,
    pub agent_model: String,
    pub code_cid: String,
    pub timestamp: u64,
    /// `unverified`, `verified`, `disputed`, `upheld` or `rejected`.
    pub verdict: String,
    pub on_frontier: bool,
    /// Descends from a root that is not the task's.
    pub stray: bool,
}

/// `GET /api/v1/experiments/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExperimentDetail {
    pub experiment: Experiment,
    pub task_name: String,
    pub metric: String,
    pub goal: String,
    /// From the root to the parent.
    pub lineage: Vec<Experiment>,
    /// The first 50; `GET /api/v1/experiments/{id}/children` lists all.
    pub children: Vec<Experiment>,
    /// Unified diff against the parent's script.
    pub diff: String,
    /// The script, when this node has it.
    pub code: Option<String>,
    /// The object as signed, with `id` and `signature`.
    #[schema(value_type = Object)]
    pub signed: serde_json::Value,
    pub evidence: Evidence,
    pub received_at: u64,
}

/// What is known about whether a result holds.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    pub verdict: String,
    /// Median of record, challenger and responses, once a dispute is closed.
    pub ground_truth: Option<f64>,
    pub tolerance: f64,
    pub measurements: Vec<Measurement>,
}

/// One signed re-run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Measurement {
    pub event_id: String,
    /// `verification`, `challenge` or `challenge_response`.
    pub kind: String,
    pub node_id: String,
    pub display_name: Option<String>,
    pub hardware_class: String,
    pub value: f64,
    pub timestamp: u64,
    /// Why it does not count, if it does not.
    pub ignored: Option<String>,
}

/// `GET /api/v1/tasks/{id}/graph` of a task of at most 50 000 records: one entry a record, in columns, in
/// (timestamp, id) order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct GraphColumns {
    pub ids: Vec<String>,
    /// Index of the parent in these columns; -1 where it has none.
    pub parents: Vec<i64>,
    pub timestamps: Vec<u64>,
    pub metrics: Vec<f64>,
    /// 0 keep, 1 discard, 2 crash.
    pub statuses: Vec<u8>,
    /// Index into `class_names`.
    pub classes: Vec<u16>,
    pub class_names: Vec<String>,
    pub verified: Vec<bool>,
    /// On its class's frontier.
    pub frontier: Vec<bool>,
}

/// Part of a listing: the answer to every route that lists tasks, nodes, experiments or improvements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// In the listing's order; asked for with `before`, in the opposite one, the nearest first.
    pub items: Vec<T>,
    /// Where to turn round: the cursor of the first item of the listing; none where there is no such item.
    pub first: Option<String>,
    /// What to go on with in the same direction, as `after` or `before`; none at the listing's end.
    pub next: Option<String>,
}

/// Which part of a listing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// What follows this cursor: `next` of the page before.
    pub after: Option<String>,
    /// What stands before this cursor, the nearest first: `first` of a page, or `next` of one that was
    /// asked for with `before`; `end` gives the last page.
    pub before: Option<String>,
    /// Items at most, 50 when not given.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u16>,
}

/// A record that beat all before it. `GET /api/v1/tasks/{id}/improvements`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Improvement {
    pub id: String,
    pub timestamp: u64,
    pub metric: f64,
}

/// A node's public face. `GET /api/v1/nodes/{id}`; `GET /api/v1/tasks/{id}/nodes` lists them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeSummary {
    pub node_id: String,
    pub display_name: Option<String>,
    pub bio: Option<String>,
    pub website: Option<String>,
    pub experiment_count: u64,
    pub verification_count: u64,
    /// -100.0..=100.0
    pub reputation: f64,
    pub hardware_classes: Vec<String>,
    pub last_activity: u64,
}

/// One line of what happened. `GET /api/v1/tasks/{id}/activity?limit=N` newest first, and the
/// data of each `activity` event of `GET /api/v1/events[?task=ID]` (SSE).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Activity {
    /// Position in the store's sequence of changes.
    pub sequence: u64,
    /// `experiment`, `verification`, `challenge`, `challenge_response`, `dispute`, `task` or `profile`.
    pub kind: String,
    pub id: String,
    pub task_id: Option<String>,
    pub node_id: String,
    pub display_name: Option<String>,
    /// The record spoken of; for an experiment its own id.
    pub experiment_id: Option<String>,
    pub value: Option<f64>,
    pub status: Option<String>,
    pub hardware_class: Option<String>,
    pub text: String,
    pub timestamp: u64,
}

/// The data of each `progress` event of `GET /api/v1/events`: this node's own running experiment.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    pub task_id: String,
    /// `research` or `verify`.
    pub purpose: String,
    pub step: u64,
    pub steps: u64,
    pub loss: f64,
    pub elapsed_seconds: f64,
    pub description: String,
}

/// A connected peer. `GET /api/v1/peers`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// `libp2p`, or `legacy` for the existing network's own protocol.
    pub transport: String,
    /// libp2p's name for the peer's key. Legacy peers tell none.
    pub peer_id: Option<String>,
    pub node_id: Option<String>,
    /// A multiaddr, or host:port of a legacy peer.
    pub address: String,
    /// `outbound` when this node dialled, `inbound` when the peer did; only of legacy peers.
    pub direction: Option<String>,
    pub agent: Option<String>,
    pub connected_seconds: u64,
    /// Below 0 is bad.
    pub score: f64,
    /// Signed objects that came from it; only of legacy peers.
    pub received: Option<u64>,
    /// Signed objects sent to it; only of legacy peers.
    pub sent: Option<u64>,
    /// `syncing` while one side sends its history, then `live`; only of legacy peers.
    pub state: Option<String>,
}

/// Body of `POST /api/v1/tasks`, which answers with the new task's summary.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewTask {
    pub name: String,
    pub description: String,
    pub task_type: String,
    pub artifact_type: String,
    pub metric: String,
    /// `minimize` or `maximize`.
    pub goal: String,
    /// Training time of each experiment, in seconds.
    pub time_budget: u64,
    /// The text of the base script.
    pub base: String,
    /// An artifact in this node's store; none: the built-in corpus.
    pub dataset: Option<String>,
}

/// Answer to `POST /api/v1/objects`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// `experiment`, `control`, `task` or `profile`.
    pub kind: String,
    pub id: String,
    /// `accepted`, `known`, or `pending` until its parent comes.
    pub outcome: String,
}

/// Answer to `POST /api/v1/artifacts`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Stored {
    pub cid: String,
    /// Bytes.
    pub size: u64,
}

/// Body of, and answer to, `POST /api/v1/task/use`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UseTask {
    /// A task's id, a unique prefix of it, or its name; none: the most active task.
    pub task: Option<String>,
}

/// Body of, and answer to, `POST /api/v1/peers`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PeerAddress {
    /// host:port of a node of the existing network, or a multiaddr.
    pub address: String,
}

/// Body of every answer with a status of 400 or above.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    pub error: String,
    /// What to do next.
    pub hint: Option<String>,
}
