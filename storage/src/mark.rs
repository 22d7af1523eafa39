//! How far the store has come, written beside the database after each batch, so that a log cut
//! short is noticed.
//!
//! RocksDB takes a write-ahead log that ends early for one that a crash left unfinished, which is
//! right after a crash and wrong when a disk or a person cut it: then acknowledged changes are gone
//! and nothing says so. The mark is written after the log is on disk, so it is never ahead of
//! what was acknowledged. It is not synced: after a power cut it may be behind, and then it only
//! notices less. It also keeps the numbers of lost changes from being given to others.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use crate::error::{Result, StoreError};

/// Beside the files of RocksDB, which leaves names that are not its own alone.
const NAME: &str = "ACKNOWLEDGED";

/// The number, then the start of its hash: a torn write is no mark.
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

/// The mark of the database in `dir`; 0 where there is none that can be read.
pub fn read(dir: &Path) -> u64 {
    let mut encoded = Encoded::default();
    let read = File::open(dir.join(NAME)).and_then(|mut file| file.read_exact(&mut encoded));
    read.ok().and_then(|()| decode(&encoded)).unwrap_or_default()
}

/// Marks the database in `dir`, which nobody has open: on disk when this returns, since a new database may
/// not have the number that the one before it came to.
pub fn write(dir: &Path, sequence: u64) -> Result<()> {
    let path = dir.join(NAME);
    let write = || {
        let mut file = File::create(&path)?;
        file.write_all(&encode(sequence))?;
        file.sync_all()
    };
    write().map_err(|e| StoreError::io("write", &path, &e))
}

/// The mark of a database open for writing.
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

    /// Everything up to `sequence` is on disk. A mark that cannot be written stays behind, which
    /// is no reason to fail what succeeded.
    pub fn set(&self, sequence: u64) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&encode(sequence)));
        if let Err(error) = written {
            tracing::debug!(%error, "the mark of what is acknowledged is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_torn_one_is_none() {
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
