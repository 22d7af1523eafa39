//! Why an object is refused, by name, and what that says of who sent it.

/// A reason to refuse an object. [`Reject::code`] is its stable name.
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
    #[error("a lone surrogate escape at byte {at} is no character")]
    LoneSurrogate { at: usize },
    #[error("the number at byte {at} is not finite or does not fit 64 bits")]
    NumberOutOfRange { at: usize },
    #[error("not a JSON object")]
    NotAnObject,
    #[error("cannot tell which kind of object this is: no known set of fields")]
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
    #[error("the id does not match the content, which hashes to {actual}")]
    IdMismatch { actual: String },
    #[error("the signature does not verify against the signer's key")]
    BadSignature,
    #[error("the bytes are not in canonical form")]
    NotCanonical,
    #[error("{size} bytes, more than the {limit} allowed")]
    TooLarge { size: usize, limit: usize },
    #[error("signed by another node than the payload's {field}")]
    ActorMismatch { field: &'static str },
    #[error("malformed message: {0}")]
    Malformed(String),
    #[error("its task differs from its parent's")]
    TaskMismatch,
    #[error("depth {actual}, but its parent makes it {expected}")]
    DepthMismatch { expected: u64, actual: u64 },
    #[error("timestamp is {ahead} s in the future")]
    FromTheFuture { ahead: u64 },
    #[error("the message does not belong to the topic it came by")]
    WrongTopic,
}

impl Reject {
    /// Stable snake_case name, for counters, JSON output and tests.
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

    /// What the sender loses: points out of [`PENALTY_LIMIT`], at which it is disconnected.
    /// An honest node can relay a record whose clock or lineage is off; it never relays one
    /// whose bytes or signature are wrong, for it checks them itself.
    pub const fn penalty(&self) -> u32 {
        match self {
            Self::FromTheFuture { .. } => 1,
            Self::TaskMismatch | Self::DepthMismatch { .. } => 10,
            Self::UnknownField(_) | Self::UnknownKind | Self::WrongTopic => 10,
            _ => 25,
        }
    }
}

/// Penalty points at which a peer is disconnected and refused for a while.
pub const PENALTY_LIMIT: u32 = 100;
