//! Writes one artifact. The file has a temporary name until its hash is checked, so a file with an artifact's name was
//! complete when it got that name.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use spore_protocol::Cid;
use tempfile::NamedTempFile;

use super::chunks::{Chunks, Hasher};
use crate::{
    error::{Result, StoreError},
    files::{persist, replace, sync_folder, temporary},
};

/// Bytes copied at once by [`ArtifactWriter::fill`].
const PIECE: usize = 256 << 10;

/// An artifact that is written piece by piece. Nothing stays of it when it is dropped before
/// [`ArtifactWriter::finish`].
pub struct ArtifactWriter {
    cid: Cid,
    limit: u64,
    size: u64,
    hasher: Hasher,
    file: NamedTempFile,
    root: PathBuf,
    target: PathBuf,
    list: PathBuf,
}

impl ArtifactWriter {
    /// `target` is the artifact's path, `list` that of the list of its chunks.
    pub(super) fn new(root: &Path, cid: Cid, limit: u64, target: PathBuf, list: PathBuf) -> Result<Self> {
        let (file, root) = (temporary(root)?, root.to_path_buf());
        Ok(Self { cid, limit, size: 0, hasher: Hasher::default(), file, root, target, list })
    }

    /// # Errors
    /// [`StoreError::TooLarge`] beyond the limit given to [`crate::Store::begin_artifact`]; [`StoreError::DiskFull`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.limit {
            return Err(StoreError::TooLarge { cid: self.cid, limit: self.limit });
        }
        self.hasher.update(bytes);
        self.file.as_file_mut().write_all(bytes).map_err(|e| StoreError::io("write", self.file.path(), &e))
    }

    /// Appends everything that `from` yields.
    ///
    /// # Errors
    /// As [`ArtifactWriter::append`]; [`StoreError::Source`] when `from` cannot be read.
    pub fn fill(&mut self, from: &mut dyn Read) -> Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = from.read(&mut buffer);
            let read = read.map_err(|e| StoreError::Source { kind: e.kind(), reason: e.to_string() })?;
            match buffer.get(..read) {
                Some([]) | None => return Ok(()),
                Some(bytes) => self.append(bytes)?,
            }
        }
    }

    /// Bytes appended so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Checks the hash and gives the file its name. The artifact is on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::HashMismatch`] when the bytes are not the artifact's: then nothing is kept.
    pub fn finish(self) -> Result<Cid> {
        let (actual, chunks) = self.hasher.finish();
        if actual != self.cid {
            return Err(StoreError::HashMismatch { expected: self.cid, actual });
        }
        let folder = self.target.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|e| StoreError::io("create", folder, &e))?;
        // The list comes first, because a present artifact should have its list. A list without its artifact is
        // harmless.
        write_list(&self.root, &self.list, &self.cid, &chunks)?;
        persist(self.file, &self.target)?;
        // The name is on disk only after its folder is synced, and the folder's own name after its parent is.
        sync_folder(folder)?;
        sync_folder(&self.root)?;
        Ok(self.cid)
    }
}

/// Writes the list of an artifact's chunks, if the artifact has more than one.
pub fn write_list(root: &Path, list: &Path, cid: &Cid, chunks: &Chunks) -> Result<()> {
    if chunks.hashes.len() < 2 {
        return Ok(());
    }
    replace(root, list, &chunks.encode(cid))
}
