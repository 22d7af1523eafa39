//! Small files that only their owner may read, and that are replaced in one step.
//!
//! A writer writes a temporary file beside the target, flushes it and renames it: a crash leaves the old file or the
//! new one, never a part. A symbolic link stays one: what it points at is replaced. Reading never creates anything.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// Symbolic links that are followed one after the other. Linux follows as many.
const MAX_LINKS: usize = 40;

/// A file of the data directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}", path = path.display())]
    Corrupt { path: PathBuf, reason: String },
}

impl FileError {
    /// For `map_err`: an I/O error with the path of the file.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Reads a text file. None when there is no such file.
///
/// # Errors
/// When the file cannot be read for any other reason.
pub fn read_text(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FileError::io(path)(e)),
    }
}

/// Makes a directory and its missing parents, mode 0700.
///
/// # Errors
/// When the directory cannot be made.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(FileError::io(path))
}

/// Replaces a file in one step, mode 0600.
///
/// # Errors
/// When the file cannot be written. The old file is unchanged then.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let path = &target(path)?;
    let temporary = write_temporary(path, bytes).map_err(FileError::io(path))?;
    temporary.persist(path).map_err(|e| FileError::io(path)(e.error))?;
    sync_parent(path)
}

/// Makes a file in one step, mode 0600. A file that exists already stays as it is.
///
/// # Errors
/// When the file cannot be written.
pub fn write_private_once(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let path = &target(path)?;
    let temporary = write_temporary(path, bytes).map_err(FileError::io(path))?;
    match temporary.persist_noclobber(path) {
        Err(e) if e.error.kind() != io::ErrorKind::AlreadyExists => Err(FileError::io(path)(e.error)),
        _ => sync_parent(path),
    }
}

/// Takes the rights of all other users off a file. True when there were any.
///
/// # Errors
/// When the mode cannot be read or changed.
pub fn make_private(path: &Path) -> Result<bool, FileError> {
    let mode = fs::metadata(path).map_err(FileError::io(path))?.permissions().mode();
    let loose = mode & 0o077 != 0;
    if loose {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700)).map_err(FileError::io(path))?;
    }
    Ok(loose)
}

/// Where the links from `path` lead. A rename over a link would replace the link, and leave the file that the user keeps
/// elsewhere as it was.
fn target(path: &Path) -> Result<PathBuf, FileError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(link) => path = folder(&path).join(link),
            // No link, or nothing there.
            Err(_) => return Ok(path),
        }
    }
    Err(FileError::io(&path)(io::Error::other("too many symbolic links")))
}

/// A flushed temporary file beside `path`. `tempfile` makes it with mode 0600 and removes it when it is dropped.
fn write_temporary(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut temporary = tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(folder(path))?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

/// The directory that holds `path`; a bare file name lies in the current one.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = folder(path);
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(FileError::io(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_private_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(), 0o600);
        write_private_once(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two", "an existing file stays");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(make_private(&path).unwrap());
        assert!(!make_private(&path).unwrap());
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn link_stays_and_the_file_that_it_points_at_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let [link, middle, path] = ["link", "middle", "elsewhere/file"].map(|name| dir.path().join(name));
        fs::create_dir(dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("middle", &link).unwrap();
        std::os::unix::fs::symlink(&path, &middle).unwrap();
        write_private_once(&link, b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one", "nothing was there");
        write_private_once(&link, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one", "an existing file stays");
        write_private(&link, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert!([&link, &middle].iter().all(|link| fs::symlink_metadata(link).unwrap().is_symlink()));
        std::os::unix::fs::symlink("round", dir.path().join("round")).unwrap();
        assert!(write_private(&dir.path().join("round"), b"x").is_err());
    }

    #[test]
    fn failed_write_leaves_the_old_file_and_no_temporary_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::create_dir(&path).unwrap();
        assert!(write_private(&path, b"one").is_err(), "a directory is in the way");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
