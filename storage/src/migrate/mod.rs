//! Stores of older programs, brought up to this one's [`SCHEMA`].
//!
//! Everything but the objects, their order of arrival and what waits follows from the objects. So an
//! upgrade inserts them into a new database beside the old one, under their old numbers, and then
//! puts it in the old one's place with two renames. Whenever it is interrupted, the next opening
//! finds the old database whole, or the new one; it needs the old one's space a second time.

mod v1;

use std::{fs, io, path::Path};

use crate::{
    columns::SCHEMA,
    db::Db,
    error::{Result, StoreError},
};

/// The database being made.
const NEW: &str = "store.upgrading";
/// The old one, from when the new one is whole until it has its place.
const OLD: &str = "store.old";

/// How far an upgrade is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The schema of the store found.
    pub from: u32,
    /// Objects taken over, out of all.
    pub done: u64,
    pub total: u64,
}

/// Upgrades the database in `dir/store` if it is of an older schema, and finishes or clears away
/// what an interrupted upgrade left. The directory is locked by the caller.
///
/// # Errors
/// [`StoreError::DiskFull`], [`StoreError::Corrupt`] and others that leave the old database as it was.
pub fn upgrade(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    let (store, new, old) = (dir.join("store"), dir.join(NEW), dir.join(OLD));
    if old.exists() && !store.exists() {
        // The old one goes aside only when the new one is whole.
        rename(dir, if new.exists() { &new } else { &old }, &store)?;
    }
    for left in [&new, &old] {
        remove(left)?;
    }
    if !is_version_1(&store)? {
        return Ok(());
    }
    v1::rebuild(&store, &new, progress)?;
    rename(dir, &store, &old)?;
    rename(dir, &new, &store)?;
    remove(&old)
}

/// Whether the database in `store` needs an upgrade before it is read.
///
/// # Errors
/// When it cannot be looked at.
pub fn refuse_older(store: &Path) -> Result<()> {
    if is_version_1(store)? {
        return Err(StoreError::OlderSchema { found: v1::SCHEMA, supported: SCHEMA });
    }
    Ok(())
}

fn is_version_1(store: &Path) -> Result<bool> {
    Ok(store.join("CURRENT").is_file() && Db::columns_of(store)?.iter().any(|name| name == v1::ONLY_COLUMN))
}

fn rename(dir: &Path, from: &Path, to: &Path) -> Result<()> {
    let failed = |e| StoreError::io(format!("cannot rename {} to {}", from.display(), to.display()), e);
    fs::rename(from, to).map_err(failed)?;
    // Each rename is on disk before the next, or what is found after a crash could be neither.
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io(format!("cannot remove {}", dir.display()), e))
        }
        _ => Ok(()),
    }
}
