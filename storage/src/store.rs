//! The store itself: who may open it, the one way in, and the views that answer questions.

use std::{
    ops::{ControlFlow, RangeInclusive},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use spore_protocol::{Cid, VerifiedObject};

use crate::{
    artifacts::{ArtifactReader, ArtifactWriter, Artifacts, sync_folder},
    columns::Column,
    db::{Access, Db, Source, View},
    error::{Result, StoreError},
    keys,
    lock::DirLock,
    mark::{self, Mark},
    migrate,
    progress::{Progress, Watch},
    read,
    repair::{swap, underway},
    types::{Outcome, Report},
    write::{Batch, Memory, Unreleased},
};

/// The record graph of one data directory. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What one batch leaves to the next.
#[derive(Default)]
struct Writer {
    memory: Memory,
    /// Nothing between two insertions, unless the disk was full or could not be read.
    left: Unreleased,
}

struct Inner {
    // Fields drop in this order: the database is closed before the directory is free.
    db: Db,
    dir: PathBuf,
    /// None in a store opened for reading.
    mark: Option<Mark>,
    lost: Option<RangeInclusive<u64>>,
    artifacts: Artifacts,
    writer: Mutex<Writer>,
    sequence: AtomicU64,
    _lock: Option<DirLock>,
}

/// Leaves nothing in the log, so that the next opening has nothing to read again. Where that fails, as on
/// a full disk, it does.
impl Drop for Inner {
    fn drop(&mut self) {
        if !self.db.read_only()
            && let Err(error) = self.db.seal()
        {
            tracing::warn!(%error, "the store is closed with changes in its log alone");
        }
    }
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
        Self::open_with(dir, &mut |Progress { stage, done, total }| {
            tracing::info!(done, total, "{stage}");
            ControlFlow::Continue(())
        })
    }

    /// As [`Store::open`], telling how far an upgrade is.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Cancelled`].
    pub fn open_with(dir: &Path, watch: &mut Watch<'_>) -> Result<Self> {
        let is_new = !swap::exists(dir);
        swap::create(dir)?;
        let lock = DirLock::exclusive(dir)?;
        swap::recover(dir)?;
        underway::refuse(&swap::database(dir))?;
        migrate::upgrade(dir, watch)?;
        let store = Self::assemble(dir, Some(lock), Access::Write)?;
        store.inner.artifacts.sweep()?;
        if is_new {
            // Its folders' names: without them, what is synced inside is not found after a power cut.
            sync_folder(dir)?;
        }
        store.go_on()?;
        Ok(store)
    }

    /// Whether a store is in `dir`, open or not, sound or not.
    pub fn exists(dir: &Path) -> bool {
        swap::exists(dir)
    }

    /// Opens the store for reading. Creates nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where there is none, [`StoreError::OlderSchema`], and as [`Store::open`].
    pub fn open_read_only(dir: &Path) -> Result<Self> {
        if !swap::database(dir).join("CURRENT").is_file() {
            return Err(StoreError::NotFound(dir.to_path_buf()));
        }
        let lock = DirLock::shared(dir)?;
        underway::refuse(&swap::database(dir))?;
        Self::assemble(dir, lock, Access::Read)
    }

    fn assemble(dir: &Path, lock: Option<DirLock>, access: Access) -> Result<Self> {
        let database = swap::database(dir);
        let acknowledged = mark::read(&database);
        let db = Db::open(&database, access)?;
        let found = read::sequence(&db)?;
        let lost = (acknowledged > found).then(|| found + 1..=acknowledged);
        let mark = if db.read_only() { None } else { Some(Mark::open(&database)?) };
        if let (Some(lost), Some(_)) = (&lost, &mark) {
            tracing::error!(
                first = lost.start(),
                last = lost.end(),
                "acknowledged changes are not in the store: it lost a part of its log, or is an older backup; other nodes bring back what they know"
            );
            // Their numbers are not given to other changes: somebody may have read on past them.
            db.commit([(Column::Meta, keys::SEQUENCE, Some(lost.end().to_be_bytes().as_slice()))])?;
        }
        let sequence = AtomicU64::new(found.max(acknowledged));
        if let Some(mark) = &mark {
            mark.set(found.max(acknowledged));
        }
        let artifacts = Artifacts::new(dir.join("artifacts"), db.read_only());
        let inner = Inner {
            db,
            dir: dir.to_path_buf(),
            mark,
            lost,
            artifacts,
            writer: Mutex::default(),
            sequence,
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The numbers of changes that were acknowledged and that the store did not have when it was opened: its
    /// log was cut short, or it is a backup that was restored. Numbers of the changes before a
    /// power cut may be missing here.
    pub fn lost_changes(&self) -> Option<RangeInclusive<u64>> {
        self.inner.lost.clone()
    }

    /// Releases the records that wait although their parents are decided: a crash came between the batches
    /// of one insertion. No report tells of them, the log does.
    fn go_on(&self) -> Result<()> {
        let mut writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.left = read::unreleased(&self.inner.db)?;
        if let Err(error) = self.release_rest(&mut writer, &mut Report::default()) {
            tracing::warn!(%error, "records whose parents are here could not be taken in yet");
        }
        Ok(())
    }

    /// Takes in a batch of objects, in any order, with all that follows from them, in one atomic
    /// batch that is on disk when this returns. `received_at` is in Unix seconds. Where thousands of
    /// records waited for them, these follow in further batches, before this returns too.
    ///
    /// # Errors
    /// When the store cannot be read or written; nothing of the batch is stored then. What is
    /// wrong with an object is its [`Outcome`].
    pub fn insert(&self, objects: &[VerifiedObject], received_at: u64) -> Result<Report> {
        // A panic while the lock was held left the disk as it was: batches are atomic.
        let mut writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // It is put back when all of it is written, and lost where that fails.
        let memory = std::mem::take(&mut writer.memory);
        let left = !writer.left.is_empty();
        let mut batch = Batch::after(&self.inner.db, memory)?.in_steps().sparing_waiting(left);
        let mut outcomes = Vec::with_capacity(objects.len());
        for object in objects {
            outcomes.push((object.id(), batch.insert(object, received_at)?));
        }
        let mut report = Report { outcomes, ..Report::default() };
        self.finish(batch, &mut writer, &mut report)?;
        // The objects are stored, whatever becomes of what waited for them: it is gone on with next time.
        if let Err(error) = self.release_rest(&mut writer, &mut report) {
            tracing::warn!(%error, "records whose parents came could not be taken in yet");
        }
        Ok(report)
    }

    /// Releases what there was no room for in the batch before, in as many batches as it takes.
    fn release_rest(&self, writer: &mut Writer, report: &mut Report) -> Result<()> {
        while !writer.left.is_empty() {
            let memory = std::mem::take(&mut writer.memory);
            let mut batch = Batch::after(&self.inner.db, memory)?.in_steps();
            let begun = writer.left.clone();
            let count = begun.len();
            batch.release_left(begun)?;
            self.finish(batch, writer, report)?;
            writer.left.drain(..count);
        }
        Ok(())
    }

    /// Writes a batch, and keeps what it leaves to the next one, after what was left before.
    fn finish(&self, batch: Batch<'_>, writer: &mut Writer, report: &mut Report) -> Result<()> {
        let finished = batch.finish()?;
        if finished.dirty {
            self.inner.db.commit(finished.view.entries())?;
            self.inner.sequence.store(finished.sequence, Ordering::Release);
            if let Some(mark) = &self.inner.mark {
                mark.set(finished.sequence);
            }
        }
        // A record that waited for one later in the same insertion is new, or bad, after all.
        let mut late_rejects = finished.late_rejects;
        for (id, outcome) in &mut report.outcomes {
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
        report.changes.extend(finished.changes);
        report.late_rejects.extend(late_rejects);
        report.dropped_pending += finished.dropped_pending;
        writer.memory = finished.memory;
        writer.left.extend(finished.unreleased);
        Ok(())
    }

    /// Writes what is there already, synced: whether the store takes objects (again, after a full disk).
    ///
    /// # Errors
    /// As [`Store::insert`].
    pub fn try_write(&self) -> Result<()> {
        let _writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = self.inner.db.get(Column::Meta, keys::SEQUENCE)?;
        self.inner.db.commit([(Column::Meta, keys::SEQUENCE, sequence.as_deref())])
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

    pub(crate) fn read_only(&self) -> bool {
        self.inner.db.read_only()
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.inner.dir
    }

    pub(crate) fn artifacts(&self) -> &Artifacts {
        &self.inner.artifacts
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

    /// All bytes of an artifact, checked against its hash: for those known to be small. A damaged
    /// file is removed, and none from then on, so that whoever needs it fetches it again.
    ///
    /// # Errors
    /// [`StoreError::DamagedArtifact`] where the store was opened for reading only;
    /// [`StoreError::Io`].
    pub fn artifact(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        self.unless_damaged(cid, self.inner.artifacts.read(cid))
    }

    /// An artifact of any size, as checked pieces in order. Where one is damaged the pieces before it
    /// have been given already: [`Store::remove_artifact`] is for whoever meets that.
    ///
    /// # Errors
    /// As [`Store::artifact`].
    pub fn open_artifact(&self, cid: &Cid) -> Result<Option<ArtifactReader>> {
        self.unless_damaged(cid, self.inner.artifacts.open(cid))
    }

    /// At most `len` bytes from `offset` on, fewer at the end and never over 16 MiB; checked, as
    /// [`Store::artifact`] is.
    ///
    /// # Errors
    /// As [`Store::artifact`].
    pub fn read_artifact_range(&self, cid: &Cid, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
        self.unless_damaged(cid, self.inner.artifacts.read_range(cid, offset, len))
    }

    /// Whether an artifact is here and every byte of it right; a damaged one is removed. Does not count
    /// as a use of it.
    ///
    /// # Errors
    /// As [`Store::artifact`].
    pub fn verify_artifact(&self, cid: &Cid) -> Result<bool> {
        let verified = match self.inner.artifacts.verify(cid)? {
            Some(false) => Err(StoreError::DamagedArtifact { cid: *cid, offset: 0 }),
            Some(true) => Ok(Some(())),
            None => Ok(None),
        };
        Ok(self.unless_damaged(cid, verified)?.is_some())
    }

    fn unless_damaged<T>(&self, cid: &Cid, read: Result<Option<T>>) -> Result<Option<T>> {
        match read {
            Err(error @ StoreError::DamagedArtifact { .. }) if !self.read_only() => {
                let removed = self.inner.artifacts.remove_damaged(cid)?;
                tracing::warn!(%error, removed, "an artifact is to be fetched again");
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
        if self.read_only() {
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

    /// The artifact's file, if it is here: for processes that cannot ask the store, and check its
    /// hash themselves. Does not count as a use of it.
    pub fn artifact_path(&self, cid: &Cid) -> Option<PathBuf> {
        self.inner.artifacts.path(cid)
    }

    /// Writes down which artifacts were used since the last call, as used at `now` (Unix seconds): what
    /// [`Store::gc`] goes by. For about once an hour, and the end.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn note_artifact_uses(&self, now: u64) -> Result<()> {
        if self.read_only() { Ok(()) } else { self.inner.artifacts.note_uses(now) }
    }

    /// Starts an artifact that comes in pieces, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::DiskFull`].
    pub fn begin_artifact(&self, cid: Cid, limit: u64) -> Result<ArtifactWriter> {
        self.inner.artifacts.begin(cid, limit)
    }
}
