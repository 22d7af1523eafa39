//! Reads one artifact chunk by chunk, and returns no byte of a chunk before its hash is checked.

use std::{
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use spore_protocol::Cid;

use super::chunks::{CHUNK, Chunks};
use crate::error::{Result, StoreError};

/// An artifact's bytes in order, as verified chunks of at most 1 MiB. Holds one chunk in memory.
#[derive(Debug)]
pub struct ArtifactReader {
    cid: Cid,
    chunks: Arc<Chunks>,
    file: File,
    path: PathBuf,
    /// Index of the next chunk.
    next: u64,
}

impl ArtifactReader {
    pub fn open(cid: Cid, chunks: Arc<Chunks>, path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| StoreError::io("open", path, &e))?;
        Ok(Self { cid, chunks, file, path: path.to_path_buf(), next: 0 })
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.chunks.size
    }

    /// Continues with the chunk that holds byte `offset`.
    pub fn seek(&mut self, offset: u64) {
        self.next = offset / CHUNK as u64;
    }

    /// The next verified chunk. None at the end.
    ///
    /// # Errors
    /// [`StoreError::DamagedArtifact`] when the file is not what was stored; [`StoreError::Io`].
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let offset = self.next.saturating_mul(CHUNK as u64);
        let hash = usize::try_from(self.next).ok().and_then(|next| self.chunks.hashes.get(next));
        let Some(hash) = hash.filter(|_| offset < self.chunks.size) else { return Ok(None) };
        let length = (self.chunks.size - offset).min(CHUNK as u64);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(CHUNK)];
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(&mut bytes));
        let damaged = || StoreError::DamagedArtifact { cid: self.cid, offset };
        match read {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(damaged()),
            Err(error) => return Err(StoreError::io("read", &self.path, &error)),
            Ok(()) => {}
        }
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != *hash {
            return Err(damaged());
        }
        self.next += 1;
        Ok(Some(bytes))
    }
}

/// The chunks, until the first failure.
impl Iterator for ArtifactReader {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = self.next_chunk().transpose();
        if matches!(chunk, Some(Err(_))) {
            self.next = u64::MAX;
        }
        chunk
    }
}
