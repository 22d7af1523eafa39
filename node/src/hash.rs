//! Hashes a file without reading all of it into memory.

use std::{fs::File, io};

use sha2::{Digest as _, Sha256};
use spore_protocol::Cid;

/// Bytes read at once.
const CHUNK: usize = 1 << 18;

/// The CID and the number of the bytes from the file's position to its end.
///
/// # Errors
/// When the file cannot be read.
pub fn hash(file: &mut File) -> io::Result<(Cid, u64)> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let read = io::Read::read(file, &mut buffer)?;
        match buffer.get(..read) {
            Some([]) | None => return Ok((Cid(digest.finalize().into()), size)),
            Some(bytes) => digest.update(bytes),
        }
        size += read as u64;
    }
}
