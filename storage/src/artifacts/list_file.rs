//! A small file with one artifact address a line, replaced as a whole.

use std::{
    fs,
    path::{Path, PathBuf},
};

use spore_protocol::Cid;

use crate::{
    error::{Result, StoreError},
    files::{absent, replace, sync_folder},
};

/// Bytes of a line: 64 hex digits and a line feed.
const LINE: u64 = 65;

/// The file, with the most addresses that it may hold.
pub struct ListFile {
    path: PathBuf,
    max: usize,
}

/// The lines of a list file.
pub enum ListText {
    /// The text, which may have lines that are no addresses.
    Text(String),
    /// The file is longer than the longest list, so it was not read.
    TooLong,
}

impl ListFile {
    pub fn new(root: &Path, name: &str, max: usize) -> Self {
        Self { path: root.join(name), max }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's text, empty where there is no file.
    pub fn read(&self) -> Result<ListText> {
        let length = match fs::metadata(&self.path) {
            Ok(file) => file.len(),
            Err(error) => return Ok(absent(error, "read", &self.path)?.unwrap_or(ListText::Text(String::new()))),
        };
        if length > LINE * self.max as u64 {
            return Ok(ListText::TooLong);
        }
        let text = fs::read_to_string(&self.path).map_err(|e| StoreError::io("read", &self.path, &e))?;
        Ok(ListText::Text(text))
    }

    /// Replaces the list. It is on disk when this returns.
    pub fn write<'a>(&self, addresses: impl IntoIterator<Item = &'a Cid>) -> Result<()> {
        let text: String = addresses.into_iter().map(|cid| format!("{cid}\n")).collect();
        let Some(root) = self.path.parent() else { return Ok(()) };
        fs::create_dir_all(root).map_err(|e| StoreError::io("create", root, &e))?;
        replace(root, &self.path, text.as_bytes())?;
        sync_folder(root)
    }
}
