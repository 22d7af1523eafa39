//! What is known about a record beside the record itself: its comparability, the measurements by other nodes, and the
//! standing of those nodes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A stable name for programs, with a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// Such as `other_dataset` for a flaw, or `not_causal` for a refutation.
    pub name: String,
    /// The reason in words.
    pub text: String,
}

/// How many nodes measured an experiment again, and what they found. Each node counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Support {
    /// Nodes with weight here that found the recorded metric.
    pub trusted_for: u32,
    /// Nodes with weight here that found another metric, or a reason against the experiment.
    pub trusted_against: u32,
    /// Nodes without weight here that found the recorded metric. Keys are free: one person can be many nodes.
    pub unknown_for: u32,
    /// Nodes without weight here that found another metric, or a reason against the experiment.
    pub unknown_against: u32,
}

/// What the measurements of an experiment say: by the nodes that have weight here, and by all nodes alike.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Judgement {
    /// By weight: a measurement counts as much as its signer is trusted here. Decides the frontier.
    pub local: Assessment,
    /// Every signer counts alike. The same on every node, and decided by whoever makes enough keys.
    pub global: Assessment,
    /// How many nodes found what.
    pub support: Support,
    /// Largest difference of the metric at which two results count as equal.
    pub tolerance: f64,
    /// The signed measurements: those that count here, of the heaviest signers first, then the others; at most
    /// 500.
    pub measurements: Vec<Measurement>,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Assessment {
    /// `unverified`, `verified`, `disputed`, `upheld` or `rejected`.
    pub verdict: String,
    /// Weighted median of the recorded metric and the measurements that count. Absent until a dispute is closed.
    pub ground_truth: Option<f64>,
}

/// One signed measurement: a node ran the script of an experiment again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Measurement {
    /// Id of the control event that holds the measurement.
    pub event_id: String,
    /// `verification`, `challenge`, `challenge_response` or `refutation`. Has no effect on the verdict.
    pub kind: String,
    /// Id of the node that measured.
    pub node_id: String,
    /// Display name of that node. Absent without a profile or a name.
    pub display_name: Option<String>,
    /// Hardware class of that node's device.
    pub hardware_class: String,
    /// The metric that the node measured. Absent when it found a reason instead.
    pub value: Option<f64>,
    /// Why the script has no metric that counts. Absent when the node measured one.
    pub reason: Option<Reason>,
    /// Whether the node found the recorded metric, within the tolerance.
    pub agrees: bool,
    /// When the node signed the measurement, by its own clock.
    pub timestamp: u64,
    /// Weight of the node in this hardware class here. 0 for a node that nothing vouches for.
    pub weight: u32,
    /// Why the measurement does not count for the local verdict. Absent when it counts.
    pub ignored: Option<String>,
    /// Why the measurement does not count for the global verdict. Absent when it counts.
    pub ignored_globally: Option<String>,
}

/// How much the measurements of a node in one hardware class count here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Standing {
    /// The hardware class.
    pub class: String,
    /// 0 for a trusted key, 1 for a node of which trusted keys confirmed many experiments, 2 for one of which they
    /// confirmed a few. Absent for a node without weight.
    pub level: Option<u8>,
    /// Weight of the node's measurements. 0 for a node without weight.
    pub weight: u32,
    /// Experiments of the node that trusted keys confirmed.
    pub confirmed: u64,
    /// Experiments about which trusted keys found something else than the node.
    pub refuted: u64,
}
