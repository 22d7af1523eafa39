//! The store itself: who may open it, the one way in, and the views that answer questions.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use spore_protocol::{Cid, VerifiedObject};

use crate::{
    artifacts::{ArtifactWriter, Artifacts},
    db::{Db, View},
    error::{Result, StoreError},
    lock::DirLock,
    migrate::{self, Progress},
    read,
    types::{Outcome, Report},
    write::Batch,
};

/// The record graph of one data directory. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    // Fields drop in this order: the database is closed before the directory is free.
    db: Db,
    artifacts: Artifacts,
    writer: Mutex<()>,
    sequence: AtomicU64,
    _lock: Option<DirLock>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store(sequence {})", self.sequence())
    }
}

impl Store {
    /// Opens the store in a data directory for reading and writing, and makes both where missing:
    /// the database in `store/`, artifacts in `artifacts/`, the lock in `LOCK`. A store of an older
    /// program is upgraded first, which the log tells of.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open, [`StoreError::NewerSchema`],
    /// [`StoreError::Corrupt`], [`StoreError::DiskFull`], [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, &mut |Progress { from, done, total }| {
            tracing::info!(from, done, total, "upgrading the store");
        })
    }

    /// As [`Store::open`], telling how far an upgrade is.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| StoreError::io(format!("cannot create {}", dir.display()), e))?;
        let lock = DirLock::exclusive(dir)?;
        migrate::upgrade(dir, progress)?;
        let store = Self::assemble(dir, Some(lock), false)?;
        store.inner.artifacts.sweep()?;
        Ok(store)
    }

    /// Opens the store for reading. Creates nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where there is none, [`StoreError::OlderSchema`], and as [`Store::open`].
    pub fn open_read_only(dir: &Path) -> Result<Self> {
        if !database(dir).join("CURRENT").is_file() {
            return Err(StoreError::NotFound(dir.to_path_buf()));
        }
        let lock = DirLock::shared(dir)?;
        migrate::refuse_older(&database(dir))?;
        Self::assemble(dir, lock, true)
    }

    fn assemble(dir: &Path, lock: Option<DirLock>, read_only: bool) -> Result<Self> {
        let db = Db::open(&database(dir), read_only)?;
        let sequence = AtomicU64::new(read::sequence(&db)?);
        let artifacts = Artifacts::new(dir.join("artifacts"));
        let inner = Inner { db, artifacts, writer: Mutex::new(()), sequence, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes in a batch of objects, in any order, with all that follows from them, in one atomic
    /// batch that is on disk when this returns. `received_at` is in Unix seconds.
    ///
    /// # Errors
    /// When the store cannot be read or written; nothing of the batch is stored then. What is
    /// wrong with an object is its [`Outcome`].
    pub fn insert(&self, objects: &[VerifiedObject], received_at: u64) -> Result<Report> {
        // A panic while the lock was held left the disk as it was: batches are atomic.
        let _writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::new(&self.inner.db)?;
        let mut outcomes = Vec::with_capacity(objects.len());
        for object in objects {
            outcomes.push((object.id(), batch.insert(&object.to_signed(), received_at)?));
        }
        let finished = batch.finish()?;
        // A record that waited for one later in the same batch is new, or bad, after all.
        let mut late_rejects = finished.late_rejects;
        for (id, outcome) in &mut outcomes {
            if !matches!(outcome, Outcome::Pending { .. }) {
                continue;
            }
            match finished.resolved.get(id) {
                Some(None) => *outcome = Outcome::New,
                Some(Some(reject)) => {
                    *outcome = Outcome::Rejected(reject.clone());
                    late_rejects.retain(|(late, _)| late != id);
                }
                None => {}
            }
        }
        let report =
            Report { outcomes, changes: finished.changes, late_rejects, dropped_pending: finished.dropped_pending };
        if finished.dirty {
            self.inner.db.commit(finished.view.entries())?;
            self.inner.sequence.store(finished.sequence, Ordering::Release);
        }
        Ok(report)
    }

    /// The number of the last change stored; 0 in an empty store.
    pub fn sequence(&self) -> u64 {
        self.inner.sequence.load(Ordering::Acquire)
    }

    /// The store at this moment.
    pub(crate) fn view(&self) -> View<'_> {
        self.inner.db.snapshot()
    }

    /// For single reads, which need no snapshot.
    pub(crate) fn database(&self) -> &Db {
        &self.inner.db
    }
}

/// Artifacts: plain files beside the database.
impl Store {
    /// Keeps bytes under their hash; durable when this returns.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], [`StoreError::Io`].
    pub fn put_artifact(&self, bytes: &[u8]) -> Result<Cid> {
        self.inner.artifacts.put(bytes)
    }

    /// All bytes of an artifact, checked against its hash. A damaged file is removed, and none from
    /// then on, so that whoever needs it fetches it again.
    ///
    /// # Errors
    /// [`StoreError::HashMismatch`] where the file is damaged and the store was opened for reading
    /// only; [`StoreError::Io`].
    pub fn artifact(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        match self.inner.artifacts.read(cid) {
            Err(error @ StoreError::HashMismatch { .. }) if !self.inner.db.read_only() => {
                tracing::warn!(%error, "a damaged artifact is removed");
                self.remove_artifact(cid)?;
                Ok(None)
            }
            read => read,
        }
    }

    /// Removes an artifact's file; false when there was none.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`], [`StoreError::Io`].
    pub fn remove_artifact(&self, cid: &Cid) -> Result<bool> {
        if self.inner.db.read_only() {
            return Err(StoreError::ReadOnly);
        }
        self.inner.artifacts.remove(cid)
    }

    /// In bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn artifact_size(&self, cid: &Cid) -> Result<Option<u64>> {
        self.inner.artifacts.size(cid)
    }

    /// The artifact's file, if it is here.
    pub fn artifact_path(&self, cid: &Cid) -> Option<PathBuf> {
        self.inner.artifacts.path(cid)
    }

    /// At most `len` bytes from `offset` on, fewer at the end and never over 16 MiB; not checked
    /// against the hash.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read_artifact_range(&self, cid: &Cid, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
        self.inner.artifacts.read_range(cid, offset, len)
    }

    /// Starts an artifact that comes in pieces, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::DiskFull`].
    pub fn begin_artifact(&self, cid: Cid, limit: u64) -> Result<ArtifactWriter> {
        self.inner.artifacts.begin(cid, limit)
    }
}

fn database(dir: &Path) -> PathBuf {
    dir.join("store")
}
