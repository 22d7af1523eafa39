//! The artifacts of a sporemesh node: `artifact/ab/cd/<hash>`, some with an ending such as `.py`.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use spore_protocol::Cid;

use super::{Result, SporemeshError};

/// Folders above a file: `artifact`, the hash's first two digits, the next two.
const LEVELS: usize = 3;

/// Digits of a hash.
const DIGITS: usize = 64;

/// A file among the artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactFile {
    pub path: PathBuf,
    /// The hash that its name claims. None when the name is no hash.
    pub cid: Option<Cid>,
}

/// Lists artifact files, folder by folder. At most [`LEVELS`] folders are open at once.
#[derive(Debug)]
pub struct ArtifactFiles {
    open: Vec<(PathBuf, fs::ReadDir)>,
}

impl ArtifactFiles {
    pub(super) fn list(root: &Path) -> Result<Self> {
        let mut files = Self { open: Vec::new() };
        files.descend(root)?;
        Ok(files)
    }

    fn descend(&mut self, folder: &Path) -> Result<()> {
        match fs::read_dir(folder) {
            Ok(entries) => self.open.push((folder.to_owned(), entries)),
            // The folder was removed since its name was read, or never existed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(SporemeshError::io("list", folder)(error)),
        }
        Ok(())
    }

    /// The next file. None at the end.
    fn advance(&mut self) -> Result<Option<ArtifactFile>> {
        while let Some((folder, entries)) = self.open.last_mut() {
            let Some(entry) = entries.next() else {
                self.open.pop();
                continue;
            };
            let path = entry.map_err(SporemeshError::io("list", folder))?.path();
            if self.open.len() < LEVELS {
                if path.is_dir() {
                    self.descend(&path)?;
                }
            } else if path.is_file() {
                let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
                let cid = name.get(..DIGITS).and_then(|digits| digits.parse().ok());
                return Ok(Some(ArtifactFile { cid, path }));
            }
        }
        Ok(None)
    }
}

impl Iterator for ArtifactFiles {
    type Item = Result<ArtifactFile>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            // The next call could not list it either.
            self.open.clear();
        }
        next.transpose()
    }
}
