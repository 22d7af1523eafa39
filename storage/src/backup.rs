//! Backups. RocksDB's backup engine copies each table file once, however many backups contain it. Each artifact is
//! copied once and checked meanwhile.
//!
//! A backup folder has `database/`, `artifacts/` and its own `LOCK`. Artifacts are copied and never linked, because
//! damage to the original would damage a link too. They are copied after the database, so that each record in a
//! backup has its script there too. They are never removed from a backup folder.

use std::path::Path;

use rocksdb::{
    Env,
    backup::{BackupEngine, BackupEngineOptions, RestoreOptions},
};
use spore_protocol::Cid;

use crate::{
    artifacts::Artifacts,
    columns::Column,
    db::Db,
    error::{Damage, Result, StoreError},
    layout::{self, swap},
    lock::DirLock,
    lookup, mark,
    progress::{Stage, Watch, notify},
    salvage::{SalvageScan, ScanStep},
    store::Store,
    tuning::Access,
};

/// One backup of the database in a backup folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Grows with each backup.
    pub id: u32,
    /// Unix seconds, by the clock of the machine that made it.
    pub timestamp: u64,
    /// Bytes of its files, including files that it shares with other backups.
    pub bytes: u64,
    pub files: u32,
}

/// The result of [`Store::backup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    pub backup: Backup,
    /// Artifacts that the folder did not have yet.
    pub artifacts_copied: u64,
    pub artifact_bytes_copied: u64,
    /// Artifacts that were found damaged while they were copied. They are not in the backup.
    pub artifacts_damaged: Vec<Cid>,
}

/// The result of [`Store::restore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    pub backup: Backup,
    pub artifacts_copied: u64,
    /// Artifacts that are damaged in the backup and were not copied. Other nodes may have them.
    pub artifacts_damaged: Vec<Cid>,
    /// The sequence number of the last change in the store now.
    pub sequence: u64,
}

/// What to restore, and whether to replace a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestorePlan {
    /// None restores the newest backup.
    pub id: Option<u32>,
    /// Whether a store in the data directory may be replaced. It is kept until the next repair or restoration.
    pub replace: bool,
}

impl Store {
    /// Adds a backup of the store as it is now to the folder `to`, and removes all but the newest `keep` backups of
    /// the database. Can run while the store is in use.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] in a store opened for reading, [`StoreError::Locked`] while another backup or
    /// restoration uses the folder, [`StoreError::DiskFull`], [`StoreError::Cancelled`].
    pub fn backup(&self, to: &Path, keep: usize, watch: &mut Watch<'_>) -> Result<BackupReport> {
        if self.read_only() {
            return Err(StoreError::ReadOnly);
        }
        layout::create(&to.join(DATABASE))?;
        let _lock = DirLock::exclusive(to)?;
        notify(watch, Stage::Copy, 0, 0)?;
        let mut engine = engine(to)?;
        engine.create_new_backup_flush(self.database().raw(), false)?;
        let backup = list(&engine).pop().ok_or_else(|| StoreError::NoBackup(to.to_path_buf()))?;
        let artifacts = Artifacts::new(to.join(ARTIFACTS), false);
        artifacts.sweep()?;
        let copied = copy_artifacts(self.artifacts(), &artifacts, watch)?;
        // Last, because an older backup may be the only one until the new one is complete.
        engine.purge_old_backups(keep.max(1))?;
        Ok(BackupReport {
            backup,
            artifacts_copied: copied.count,
            artifact_bytes_copied: copied.bytes,
            artifacts_damaged: copied.damaged,
        })
    }

    /// The backups in a folder, the oldest first.
    ///
    /// # Errors
    /// [`StoreError::NoBackup`] where there is none; [`StoreError::Locked`] while a backup is made; when the folder
    /// cannot be read.
    pub fn backups(folder: &Path) -> Result<Vec<Backup>> {
        let _lock = DirLock::shared(folder)?;
        Ok(list(&open(folder)?))
    }

    /// Replaces the store in `dir` by a backup, after reading every block of the backup. No node may run there.
    /// Changes made since the backup are reported by [`Store::lost_changes`] when the store is opened, and other
    /// nodes send the objects that they have of them.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`] where there is a store that is not to be replaced, [`StoreError::Locked`] beside a
    /// node or while a backup is made, [`StoreError::NoBackup`], [`StoreError::Corrupt`] when the backup is damaged.
    /// In all these cases the store is unchanged.
    pub fn restore(folder: &Path, dir: &Path, plan: RestorePlan, watch: &mut Watch<'_>) -> Result<RestoreReport> {
        let _reading = DirLock::shared(folder)?;
        let backup = find(&list(&open(folder)?), plan.id, folder)?;
        layout::create(dir)?;
        let lock = DirLock::exclusive(dir)?;
        swap::recover(dir)?;
        if layout::exists(dir) && !plan.replace {
            return Err(StoreError::NotEmpty(dir.to_path_buf()));
        }
        let building = layout::building(dir);
        unpack(folder, Some(backup.id), &building, watch)?;
        let sequence = prove(&building, watch)?.max(mark::read(&layout::database(dir)));
        mark::write(&building, sequence)?;
        let artifacts = Artifacts::new(dir.join(ARTIFACTS), false);
        artifacts.sweep()?;
        // Before the database, so that no record is stored without the script that it had.
        let copied = copy_artifacts(&Artifacts::new(folder.join(ARTIFACTS), true), &artifacts, watch)?;
        swap::install(dir, swap::Old::Kept)?;
        drop(lock);
        Ok(RestoreReport { backup, artifacts_copied: copied.count, artifacts_damaged: copied.damaged, sequence })
    }
}

const DATABASE: &str = "database";
const ARTIFACTS: &str = "artifacts";

/// Copies a backup's database into the folder `into`, which is cleared first.
pub fn unpack(folder: &Path, id: Option<u32>, into: &Path, watch: &mut Watch<'_>) -> Result<()> {
    let _reading = DirLock::shared(folder)?;
    let mut engine = open(folder)?;
    let backup = find(&list(&engine), id, folder)?;
    notify(watch, Stage::Copy, 0, 0)?;
    layout::clear(into)?;
    layout::create(into)?;
    Ok(engine.restore_from_backup(into, into, &RestoreOptions::default(), backup.id)?)
}

/// Reads every block of a restored database. Returns the sequence number of its last change.
fn prove(dir: &Path, watch: &mut Watch<'_>) -> Result<u64> {
    let db = Db::open(dir, Access::Salvage)?;
    for (done, column) in Column::ALL.into_iter().enumerate() {
        notify(watch, Stage::Scan, done as u64, Column::ALL.len() as u64)?;
        for step in SalvageScan::new(&db, column) {
            if let ScanStep::Damage(why) = step? {
                return Err(Damage::Backup { column: column.name(), why }.into());
            }
        }
    }
    lookup::sequence(&db)
}

fn open(folder: &Path) -> Result<BackupEngine> {
    // The engine would create a missing folder.
    if !folder.join(DATABASE).is_dir() {
        return Err(StoreError::NoBackup(folder.to_path_buf()));
    }
    engine(folder)
}

fn engine(folder: &Path) -> Result<BackupEngine> {
    let options = BackupEngineOptions::new(folder.join(DATABASE))?;
    Ok(BackupEngine::open(&options, &Env::new()?)?)
}

fn list(engine: &BackupEngine) -> Vec<Backup> {
    let backup = |info: rocksdb::backup::BackupEngineInfo| Backup {
        id: info.backup_id,
        timestamp: u64::try_from(info.timestamp).unwrap_or_default(),
        bytes: info.size,
        files: info.num_files,
    };
    let mut backups: Vec<Backup> = engine.get_backup_info().into_iter().map(backup).collect();
    backups.sort_by_key(|backup| backup.id);
    backups
}

fn find(backups: &[Backup], id: Option<u32>, folder: &Path) -> Result<Backup> {
    let found = match id {
        Some(id) => backups.iter().find(|backup| backup.id == id),
        None => backups.last(),
    };
    found.copied().ok_or_else(|| StoreError::NoBackup(folder.to_path_buf()))
}

#[derive(Default)]
struct Copied {
    count: u64,
    bytes: u64,
    damaged: Vec<Cid>,
    seen: u64,
}

/// Copies the artifacts that `to` does not have, and the list of pins.
fn copy_artifacts(from: &Artifacts, to: &Artifacts, watch: &mut Watch<'_>) -> Result<Copied> {
    let mut copied = Copied::default();
    from.each(&mut |stored| {
        copied.seen += 1;
        notify(watch, Stage::Artifacts, copied.seen, 0)?;
        if to.size(&stored.cid)? == Some(stored.size) {
            return Ok(());
        }
        match copy_artifact(from, to, &stored.cid) {
            Ok(Some(bytes)) => {
                copied.count += 1;
                copied.bytes += bytes;
            }
            // The artifact was removed since it was listed.
            Ok(None) => {}
            Err(StoreError::DamagedArtifact { cid, .. }) => copied.damaged.push(cid),
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    to.pins.add(&from.pins.all()?)?;
    Ok(copied)
}

fn copy_artifact(from: &Artifacts, to: &Artifacts, cid: &Cid) -> Result<Option<u64>> {
    let Some(reader) = from.open(cid)? else { return Ok(None) };
    let mut writer = to.begin(*cid, reader.size())?;
    for piece in reader {
        writer.append(&piece?)?;
    }
    let size = writer.size();
    writer.finish()?;
    Ok(Some(size))
}
