//! The store of one data directory: opening it, inserting objects, and its artifacts. Questions are in [`crate::read`].

mod removal;
mod settle;

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use spore_protocol::{Cid, NodeId, VerifiedObject};

use crate::{
    artifacts::{ArtifactWriter, Artifacts},
    columns::Column,
    db::{Db, DbSnapshot, KeyOrder, KeyReader},
    error::{Result, StoreError},
    files::sync_folder,
    keys,
    layout::{self, repair_mark, swap},
    lock::DirLock,
    lookup,
    mark::{self, Mark},
    tuning::Access,
    types::{InsertOutcome, InsertReport},
    write::{InsertBatch, Rivals, WriteCache},
};

/// The record graph of one data directory. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What an insertion leaves for the next one.
#[derive(Default)]
struct WriterState {
    cache: WriteCache,
    /// What removals remember of the children of a parent.
    rivals: Rivals,
    /// Records whose parents are decided but that are not yet released. Empty between two insertions, except after a
    /// failed write or an unreadable record.
    unreleased: lookup::Unreleased,
    /// Whether changed levels have effects that are still to be written. False between two insertions, except after a
    /// failed write, and while another insertion writes them.
    unsettled: bool,
}

struct Inner {
    // Fields drop in this order: the database is closed before the directory's lock is released.
    db: Db,
    dir: PathBuf,
    /// None in a store opened for reading.
    mark: Option<Mark>,
    lost: Option<RangeInclusive<u64>>,
    artifacts: Artifacts,
    writer: Mutex<WriterState>,
    /// Held while a writer waits for the lock above. A writer that gives up that lock and takes it again therefore comes
    /// after one that waited.
    turn: Mutex<()>,
    /// Held by the insertion that writes the effects of changed levels. Released before the writer's lock, so that
    /// another insertion that leaves effects finds it free, or leaves them to one that still looks for them.
    settling: Mutex<()>,
    sequence: AtomicU64,
    lock: Option<DirLock>,
}

/// Flushes the memtables, so that the next start has no write-ahead log to read. When that fails, as on a full disk, the
/// log stays and is read.
impl Drop for Inner {
    fn drop(&mut self) {
        if !self.db.read_only()
            && let Err(error) = self.db.seal()
        {
            tracing::warn!(%error, "the store is closed without flushing it; the next start reads its write-ahead log");
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store(sequence {})", self.sequence())
    }
}

impl Store {
    /// Opens the store in a data directory for reading and writing, and creates both where they are missing:
    /// the database in `store/`, artifacts in `artifacts/`, the lock in `LOCK`. The trusted keys are those that the store
    /// remembers: none in a new store.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has the store open, [`StoreError::NewerSchema`],
    /// [`StoreError::OlderSchema`], [`StoreError::Corrupt`], [`StoreError::DiskFull`], [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Self> {
        let store = Self::open_unsettled(dir)?;
        store.continue_after_crash();
        Ok(store)
    }

    /// As [`Store::open`]. These keys are trusted from now on. Where they differ from those that the store remembers,
    /// levels and local verdicts are brought up to date before this returns.
    ///
    /// # Errors
    /// As [`Store::open`], and when the verdicts cannot be written.
    pub fn open_with_trust(dir: &Path, seeds: BTreeSet<NodeId>) -> Result<Self> {
        let store = Self::open(dir)?;
        store.trust(seeds)?;
        Ok(store)
    }

    /// Whether the store's directory is still at its path. False once it was removed, moved away or replaced: the
    /// database would write into what is not its own, so the process must end without closing it.
    pub fn is_here(&self) -> bool {
        self.inner.lock.as_ref().is_none_or(DirLock::is_here)
    }

    fn trust(&self, seeds: BTreeSet<NodeId>) -> Result<()> {
        let mut writer = self.writer();
        let cache = std::mem::take(&mut writer.cache);
        let mut batch = InsertBatch::after(&self.inner.db, cache)?;
        let (trusted, is_new) = (seeds.len(), self.sequence() == 0);
        let changed = batch.trust(seeds)?;
        if changed > 0 && !is_new {
            tracing::info!(trusted, changed, "the trusted keys changed: levels and local verdicts are computed anew");
        }
        self.finish(batch, Vec::new(), &mut writer, &mut InsertReport::default())?;
        self.settle_rest(&mut writer)
    }

    /// The keys that are trusted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn seeds(&self) -> Result<BTreeSet<NodeId>> {
        lookup::seeds(self.database())
    }

    fn open_unsettled(dir: &Path) -> Result<Self> {
        let is_new = !layout::exists(dir);
        layout::create(dir)?;
        let lock = DirLock::exclusive(dir)?;
        swap::recover(dir)?;
        repair_mark::refuse(&layout::database(dir))?;
        let store = Self::assemble(dir, Some(lock), Access::Write)?;
        store.inner.artifacts.sweep()?;
        if is_new {
            // Puts the names of its folders on disk. Without them, their files cannot be found after a power cut.
            sync_folder(dir)?;
        }
        Ok(store)
    }

    /// Whether `dir` holds a store, also one that is open or damaged.
    pub fn exists(dir: &Path) -> bool {
        layout::exists(dir)
    }

    /// Whether a process has the store in `dir` open for writing.
    pub fn is_held(dir: &Path) -> bool {
        DirLock::is_held(dir)
    }

    /// Opens the store for reading. Creates nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where there is no store, and as [`Store::open`].
    pub fn open_read_only(dir: &Path) -> Result<Self> {
        let current = layout::database(dir).join("CURRENT");
        match std::fs::metadata(&current) {
            Ok(found) if found.is_file() => {}
            // A directory of another user is not the same as an empty one.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(StoreError::io("read", &current, &error));
            }
            _ => return Err(StoreError::NotFound(dir.to_path_buf())),
        }
        let lock = DirLock::shared(dir)?;
        repair_mark::refuse(&layout::database(dir))?;
        Self::assemble(dir, lock, Access::Read)
    }

    fn assemble(dir: &Path, lock: Option<DirLock>, access: Access) -> Result<Self> {
        let database = layout::database(dir);
        let acknowledged = mark::read(&database);
        let db = Db::open(&database, access)?;
        let found = lookup::sequence(&db)?;
        let lost = (acknowledged > found).then(|| found + 1..=acknowledged);
        let mark = if db.read_only() { None } else { Some(Mark::open(&database)?) };
        if let (Some(lost), Some(_)) = (&lost, &mark) {
            tracing::error!(
                first = lost.start(),
                last = lost.end(),
                "acknowledged changes are missing: the write-ahead log was cut short, or the store is an older backup; other nodes send the objects again"
            );
            // The sequence numbers of lost changes are not used again: a reader may have read past them.
            db.commit([(Column::Meta, keys::SEQUENCE, Some(lost.end().to_be_bytes().as_slice()))])?;
        }
        let sequence = AtomicU64::new(found.max(acknowledged));
        if let Some(mark) = &mark {
            mark.set(found.max(acknowledged));
        }
        let artifacts = Artifacts::new(layout::artifacts(dir), db.read_only());
        let inner = Inner {
            db,
            dir: dir.to_path_buf(),
            mark,
            lost,
            artifacts,
            writer: Mutex::default(),
            turn: Mutex::default(),
            settling: Mutex::default(),
            sequence,
            lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The sequence numbers of changes that were acknowledged and that the store did not have when it was opened: its
    /// write-ahead log was cut short, or it is a restored backup. After a power cut, the last ones may be missing here.
    pub fn lost_changes(&self) -> Option<RangeInclusive<u64>> {
        self.inner.lost.clone()
    }

    fn writer(&self) -> MutexGuard<'_, WriterState> {
        // A panic while the lock was held did not harm the disk: a batch is written as a whole or not at all.
        let _turn = self.inner.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes an insertion that a crash ended between two of its batches: settles changed levels, and releases the
    /// records that still wait although their parents are decided. No report contains them; the change log does.
    fn continue_after_crash(&self) {
        let mut writer = self.writer();
        let mut proceed = || {
            writer.unsettled = self.inner.db.first(Column::Unsettled, &[], None, KeyOrder::Ascending)?.is_some();
            writer.unreleased = lookup::unreleased(&self.inner.db)?;
            let released = self.release_rest(&mut writer, &mut InsertReport::default());
            self.settle_rest(&mut writer)?;
            released
        };
        if let Err(error) = proceed() {
            tracing::warn!(%error, "could not complete an insertion that a crash ended");
        }
    }

    /// Stores a batch of objects, in any order, with everything that follows from them, in one atomic write that is on
    /// disk when this returns. `received_at` is in Unix seconds. Where thousands of records waited for these objects, they
    /// follow in further writes, also before this returns. So do the effects of changed levels. Other insertions come in
    /// between two of these writes, and leave their own effects to the insertion that already writes such effects.
    ///
    /// An object that needs a damaged part of the store fails alone: a batch that meets damage is split into halves, and
    /// each half is tried again.
    ///
    /// # Errors
    /// When the store cannot be read or written: then nothing of the batch is stored. Damage, and faults of an object,
    /// are its [`InsertOutcome`].
    pub fn insert(&self, objects: &[VerifiedObject], received_at: u64) -> Result<InsertReport> {
        let mut writer = self.writer();
        let mut report = InsertReport::default();
        match self.insert_batch(objects, received_at, &mut writer, &mut report) {
            Err(error @ StoreError::Corrupt(_)) if !objects.is_empty() => {
                self.insert_halves(objects, received_at, &error, &mut writer, &mut report);
            }
            inserted => inserted?,
        }
        self.settle_in_turn(writer);
        Ok(report)
    }

    /// Inserts each half of a batch that failed with `error`, and halves of those that meet damage too. A single object
    /// fails.
    fn insert_halves(
        &self,
        objects: &[VerifiedObject],
        received_at: u64,
        error: &StoreError,
        writer: &mut WriterState,
        report: &mut InsertReport,
    ) {
        let (first, second) = objects.split_at(objects.len() / 2);
        if first.is_empty() {
            report.fail(second, error);
            return;
        }
        for half in [first, second] {
            match self.insert_batch(half, received_at, writer, report) {
                Ok(()) => {}
                Err(error @ StoreError::Corrupt(_)) => self.insert_halves(half, received_at, &error, writer, report),
                Err(error) => report.fail(half, &error),
            }
        }
    }

    /// Inserts objects in one write, and adds their outcomes to the report in the same order. Adds none when it fails.
    fn insert_batch(
        &self,
        objects: &[VerifiedObject],
        received_at: u64,
        writer: &mut WriterState,
        report: &mut InsertReport,
    ) -> Result<()> {
        // Put back when the batch is written. When the batch fails, its unwritten values must be forgotten.
        let cache = std::mem::take(&mut writer.cache);
        let left = !writer.unreleased.is_empty();
        let mut batch = InsertBatch::after(&self.inner.db, cache)?.in_steps().keeping_expired(left);
        let mut outcomes = Vec::with_capacity(objects.len());
        for object in objects {
            outcomes.push((object.id(), batch.insert(object, received_at)?));
        }
        self.finish(batch, outcomes, writer, report)?;
        // The objects are stored even if what follows fails here. The next insertion tries again.
        if let Err(error) = self.release_rest(writer, report) {
            tracing::warn!(%error, "could not release all records that waited for new objects");
        }
        Ok(())
    }

    /// Releases the records that did not fit into the batch before, in as many batches as it takes.
    fn release_rest(&self, writer: &mut WriterState, report: &mut InsertReport) -> Result<()> {
        while !writer.unreleased.is_empty() {
            let cache = std::mem::take(&mut writer.cache);
            let mut batch = InsertBatch::after(&self.inner.db, cache)?.in_steps();
            let begun = writer.unreleased.clone();
            let count = begun.len();
            batch.release_left(begun)?;
            self.finish(batch, Vec::new(), writer, report)?;
            writer.unreleased.drain(..count);
        }
        Ok(())
    }

    /// Writes a batch, reports its outcomes, and keeps what it leaves for the next batch.
    fn finish(
        &self,
        batch: InsertBatch<'_>,
        outcomes: Vec<(spore_protocol::ObjectId, InsertOutcome)>,
        writer: &mut WriterState,
        report: &mut InsertReport,
    ) -> Result<()> {
        let finished = batch.finish()?;
        if finished.dirty {
            self.inner.db.commit(finished.view.entries())?;
            self.inner.sequence.store(finished.sequence, Ordering::Release);
            if let Some(mark) = &self.inner.mark {
                mark.set(finished.sequence);
            }
        }
        report.outcomes.extend(outcomes);
        report.changes.extend(finished.changes);
        report.late_rejects.extend(finished.late_rejects);
        report.dropped_pending += finished.dropped_pending;
        report.settle(&finished.resolved);
        writer.cache = finished.cache;
        writer.unsettled |= finished.unsettled;
        writer.unreleased.extend(finished.unreleased);
        Ok(())
    }

    /// Writes a value that is stored already, and syncs it: whether the store accepts writes, for example again after
    /// the disk was full.
    ///
    /// # Errors
    /// As [`Store::insert`].
    pub fn try_write(&self) -> Result<()> {
        let _writer = self.writer();
        let sequence = self.inner.db.get(Column::Meta, keys::SEQUENCE)?;
        self.inner.db.commit([(Column::Meta, keys::SEQUENCE, sequence.as_deref())])
    }

    /// The sequence number of the last change; 0 in an empty store.
    pub fn sequence(&self) -> u64 {
        self.inner.sequence.load(Ordering::Acquire)
    }

    /// A snapshot of the database.
    pub(crate) fn view(&self) -> DbSnapshot<'_> {
        self.inner.db.snapshot()
    }

    /// The database itself, for single reads, which need no snapshot.
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
    /// Stores bytes under their hash. They are on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], [`StoreError::Io`].
    pub fn put_artifact(&self, bytes: &[u8]) -> Result<Cid> {
        self.inner.artifacts.put(bytes)
    }

    /// All bytes of a small artifact, checked against its hash. A damaged file is removed and reported as missing, so
    /// that the artifact is fetched again.
    ///
    /// # Errors
    /// [`StoreError::DamagedArtifact`] when the store was opened for reading only; [`StoreError::Io`].
    pub fn artifact(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        self.remove_if_damaged(cid, self.inner.artifacts.read(cid))
    }

    /// At most `len` bytes from `offset` on, fewer at the end and never over 16 MiB, checked as [`Store::artifact`]
    /// does.
    ///
    /// # Errors
    /// As [`Store::artifact`].
    pub fn read_artifact_range(&self, cid: &Cid, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
        self.remove_if_damaged(cid, self.inner.artifacts.read_range(cid, offset, len))
    }

    /// Whether the artifact is stored and every byte of it is right. A damaged file is removed. Does not count as a use
    /// of the artifact.
    ///
    /// # Errors
    /// As [`Store::artifact`].
    pub fn verify_artifact(&self, cid: &Cid) -> Result<bool> {
        let verified = match self.inner.artifacts.verify(cid)? {
            Some(false) => Err(StoreError::DamagedArtifact { cid: *cid, offset: 0 }),
            Some(true) => Ok(Some(())),
            None => Ok(None),
        };
        Ok(self.remove_if_damaged(cid, verified)?.is_some())
    }

    fn remove_if_damaged<T>(&self, cid: &Cid, read: Result<Option<T>>) -> Result<Option<T>> {
        match read {
            Err(error @ StoreError::DamagedArtifact { .. }) if !self.read_only() => {
                let removed = self.inner.artifacts.remove_damaged(cid)?;
                tracing::warn!(%error, removed, "a damaged artifact has to be fetched again");
                Ok(None)
            }
            read => read,
        }
    }

    /// In bytes. None where there is no such artifact.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn artifact_size(&self, cid: &Cid) -> Result<Option<u64>> {
        self.inner.artifacts.size(cid)
    }

    /// The artifact's file, if it exists, for processes that cannot ask the store. They check the hash themselves. Does
    /// not count as a use of the artifact.
    pub fn artifact_path(&self, cid: &Cid) -> Option<PathBuf> {
        self.inner.artifacts.path(cid)
    }

    /// Writes to disk which artifacts were used since the last call, as used at `now` (Unix seconds). [`Store::gc`]
    /// decides by these times. Call it about once an hour, and before the process ends.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn note_artifact_uses(&self, now: u64) -> Result<()> {
        if self.read_only() { Ok(()) } else { self.inner.artifacts.note_uses(now) }
    }

    /// Notes that somebody looked at the artifacts at `now` (Unix seconds). Days without a look make no artifact old. Call
    /// it about once an hour, before [`Store::note_artifact_uses`].
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn look_at_artifacts(&self, now: u64) -> Result<()> {
        if self.read_only() { Ok(()) } else { self.inner.artifacts.look(now) }
    }

    /// Begins to write an artifact that comes in pieces, of at most `limit` bytes in all.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::DiskFull`].
    pub fn begin_artifact(&self, cid: Cid, limit: u64) -> Result<ArtifactWriter> {
        self.inner.artifacts.begin(cid, limit)
    }
}
