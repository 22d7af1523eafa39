//! The space of the disk on which the store is.

use std::path::Path;

use crate::{
    error::{Result, StoreError},
    store::Store,
};

/// Percent of the disk that has to be free, at least where that is less than [`FREE_BYTES`].
const FREE_PERCENT: u64 = 5;
/// Bytes of the disk that have to be free: a compaction writes a table before it removes those that it replaces, and the
/// system itself needs some.
const FREE_BYTES: u64 = 2 << 30;

/// Bytes of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    pub total: u64,
    /// What this process may still use.
    pub free: u64,
}

impl DiskSpace {
    /// The space of the disk with a directory.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn of(dir: &Path) -> Result<Self> {
        let disk = rustix::fs::statvfs(dir).map_err(|e| StoreError::io("look at", dir, &e.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Self { total: bytes(disk.f_blocks), free: bytes(disk.f_bavail) })
    }

    /// Whether so little is free that only the owner's own objects should be stored: under 5 % or 2 GiB, whichever is
    /// less, so that neither a small disk nor a large one that is fairly full is useless.
    pub fn is_low(self) -> bool {
        self.total > 0 && self.free < self.floor()
    }

    /// Whether a disk that was low is no longer: a little more is free, so that the answer does not alternate.
    pub fn is_ample(self) -> bool {
        self.free >= self.floor() + self.floor() / 4
    }

    /// Bytes that have to be free.
    pub fn floor(self) -> u64 {
        (self.total / 100 * FREE_PERCENT).min(FREE_BYTES)
    }
}

impl Store {
    /// The space of the disk with the data directory.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn disk_space(&self) -> Result<DiskSpace> {
        DiskSpace::of(self.dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_is_low_under_the_lesser_of_a_share_and_a_number_of_bytes() {
        let low = |total: u64, free: u64| DiskSpace { total: total << 20, free: free << 20 }.is_low();
        assert!(low(10_000, 499) && !low(10_000, 501));
        assert!(low(1_000_000, 2047) && !low(1_000_000, 2049));
        assert!(!DiskSpace::default().is_low(), "a disk that says nothing about itself");
    }
}
