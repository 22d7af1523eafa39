//! The hashes of an artifact's chunks, by which a part of a large file is verified without reading the whole file.
//!
//! The list of hashes is the file `<62 hex>.chunks` beside the artifact. Only artifacts of more than one chunk have a
//! list: the hash of a single chunk is the artifact's own. A list is made while the whole artifact is hashed against
//! its address, and ends with a checksum, so it is as trustworthy as the address. A lost or damaged list is made
//! again from the artifact.

use std::io::{ErrorKind, Read};

use sha2::{Digest, Sha256};
use spore_protocol::Cid;

/// Bytes of one chunk; the last one may be shorter. Peers ask for ranges of this size, so that serving a range costs
/// one hash.
pub const CHUNK: usize = 1 << 20;

/// First bytes of a list. The last digit is the version of the format.
const MAGIC: &[u8; 8] = b"SPORECH1";

/// Bytes of a list besides the hashes: magic, size, checksum.
const FRAME: u64 = 8 + 8 + 32;

/// An artifact's size in bytes and the SHA-256 of each of its chunks, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    pub size: u64,
    pub hashes: Vec<[u8; 32]>,
}

impl Chunks {
    /// The list of an artifact of one chunk.
    pub fn single(cid: &Cid, size: u64) -> Self {
        Self { size, hashes: vec![cid.0] }
    }

    /// Bytes of the list of an artifact of `size` bytes.
    pub fn encoded_len(size: u64) -> u64 {
        FRAME + 32 * size.div_ceil(CHUNK as u64)
    }

    /// The list as it is on disk: magic, size (8 bytes, big-endian), hashes, SHA-256 of the address and all of that.
    pub fn encode(&self, cid: &Cid) -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &self.size.to_be_bytes()].concat();
        self.hashes.iter().for_each(|hash| bytes.extend_from_slice(hash));
        let sum = checksum(cid, &bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// None when the list is damaged, or belongs to another artifact.
    pub fn decode(cid: &Cid, bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<32>()?;
        let (size, hashes) = body.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
        if checksum(cid, body) != *sum {
            return None;
        }
        let (hashes, rest) = hashes.as_chunks::<32>();
        rest.is_empty().then(|| Self { size: u64::from_be_bytes(*size), hashes: hashes.to_vec() })
    }
}

fn checksum(cid: &Cid, body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(cid.0).chain_update(body).finalize().into()
}

/// Hashes bytes as a whole and chunk by chunk at the same time.
#[derive(Clone, Default)]
pub struct Hasher {
    whole: Sha256,
    chunk: Sha256,
    size: u64,
    hashes: Vec<[u8; 32]>,
}

impl Hasher {
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let taken = usize::try_from(self.size % CHUNK as u64).unwrap_or_default();
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK - taken));
            self.chunk.update(now);
            self.size += now.len() as u64;
            if taken + now.len() == CHUNK {
                self.hashes.push(std::mem::take(&mut self.chunk).finalize().into());
            }
            bytes = rest;
        }
    }

    /// Hashes everything up to the end of `source`, reading one chunk at a time.
    pub fn update_from(&mut self, mut source: impl Read) -> std::io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.update(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn finish(mut self) -> (Cid, Chunks) {
        if !self.size.is_multiple_of(CHUNK as u64) || self.hashes.is_empty() {
            self.hashes.push(self.chunk.finalize().into());
        }
        (Cid(self.whole.finalize().into()), Chunks { size: self.size, hashes: self.hashes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read_back_and_every_flipped_bit_is_noticed() {
        let bytes: Vec<u8> = (0..CHUNK * 2 + 5).map(|i| (i % 251) as u8).collect();
        let mut hasher = Hasher::default();
        bytes.chunks(70_001).for_each(|piece| hasher.update(piece));
        let (cid, chunks) = hasher.finish();
        assert_eq!(cid, Cid::of(&bytes));
        let expected: Vec<[u8; 32]> = bytes.chunks(CHUNK).map(|chunk| Cid::of(chunk).0).collect();
        assert_eq!((chunks.size, &chunks.hashes), (bytes.len() as u64, &expected));
        let list = chunks.encode(&cid);
        assert_eq!(list.len() as u64, Chunks::encoded_len(chunks.size));
        assert_eq!(Chunks::decode(&cid, &list), Some(chunks));
        assert_eq!(Chunks::decode(&Cid::of(b"another"), &list), None);
        for at in 0..list.len() {
            let mut damaged = list.clone();
            damaged[at] ^= 1;
            assert_eq!(Chunks::decode(&cid, &damaged), None, "byte {at}");
        }
    }

    #[test]
    fn artifact_of_at_most_one_chunk_has_one_hash() {
        for (size, count) in [(0, 1), (1, 1), (CHUNK, 1), (CHUNK + 1, 2), (2 * CHUNK, 2)] {
            let mut hasher = Hasher::default();
            hasher.update(&vec![3; size]);
            let (cid, chunks) = hasher.finish();
            assert_eq!(chunks.hashes.len(), count, "{size} bytes");
            assert_eq!(chunks == Chunks::single(&cid, size as u64), count == 1);
        }
    }
}
