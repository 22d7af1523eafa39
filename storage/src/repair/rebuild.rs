//! A store built anew out of what can be read of it, and put in its place.

use std::path::{Path, PathBuf};

use rocksdb::{DB, Options};

use super::{
    files::{DamagedFile, FilesReport, cut_files},
    replay::{Fault, Replay, Replayed},
    swap,
};
use crate::{
    backup,
    columns::{Column, SCHEMA},
    db::{Access, Db, Source},
    error::{Result, StoreError},
    keys,
    lock::DirLock,
    mark::{self, Mark},
    progress::Watch,
    read,
    store::Store,
};

/// What a repair came to.
#[derive(Clone, Debug, Default)]
pub struct RepairReport {
    /// Objects in the store now.
    pub objects: u64,
    /// Records in it that wait for their parents.
    pub pending: u64,
    /// Objects that were read from the backup.
    pub from_backup: u64,
    /// Waiting records that had no more room.
    pub dropped_pending: u64,
    /// Where the old database could not be read.
    pub damaged_files: Vec<DamagedFile>,
    /// What is lost or was refused, the first of it; other nodes may bring it back.
    pub faults: Vec<Fault>,
    pub fault_count: u64,
    /// Artifacts that were not what their address says: removed.
    pub damaged_artifacts: Vec<spore_protocol::Cid>,
    /// The old database, kept where something of it is lost, until the next repair.
    pub kept: Option<PathBuf>,
}

impl Store {
    /// Builds the store in `dir` anew: every object that can be read and verifies, in its order, with
    /// its number, and every column from these. What cannot be read is taken from the newest backup in
    /// `backup`, where one is named. The node must not run. Needs as much free disk as the database
    /// takes.
    ///
    /// # Errors
    /// [`StoreError::Locked`] beside a node, [`StoreError::NotFound`], [`StoreError::NewerSchema`],
    /// [`StoreError::Cancelled`]; what could be read of the store still can be then.
    pub fn repair(dir: &Path, backup: Option<&Path>, watch: &mut Watch<'_>) -> Result<RepairReport> {
        if !swap::exists(dir) {
            return Err(StoreError::NotFound(dir.to_path_buf()));
        }
        let lock = DirLock::exclusive(dir)?;
        swap::recover(dir)?;
        let spare = backup.map(|backup| open_spare(backup, dir, watch)).transpose()?;
        let (replayed, whole) = rebuild(dir, spare.as_ref().map(|spare| spare as &dyn Source), watch)?;
        drop(spare);
        swap::install(dir)?;
        if whole {
            swap::clear(&swap::replaced(dir))?;
        }
        drop(lock);
        let mut files = FilesReport::default();
        Self::open(dir)?.verify_artifacts(&mut files, watch)?;
        Ok(RepairReport {
            objects: replayed.objects,
            pending: replayed.pending,
            from_backup: replayed.from_spare,
            dropped_pending: replayed.dropped,
            kept: (!whole).then(|| swap::replaced(dir)),
            damaged_files: replayed.damaged,
            faults: replayed.faults,
            fault_count: replayed.fault_count,
            damaged_artifacts: files.damaged_artifacts,
        })
    }
}

/// Builds in [`swap::building`] what [`swap::install`] puts in place, and tells whether it has everything
/// that was in the old one.
fn rebuild(dir: &Path, spare: Option<&dyn Source>, watch: &mut Watch<'_>) -> Result<(Replayed, bool)> {
    let acknowledged = mark::read(&swap::database(dir));
    let (old, cut) = open_damaged(&swap::database(dir))?;
    let building = swap::building(dir);
    swap::create(&building)?;
    let new = Db::open(&building, Access::Scratch)?;
    let mut replayed = Replay::new(&old, spare, &new)?.mending(acknowledged, watch)?;
    replayed.damaged.splice(..0, cut);
    new.seal()?;
    Mark::open(&building)?.set(read::sequence(&new)?);
    let whole = replayed.fault_count == 0 && replayed.dropped == 0 && replayed.damaged.is_empty();
    Ok((replayed, whole))
}

/// Opens what may be damaged, for reading what is not. A table that is cut short hides what lies in
/// older ones, and a database without its lists does not open: then RocksDB's own repair first
/// makes a database of the tables that are whole. Also gives what is cut short.
fn open_damaged(dir: &Path) -> Result<(Db, Vec<DamagedFile>)> {
    let cut = match Db::open(dir, Access::Salvage) {
        Ok(db) => {
            let (_, cut) = cut_files(&db, dir)?;
            if cut.is_empty() {
                return Ok((of_this_format(db)?, cut));
            }
            cut
        }
        Err(error @ (StoreError::NewerSchema { .. } | StoreError::OlderSchema { .. })) => return Err(error),
        Err(error) => vec![DamagedFile::of_database(error.into_reason())],
    };
    let mut options = Options::default();
    options.set_log_level(rocksdb::LogLevel::Warn);
    DB::repair(&options, dir)?;
    Ok((of_this_format(Db::open(dir, Access::Salvage)?)?, cut))
}

/// A number that cannot be read is taken for this program's: another one would have been noticed
/// before the damage came.
fn of_this_format(db: Db) -> Result<Db> {
    match db.get(Column::Meta, keys::SCHEMA).ok().flatten().and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) if u32::from_be_bytes(bytes) > SCHEMA => {
            Err(StoreError::NewerSchema { found: u32::from_be_bytes(bytes), supported: SCHEMA })
        }
        Some(bytes) if u32::from_be_bytes(bytes) < SCHEMA => {
            Err(StoreError::corrupt("it has an older format, which starting a node once brings up to date"))
        }
        _ => Ok(db),
    }
}

/// The newest backup, unpacked beside the store.
fn open_spare(backup: &Path, dir: &Path, watch: &mut Watch<'_>) -> Result<Db> {
    let spare = swap::scratch(dir).join("backup");
    backup::unpack(backup, None, &spare, watch)?;
    Db::open(&spare, Access::Salvage).and_then(of_this_format)
}
