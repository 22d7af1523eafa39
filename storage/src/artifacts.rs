//! Artifacts: scripts, evaluators and datasets as plain files named by their hash.
//!
//! `artifacts/<2 hex>/<62 hex>`, written under a temporary name, synced, then renamed: a name
//! that exists was complete once. Bytes are hashed again when they are read whole, since a disk
//! may rot and a person may edit.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest, Sha256};
use spore_protocol::Cid;

use crate::error::{Result, StoreError};

/// Names of files not yet complete start so; [`Artifacts::sweep`] removes them.
const TEMPORARY: &str = "tmp-";

/// Largest piece read at once for a range: what one message may carry.
const MAX_RANGE: usize = 16 << 20;

/// Bytes copied at once.
const PIECE: usize = 1 << 18;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The folder of artifacts.
pub struct Artifacts {
    root: PathBuf,
}

impl Artifacts {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Removes what a crash left half written. Only for the holder of the directory's lock.
    pub fn sweep(&self) -> Result<()> {
        fs::create_dir_all(&self.root).map_err(|e| failed("create", &self.root, e))?;
        for entry in fs::read_dir(&self.root).map_err(|e| failed("list", &self.root, e))? {
            let path = entry.map_err(|e| failed("list", &self.root, e))?.path();
            let temporary = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY));
            if temporary {
                fs::remove_file(&path).map_err(|e| failed("remove", &path, e))?;
            }
        }
        Ok(())
    }

    fn path_of(&self, cid: &Cid) -> PathBuf {
        let name = cid.to_string();
        let (folder, file) = name.split_at_checked(2).unwrap_or(("", &name));
        self.root.join(folder).join(file)
    }

    /// The file, if it is there.
    pub fn path(&self, cid: &Cid) -> Option<PathBuf> {
        let path = self.path_of(cid);
        path.is_file().then_some(path)
    }

    /// In bytes.
    pub fn size(&self, cid: &Cid) -> Result<Option<u64>> {
        let path = self.path_of(cid);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) => absent(error, "look at", &path),
        }
    }

    /// All bytes, hashed again.
    pub fn read(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        let path = self.path_of(cid);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => return absent(error, "read", &path),
        };
        let actual = Cid::of(&bytes);
        if actual != *cid {
            return Err(StoreError::HashMismatch { expected: *cid, actual });
        }
        Ok(Some(bytes))
    }

    /// Removes the file; false when there was none.
    pub fn remove(&self, cid: &Cid) -> Result<bool> {
        let path = self.path_of(cid);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) => absent::<()>(error, "remove", &path).map(|_| false),
        }
    }

    /// At most `len` bytes from `offset` on, fewer at the end. Whoever joins them checks the hash.
    pub fn read_range(&self, cid: &Cid, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
        let path = self.path_of(cid);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => return absent(error, "open", &path),
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset)).map_err(|e| failed("read", &path, e))?;
        file.take(len.min(MAX_RANGE) as u64).read_to_end(&mut bytes).map_err(|e| failed("read", &path, e))?;
        Ok(Some(bytes))
    }

    /// Keeps these bytes under their hash. A damaged file of that name is replaced.
    pub fn put(&self, bytes: &[u8]) -> Result<Cid> {
        let cid = Cid::of(bytes);
        if matches!(self.read(&cid), Ok(Some(_))) {
            return Ok(cid);
        }
        let mut writer = self.begin(cid, bytes.len() as u64)?;
        writer.append(bytes)?;
        writer.finish()
    }

    pub fn begin(&self, cid: Cid, limit: u64) -> Result<ArtifactWriter> {
        fs::create_dir_all(&self.root).map_err(|e| failed("create", &self.root, e))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let file = File::create(&temporary).map_err(|e| failed("create", &temporary, e))?;
        let target = self.path_of(&cid);
        Ok(ArtifactWriter { cid, limit, size: 0, hash: Sha256::new(), file, temporary, target })
    }
}

/// Takes an artifact piece by piece. Dropped before [`ArtifactWriter::finish`], it leaves nothing.
pub struct ArtifactWriter {
    cid: Cid,
    limit: u64,
    size: u64,
    hash: Sha256,
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl ArtifactWriter {
    /// # Errors
    /// [`StoreError::TooLarge`] past the limit given at the start; a full disk.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.limit {
            return Err(StoreError::TooLarge { cid: self.cid, limit: self.limit });
        }
        self.hash.update(bytes);
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
        let actual = Cid(std::mem::take(&mut self.hash).finalize().into());
        if actual != self.cid {
            return Err(StoreError::HashMismatch { expected: self.cid, actual });
        }
        self.file.sync_all().map_err(|e| failed("write", &self.temporary, e))?;
        if let Some(folder) = self.target.parent() {
            fs::create_dir_all(folder).map_err(|e| failed("create", folder, e))?;
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

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| failed("sync", folder, e))
}

fn failed(doing: &str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::io(format!("cannot {doing} {}", path.display()), source)
}

fn absent<T>(error: std::io::Error, doing: &str, path: &Path) -> Result<Option<T>> {
    if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(failed(doing, path, error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path) -> usize {
        fs::read_dir(root).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count()
    }

    #[test]
    fn an_artifact_is_kept_only_when_its_hash_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(dir.path().join("artifacts"));
        let cid = artifacts.put(b"hello").unwrap();
        assert_eq!(artifacts.read(&cid).unwrap().unwrap(), b"hello");
        assert_eq!(artifacts.read_range(&cid, 1, 3).unwrap().unwrap(), b"ell");
        assert_eq!(artifacts.read_range(&cid, 9, 3).unwrap().unwrap(), b"");
        assert_eq!(artifacts.size(&cid).unwrap(), Some(5));

        let other = Cid::of(b"other");
        assert!(artifacts.read(&other).unwrap().is_none() && artifacts.path(&other).is_none());
        let mut writer = artifacts.begin(other, 10).unwrap();
        writer.append(b"oth").unwrap();
        assert!(matches!(writer.finish(), Err(StoreError::HashMismatch { .. })));
        let mut writer = artifacts.begin(other, 4).unwrap();
        assert!(matches!(writer.append(b"other"), Err(StoreError::TooLarge { .. })));
        drop(writer);
        assert!(artifacts.path(&other).is_none());
        assert_eq!(files(&dir.path().join("artifacts")), 0, "no temporary file stays");
    }

    #[test]
    fn a_damaged_artifact_is_noticed_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(dir.path().to_path_buf());
        let cid = artifacts.put(b"hello").unwrap();
        fs::write(artifacts.path(&cid).unwrap(), b"hullo").unwrap();
        assert!(matches!(artifacts.read(&cid), Err(StoreError::HashMismatch { .. })));
        artifacts.put(b"hello").unwrap();
        assert_eq!(artifacts.read(&cid).unwrap().unwrap(), b"hello");
        fs::write(dir.path().join("tmp-1-1"), b"half").unwrap();
        artifacts.sweep().unwrap();
        assert_eq!(files(dir.path()), 0);
    }
}
