//! Replaces the store's database by a new one, so that a crash at any moment leaves one of the two.
//!
//! The new database is made in `store.building`, renamed to `store.ready` when it is complete, and then to `store`.
//! The old database is renamed to `store.replaced`, or removed.

use std::{fs, path::Path};

use super::{building, clear, database, ready, replaced, scratch};
use crate::{
    error::{Result, StoreError},
    files::sync_folder,
};

/// What happens to the database that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// It stays, as `store.replaced`.
    Kept,
    /// It is removed: the new database has everything that it had.
    Spent,
}

/// A marker file in a new database that has everything of the one that it replaces. The file stays until the old
/// database is removed. RocksDB ignores files with names that are not its own.
const SPENDS: &str = "REPLACES-ALL";

/// Makes the complete, closed database in `store.building` the store.
pub fn install(dir: &Path, old: Old) -> Result<()> {
    if old == Old::Spent {
        let path = building(dir).join(SPENDS);
        fs::write(&path, []).map_err(|e| StoreError::io("write", &path, &e))?;
    }
    sync_folder(&building(dir))?;
    rename(&building(dir), &ready(dir))?;
    sync_folder(dir)?;
    recover(dir)
}

/// Finishes an installation that a crash interrupted, and removes unfinished databases. Only the holder of the
/// directory's lock may call this, and only before the store is opened.
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
        fs::remove_file(&spends).map_err(|e| StoreError::io("remove", &spends, &e))?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| StoreError::io("rename", from, &e))
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
    fn crash_during_installation_leaves_the_old_store_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        put(&database(dir), "old");
        put(&building(dir), "half");
        recover(dir).unwrap();
        assert_eq!((text(&database(dir)), text(&building(dir))), (Some("old".into()), None));
        // A crash after the first rename; then one after the second.
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
    fn spent_database_is_removed_even_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        put(&database(dir), "old");
        put(&building(dir), "new");
        install(dir, Old::Spent).unwrap();
        assert_eq!((text(&database(dir)), text(&replaced(dir))), (Some("new".into()), None));
        // A crash after the renames, before the old database was removed.
        put(&replaced(dir), "old");
        fs::write(database(dir).join(SPENDS), []).unwrap();
        recover(dir).unwrap();
        assert_eq!((text(&database(dir)), text(&replaced(dir))), (Some("new".into()), None));
        // A database that another repair keeps is not touched by the next start.
        put(&replaced(dir), "kept");
        recover(dir).unwrap();
        assert_eq!(text(&replaced(dir)), Some("kept".into()));
    }
}
