//! The sequence number of the last acknowledged change, written beside the database after each batch. It shows when
//! the write-ahead log was cut short.
//!
//! RocksDB treats a write-ahead log that ends early as one that a crash left unfinished. That is right after a crash.
//! It is wrong when a disk or a person cut the log: acknowledged changes are gone then, and RocksDB reports nothing.
//! The mark is written after the log is on disk, so it is never ahead of the acknowledged changes. The mark is not
//! synced: after a power cut it may be behind, and then shows less. It also keeps the sequence numbers of lost
//! changes from being used again.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use crate::error::{Result, StoreError};

/// The file's name. RocksDB ignores files with names that are not its own.
const NAME: &str = "ACKNOWLEDGED";

/// The number, then the first half of its SHA-256. A torn write is not read as a mark.
type Encoded = [u8; 16];

fn encode(sequence: u64) -> Encoded {
    let number = sequence.to_be_bytes();
    let hash: [u8; 32] = Sha256::digest(number).into();
    let mut encoded = [0; 16];
    let bytes = number.into_iter().chain(hash);
    encoded.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    encoded
}

fn decode(encoded: &Encoded) -> Option<u64> {
    let sequence = u64::from_be_bytes(*encoded.first_chunk()?);
    (encode(sequence) == *encoded).then_some(sequence)
}

/// The mark of the database in `dir`; 0 where there is no readable mark.
pub fn read(dir: &Path) -> u64 {
    let mut encoded = Encoded::default();
    let read = File::open(dir.join(NAME)).and_then(|mut file| file.read_exact(&mut encoded));
    read.ok().and_then(|()| decode(&encoded)).unwrap_or_default()
}

/// Writes the mark of a database that no process has open. It is on disk when this returns, because the mark of a new
/// database may have to be higher than its own sequence number.
pub fn write(dir: &Path, sequence: u64) -> Result<()> {
    let path = dir.join(NAME);
    let write = || {
        let mut file = File::create(&path)?;
        file.write_all(&encode(sequence))?;
        file.sync_all()
    };
    write().map_err(|e| StoreError::io("write", &path, &e))
}

/// The mark of a database that is open for writing.
pub struct Mark {
    file: Mutex<File>,
}

impl Mark {
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| StoreError::io("open", &path, &e))?;
        Ok(Self { file: Mutex::new(file) })
    }

    /// Records that every change up to `sequence` is on disk. When the mark cannot be written, it stays behind; the
    /// insertion has succeeded all the same.
    pub fn set(&self, sequence: u64) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&encode(sequence)));
        if let Err(error) = written {
            tracing::debug!(%error, "could not write the mark of the last acknowledged change");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_is_read_back_and_a_torn_one_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), 0);
        write(dir.path(), 3).unwrap();
        assert_eq!(read(dir.path()), 3);
        let mark = Mark::open(dir.path()).unwrap();
        mark.set(7);
        mark.set(260);
        assert_eq!(read(dir.path()), 260);
        let mut bytes = std::fs::read(dir.path().join(NAME)).unwrap();
        assert_eq!(bytes.len(), 16);
        bytes[6] ^= 1;
        std::fs::write(dir.path().join(NAME), bytes).unwrap();
        assert_eq!(read(dir.path()), 0);
    }
}
