//! Backups: the database through RocksDB's backup engine, which copies each table file once however
//! many backups hold it, and every artifact once, checked while it is copied.
//!
//! A backup folder has `database/`, `artifacts/` and its own `LOCK`. Artifacts are copied and never
//! linked: a link would rot with its original. They are copied after the database, so that a
//! record in a backup has its script there too; they go from a backup only with the folder.

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
    progress::{Stage, Watch, tell},
    salvage::{SalvageScan, ScanStep},
    store::Store,
    tuning::Access,
};

/// One backup of the database in a backup folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Grows with each backup.
    pub id: u32,
    /// Unix seconds, by the machine that made it.
    pub timestamp: u64,
    /// Of its files in bytes; those that it shares with other backups too.
    pub bytes: u64,
    pub files: u32,
}

/// What making a backup came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    pub backup: Backup,
    /// Copied now; what the folder had already is not copied again.
    pub artifacts_copied: u64,
    pub artifact_bytes_copied: u64,
    /// Damaged on the way, and left out.
    pub artifacts_damaged: Vec<Cid>,
}

/// What a restoration came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    pub backup: Backup,
    pub artifacts_copied: u64,
    /// Damaged in the backup, and left out: other nodes may have them.
    pub artifacts_damaged: Vec<Cid>,
    /// The number of the last change in the store now.
    pub sequence: u64,
}

/// What to restore, and over what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestorePlan {
    /// The newest one when none is named.
    pub id: Option<u32>,
    /// Also where a store is already: it is kept aside until the next repair or restoration.
    pub replace: bool,
}

impl Store {
    /// Adds a backup of the store as it is now to the folder `to`, and forgets all but the newest `keep`
    /// of the database's. Can run beside everything else.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] in a store opened for reading, [`StoreError::Locked`] while another
    /// backup or restoration uses the folder, [`StoreError::DiskFull`], [`StoreError::Cancelled`].
    pub fn backup(&self, to: &Path, keep: usize, watch: &mut Watch<'_>) -> Result<BackupReport> {
        if self.read_only() {
            return Err(StoreError::ReadOnly);
        }
        layout::create(&to.join(DATABASE))?;
        let _lock = DirLock::exclusive(to)?;
        tell(watch, Stage::Copy, 0, 0)?;
        let mut engine = engine(to)?;
        engine.create_new_backup_flush(self.database().raw(), false)?;
        let backup = list(&engine).pop().ok_or_else(|| StoreError::NoBackup(to.to_path_buf()))?;
        let artifacts = Artifacts::new(to.join(ARTIFACTS), false);
        artifacts.sweep()?;
        let copied = copy_artifacts(self.artifacts(), &artifacts, watch)?;
        // Last: until the new one is complete, an older one may be all that there is.
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
    /// [`StoreError::NoBackup`] where there is none; [`StoreError::Locked`] while one is made; when it cannot be
    /// read.
    pub fn backups(folder: &Path) -> Result<Vec<Backup>> {
        let _lock = DirLock::shared(folder)?;
        Ok(list(&open(folder)?))
    }

    /// Puts a backup in the place of the store in `dir`, after reading every block of it. The node must not
    /// run. Changes made since are told of as lost when the store is opened, and other nodes bring
    /// back what they know of them.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`] where a store is and is not to be replaced, [`StoreError::Locked`]
    /// beside a node, or while a backup is made, [`StoreError::NoBackup`], [`StoreError::Corrupt`] where the backup is damaged;
    /// the store is as it was then.
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
        // Before the database: a record never stands without the script that it had.
        let copied = copy_artifacts(&Artifacts::new(folder.join(ARTIFACTS), true), &artifacts, watch)?;
        swap::install(dir, swap::Old::Kept)?;
        drop(lock);
        Ok(RestoreReport { backup, artifacts_copied: copied.count, artifacts_damaged: copied.damaged, sequence })
    }
}

const DATABASE: &str = "database";
const ARTIFACTS: &str = "artifacts";

/// Copies a backup's database into `into`, which is emptied first.
pub fn unpack(folder: &Path, id: Option<u32>, into: &Path, watch: &mut Watch<'_>) -> Result<()> {
    let _reading = DirLock::shared(folder)?;
    let mut engine = open(folder)?;
    let backup = find(&list(&engine), id, folder)?;
    tell(watch, Stage::Copy, 0, 0)?;
    layout::clear(into)?;
    layout::create(into)?;
    Ok(engine.restore_from_backup(into, into, &RestoreOptions::default(), backup.id)?)
}

/// Reads every block of a database that was restored; the number of its last change.
fn prove(dir: &Path, watch: &mut Watch<'_>) -> Result<u64> {
    let db = Db::open(dir, Access::Salvage)?;
    for (done, column) in Column::ALL.into_iter().enumerate() {
        tell(watch, Stage::Scan, done as u64, Column::ALL.len() as u64)?;
        for step in SalvageScan::new(&db, column) {
            if let ScanStep::Damage(why) = step? {
                return Err(Damage::Backup { column: column.name(), why }.into());
            }
        }
    }
    lookup::sequence(&db)
}

fn open(folder: &Path) -> Result<BackupEngine> {
    // The engine would make a folder that is not there.
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

/// Copies what is not there yet, with the list of pins.
fn copy_artifacts(from: &Artifacts, to: &Artifacts, watch: &mut Watch<'_>) -> Result<Copied> {
    let mut copied = Copied::default();
    from.each(&mut |stored| {
        copied.seen += 1;
        tell(watch, Stage::Artifacts, copied.seen, 0)?;
        if to.size(&stored.cid)? == Some(stored.size) {
            return Ok(());
        }
        match copy_artifact(from, to, &stored.cid) {
            Ok(Some(bytes)) => {
                copied.count += 1;
                copied.bytes += bytes;
            }
            // Removed since it was listed.
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
