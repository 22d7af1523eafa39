//! Why a request is refused: an HTTP status, a message, and the next step.

use spore_storage::StoreError;

use super::{dto::Problem, route::Route};

/// A request's failure. Its status tells programs what its text tells people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// An HTTP status of 400 or above.
    pub status: u16,
    pub message: String,
    pub hint: Option<String>,
}

impl ApiError {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), hint: None }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "this request changes the node and needs its token")
            .hint("send `Authorization: Bearer TOKEN`; the token is in the file api_token of the data directory")
    }

    /// The request came by a name that is not this machine's (DNS rebinding).
    pub fn misdirected() -> Self {
        Self::new(421, "this address serves requests to localhost only")
            .hint("open it as http://127.0.0.1:PORT, or start the node with --web-host")
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    pub fn unknown_route(path: &str) -> Self {
        let hint = format!("GET {} lists the routes of this API", Route::OpenApi.path());
        Self::not_found(format!("this API has no route {path:.80}")).hint(hint)
    }

    pub fn method_not_allowed() -> Self {
        Self::new(405, "this address does not take that method")
    }

    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message)
    }

    pub fn too_large(limit: u64) -> Self {
        Self::new(413, format!("the request is larger than {limit} bytes"))
    }

    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(429, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As it is sent.
    pub fn problem(&self) -> Problem {
        Problem { error: self.message.clone(), hint: self.hint.clone() }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull => Self::unavailable("the node's disk is full")
                .hint("free some space on it: it takes writes again within seconds"),
            StoreError::HashMismatch { .. } => Self::bad_request(error.to_string()),
            StoreError::TooManyPins { .. } => Self::bad_request(error.to_string()),
            // Of a backup's folder: the node holds its own directory.
            StoreError::Locked { holder } => Self::conflict(format!("the folder is in use by {holder}")),
            StoreError::Cancelled => Self::unavailable("the node stopped the work before its end"),
            StoreError::TooLarge { .. } => Self::new(413, error.to_string()),
            _ => Self::internal(error.to_string()),
        }
    }
}
