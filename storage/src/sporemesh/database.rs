//! Opens a SQLite database that belongs to another program, perhaps to one that is running, without writing a byte
//! beside it.
//!
//! In its write-ahead mode, SQLite makes a `-shm` file even for reading. A reader that may not make it does not see
//! the newest transactions in the log. A database without a log beside it is therefore opened as immutable, which
//! takes no locks and makes no files, and its size and time are compared at the end. A database with a log is copied
//! with its log, and the copy is opened.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rusqlite::{Connection, OpenFlags};

use super::{Result, SporemeshError};

/// Endings of the files that may be beside a database: the write-ahead log, and the journal of older modes.
const LOGS: [&str; 2] = ["-wal", "-journal"];

/// First bytes of a log: the header of a write-ahead log, whose salt changes whenever the log starts over.
const LOG_HEAD: u64 = 32;

/// Copies made before giving up. The log starts over after about a thousand written pages, which takes a node
/// minutes. A copy takes seconds.
const ATTEMPTS: usize = 5;

/// KiB of pages kept in memory. Rows are read once, in about the order in which they are stored.
const CACHE_KIB: i32 = 8 << 10;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A database open for reading. Fields drop in this order: the connection is closed before its copy is removed.
pub struct Database {
    pub connection: Connection,
    /// The file's path in the source, for messages.
    pub path: PathBuf,
    /// The state of the files when the database was opened in place. None for a copy, which nobody changes.
    opened: Option<Stamp>,
    _copy: Option<DatabaseCopy>,
}

impl Database {
    /// Opens the database at `path`. None where there is no file.
    ///
    /// # Errors
    /// [`SporemeshError::Busy`] when no consistent copy could be made; errors of SQLite.
    pub fn open(path: &Path, scratch: &Path) -> Result<Option<Self>> {
        // SQLite looks for the log beside the file itself, not beside a link to it.
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SporemeshError::io("open", path)(error)),
        };
        for _ in 0..ATTEMPTS {
            let stamp = Stamp::of(&path)?;
            if !stamp.in_use() {
                return Self::in_place(path, stamp).map(Some);
            }
            let copy = DatabaseCopy::new(scratch)?;
            let Some(copied) = copy.take(&path, &stamp)? else { continue };
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(copied, flags).map_err(SporemeshError::sqlite(&path))?;
            return Self { connection, path, opened: None, _copy: Some(copy) }.prepared().map(Some);
        }
        Err(SporemeshError::Busy(path))
    }

    fn in_place(path: PathBuf, stamp: Stamp) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(immutable(&path), flags).map_err(SporemeshError::sqlite(&path))?;
        Self { connection, path, opened: Some(stamp), _copy: None }.prepared()
    }

    fn prepared(self) -> Result<Self> {
        // Expressions in the schema, such as views, are code of somebody else.
        let settings = [("cache_size", -CACHE_KIB), ("trusted_schema", 0), ("cell_size_check", 1)];
        for (name, value) in settings {
            self.connection.pragma_update(None, name, value).map_err(SporemeshError::sqlite(&self.path))?;
        }
        Ok(self)
    }

    /// Checks, after the last row, that all rows were read from one state of the database.
    ///
    /// # Errors
    /// [`SporemeshError::Busy`] when the database changed meanwhile.
    pub fn check_unchanged(&self) -> Result<()> {
        match &self.opened {
            Some(stamp) if *stamp != Stamp::of(&self.path)? => Err(SporemeshError::Busy(self.path.clone())),
            _ => Ok(()),
        }
    }
}

/// A state of a database's files.
#[derive(Clone, Debug, PartialEq)]
struct Stamp {
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    inode: u64,
    /// The first bytes of each file in [`LOGS`] that exists.
    logs: [Option<Vec<u8>>; 2],
}

impl Stamp {
    fn of(path: &Path) -> Result<Self> {
        let meta = fs::metadata(path).map_err(SporemeshError::io("look at", path))?;
        let mut logs = [None, None];
        for (head, suffix) in logs.iter_mut().zip(LOGS) {
            *head = head_of(&beside(path, suffix))?;
        }
        Ok(Self { size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()), inode: meta.ino(), logs })
    }

    /// An empty log belongs to a process that has just opened the database.
    fn in_use(&self) -> bool {
        self.logs.iter().any(Option::is_some)
    }
}

fn head_of(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SporemeshError::io("open", path)(error)),
    };
    let mut head = Vec::new();
    file.take(LOG_HEAD).read_to_end(&mut head).map_err(SporemeshError::io("read", path))?;
    Ok(Some(head))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The file's name as a URI for SQLite. Only a URI can say that the file does not change.
fn immutable(path: &Path) -> PathBuf {
    let mut uri = b"file:".to_vec();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend(format!("%{byte:02x}").bytes()),
            _ => uri.push(byte),
        }
    }
    uri.extend(b"?immutable=1");
    std::ffi::OsString::from_vec(uri).into()
}

/// A folder for a copy, readable by its owner only. Dropping this value removes it.
struct DatabaseCopy(PathBuf);

impl DatabaseCopy {
    fn new(within: &Path) -> Result<Self> {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = within.join(format!("spore-import-{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                // Left by a killed process with the same id.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(SporemeshError::io("create", &path)(error)),
            }
        }
    }

    /// Copies a database and then its log. None when the log started over meanwhile. Otherwise the log contains every
    /// page that was moved into the database during the copy.
    fn take(&self, path: &Path, stamp: &Stamp) -> Result<Option<PathBuf>> {
        let target = self.0.join("copy.sqlite");
        fs::copy(path, &target).map_err(SporemeshError::io("copy", path))?;
        for suffix in LOGS {
            let log = beside(path, suffix);
            match fs::copy(&log, beside(&target, suffix)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(SporemeshError::io("copy", &log)(error));
                }
                _ => {}
            }
        }
        Ok((Stamp::of(path)?.logs == stamp.logs).then_some(target))
    }
}

impl Drop for DatabaseCopy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "could not remove the copy of a database");
        }
    }
}
