//! Why a request fails: a kind for programs, a message for people, and a hint about the API where there is one.
//!
//! Hints here name routes, parameters and headers only. Commands and flags are the command line's: it adds its own
//! hints by [`ProblemKind`].

use serde::{Deserialize, Serialize};
use spore_storage::StoreError;
use utoipa::ToSchema;

use super::route::Route;

/// Why a request failed. The body of every answer with a status of 400 or above.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What is wrong, for programs.
    pub kind: ProblemKind,
    /// What is wrong, for people.
    pub error: String,
    /// What to do next. Absent when there is nothing to add.
    pub hint: Option<String>,
}

/// What is wrong with a request, or with the node. The number is the HTTP status.
///
/// - `invalid_request`, 400: a parameter or the body is not valid.
/// - `token_required`, 401: the request needs the node's token.
/// - `unknown_route`, 404: the API has no such route.
/// - `unknown_task`, 404: the node does not know the task.
/// - `unknown_experiment`, 404: the node does not know the experiment.
/// - `unknown_node`, 404: the node does not know the other node, or has no profile of it.
/// - `unknown_artifact`, 404: the node does not have the artifact.
/// - `unknown_dataset`, 404: the node does not have the dataset of the new task.
/// - `unknown_peer`, 404: the peer is neither connected nor dialled.
/// - `no_page`, 404: the node serves the API, but not the page.
/// - `method_not_allowed`, 405: the route does not take this method.
/// - `not_acceptable`, 406: the answer does not exist in the form that the request accepts.
/// - `ambiguous`, 409: the prefix of an id, or the name, fits more than one object.
/// - `conflict`, 409: the node cannot do this in its present state.
/// - `too_large`, 413: the request, or what it asks for, is too large.
/// - `misdirected`, 421: the request came by a host name that the node does not serve.
/// - `later`, 429: the node has no room for this now. The header `Retry-After` says when to try again.
/// - `internal`, 500: the node failed.
/// - `damaged_store`, 500: a part of the node's store is damaged.
/// - `unavailable`, 503: the node cannot do this now.
/// - `disk_full`, 503: the disk of the node is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    InvalidRequest,
    TokenRequired,
    UnknownRoute,
    UnknownTask,
    UnknownExperiment,
    UnknownNode,
    UnknownArtifact,
    UnknownDataset,
    UnknownPeer,
    NoPage,
    MethodNotAllowed,
    NotAcceptable,
    Ambiguous,
    Conflict,
    TooLarge,
    Misdirected,
    Later,
    Internal,
    DamagedStore,
    Unavailable,
    DiskFull,
}

impl ProblemKind {
    /// The HTTP status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::TokenRequired => 401,
            Self::UnknownRoute
            | Self::UnknownTask
            | Self::UnknownExperiment
            | Self::UnknownNode
            | Self::UnknownArtifact
            | Self::UnknownDataset
            | Self::UnknownPeer
            | Self::NoPage => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::Ambiguous | Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Misdirected => 421,
            Self::Later => 429,
            Self::Internal | Self::DamagedStore => 500,
            Self::Unavailable | Self::DiskFull => 503,
        }
    }
}

/// The failure of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub kind: ProblemKind,
    pub message: String,
    /// What to do next, in terms of the API.
    pub hint: Option<String>,
    /// Seconds after which the request may succeed: the header `Retry-After`.
    pub retry_after: Option<u64>,
}

impl ApiError {
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, retry_after: None }
    }

    /// 400: a parameter or the body is not valid.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ProblemKind::InvalidRequest, message)
    }

    /// 401: the request needs the node's token.
    pub fn token_required() -> Self {
        Self::new(ProblemKind::TokenRequired, "this request needs the node's token")
            .hint("send `Authorization: Bearer TOKEN`; the file api_token in the node's data directory holds the token")
    }

    /// 421: the request came by a host name that is neither this machine's nor listed (DNS rebinding).
    pub fn misdirected() -> Self {
        Self::new(ProblemKind::Misdirected, "this address serves requests to localhost only").hint(
            "use http://127.0.0.1:PORT; behind a reverse proxy, list its host name in config.toml: [web] names = \
                 [\"NAME\"]; to serve other hosts, the node must listen on another address",
        )
    }

    /// 404: the node serves its API, but not the page.
    pub fn no_page() -> Self {
        Self::new(ProblemKind::NoPage, "this node serves its API only: its page is switched off")
            .hint(format!("GET {} lists the routes of the API", Route::OpenApi.path()))
    }

    /// 404: the API has no such route.
    pub fn unknown_route(path: &str) -> Self {
        Self::new(ProblemKind::UnknownRoute, format!("this API has no route {path:.80}"))
            .hint(format!("GET {} lists the routes", Route::OpenApi.path()))
    }

    /// 404: the store does not hold the task that a request names.
    pub fn unknown_task(given: &str) -> Self {
        Self::new(ProblemKind::UnknownTask, format!("no task {given:.80} is known here"))
            .hint(format!("GET {} lists the known tasks", Route::Tasks.path()))
    }

    /// 404: the store does not hold the experiment that a request names.
    pub fn unknown_experiment(given: &str) -> Self {
        Self::new(ProblemKind::UnknownExperiment, format!("no experiment {given:.80} is known here"))
            .hint(format!("GET {} finds experiments by words", Route::Search.path()))
    }

    /// 404: the store holds nothing of the node that a request names.
    pub fn unknown_node(given: &str) -> Self {
        Self::new(ProblemKind::UnknownNode, format!("no node {given:.80} is known here"))
    }

    /// 405: the route does not take the method.
    pub fn method_not_allowed() -> Self {
        Self::new(ProblemKind::MethodNotAllowed, "this address does not take that method")
    }

    /// 409: the node cannot do this in its present state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Conflict, message)
    }

    /// 413: the request, or what it asks for, has more than `limit` bytes.
    pub fn too_large(limit: u64) -> Self {
        Self::new(ProblemKind::TooLarge, format!("the request is larger than {limit} bytes"))
    }

    /// 500: the node failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Internal, message)
    }

    /// 500: a thread that worked on the request panicked or was cancelled.
    pub fn thread_ended() -> Self {
        Self::internal("the thread that reads the store ended early")
    }

    /// 503: the node cannot do this now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Unavailable, message)
    }

    /// 429: the node has no room for this now. `seconds`: when to try again.
    pub fn later(message: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(ProblemKind::Later, message) }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The HTTP status of the answer.
    pub const fn status(&self) -> u16 {
        self.kind.status()
    }

    /// The error as it is sent.
    pub fn problem(&self) -> Problem {
        Problem { kind: self.kind, error: self.message.clone(), hint: self.hint.clone() }
    }
}

/// The error as it was received.
impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self { kind: problem.kind, message: problem.error, hint: problem.hint, retry_after: None }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull => Self::new(ProblemKind::DiskFull, "the node's disk is full")
                .hint("free some space on it: the node writes again within seconds"),
            StoreError::HashMismatch { .. } => Self::bad_request(error.to_string()),
            StoreError::TooManyPins { .. } => Self::bad_request(error.to_string()).hint("remove a pin first"),
            // The folder of a backup: the node itself holds its own directory.
            StoreError::Locked { holder } => Self::conflict(format!("the folder is in use by {holder}")),
            StoreError::Cancelled => Self::unavailable("the node stopped the work before its end"),
            StoreError::TooLarge { .. } => Self::new(ProblemKind::TooLarge, error.to_string()),
            StoreError::Corrupt(_) => Self::new(ProblemKind::DamagedStore, error.to_string()),
            _ => Self::internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;

    use super::*;

    #[test]
    fn kind_is_published_with_the_status_that_it_has() {
        let schema = serde_json::to_value(ProblemKind::schema()).unwrap();
        for name in schema["enum"].as_array().unwrap() {
            let kind: ProblemKind = serde_json::from_value(name.clone()).unwrap();
            let line = format!("- `{}`, {}: ", name.as_str().unwrap(), kind.status());
            assert!(schema["description"].as_str().unwrap().contains(&line), "{line} is missing in {schema}");
        }
    }
}
