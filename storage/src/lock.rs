//! One writer for each data directory: an advisory lock on a file that names its holder.
//!
//! The operating system releases the lock when the process ends, so a crash leaves nothing to clean up. The text in
//! the file counts only while the lock is held.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

use crate::error::{Result, StoreError};

const NAME: &str = "LOCK";

/// Most bytes read of the lock file, which somebody else may have made.
const MAX_HOLDER: u64 = 200;

/// A held lock. Dropping it releases the lock.
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks the directory for writing.
    pub fn exclusive(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let fail = |source: std::io::Error| StoreError::io("lock", &path, &source);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        acquire(&mut file, File::try_lock, &path)?;
        file.set_len(0).map_err(fail)?;
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        writeln!(file, "spore, process {}", std::process::id()).map_err(fail)?;
        Ok(Self { _file: file })
    }

    /// Locks the directory for reading, beside other readers. Creates nothing: where there is no lock file, there is
    /// no writer.
    pub fn shared(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(NAME);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("lock", &path, &error)),
        };
        acquire(&mut file, File::try_lock_shared, &path)?;
        Ok(Some(Self { _file: file }))
    }
}

fn acquire(file: &mut File, lock: fn(&File) -> std::result::Result<(), TryLockError>, path: &Path) -> Result<()> {
    match lock(file) {
        Ok(()) => Ok(()),
        Err(TryLockError::Error(source)) => Err(StoreError::io("lock", path, &source)),
        // The text in the file is that of the last writer. Readers write none.
        Err(TryLockError::WouldBlock) if file.try_lock_shared().is_ok() => {
            Err(StoreError::Locked { holder: "one or more processes that only read it".to_owned() })
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // When the text cannot be read, the message names no process.
            let read = file.take(MAX_HOLDER).read_to_string(&mut holder);
            let holder = if read.is_ok() { holder.trim() } else { "" };
            let holder = if holder.is_empty() { "another process" } else { holder };
            Err(StoreError::Locked { holder: holder.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_names_its_holder_and_is_released_with_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DirLock::shared(dir.path()).unwrap().is_none());
        let held = DirLock::exclusive(dir.path()).unwrap();
        let Err(StoreError::Locked { holder }) = DirLock::exclusive(dir.path()) else { panic!("locked twice") };
        assert_eq!(holder, format!("spore, process {}", std::process::id()));
        assert!(matches!(DirLock::shared(dir.path()), Err(StoreError::Locked { .. })));
        drop(held);
        let readers = [DirLock::shared(dir.path()).unwrap(), DirLock::shared(dir.path()).unwrap()];
        assert!(readers.iter().all(Option::is_some));
        let Err(StoreError::Locked { holder }) = DirLock::exclusive(dir.path()) else { panic!("not locked") };
        assert!(holder.contains("only read"), "{holder}");
        drop(readers);
        DirLock::exclusive(dir.path()).unwrap();
    }
}
