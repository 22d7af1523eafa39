//! Repairs a store: makes a new database from everything that can be read, and puts it in the old one's place.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use rocksdb::{DB, Options};
use spore_protocol::Cid;

use super::{
    files::{FilesReport, cut_files, verify_artifacts},
    replay::{Fault, ReplayReport},
    walk::{self, RepairContext},
};
use crate::{
    artifacts::Artifacts,
    backup,
    columns::Column,
    db::{Db, KeyScanner},
    error::{Result, StoreError},
    layout::{self, repair_mark, swap},
    lock::DirLock,
    lookup, mark,
    progress::Watch,
    store::Store,
    tuning::Access,
    types::DamagedFile,
};

/// The result of a repair.
#[derive(Clone, Debug, Default)]
pub struct RepairReport {
    /// Objects in the store now.
    pub objects: u64,
    /// Records in it that wait for their parents.
    pub pending: u64,
    /// Objects that were read from the backup.
    pub from_backup: u64,
    /// Where the old database could not be read.
    pub damaged_files: Vec<DamagedFile>,
    /// The first objects that are lost or were refused. Other nodes may send them again.
    pub faults: Vec<Fault>,
    pub fault_count: u64,
    /// Sequence numbers of acknowledged changes of which nothing is left, not even the kind and id: the write-ahead
    /// log was cut short or is damaged. At most a thousand ranges. When the database did not open as a store, they
    /// include changes that were lost before.
    pub lost_changes: Vec<RangeInclusive<u64>>,
    /// Artifacts that did not match their address and were removed.
    pub damaged_artifacts: Vec<Cid>,
    /// Why the artifacts could not all be read. The database is repaired all the same.
    pub artifacts_unread: Option<String>,
    /// The old database, when something in it is lost. It is kept until the next repair.
    pub kept: Option<PathBuf>,
}

impl Store {
    /// Makes the store in `dir` anew: every object that can be read and verified, with its sequence number, and every
    /// column from these. Objects that cannot be read are taken from the newest backup in `backup`, if given. No node
    /// may run there. Needs as much free disk space as the database takes. Records whose parents are lost wait for
    /// them from `now` on (Unix seconds; the store has no clock).
    ///
    /// # Errors
    /// [`StoreError::Locked`] beside a node, [`StoreError::NotFound`], [`StoreError::NewerSchema`],
    /// [`StoreError::OlderSchema`], [`StoreError::Cancelled`]. Another repair can then read as much of the store as
    /// before.
    pub fn repair(dir: &Path, backup: Option<&Path>, now: u64, watch: &mut Watch<'_>) -> Result<RepairReport> {
        if !layout::exists(dir) {
            return Err(StoreError::NotFound(dir.to_path_buf()));
        }
        let lock = DirLock::exclusive(dir)?;
        swap::recover(dir)?;
        let spare = backup.map(|backup| open_spare(backup, dir, watch)).transpose()?;
        let (replayed, whole) = rebuild(dir, spare.as_ref().map(|spare| spare as &dyn KeyScanner), now, watch)?;
        drop(spare);
        // Before the new database is in place, so that a repair cancelled here leaves the old one.
        let (damaged_artifacts, artifacts_unread) = look_at_artifacts(dir, watch)?;
        let old = if whole { swap::Old::Spent } else { swap::Old::Kept };
        swap::install(dir, old)?;
        drop(lock);
        Ok(RepairReport {
            objects: replayed.objects,
            pending: replayed.pending,
            from_backup: replayed.from_spare,
            kept: (!whole).then(|| layout::replaced(dir)),
            damaged_files: replayed.damaged,
            faults: replayed.faults,
            fault_count: replayed.fault_count,
            lost_changes: replayed.lost_changes,
            damaged_artifacts,
            artifacts_unread,
        })
    }
}

/// Removes the damaged artifacts. Returns their addresses, and why the artifacts could not all be read.
fn look_at_artifacts(dir: &Path, watch: &mut Watch<'_>) -> Result<(Vec<Cid>, Option<String>)> {
    let artifacts = Artifacts::new(layout::artifacts(dir), false);
    let mut files = FilesReport::default();
    let unread = match artifacts.sweep().and_then(|()| verify_artifacts(&artifacts, true, &mut files, watch)) {
        Err(StoreError::Cancelled) => return Err(StoreError::Cancelled),
        verified => verified.err().map(|error| error.to_string()),
    };
    Ok((files.damaged_artifacts, unread))
}

/// Makes the new database in `store.building`. Returns whether it has everything that the old one had.
fn rebuild(
    dir: &Path,
    spare: Option<&dyn KeyScanner>,
    now: u64,
    watch: &mut Watch<'_>,
) -> Result<(ReplayReport, bool)> {
    let acknowledged = mark::read(&layout::database(dir));
    let old = DamagedDatabase::open(&layout::database(dir))?;
    let building = layout::building(dir);
    layout::create(&building)?;
    let new = Db::open(&building, Access::Scratch)?;
    let known = RepairContext { acknowledged, sound_until: old.sound_until, now };
    let mut replayed = walk::repairing(&old.db, spare, &new, known, watch)?;
    replayed.damaged.splice(..0, old.damaged);
    new.seal()?;
    mark::write(&building, lookup::sequence(&new)?)?;
    let whole = replayed.fault_count == 0 && replayed.damaged.is_empty() && replayed.lost_changes.is_empty();
    Ok((replayed, whole))
}

/// A database that may be damaged, open for reading what is not.
struct DamagedDatabase {
    db: Db,
    /// The sequence number up to which the database opens as a store. After it, the write-ahead log is damaged or
    /// ends. 0 when the database does not open as a store.
    sound_until: u64,
    /// The damage found when the database was opened.
    damaged: Vec<DamagedFile>,
}

impl DamagedDatabase {
    /// Opens the database. A table that is cut short hides older entries in other tables, and a database without its
    /// list of tables does not open. In these cases RocksDB's own repair first makes a database of the undamaged
    /// tables, in place, and drops the others. It is used only when a column is damaged that this repair reads, never
    /// for the columns that are computed again.
    fn open(dir: &Path) -> Result<Self> {
        let begun = repair_mark::read(dir)?;
        let number = Db::open(dir, Access::Read).and_then(|db| lookup::sequence(&db));
        // A database that a repair began to change opens without an error, whatever it has lost.
        let sound_until = if begun.is_some() { 0 } else { number.unwrap_or_default() };
        let damaged = match begun {
            Some(damaged) => damaged,
            None => match Db::open(dir, Access::Salvage) {
                Ok(db) => {
                    let (_, damaged) = cut_files(&db, dir)?;
                    if !damaged.iter().any(is_read) {
                        return Ok(Self { db, sound_until, damaged });
                    }
                    damaged
                }
                Err(
                    error @ (StoreError::NewerSchema { .. } | StoreError::OlderSchema { .. } | StoreError::DiskFull),
                ) => return Err(error),
                Err(error) => vec![DamagedFile::of_database(error.into_reason())],
            },
        };
        repair_mark::write(dir, &damaged)?;
        let mut options = Options::default();
        options.set_log_level(rocksdb::LogLevel::Warn);
        DB::repair(&options, dir)?;
        Ok(Self { db: Db::open(dir, Access::Salvage)?, sound_until, damaged })
    }
}

/// Whether a repair reads the column that a file belongs to. The other columns follow from these.
fn is_read(damaged: &DamagedFile) -> bool {
    const READ: [Column; 9] = [
        Column::Meta,
        Column::Ids,
        Column::Objects,
        Column::Log,
        Column::Records,
        Column::Pending,
        Column::PendingByAge,
        Column::Refused,
        Column::RefusedByAge,
    ];
    READ.iter().any(|column| column.name() == damaged.column)
}

/// The newest backup, unpacked beside the store.
fn open_spare(backup: &Path, dir: &Path, watch: &mut Watch<'_>) -> Result<Db> {
    let spare = layout::scratch(dir).join("backup");
    backup::unpack(backup, None, &spare, watch)?;
    Db::open(&spare, Access::Salvage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::objects::profile;

    #[test]
    fn database_changed_by_a_repair_is_not_sound_up_to_any_number() {
        let dir = tempfile::tempdir().unwrap();
        Store::open(dir.path()).unwrap().insert(&[profile(1, "one", 5).into()], 1).unwrap();
        let database = layout::database(dir.path());
        let sound_until = || DamagedDatabase::open(&database).unwrap().sound_until;
        assert_eq!(sound_until(), 1);
        repair_mark::write(&database, &[]).unwrap();
        assert_eq!(sound_until(), 0);
    }
}
