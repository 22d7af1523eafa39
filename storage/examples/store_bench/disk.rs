//! Bytes on disk, and what the same objects take when only compressed.

use std::{fs, io, path::Path};

use crate::signed_file::History;

/// Bytes of signed objects in one compressed block: as an archive of them would be made.
const BLOCK: usize = 1 << 20;
/// Zstandard's usual level.
const LEVEL: i32 = 3;

/// Signatures and canonical bytes, compressed and not.
///
/// # Errors
/// When the compressor fails.
pub fn compressed(history: &History) -> io::Result<(usize, usize)> {
    let (mut plain, mut packed) = (0, 0);
    let mut block = Vec::with_capacity(2 * BLOCK);
    for (signature, canonical) in history.texts() {
        block.extend_from_slice(signature);
        block.extend_from_slice(canonical);
        if block.len() >= BLOCK {
            plain += block.len();
            packed += zstd::bulk::compress(&block, LEVEL)?.len();
            block.clear();
        }
    }
    plain += block.len();
    packed += zstd::bulk::compress(&block, LEVEL)?.len();
    Ok((plain, packed))
}

/// All files of a folder and the folders in it.
///
/// # Errors
/// When a folder cannot be read.
pub fn used(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() { used(&entry.path())? } else { about.len() };
    }
    Ok(sum)
}
