//! How noisy results are, and how sure a gain is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How much the results of a task's base script differ by the seed in a hardware class, out of runs that this node and the
/// nodes that it trusts signed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Noise {
    /// Runs out of which the noise was estimated.
    pub runs: u64,
    /// Nodes that made these runs.
    pub signers: u64,
    /// Steps of each run.
    pub steps: u64,
    /// Mean metric of the runs.
    pub mean: f64,
    /// Standard deviation of a single run.
    pub deviation: f64,
    /// Degrees of freedom of the deviation.
    pub freedom: u32,
    /// Smallest difference between two single runs that chance brings in fewer than one case in a hundred.
    pub believable_one: f64,
    /// The same between the means of four runs each.
    pub believable_four: f64,
}

/// What an experiment gained over its parent, and how sure that is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Gain {
    /// Id of the parent.
    pub parent: String,
    /// Difference of the two published metrics. Positive when the experiment is better, whatever the task's goal.
    pub difference: f64,
    /// The gain as estimated. Differs from `difference` where repeats with other seeds are known. Absent with the fields
    /// below while the noise is not known.
    pub gain: Option<f64>,
    /// Lower end of the interval in which the gain lies with a probability of 99 %.
    pub low: Option<f64>,
    /// Upper end of that interval.
    pub high: Option<f64>,
    /// Probability that chance alone brings a difference as large.
    pub p: Option<f64>,
    /// Runs of each script that were compared: 1 for the published results, more for repeats with the same seeds.
    pub runs: u64,
    /// Whether the gain is more than noise: positive, and `p` below 0.01.
    pub believable: bool,
    /// `better by more than noise`, `worse by more than noise`, `within noise`, or `noise not measured`.
    pub words: String,
    /// Whether both ran for as many steps, within 2 %. Where not, the machine's load may be part of the difference.
    pub same_steps: bool,
}
