//! What can go wrong in the store, each with what to do next.

use std::{io, path::PathBuf};

use spore_protocol::{Cid, Reject, cbor::CborError};

/// Short for results of this crate.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the data directory is in use by {holder}: stop it first, or name another directory with --data-dir")]
    Locked { holder: String },
    #[error("there is no store in {0}: start a node there once, or name another directory with --data-dir")]
    NotFound(PathBuf),
    #[error("the disk is full: free some space, and writing goes on within seconds; nothing acknowledged is lost")]
    DiskFull,
    #[error("the store is damaged ({what}): stop the node and run `spore db check --repair`")]
    Corrupt { what: String },
    #[error("the store has format {found}, this program knows up to {supported}: use a newer spore")]
    NewerSchema { found: u32, supported: u32 },
    #[error(
        "the store has format {found}, this program reads {supported}: write its records to a file with the spore that made it (`spore export`), and import that"
    )]
    OlderSchema { found: u32, supported: u32 },
    #[error("artifact {expected}: the bytes hash to {actual}; fetch it again from another peer")]
    HashMismatch { expected: Cid, actual: Cid },
    #[error("artifact {cid} is damaged on this disk from byte {offset} on: fetch it again from a peer")]
    DamagedArtifact { cid: Cid, offset: u64 },
    #[error("artifact {cid} is larger than the {limit} bytes allowed: raise the limit or refuse the task")]
    TooLarge { cid: Cid, limit: u64 },
    #[error("the store was opened for reading only: open it for writing to insert")]
    ReadOnly,
    #[error("at most {limit} artifacts can be pinned: unpin some first")]
    TooManyPins { limit: usize },
    #[error("stopped before the end, as asked: nothing was changed by it")]
    Cancelled,
    #[error("{0} holds a store already: name an empty directory, or say that it is to be replaced")]
    NotEmpty(PathBuf),
    #[error("there is no backup in {0}: make one with `spore db backup`")]
    NoBackup(PathBuf),
    #[error("the database failed: {0}; if it repeats, check the disk")]
    Rocks(String),
    #[error("{what}: {source}; check the path and its permissions")]
    Io { what: String, source: io::Error },
}

impl StoreError {
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    /// An operating system's error, with what was being done. A full disk is its own kind.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { what: what.into(), source },
        }
    }

    /// What is wrong, without what to do about it.
    pub(crate) fn into_reason(self) -> String {
        match self {
            Self::Corrupt { what } | Self::Rocks(what) => what,
            other => other.to_string(),
        }
    }

    /// RocksDB tells the operating system's error in text alone.
    fn of_database(message: String) -> Self {
        const FULL: [&str; 3] = ["No space left on device", "Disk quota exceeded", "NoSpace"];
        if FULL.iter().any(|text| message.contains(text)) {
            Self::DiskFull
        } else if message.starts_with("Corruption") {
            Self::Corrupt { what: message }
        } else {
            Self::Rocks(message)
        }
    }
}

impl From<rocksdb::Error> for StoreError {
    fn from(error: rocksdb::Error) -> Self {
        Self::of_database(error.into_string())
    }
}

impl From<CborError> for StoreError {
    fn from(error: CborError) -> Self {
        Self::corrupt(error.to_string())
    }
}

/// An object read back from the store is no longer what was written.
impl From<Reject> for StoreError {
    fn from(reject: Reject) -> Self {
        Self::corrupt(reject.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_other_failures() {
        let full = "IO error: No space left on device: While appending to file: /x/000012.log: No space left on device";
        assert!(matches!(StoreError::of_database(full.into()), StoreError::DiskFull));
        let damaged = "Corruption: block checksum mismatch";
        assert!(matches!(StoreError::of_database(damaged.into()), StoreError::Corrupt { .. }));
        assert!(matches!(StoreError::of_database("IO error: lock".into()), StoreError::Rocks(_)));
        let enospc = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        assert!(matches!(StoreError::io("writing", enospc), StoreError::DiskFull));
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(matches!(StoreError::io("writing", denied), StoreError::Io { .. }));
    }
}
