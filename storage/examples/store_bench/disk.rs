//! Bytes on disk, and the bytes of the same objects when they are only compressed.

use std::{fs, io, path::Path};

use crate::signed_file::SignedHistory;

/// Bytes of signed objects in one compressed block, as in an archive of them.
const BLOCK: usize = 1 << 20;
/// The default level of Zstandard.
const LEVEL: i32 = 3;

/// Bytes of all signatures and canonical texts: plain, then compressed.
///
/// # Errors
/// When the compression fails.
pub fn compressed(history: &SignedHistory) -> io::Result<(usize, usize)> {
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

/// Bytes of all files in a folder and its subfolders.
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
