//! What the research of a node does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the research of a node does now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResearchStatus {
    /// `choosing` the next experiment, `training`, `backing_off` after a failure or a crash, or `waiting` while there is
    /// nothing to do.
    pub state: String,
    /// Why it backs off or waits. Absent in the other states.
    pub reason: Option<String>,
    /// Seconds until the next try. Present only in `backing_off`.
    pub retry_seconds: Option<f64>,
    /// Training steps done. Present only in `training`.
    pub step: Option<u64>,
    /// Training steps planned. Absent until the speed is measured.
    pub steps: Option<u64>,
    /// Seconds until the training ends at the present speed. Absent until a step is done.
    pub eta_seconds: Option<f64>,
}
