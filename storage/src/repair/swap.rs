//! Putting a whole new database in the place of the old one, so that a crash at any moment leaves
//! one of the two: made in `store.building`, renamed `store.ready` when complete, then `store`. The
//! old one becomes `store.replaced` or goes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    artifacts::sync_folder,
    error::{Result, StoreError},
};

pub fn database(dir: &Path) -> PathBuf {
    dir.join("store")
}

/// Where a database is made that may become the store. Anything there is unfinished.
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

/// Where databases for comparison are made, to be thrown away.
pub fn scratch(dir: &Path) -> PathBuf {
    dir.join("store.scratch")
}

/// Whether a store is in `dir`, be it in the middle of an installation.
pub fn exists(dir: &Path) -> bool {
    [database(dir), ready(dir)].iter().any(|path| path.is_dir())
}

pub fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| StoreError::io(format!("cannot create {}", path.display()), e))
}

/// Empties the place where a database is to be made.
pub fn clear(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(format!("cannot remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// What becomes of the database that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// It stays in [`replaced`].
    Kept,
    /// It goes: everything that was in it is in the new one.
    Spent,
}

/// In a database that has everything of the one that it takes the place of, until that one is gone.
/// Beside the files of RocksDB, which leaves names that are not its own alone.
const SPENDS: &str = "REPLACES-ALL";

/// Makes the complete, closed database in [`building`] the store.
pub fn install(dir: &Path, old: Old) -> Result<()> {
    if old == Old::Spent {
        let path = building(dir).join(SPENDS);
        fs::write(&path, []).map_err(|e| StoreError::io(format!("cannot write {}", path.display()), e))?;
    }
    sync_folder(&building(dir))?;
    rename(&building(dir), &ready(dir))?;
    sync_folder(dir)?;
    recover(dir)
}

/// Finishes an installation that a crash interrupted, and removes what others left. For the holder of
/// the directory's lock, before the store is opened.
pub fn recover(dir: &Path) -> Result<()> {
    clear(&building(dir))?;
    clear(&scratch(dir))?;
    if ready(dir).is_dir() {
        if database(dir).is_dir() {
            clear(&replaced(dir))?;
            rename(&database(dir), &replaced(dir))?;
        }
        rename(&ready(dir), &database(dir))?;
        sync_folder(dir)?;
    }
    let spends = database(dir).join(SPENDS);
    if spends.exists() {
        clear(&replaced(dir))?;
        fs::remove_file(&spends).map_err(|e| StoreError::io(format!("cannot remove {}", spends.display()), e))?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| StoreError::io(format!("cannot rename {} to {}", from.display(), to.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("CURRENT"), text).unwrap();
    }

    fn text(path: &Path) -> Option<String> {
        fs::read_to_string(path.join("CURRENT")).ok()
    }

    #[test]
    fn a_crash_at_any_moment_leaves_the_old_store_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        put(&database(dir), "old");
        put(&building(dir), "half");
        recover(dir).unwrap();
        assert_eq!((text(&database(dir)), text(&building(dir))), (Some("old".into()), None));
        // Complete, and nothing renamed yet; then with the old one renamed.
        put(&ready(dir), "new");
        recover(dir).unwrap();
        assert_eq!((text(&database(dir)), text(&replaced(dir))), (Some("new".into()), Some("old".into())));
        rename(&database(dir), &ready(dir)).unwrap();
        recover(dir).unwrap();
        assert_eq!(text(&database(dir)), Some("new".into()));
        put(&building(dir), "newer");
        install(dir, Old::Kept).unwrap();
        assert_eq!((text(&database(dir)), text(&replaced(dir))), (Some("newer".into()), Some("new".into())));
    }

    #[test]
    fn what_is_whole_in_the_new_store_goes_with_the_old_one_whenever_a_crash_comes() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        put(&database(dir), "old");
        put(&building(dir), "new");
        install(dir, Old::Spent).unwrap();
        assert_eq!((text(&database(dir)), text(&replaced(dir))), (Some("new".into()), None));
        // A crash after the renames, before the old one was removed.
        put(&replaced(dir), "old");
        fs::write(database(dir).join(SPENDS), []).unwrap();
        recover(dir).unwrap();
        assert_eq!((text(&database(dir)), text(&replaced(dir))), (Some("new".into()), None));
        // What another repair keeps is not touched by the next start.
        put(&replaced(dir), "kept");
        recover(dir).unwrap();
        assert_eq!(text(&replaced(dir)), Some("kept".into()));
    }
}
