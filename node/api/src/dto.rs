//! The shapes of the HTTP API, converted from protocol and storage types at this edge only.
//!
//! `openapi.json` and the page's TypeScript types are generated from these types and their doc comments, so the
//! comments are written for users of the API. Ids are lower-case hex, times are Unix seconds, metrics are plain numbers
//! in the task's own unit.

mod judgement;
mod network;
mod node;
mod noise;
mod proposer;
mod research;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use judgement::{Assessment, Judgement, Measurement, Reason, Standing, Support};
pub use network::{ConnectedPeer, NetworkStatus, RelayReservation};
pub use node::NodeSummary;
pub use noise::{Gain, Noise};
pub use proposer::ProposerStatus;
pub use research::ResearchStatus;

use super::problem::ProblemKind;

/// State of a node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// Experiments in the store, stray ones too.
    pub experiment_count: u64,
    /// Experiments that hold here: their verdict is `verified` or `upheld`.
    pub verified_experiment_count: u64,
    /// Tasks in the store.
    pub task_count: u64,
    /// Connected peers of both networks.
    pub peer_count: u64,
    /// Experiments on the frontiers of all tasks.
    pub frontier_size: u64,
    /// Ids of the nodes whose measurements decide what holds here: this node, and those that its owner trusts.
    pub trusted: Vec<String>,
    /// Id of this node: its Ed25519 public key. Empty for a store without a node's key.
    pub node_id: String,
    /// The libp2p name of the same key.
    pub peer_id: String,
    /// Version of the program.
    pub version: String,
    /// `research`, `verify` or `relay`. `offline` when the answer is read from a store without a running node.
    pub mode: String,
    /// Id of the task that the node works on, or of the default task.
    pub active_task: Option<String>,
    /// Hardware class of the node's device, such as `RTX_4090` or `CPU`. Absent in a node that trains nothing.
    pub hardware_class: Option<String>,
    /// Name of the node's device. Absent in a node that trains nothing.
    pub device: Option<String>,
    /// Multiaddrs on which the node listens for libp2p peers.
    pub listen_addresses: Vec<String>,
    /// Whether and how libp2p peers reach this node. Absent without a running node.
    pub network: Option<NetworkStatus>,
    /// Addresses (`host:port`) on which the node listens for legacy peers.
    pub legacy_listen_addresses: Vec<String>,
    /// Connected legacy peers. `peer_count` contains them.
    pub legacy_peer_count: u64,
    /// Signed objects that the node rejected since its start, counted by reason.
    pub rejected: std::collections::BTreeMap<String, u64>,
    /// Pending records: records whose parent the node does not have yet.
    pub pending_count: u64,
    /// Sequence number of the newest change in the store.
    pub sequence: u64,
    /// Seconds since the node started.
    pub uptime_seconds: u64,
    /// What the node does now, or what keeps it from working, in words for people.
    pub activity: String,
    /// What keeps the store from taking objects: `disk_full` when it refuses writes, or `damaged_store`.
    /// Absent while nothing does.
    pub problem: Option<ProblemKind>,
    /// Seconds by which the median of the peers' clocks is ahead of this machine's clock; negative: behind. Absent while
    /// no peer's clock was read.
    pub clock_offset_seconds: Option<f64>,
    /// What is wrong with this node or its machine for as long as it lasts, a sentence each.
    pub warnings: Vec<String>,
    /// The language model that proposes experiments. Absent in a node without one.
    pub proposer: Option<ProposerStatus>,
    /// What the research of this node does now. Absent in a node that does no research.
    #[serde(default)]
    pub research: Option<ResearchStatus>,
}

/// A task and its counts. The counts leave stray experiments out, except `node_count`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskSummary {
    /// Id of the task.
    pub task_id: String,
    /// Name of the task.
    pub name: String,
    /// What the task is about. Empty while the manifest is not known.
    pub description: String,
    /// Kind of task, such as `ml_train`. Empty while the manifest is not known.
    pub task_type: String,
    /// Kind of script, such as `starlark_train_script`. Empty while the manifest is not known.
    pub artifact_type: String,
    /// Name of the metric that experiments are compared by, such as `val_bpb`.
    pub metric: String,
    /// Direction in which the metric improves: `minimize` or `maximize`.
    pub goal: String,
    /// Training time of each experiment, in seconds. 0 while the manifest is not known.
    pub time_budget: u64,
    /// Id of the node that created the task. Empty while the manifest is not known.
    pub created_by: String,
    /// When the task was created, by the clock of its creator. 0 while the manifest is not known.
    pub timestamp: u64,
    /// Content id of the base script. Empty when there is none.
    pub base_code_cid: String,
    /// Content id of the evaluator, or another text in a legacy task.
    pub prepare_cid: String,
    /// Content id of the dataset, or another text in a legacy task.
    pub dataset_cid: String,
    /// Whether the task began with a record of the existing network and has no manifest.
    pub legacy: bool,
    /// Id of the first experiment, from which the others descend. Absent while there is none.
    pub root: Option<String>,
    /// Experiments of the task.
    pub experiment_count: u64,
    /// Experiments with the status `keep`.
    pub keep_count: u64,
    /// Experiments with the status `discard`.
    pub discard_count: u64,
    /// Experiments with the status `crash`.
    pub crash_count: u64,
    /// Experiments that hold here: their verdict is `verified` or `upheld`.
    pub verified_count: u64,
    /// Experiments on the frontiers of the hardware classes.
    pub frontier_size: u64,
    /// Experiments on the frontiers where every signer counts alike.
    pub global_frontier_size: u64,
    /// Experiments on the frontier that the Python implementation shows: of claims, whoever confirms them.
    pub reference_frontier_size: u64,
    /// Kept experiments that are neither confirmed nor rejected here.
    pub claims_count: u64,
    /// Nodes that published an experiment of the task.
    pub node_count: u64,
    /// Nodes that published an experiment of the task that holds here.
    pub confirmed_signers: u64,
    /// Best metric that holds here, in the class `best_class`. Absent while nothing holds.
    pub best: Option<f64>,
    /// Id of the experiment with that metric.
    pub best_id: Option<String>,
    /// Hardware class of that experiment. Metrics of other classes are not comparable with it.
    pub best_class: Option<String>,
    /// Best metric that holds when every signer counts alike. Absent while nothing does.
    pub best_global: Option<f64>,
    /// Id of the experiment with that metric.
    pub best_global_id: Option<String>,
    /// Time of the newest experiment, or of the manifest when there is no experiment.
    pub last_activity: u64,
    /// The hardware classes of the task, in the order of their names.
    pub classes: Vec<ClassSummary>,
}

/// One hardware class of a task. Results are compared within a class only.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClassSummary {
    /// Name of the class, such as `RTX_4090` or `CPU`.
    pub class: String,
    /// Experiments of the class.
    pub experiment_count: u64,
    /// Experiments of the class that hold here.
    pub verified_count: u64,
    /// Experiments on the frontier of the class.
    pub frontier_size: u64,
    /// Experiments on the frontier of the class where every signer counts alike.
    pub global_frontier_size: u64,
    /// Kept experiments of the class that are neither confirmed nor rejected here.
    pub claims_count: u64,
    /// Best metric of the class that holds here. Absent while nothing holds.
    pub best: Option<f64>,
    /// Id of the experiment with that metric.
    pub best_id: Option<String>,
    /// Best metric of the class that holds when every signer counts alike. Absent while nothing does.
    pub best_global: Option<f64>,
    /// Id of the experiment with that metric.
    pub best_global_id: Option<String>,
    /// Largest difference of the metric at which two runs of one script with one seed count as equal.
    pub tolerance: f64,
    /// How much results of the class differ by the seed. Absent while it is not measured, and in lists of tasks.
    #[serde(default)]
    pub noise: Option<Noise>,
}

/// An experiment as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Experiment {
    /// Id of the experiment.
    pub id: String,
    /// Id of the task.
    pub task_id: String,
    /// Id of the experiment that this one is based on. Absent for the first experiment of a task.
    pub parent: Option<String>,
    /// Number of ancestors.
    pub depth: u64,
    /// `keep` when its publisher found the result better than the parent's, `discard` when not, `crash` when there is no result.
    pub status: String,
    /// The task's metric, whatever its name; bits per byte for `ml_train` tasks. 0 for a crash.
    pub val_bpb: f64,
    /// Id of the node that published the experiment.
    pub node_id: String,
    /// Display name of that node, from its newest profile. Absent without a profile or a name.
    pub display_name: Option<String>,
    /// Hardware class, derived from `gpu_model`.
    pub hardware_class: String,
    /// Name of the device.
    pub gpu_model: String,
    /// Training steps.
    pub num_steps: u64,
    /// Parameters of the model.
    pub num_params: u64,
    /// Peak memory of the device, or of the process on a CPU, in MB.
    pub peak_vram_mb: f64,
    /// Training time, in seconds.
    pub time_budget: u64,
    /// Change against the parent, in a sentence.
    pub description: String,
    /// Why the change should help.
    pub hypothesis: String,
    /// Who proposed the change: the name of a language model, or of the built-in proposer.
    pub agent_model: String,
    /// Content id of the script. Empty when the record names none.
    pub code_cid: String,
    /// When the experiment was published, by the clock of its publisher.
    pub timestamp: u64,
    /// What the measurements by nodes with weight here say: `unverified`, `verified`, `disputed`, `upheld` or
    /// `rejected`. The experiment holds when it is `verified` or `upheld`.
    pub verdict: String,
    /// What the measurements say when every signer counts alike. Anybody can make as many signers as they want.
    pub global_verdict: String,
    /// How many nodes measured the experiment again.
    pub support: Support,
    /// Why the experiment cannot be compared with others of its task. Absent when it can.
    pub flaw: Option<Reason>,
    /// Whether the experiment is a claim: kept and comparable, but neither confirmed nor rejected here.
    pub claim: bool,
    /// Whether the experiment is on the frontier of its hardware class: it holds here, and no child that holds is better.
    pub on_frontier: bool,
    /// Whether the experiment is on the frontier of its hardware class when every signer counts alike.
    pub on_global_frontier: bool,
    /// Whether the experiment is on the frontier that the Python implementation shows.
    pub on_reference_frontier: bool,
    /// Whether the experiment descends from another root than the task's. Stray experiments never reach the frontier.
    pub stray: bool,
    /// What the experiment gained over its parent. Absent without a comparable parent, and in other lists than frontiers.
    #[serde(default)]
    pub gain: Option<Gain>,
}

/// An experiment in full.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExperimentDetail {
    /// The experiment as lists show it.
    pub experiment: Experiment,
    /// Name of the task.
    pub task_name: String,
    /// Name of the task's metric.
    pub metric: String,
    /// Direction in which the metric improves: `minimize` or `maximize`.
    pub goal: String,
    /// The ancestors, from the oldest to the parent. The nearest 500 when there are more.
    pub lineage: Vec<Experiment>,
    /// The first 50 experiments that are based on this one. `GET /api/v1/experiments/{id}/children` lists all.
    pub children: Vec<Experiment>,
    /// Unified diff between the parent's script and this experiment's script.
    pub diff: String,
    /// The script. Absent when this node does not have it.
    pub code: Option<String>,
    /// The record as its publisher signed it, with `id` and `signature`. Numbers keep the spelling that the signature
    /// covers.
    #[schema(value_type = Object)]
    pub signed: serde_json::Value,
    /// What other nodes measured, and what follows from it.
    pub judgement: Judgement,
    /// When the record arrived at this node.
    pub received_at: u64,
}

/// The graph of a task of at most 50 000 experiments, in columns: index N of each column belongs to experiment N.
/// The order is (timestamp, id).
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct GraphColumns {
    /// Ids of the experiments.
    pub ids: Vec<String>,
    /// Index of the parent in these columns; -1 without a parent.
    pub parents: Vec<i64>,
    /// When the experiments were published.
    pub timestamps: Vec<u64>,
    /// Metrics.
    pub metrics: Vec<f64>,
    /// Statuses: 0 keep, 1 discard, 2 crash.
    pub statuses: Vec<u8>,
    /// Index of the hardware class in `class_names`.
    pub classes: Vec<u16>,
    /// Names of the hardware classes.
    pub class_names: Vec<String>,
    /// Whether the experiment holds here: its verdict is `verified` or `upheld`.
    pub verified: Vec<bool>,
    /// Whether the experiment is on the frontier of its hardware class.
    pub frontier: Vec<bool>,
    /// Whether the experiment is rejected here, or not comparable with others of its task.
    pub refused: Vec<bool>,
    /// Whether measurements that count here disagree with the experiment.
    pub disputed: Vec<bool>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items in the order of the list. A page that was asked for with `before` has the opposite order.
    pub items: Vec<T>,
    /// Cursor of the first item. Pass it as `before` to get the items in front of it. Absent when the page is empty.
    pub first: Option<String>,
    /// Cursor of the last item. Pass it as `after`, or as `before` if this page was asked for with `before`, to get the
    /// next page. Absent on the last page.
    pub next: Option<String>,
}

/// Which page of a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// The items behind this cursor, which is `next` or `first` of an earlier page. Excludes `before`.
    pub after: Option<String>,
    /// The items in front of this cursor, the nearest first. `end` begins with the last item of the list. Excludes
    /// `after`.
    pub before: Option<String>,
    /// Most items in the answer. 50 when not given.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u16>,
}

/// An experiment that holds here and is better than all earlier ones that hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Improvement {
    /// Id of the experiment.
    pub id: String,
    /// When the experiment was published.
    pub timestamp: u64,
    /// Its metric.
    pub metric: f64,
}

/// One change in the store, in words and numbers. Also the data of an `activity` event of `GET /api/v1/events`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Activity {
    /// Sequence number of the change.
    pub sequence: u64,
    /// `experiment`, `verification`, `challenge`, `challenge_response`, `refutation`, `dispute`, `task` or `profile`.
    pub kind: String,
    /// Id of the new object.
    pub id: String,
    /// Id of the task. Absent for profiles.
    pub task_id: Option<String>,
    /// Id of the node that signed the object.
    pub node_id: String,
    /// Display name of that node. Absent without a profile or a name.
    pub display_name: Option<String>,
    /// Id of the experiment that the object is or concerns.
    pub experiment_id: Option<String>,
    /// Metric of the experiment, or the value of the new measurement.
    pub value: Option<f64>,
    /// What a refutation found.
    pub reason: Option<Reason>,
    /// Status of the experiment: `keep`, `discard` or `crash`.
    pub status: Option<String>,
    /// Hardware class of the experiment or of the measurement.
    pub hardware_class: Option<String>,
    /// The change in one sentence, for people.
    pub text: String,
    /// When the object was signed, by the clock of its signer.
    pub timestamp: u64,
}

/// Progress of the experiment that this node runs. The data of a `progress` event of `GET /api/v1/events`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExperimentProgress {
    /// Id of the task.
    pub task_id: String,
    /// `research` for an experiment of this node, `verify` for a re-run of another node's experiment.
    pub purpose: String,
    /// Training steps that are done.
    pub step: u64,
    /// Training steps in total. 0 until the speed is measured.
    pub steps: u64,
    /// Training loss of the last step, in nats a byte. 0 before the first report.
    pub loss: f64,
    /// Seconds since the experiment started.
    pub elapsed_seconds: f64,
    /// What the experiment changes.
    pub description: String,
}

/// A task to create.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewTask {
    /// A short name.
    pub name: String,
    /// What the task is about.
    pub description: String,
    /// Kind of task, such as `ml_train`.
    pub task_type: String,
    /// Kind of script, such as `starlark_train_script`.
    pub artifact_type: String,
    /// Name of the metric that experiments are compared by, such as `val_bpb`.
    pub metric: String,
    /// Direction in which the metric improves: `minimize` or `maximize`.
    pub goal: String,
    /// Training time of each experiment, in seconds.
    pub time_budget: u64,
    /// Text of the base script, which the first experiment runs. Empty for none, which only a task of another network
    /// may have.
    pub base: String,
    /// Content id of an evaluator in this node's store. The evaluator for the training time when absent.
    pub evaluator: Option<String>,
    /// Content id of a dataset in this node's store. The built-in corpus when absent.
    pub dataset: Option<String>,
}

/// Outcome of a submitted object.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SubmittedObject {
    /// `experiment`, `control`, `task` or `profile`.
    pub kind: String,
    /// Id of the object.
    pub id: String,
    /// `accepted` when the object is new, `known` when the node had it, `pending` until its parent arrives.
    pub outcome: String,
}

/// An artifact that was stored.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StoredArtifact {
    /// Content id of the artifact.
    pub cid: String,
    /// Size in bytes.
    pub size: u64,
}

/// The task that a node works on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UseTask {
    /// In a request: the id of a task, a unique prefix of the id, or its exact name. In an answer: the id. Without a
    /// task the node follows the default one: the built-in task, or the busiest one that a trusted node created.
    pub task: Option<String>,
}

/// A peer to connect to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewPeer {
    /// A multiaddr of a libp2p peer, or `host:port` of a legacy peer.
    pub address: String,
}
