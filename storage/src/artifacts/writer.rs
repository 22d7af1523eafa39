//! An artifact on its way to the disk: under a temporary name until its hash is proved, then
//! renamed, so that a name that exists was complete once.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use spore_protocol::Cid;

use super::{
    chunks::{Chunks, Hasher},
    failed, temporary_in,
};
use crate::error::{Result, StoreError};

/// Bytes copied at once.
const PIECE: usize = 256 << 10;

/// Takes an artifact piece by piece. Dropped before [`ArtifactWriter::finish`], it leaves nothing.
pub struct ArtifactWriter {
    cid: Cid,
    limit: u64,
    size: u64,
    hasher: Hasher,
    file: File,
    root: PathBuf,
    temporary: PathBuf,
    /// The artifact's own name, and its list's.
    target: PathBuf,
    list: PathBuf,
}

impl ArtifactWriter {
    pub(super) fn new(root: &Path, cid: Cid, limit: u64, target: PathBuf, list: PathBuf) -> Result<Self> {
        let temporary = temporary_in(root);
        let file = File::create(&temporary).map_err(|e| failed("create", &temporary, e))?;
        Ok(Self {
            cid,
            limit,
            size: 0,
            hasher: Hasher::default(),
            file,
            root: root.to_path_buf(),
            temporary,
            target,
            list,
        })
    }

    /// # Errors
    /// [`StoreError::TooLarge`] past the limit given at the start; a full disk.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.limit {
            return Err(StoreError::TooLarge { cid: self.cid, limit: self.limit });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|e| failed("write", &self.temporary, e))
    }

    /// Takes everything that `from` gives.
    ///
    /// # Errors
    /// As [`ArtifactWriter::append`], and when `from` cannot be read.
    pub fn fill(&mut self, from: &mut dyn Read) -> Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = from.read(&mut buffer).map_err(|e| StoreError::io("cannot read the artifact's source", e))?;
            match buffer.get(..read) {
                Some([]) | None => return Ok(()),
                Some(bytes) => self.append(bytes)?,
            }
        }
    }

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Checks the hash and gives the file its name.
    ///
    /// # Errors
    /// [`StoreError::HashMismatch`] when the bytes are not the artifact's; nothing is kept then.
    pub fn finish(mut self) -> Result<Cid> {
        let (actual, chunks) = std::mem::take(&mut self.hasher).finish();
        if actual != self.cid {
            return Err(StoreError::HashMismatch { expected: self.cid, actual });
        }
        self.file.sync_all().map_err(|e| failed("write", &self.temporary, e))?;
        if let Some(folder) = self.target.parent() {
            fs::create_dir_all(folder).map_err(|e| failed("create", folder, e))?;
            // The list first: where the artifact is, it should be. A list alone harms nobody.
            write_list(&self.root, &self.list, &self.cid, &chunks)?;
            fs::rename(&self.temporary, &self.target).map_err(|e| failed("write", &self.target, e))?;
            // The name is durable only when its folder, and the folder's own name, are.
            sync_folder(folder)?;
            if let Some(root) = folder.parent() {
                sync_folder(root)?;
            }
        }
        Ok(self.cid)
    }
}

impl Drop for ArtifactWriter {
    fn drop(&mut self) {
        // After a rename there is nothing of that name any more, which is no failure.
        if let Err(error) = fs::remove_file(&self.temporary)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %self.temporary.display(), %error, "a temporary file stays behind");
        }
    }
}

/// Writes an artifact's list of chunks, if it needs one.
pub fn write_list(root: &Path, list: &Path, cid: &Cid, chunks: &Chunks) -> Result<()> {
    if chunks.hashes.len() < 2 {
        return Ok(());
    }
    replace(root, list, &chunks.encode(cid))
}

/// Replaces a small file in one step that a crash cannot halve. `root` is swept at the next start.
pub fn replace(root: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_in(root);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    let written = write().map_err(|e| failed("write", path, e));
    if written.is_err() {
        // Nothing more can be done about it here; the next start sweeps.
        drop(fs::remove_file(&temporary));
    }
    written
}

pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| failed("sync", folder, e))
}
