//! Stores of older programs, brought up to this one's [`SCHEMA`].
//!
//! Everything but the objects, their order of arrival and what waits follows from the objects. So an
//! upgrade inserts them into a new database beside the old one, under their old numbers, which
//! then takes its place as after a repair ([`swap`]). Interrupted, it begins again; it needs the old
//! database's space a second time.

mod v1;

use std::path::Path;

use crate::{
    columns::SCHEMA,
    db::{Access, Db},
    error::{Result, StoreError},
    mark::Mark,
    progress::Watch,
    read,
    repair::swap,
};

/// Upgrades the database in `dir` if it is of an older schema. The directory is locked by the
/// caller, who has finished what was being installed.
///
/// # Errors
/// [`StoreError::DiskFull`], [`StoreError::Corrupt`], [`StoreError::Cancelled`] and others, which
/// leave the old database as it was.
pub fn upgrade(dir: &Path, watch: &mut Watch<'_>) -> Result<()> {
    let (old, building) = (swap::database(dir), swap::building(dir));
    if !old.join("CURRENT").is_file() || !Db::columns_of(&old)?.iter().any(|name| name == v1::ONLY_COLUMN) {
        return Ok(());
    }
    swap::create(&building)?;
    let new = Db::open(&building, Access::Scratch)?;
    v1::rebuild(&old, &new, watch)?;
    new.seal()?;
    Mark::open(&building)?.set(read::sequence(&new)?);
    drop(new);
    swap::install(dir)?;
    // Everything that was in it is in the new one.
    swap::clear(&swap::replaced(dir))
}

/// What a database with these columns is refused for, where it is older and not being upgraded.
pub fn older(columns: &[String]) -> Option<StoreError> {
    let version_1 = columns.iter().any(|name| name == v1::ONLY_COLUMN);
    version_1.then_some(StoreError::OlderSchema { found: v1::SCHEMA, supported: SCHEMA })
}
