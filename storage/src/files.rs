//! Small files written in one atomic step, and folders synced.

use std::{
    fs::{File, Permissions},
    io::{ErrorKind, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use tempfile::{Builder, NamedTempFile};

use crate::error::{Result, StoreError};

/// Prefix of the names of files that are not complete yet. A crash leaves them behind; the next start removes them.
pub const TEMPORARY: &str = "tmp-";

/// Permissions of a new file before the process's umask, as the standard library has them. The default of `tempfile`
/// would hide artifacts from other users.
const MODE: u32 = 0o666;

/// A new file in `folder` that is removed when it is dropped without being persisted.
pub fn temporary(folder: &Path) -> Result<NamedTempFile> {
    let made = Builder::new().prefix(TEMPORARY).permissions(Permissions::from_mode(MODE)).tempfile_in(folder);
    made.map_err(|e| StoreError::io("create a file in", folder, &e))
}

/// Renames a complete temporary file to `path`, once its bytes are on disk. The new name is on disk only after
/// [`sync_folder`].
pub fn persist(file: NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_all().map_err(|e| StoreError::io("write", path, &e))?;
    file.persist(path).map_err(|e| StoreError::io("write", path, &e.error))?;
    Ok(())
}

/// Replaces a small file in one step that a crash cannot halve. `folder` is on the same file system as `path`.
pub fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = temporary(folder)?;
    file.as_file_mut().write_all(bytes).map_err(|e| StoreError::io("write", path, &e))?;
    persist(file, path)
}

/// Puts the names in a folder on disk.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| StoreError::io("sync", folder, &e))
}

/// None when the error is that there is no such file.
pub fn absent<T>(error: std::io::Error, action: &'static str, path: &Path) -> Result<Option<T>> {
    if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(StoreError::io(action, path, &error)) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn replaced_file_is_readable_as_any_other_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let (replaced, plain) = (dir.path().join("replaced"), dir.path().join("plain"));
        fs::write(&plain, b"a").unwrap();
        for text in ["one", "two"] {
            replace(dir.path(), &replaced, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&replaced).unwrap(), text);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&replaced), mode(&plain));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
