//! Why an object is refused now that may be taken later, and when it is worthwhile to send it again.

use std::fmt;

use super::limits::{RETRY_QUOTA_SECONDS, RETRY_SPACE_SECONDS};

/// Why an object is refused now that may be taken later. No offence of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Deferral {
    /// The quota that the object counts against is used up.
    #[error("no room for it now: the quota for {0} is used up")]
    Quota(QuotaName),
    /// The operator blocks the signer or the task of the object.
    #[error("its signer or its task is blocked here")]
    Blocked,
    /// The disk is nearly full, or the store may not grow.
    #[error("no disk space for objects of other nodes")]
    NoSpace,
    /// The timestamp of the object is ahead of this machine's clock.
    #[error("its timestamp is {seconds} s ahead of this machine's clock")]
    Early { seconds: u64 },
}

impl Deferral {
    /// Seconds after which sending the object again is worthwhile. None when only the operator can change that.
    pub const fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Quota(_) => Some(RETRY_QUOTA_SECONDS),
            Self::Blocked => None,
            Self::NoSpace => Some(RETRY_SPACE_SECONDS),
            Self::Early { seconds } => Some(*seconds),
        }
    }
}

/// The quota that an object counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaName {
    /// One signer without confirmed work.
    Signer,
    /// One peer, or the subnet of its address.
    Introducer,
    /// All signers without confirmed work together.
    Unknown,
    /// Objects that are larger than their kind needs.
    Large,
}

impl fmt::Display for QuotaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Signer => "its signer",
            Self::Introducer => "the peer that sent it",
            Self::Unknown => "signers without confirmed work",
            Self::Large => "large objects",
        })
    }
}
