//! The folders of a data directory that belong to the store, and the steps that change which database is the store.
//!
//! | folder | holds |
//! |---|---|
//! | `store` | the database |
//! | `store.building` | a database being made, unfinished ([`swap`]) |
//! | `store.ready` | a complete database about to become `store` ([`swap`]) |
//! | `store.replaced` | the database that `store` replaced |
//! | `store.scratch` | databases that are thrown away ([`scratch`]) |
//! | `artifacts` | artifacts as files ([`crate::artifacts`]) |
//!
//! Nothing here opens a database: these are names, renames and marker files.

pub mod repair_mark;
mod scratch;
pub mod swap;

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

pub use scratch::ScratchFolder;

use crate::error::{Result, StoreError};

pub fn database(dir: &Path) -> PathBuf {
    dir.join("store")
}

/// A database that is being made. Unfinished until [`swap::install`] renames it.
pub fn building(dir: &Path) -> PathBuf {
    dir.join("store.building")
}

/// The database that was replaced last.
pub fn replaced(dir: &Path) -> PathBuf {
    dir.join("store.replaced")
}

fn ready(dir: &Path) -> PathBuf {
    dir.join("store.ready")
}

/// Databases that are made to be thrown away.
pub fn scratch(dir: &Path) -> PathBuf {
    dir.join("store.scratch")
}

pub fn artifacts(dir: &Path) -> PathBuf {
    dir.join("artifacts")
}

/// Whether `dir` holds a store, also one whose installation was interrupted.
pub fn exists(dir: &Path) -> bool {
    [database(dir), ready(dir)].iter().any(|path| path.is_dir())
}

pub fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| StoreError::io("create", path, &e))
}

/// Removes a folder with everything in it. Succeeds where there is none.
pub fn clear(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", path, &error)),
        _ => Ok(()),
    }
}
