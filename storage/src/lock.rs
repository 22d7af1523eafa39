//! One writer for each data directory: an advisory lock on a file that names its holder.
//!
//! The operating system releases the lock when the process ends, so a crash leaves nothing to clean up. The text in
//! the file counts only while the lock is held.
//!
//! The database writes by path. When the directory is moved away, or replaced by another one, a writer would write into
//! what is not its own: [`DirLock::is_here`] compares the locked file with the one at the path. On Linux a writer also
//! holds the path itself ([`PathLock`]), so that no second writer opens a directory that was put in the place of one in
//! use.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

mod path_lock;

use crate::error::{Result, StoreError};
use path_lock::PathLock;

const NAME: &str = "LOCK";

/// Most bytes read of the lock file, which somebody else may have made.
const MAX_HOLDER: u64 = 200;

/// Time for which a writer waits for readers. A command that prints a status or a list holds the lock for less than a
/// tenth of it. A reader that holds it longer, such as an export, is reported.
const READERS_END_WITHIN: Duration = Duration::from_secs(2);
/// Time between two attempts of a writer: short beside the time between two commands of a script that reads in a loop.
const READERS_AGAIN: Duration = Duration::from_millis(3);

/// A held lock. Dropping it releases the lock.
pub struct DirLock {
    file: File,
    path: PathBuf,
    _held: Option<PathLock>,
}

impl DirLock {
    /// Locks the directory for writing. Waits at most [`READERS_END_WITHIN`] for readers, and not at all for a writer.
    pub fn exclusive(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let fail = |source: std::io::Error| StoreError::io("lock", &path, &source);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        let until = Instant::now() + READERS_END_WITHIN;
        while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && Instant::now() < until {
            // The lock is shared for a moment. Two writers that wait would otherwise wait for each other.
            if file.try_lock_shared().is_err() || file.unlock().is_err() {
                break;
            }
            std::thread::sleep(READERS_AGAIN);
        }
        acquire(&mut file, File::try_lock, &path)?;
        let held = PathLock::acquire(dir)?;
        file.set_len(0).map_err(fail)?;
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        writeln!(file, "spore, process {}", std::process::id()).map_err(fail)?;
        Ok(Self { file, path, _held: held })
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
        Ok(Some(Self { file, path, _held: None }))
    }

    /// Whether a writer holds the directory.
    pub fn is_held(dir: &Path) -> bool {
        let held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(dir.join(NAME)).is_ok_and(held)
    }

    /// Whether the directory is still at its path. False once it was removed, moved away or replaced, even by a copy of
    /// itself. Where the path cannot be read for another reason, nothing says that it changed.
    pub fn is_here(&self) -> bool {
        let ours = match self.file.metadata() {
            Ok(ours) => (ours.dev(), ours.ino()),
            Err(_) => return true,
        };
        match std::fs::metadata(&self.path) {
            Ok(there) => (there.dev(), there.ino()) == ours,
            Err(error) => !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory),
        }
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
    fn directory_that_was_moved_or_replaced_is_no_longer_here() {
        let parent = tempfile::tempdir().unwrap();
        let [dir, moved] = ["dir", "moved"].map(|name| parent.path().join(name));
        std::fs::create_dir(&dir).unwrap();
        let held = DirLock::exclusive(&dir).unwrap();
        assert!(held.is_here());
        std::fs::rename(&dir, &moved).unwrap();
        assert!(!held.is_here(), "moved away");
        std::fs::create_dir(&dir).unwrap();
        assert!(!held.is_here(), "another directory");
        std::fs::copy(moved.join(NAME), dir.join(NAME)).unwrap();
        assert!(!held.is_here(), "a copy of it");
        assert!(matches!(DirLock::exclusive(&moved), Err(StoreError::Locked { .. })), "it is in use where it is now");
        if cfg!(target_os = "linux") {
            let Err(StoreError::Locked { holder }) = DirLock::exclusive(&dir) else { panic!("opened") };
            assert!(holder.contains("was here before"), "{holder}");
        }
        drop(held);
        DirLock::exclusive(&dir).unwrap();
    }

    #[test]
    fn lock_names_its_holder_and_is_released_with_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DirLock::shared(dir.path()).unwrap().is_none());
        let held = DirLock::exclusive(dir.path()).unwrap();
        let Err(StoreError::Locked { holder }) = DirLock::exclusive(dir.path()) else { panic!("locked twice") };
        assert_eq!(holder, format!("spore, process {}", std::process::id()));
        assert!(matches!(DirLock::shared(dir.path()), Err(StoreError::Locked { .. })));
        assert!(DirLock::is_held(dir.path()));
        drop(held);
        assert!(!DirLock::is_held(dir.path()) && !DirLock::is_held(&dir.path().join("absent")));
        let readers = [DirLock::shared(dir.path()).unwrap(), DirLock::shared(dir.path()).unwrap()];
        assert!(readers.iter().all(Option::is_some));
        let Err(StoreError::Locked { holder }) = DirLock::exclusive(dir.path()) else { panic!("not locked") };
        assert!(holder.contains("only read"), "{holder}");
        drop(readers);
        DirLock::exclusive(dir.path()).unwrap();
    }

    #[test]
    fn writer_waits_for_readers_and_not_for_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        drop(DirLock::exclusive(dir.path()).unwrap());
        let reader = DirLock::shared(dir.path()).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| DirLock::exclusive(dir.path()));
            std::thread::sleep(READERS_END_WITHIN / 10);
            drop(reader);
            let held = writer.join().unwrap().unwrap();
            let start = Instant::now();
            assert!(matches!(DirLock::exclusive(dir.path()), Err(StoreError::Locked { .. })));
            assert!(start.elapsed() < READERS_END_WITHIN / 2, "it waited for a writer");
            drop(held);
        });
    }
}
