//! Reasons to refuse an object or a message.

/// A reason to refuse an object or a message. [`Reject::code`] is its stable name, the text is for users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    #[error("not JSON: {what} at byte {at}")]
    NotJson { at: usize, what: &'static str },
    #[error("nested deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("more than {limit} values")]
    TooManyValues { limit: usize },
    #[error("key {0:?} appears twice in one object")]
    DuplicateKey(String),
    #[error("the escape at byte {at} is half of a surrogate pair and not a character")]
    LoneSurrogate { at: usize },
    #[error("the number at byte {at} is not finite or does not fit 64 bits")]
    NumberOutOfRange { at: usize },
    #[error("not a JSON object")]
    NotAnObject,
    #[error("the kind of the object is unknown: no kind has these fields")]
    UnknownKind,
    #[error("field {0:?} is missing")]
    MissingField(String),
    #[error("field {0:?} is not part of this object")]
    UnknownField(String),
    #[error("field {field:?} must be {expected}")]
    WrongType { field: String, expected: &'static str },
    #[error("{field} is not a valid Ed25519 public key")]
    BadKey { field: &'static str },
    #[error("the signature is not 128 hex digits")]
    SignatureNotHex,
    #[error("the id does not match the content, whose hash is {actual}")]
    IdMismatch { actual: String },
    #[error("the signature is not valid for the signer's key")]
    BadSignature,
    #[error("the bytes are not in canonical form")]
    NotCanonical,
    #[error("{size} bytes are more than the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("the signer is not the node in the payload's field {field}")]
    ActorMismatch { field: &'static str },
    #[error("malformed message: {0}")]
    Malformed(String),
    #[error("the record's task differs from its parent's")]
    TaskMismatch,
    #[error("the record's depth is {actual}, but its parent requires {expected}")]
    DepthMismatch { expected: u64, actual: u64 },
    #[error("the timestamp is {ahead} s in the future")]
    FromTheFuture { ahead: u64 },
    #[error("the message does not belong to its topic")]
    WrongTopic,
}

impl Reject {
    /// Stable name in snake_case, for counters, JSON output and tests.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => "not_json",
            Self::TooDeep { .. } => "too_deep",
            Self::TooManyValues { .. } => "too_many_values",
            Self::DuplicateKey(_) => "duplicate_key",
            Self::LoneSurrogate { .. } => "lone_surrogate",
            Self::NumberOutOfRange { .. } => "number_out_of_range",
            Self::NotAnObject => "not_an_object",
            Self::UnknownKind => "unknown_kind",
            Self::MissingField(_) => "missing_field",
            Self::UnknownField(_) => "unknown_field",
            Self::WrongType { .. } => "wrong_type",
            Self::BadKey { .. } => "bad_key",
            Self::SignatureNotHex => "signature_not_hex",
            Self::IdMismatch { .. } => "id_mismatch",
            Self::BadSignature => "bad_signature",
            Self::NotCanonical => "not_canonical",
            Self::TooLarge { .. } => "too_large",
            Self::ActorMismatch { .. } => "actor_mismatch",
            Self::Malformed(_) => "malformed",
            Self::TaskMismatch => "task_mismatch",
            Self::DepthMismatch { .. } => "depth_mismatch",
            Self::FromTheFuture { .. } => "from_the_future",
            Self::WrongTopic => "wrong_topic",
        }
    }
}
