//! Folders for databases that are thrown away.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{clear, create, scratch};
use crate::error::Result;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A folder of its own in `store.scratch`. Dropping this value removes the folder.
pub struct ScratchFolder {
    path: PathBuf,
}

impl ScratchFolder {
    pub fn new(dir: &Path) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = scratch(dir).join(format!("{}-{number}", std::process::id()));
        clear(&path)?;
        create(&path)?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.path) {
            tracing::warn!(%error, "a scratch folder stays behind until the next start");
        }
        // Fails while another check uses a folder beside this one, which is right.
        drop(self.path.parent().map(fs::remove_dir));
    }
}
