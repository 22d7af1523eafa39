//! A mark in a database that a repair has begun to change in place.
//!
//! RocksDB's own repair makes a database of the tables that are whole: it opens without complaint,
//! and what is missing in it is not to be seen. So while the mark is there, which also keeps what was
//! damaged before, the database is no store but material for a repair. It is never taken away: a
//! new database takes the place of the old one.

use std::{fs, io::ErrorKind, path::Path};

use super::files::DamagedFile;
use crate::{
    artifacts::{replace, sync_folder},
    error::{Result, StoreError},
};

/// Beside the files of RocksDB, which leaves names that are not its own alone.
const NAME: &str = "REPAIRING";

/// Marks the database in `dir`, on disk when this returns.
pub fn mark(dir: &Path, damaged: &[DamagedFile]) -> Result<()> {
    let line = |damaged: &DamagedFile| {
        let words = [damaged.column.as_str(), damaged.file.as_deref().unwrap_or_default(), &damaged.why];
        words.map(|word| word.replace(['\t', '\n', '\r'], " ")).join("\t") + "\n"
    };
    let text: String = damaged.iter().map(line).collect();
    replace(dir, &dir.join(NAME), text.as_bytes())?;
    sync_folder(dir)
}

/// What was damaged in a database before a repair began to change it; none where none did.
pub fn damaged(dir: &Path) -> Result<Option<Vec<DamagedFile>>> {
    let path = dir.join(NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io(format!("cannot read {}", path.display()), error)),
    };
    let text = String::from_utf8_lossy(&text);
    let of_line = |line: &str| {
        let mut words = line.splitn(3, '\t').map(str::to_owned);
        let (column, file) = (words.next()?, words.next()?);
        Some(DamagedFile { column, file: Some(file).filter(|file| !file.is_empty()), why: words.next()? })
    };
    Ok(Some(text.lines().filter_map(of_line).collect()))
}

/// # Errors
/// [`StoreError::Corrupt`] where a repair changed the database in `dir` and did not come to its end.
pub fn refuse(dir: &Path) -> Result<()> {
    match damaged(dir)? {
        None => Ok(()),
        Some(_) => Err(StoreError::corrupt("a repair of it did not come to its end, and is to be run again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_database_is_refused_and_keeps_what_was_damaged() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(damaged(dir.path()).unwrap(), None);
        refuse(dir.path()).unwrap();
        let found = [
            DamagedFile { column: "log".into(), file: Some("000012.sst".into()), why: "it has 1 bytes of 2".into() },
            DamagedFile { column: "(all)".into(), file: None, why: "no list\tof tables".into() },
        ];
        mark(dir.path(), &found).unwrap();
        let mut kept = damaged(dir.path()).unwrap().unwrap();
        assert!(matches!(refuse(dir.path()), Err(StoreError::Corrupt { .. })));
        assert_eq!(kept.remove(0), found[0]);
        assert_eq!((kept[0].file.clone(), kept[0].why.as_str()), (None, "no list of tables"));
    }
}
