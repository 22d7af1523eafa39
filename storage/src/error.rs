//! What can go wrong in the store, as plain facts. Advice is for the program that shows an error to a person.

use std::{
    io,
    path::{Path, PathBuf},
};

use spore_protocol::{Cid, Kind, ObjectId, RecordId, Reject, cbor::CborError};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why the store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the data directory is in use by {holder}")]
    Locked { holder: String },
    #[error("there is no store in {0}")]
    NotFound(PathBuf),
    /// Every acknowledged change stays stored. Writes succeed again within seconds after space was freed.
    #[error("the disk is full")]
    DiskFull,
    #[error("the store is damaged ({0})")]
    Corrupt(Damage),
    #[error("the store has format {found}; this program knows formats up to {supported}")]
    NewerSchema { found: u32, supported: u32 },
    #[error("the store has format {found}; this program reads only format {supported}")]
    OlderSchema { found: u32, supported: u32 },
    #[error("artifact {expected}: the bytes hash to {actual}")]
    HashMismatch { expected: Cid, actual: Cid },
    #[error("artifact {cid} is damaged on this disk from byte {offset} on")]
    DamagedArtifact { cid: Cid, offset: u64 },
    #[error("artifact {cid} is larger than the {limit} bytes allowed")]
    TooLarge { cid: Cid, limit: u64 },
    #[error("the store was opened for reading only")]
    ReadOnly,
    #[error("at most {limit} artifacts can be pinned")]
    TooManyPins { limit: usize },
    /// The list is not repaired by guessing, which could unpin an artifact that the owner wants to keep.
    #[error("the list of pins {path} {fault}")]
    BadPins { path: PathBuf, fault: PinsFault },
    /// The caller's progress callback stopped the work. Nothing was changed.
    #[error("stopped before the end, as requested")]
    Cancelled,
    #[error("{0} holds a store already")]
    NotEmpty(PathBuf),
    #[error("there is no backup in {0}")]
    NoBackup(PathBuf),
    /// RocksDB's own log in the store's folder has the reason.
    #[error("column {column} could not be compacted")]
    CompactionFailed { column: &'static str },
    #[error("the database failed: {0}")]
    Rocks(String),
    #[error("cannot {action} {path}: {reason}")]
    Io { action: &'static str, path: PathBuf, kind: io::ErrorKind, reason: String },
    #[error("cannot read the artifact's source: {reason}")]
    Source { kind: io::ErrorKind, reason: String },
}

/// What in the store is damaged, or contradicts another part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A message of RocksDB, such as one about a wrong checksum.
    #[error("{0}")]
    Database(String),
    #[error("column {0} is missing")]
    NoColumn(&'static str),
    #[error("the format number is missing")]
    NoSchema,
    #[error("the format number is not 4 bytes")]
    BadSchema,
    #[error("a repair was interrupted after it had changed the tables")]
    UnfinishedRepair,
    #[error("column {column} has no entry for sequence number {number}")]
    NoEntry { column: &'static str, number: u64 },
    #[error("{kind} {id} is missing")]
    NoObject { kind: Kind, id: ObjectId },
    #[error("pending record {0} is missing")]
    NoPending(RecordId),
    #[error("{found} is stored under the id of {kind} {id}")]
    WrongObject { kind: Kind, id: ObjectId, found: ObjectId },
    #[error("the object with sequence number {number} is not of kind {expected}")]
    WrongKind { number: u64, expected: Kind },
    /// A key or a value that cannot be decoded.
    #[error("{0}")]
    Value(&'static str),
    /// A CBOR value that cannot be decoded.
    #[error("{0}")]
    Cbor(String),
    /// A stored object is no longer what was signed.
    #[error("{0}")]
    Object(Reject),
    #[error("the count of pending records is wrong")]
    PendingCount,
    #[error("record {0} was released before its parent")]
    EarlyRelease(RecordId),
    #[error("column {column} of the backup: {why}")]
    Backup { column: &'static str, why: String },
}

/// Why the list of pins cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinsFault {
    #[error("is too long")]
    TooLong,
    #[error("has a line that is no artifact address")]
    BadLine,
}

impl StoreError {
    /// An error of the operating system. A full disk has a variant of its own.
    pub(crate) fn io(action: &'static str, path: &Path, source: &io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            kind => Self::Io { action, path: path.to_path_buf(), kind, reason: source.to_string() },
        }
    }

    /// The damage or RocksDB's message alone, for a report that names the place itself.
    pub(crate) fn into_reason(self) -> String {
        match self {
            Self::Corrupt(damage) => damage.to_string(),
            Self::Rocks(message) => message,
            other => other.to_string(),
        }
    }

    /// Classifies a message of RocksDB, which reports errors of the operating system as text only.
    fn from_rocksdb(message: String) -> Self {
        const FULL: [&str; 3] = ["No space left on device", "Disk quota exceeded", "NoSpace"];
        if FULL.iter().any(|text| message.contains(text)) {
            Self::DiskFull
        } else if message.starts_with("Corruption") {
            Self::Corrupt(Damage::Database(message))
        } else {
            Self::Rocks(message)
        }
    }
}

impl From<Damage> for StoreError {
    fn from(damage: Damage) -> Self {
        Self::Corrupt(damage)
    }
}

impl From<rocksdb::Error> for StoreError {
    fn from(error: rocksdb::Error) -> Self {
        Self::from_rocksdb(error.into_string())
    }
}

impl From<CborError> for StoreError {
    fn from(error: CborError) -> Self {
        Damage::Cbor(error.to_string()).into()
    }
}

impl From<Reject> for StoreError {
    fn from(reject: Reject) -> Self {
        Damage::Object(reject).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_and_damage_are_recognized_in_messages_of_rocksdb() {
        let full = "IO error: No space left on device: While appending to file: /x/000012.log: No space left on device";
        assert!(matches!(StoreError::from_rocksdb(full.into()), StoreError::DiskFull));
        let damaged = "Corruption: block checksum mismatch";
        assert!(matches!(StoreError::from_rocksdb(damaged.into()), StoreError::Corrupt(Damage::Database(_))));
        assert!(matches!(StoreError::from_rocksdb("IO error: lock".into()), StoreError::Rocks(_)));
    }

    #[test]
    fn full_disk_is_distinguished_from_other_io_errors() {
        let path = Path::new("file");
        let enospc = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        assert!(matches!(StoreError::io("write", path, &enospc), StoreError::DiskFull));
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(matches!(StoreError::io("write", path, &denied), StoreError::Io { .. }));
    }
}
