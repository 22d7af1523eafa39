//! How the language model that proposes experiments is doing. Research writes it, the API and the terminal display it.
//!
//! Never here: how it is displayed, the key, or a text that the model wrote.

use std::time::Instant;

/// Whether the language model is of use at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlmState {
    /// No question has been asked yet.
    #[default]
    Untried,
    /// The last answer could be used.
    Ok,
    /// The last question had no usable answer. The model is asked again.
    Failing,
    /// The model is not asked again before the node restarts: every further question would fail in the same way.
    Stopped,
}

impl LlmState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untried => "untried",
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Stopped => "stopped",
        }
    }
}

/// What kind of failure keeps the language model from being of use. Each kind has its own cure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LlmFault {
    /// The key is missing, wrong, or not allowed to do this.
    Key,
    /// The server has no such model, or no such path.
    NotFound,
    /// The server's limit of requests or of money is reached.
    Limit,
    /// The operator's own cap of the day is reached.
    Cap,
    /// The server is overloaded or broken.
    Server,
    /// No answer came in time.
    Timeout,
    /// The server cannot be reached.
    Unreachable,
    /// The question, or question and answer together, are larger than the model's context.
    Context,
    /// The answer was cut off by the limit of tokens.
    Cut,
    /// The server refuses the form of the request, or answers in a form of its own.
    Request,
    /// The answer holds no script that can be run.
    Unusable,
}

impl LlmFault {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::NotFound => "not_found",
            Self::Limit => "limit",
            Self::Cap => "cap",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Context => "context",
            Self::Cut => "cut",
            Self::Request => "request",
            Self::Unusable => "unusable",
        }
    }
}

/// The state of the language model since the node started. The channel holds `None` in a node without one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LlmHealth {
    /// Such as `anthropic`.
    pub provider: String,
    /// Such as `llama-3.3-70b-versatile`.
    pub model: String,
    pub state: LlmState,
    /// The kind of the last failure. None while the model is of use.
    pub fault: Option<LlmFault>,
    /// The last failure in words, on one line. Empty while the model is of use.
    pub failure: String,
    /// Experiments in a row for which the model had no usable answer.
    pub failures: u64,
    /// Requests sent.
    pub asked: u64,
    /// Answers that held a script that could be run.
    pub answered: u64,
    /// Tokens of all questions, as the server counts them. 0 when it does not tell.
    pub prompt_tokens: u64,
    /// Tokens of all answers, as the server counts them.
    pub answer_tokens: u64,
    /// Tokens of the day (UTC), also those before a restart.
    pub tokens_today: u64,
    /// Their cost by the configured prices.
    pub cost_today: f64,
    /// The operator's caps of a day.
    pub tokens_by_day: Option<u64>,
    pub cost_by_day: Option<f64>,
    /// Tokens of the model's context, when it is configured or the server told it.
    pub context: Option<u64>,
    /// The context is so small that parts of the question are left out.
    pub shortened: bool,
    /// The model is not asked before then.
    pub retry_at: Option<Instant>,
}
