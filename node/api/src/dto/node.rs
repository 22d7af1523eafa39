//! A node and its profile.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Standing;

/// A node as other nodes know it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeSummary {
    /// Id of the node: its Ed25519 public key.
    pub node_id: String,
    /// Display name, from the node's newest profile. Absent without a profile or a name.
    pub display_name: Option<String>,
    /// What the node's profile says about it.
    pub bio: Option<String>,
    /// Web address in the node's profile.
    pub website: Option<String>,
    /// Address of a picture in the node's profile. Untrusted: whoever loads it tells its host so.
    pub avatar_url: Option<String>,
    /// Where the node's profile says that donations go.
    pub donation_address: Option<String>,
    /// Experiments that the node published.
    pub experiment_count: u64,
    /// Measurements of other nodes' experiments that count for a verdict.
    pub verification_count: u64,
    /// Whether this node's owner trusts the node's key.
    pub trusted: bool,
    /// How much the node's measurements count here, by hardware class.
    pub standings: Vec<Standing>,
    /// From -100 to 100, computed from the verdicts on the node's experiments and measurements.
    pub reputation: f64,
    /// Hardware classes that the node published experiments in.
    pub hardware_classes: Vec<String>,
    /// Time of the node's newest experiment or counted measurement. Time of its profile when there is neither.
    pub last_activity: u64,
}
