//! The language model that proposes experiments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// State of the language model that proposes experiments. Counts begin with the node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProposerStatus {
    /// Provider, such as `anthropic`.
    pub provider: String,
    /// Name of the model.
    pub model: String,
    /// `untried`, `ok`, `failing` (the model is asked again) or `stopped` (it is not, until the node restarts). While the
    /// model is of no use, the built-in proposer stands in.
    pub state: String,
    /// Kind of the last failure: `key`, `not_found`, `limit`, `cap`, `server`, `timeout`, `unreachable`, `context`, `cut`,
    /// `request` or `unusable`. Absent while the model is of use.
    pub fault: Option<String>,
    /// The last failure in words. Absent while the model is of use.
    pub failure: Option<String>,
    /// Experiments in a row for which the model had no usable answer.
    pub failures_in_a_row: u64,
    /// Requests sent to the server.
    pub asked: u64,
    /// Answers that held a script that could be run.
    pub answered: u64,
    /// Tokens of all questions, as the server counts them. 0 when it does not tell.
    pub prompt_tokens: u64,
    /// Tokens of all answers, as the server counts them. 0 when it does not tell.
    pub answer_tokens: u64,
    /// Tokens of questions and answers of this day (UTC), also those before a restart.
    #[serde(default)]
    pub tokens_today: u64,
    /// Their cost by the configured prices. 0 without prices.
    #[serde(default)]
    pub cost_today: f64,
    /// Most tokens of a day. Absent without a cap.
    #[serde(default)]
    pub tokens_by_day: Option<u64>,
    /// Most cost of a day. Absent without a cap.
    #[serde(default)]
    pub cost_by_day: Option<f64>,
    /// Tokens of the model's context. Absent when it is neither configured nor told by the server.
    pub context_tokens: Option<u64>,
    /// The context is so small that parts of the question are left out.
    pub shortened: bool,
    /// Seconds until the model is asked again. Absent when it may be asked at once.
    pub retry_seconds: Option<f64>,
}
