//! Stores of older programs, brought up to this one's [`SCHEMA`].
//!
//! Everything but the objects, their order of arrival and what waits follows from the objects. So an
//! upgrade inserts them into a new database beside the old one, under their old numbers, which
//! then takes its place as after a repair ([`swap`]). Interrupted, it begins again; it needs the old
//! database's space a second time. A damaged one is upgraded by a repair.

mod v1;

use std::path::Path;

use crate::{
    columns::SCHEMA,
    db::{Access, Db, Scan},
    error::{Result, StoreError},
    mark,
    progress::{Stage, Watch, tell},
    read,
    repair::{Known, Replay, Replayed, swap},
};

/// Upgrades the database in `dir` if it is of an older schema. The directory is locked by the
/// caller, who has finished what was being installed.
///
/// # Errors
/// [`StoreError::DiskFull`], [`StoreError::Corrupt`], [`StoreError::Cancelled`] and others, which
/// leave the old database as it was.
pub fn upgrade(dir: &Path, watch: &mut Watch<'_>) -> Result<()> {
    let old = swap::database(dir);
    if !old.join("CURRENT").is_file() || older(&Db::columns_of(&old)?).is_none() {
        return Ok(());
    }
    convert(&old, &swap::building(dir), watch)?;
    swap::install(dir, swap::Old::Spent)
}

/// Fills a new database in `new` from the older one in `old`, which stays as it is.
///
/// # Errors
/// As [`upgrade`].
pub fn convert(old: &Path, new: &Path, watch: &mut Watch<'_>) -> Result<()> {
    let from = open(old, Access::Read)?;
    let total = read::sequence(&from)?;
    tell(watch, Stage::Upgrade, 0, total)?;
    swap::create(new)?;
    let into = Db::open(new, Access::Scratch)?;
    let replayed = v1::replay(&from, Replay::new(&into, None, total)?.upgrading(), None, watch)?;
    if let Some(damaged) = replayed.damaged.first() {
        return Err(StoreError::corrupt(damaged.to_string()));
    }
    if let Some(fault) = replayed.faults.first() {
        return Err(StoreError::corrupt(fault.to_string()));
    }
    into.seal()?;
    // What the old one lost of its log is still told of when the new one is opened.
    mark::write(new, read::sequence(&into)?.max(mark::read(old)))?;
    tell(watch, Stage::Upgrade, total, total)
}

/// Opens an older database for reading.
///
/// # Errors
/// [`StoreError::Corrupt`] where it is none, or lacks something, unless it is to be salvaged.
pub fn open(dir: &Path, access: Access) -> Result<Db> {
    v1::open(dir, access)
}

/// Inserts everything that can be read of an older database, as of one of today's.
///
/// # Errors
/// [`StoreError::Cancelled`]; when the new database cannot be written.
pub fn mending(
    from: &Db,
    spare: Option<&dyn Scan>,
    into: &Db,
    known: Known,
    watch: &mut Watch<'_>,
) -> Result<Replayed> {
    let last = read::sequence(from).unwrap_or_default().max(known.acknowledged);
    v1::replay(from, Replay::new(into, spare, last)?, Some(known), watch)
}

/// What a database with these columns is refused for, where it is older and not being upgraded.
pub fn older(columns: &[String]) -> Option<StoreError> {
    let version_1 = columns.iter().any(|name| v1::ONLY_COLUMNS.contains(&name.as_str()));
    version_1.then_some(StoreError::OlderSchema { found: v1::SCHEMA, supported: SCHEMA })
}
