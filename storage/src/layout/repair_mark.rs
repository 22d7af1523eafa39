//! A marker file in a database whose tables a repair has begun to change.
//!
//! RocksDB's own repair keeps only the undamaged tables. The database opens without an error afterwards, and the
//! missing entries cannot be noticed. A database with this file is therefore not opened as a store, only read by
//! another repair. The file also keeps the list of what was damaged before. It is never removed: a repaired database
//! replaces the marked one.

use std::{fs, io::ErrorKind, path::Path};

use crate::{
    error::{Damage, Result, StoreError},
    files::{replace, sync_folder},
    types::DamagedFile,
};

/// RocksDB ignores files with names that are not its own.
const NAME: &str = "REPAIRING";

/// Marks the database in `dir`. The file is on disk when this returns.
pub fn write(dir: &Path, damaged: &[DamagedFile]) -> Result<()> {
    let line = |damaged: &DamagedFile| {
        let fields = [damaged.column.as_str(), damaged.file.as_deref().unwrap_or_default(), &damaged.why];
        fields.map(|field| field.replace(['\t', '\n', '\r'], " ")).join("\t") + "\n"
    };
    let text: String = damaged.iter().map(line).collect();
    replace(dir, &dir.join(NAME), text.as_bytes())?;
    sync_folder(dir)
}

/// The files that were damaged when a repair began to change the database in `dir`. None without a mark.
pub fn read(dir: &Path) -> Result<Option<Vec<DamagedFile>>> {
    let path = dir.join(NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", &path, &error)),
    };
    let text = String::from_utf8_lossy(&text);
    let parse = |line: &str| {
        let mut fields = line.splitn(3, '\t').map(str::to_owned);
        let (column, file) = (fields.next()?, fields.next()?);
        Some(DamagedFile { column, file: Some(file).filter(|file| !file.is_empty()), why: fields.next()? })
    };
    Ok(Some(text.lines().filter_map(parse).collect()))
}

/// # Errors
/// [`StoreError::Corrupt`] when the database in `dir` is marked.
pub fn refuse(dir: &Path) -> Result<()> {
    match read(dir)? {
        None => Ok(()),
        Some(_) => Err(Damage::UnfinishedRepair.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_database_is_refused_and_keeps_the_list_of_damage() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        refuse(dir.path()).unwrap();
        let found = [
            DamagedFile { column: "log".into(), file: Some("000012.sst".into()), why: "it has 1 bytes of 2".into() },
            DamagedFile { column: "(all)".into(), file: None, why: "no list\tof tables".into() },
        ];
        write(dir.path(), &found).unwrap();
        let mut kept = read(dir.path()).unwrap().unwrap();
        assert!(matches!(refuse(dir.path()), Err(StoreError::Corrupt(Damage::UnfinishedRepair))));
        assert_eq!(kept.remove(0), found[0]);
        assert_eq!((kept[0].file.clone(), kept[0].why.as_str()), (None, "no list of tables"));
    }
}
