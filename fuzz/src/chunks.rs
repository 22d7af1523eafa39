//! A byte stream that arrives in chunks of any size, as over TCP.

use std::io::{self, Read};

/// A reader that returns chunks whose sizes follow from a seed.
pub struct Chunks<'a> {
    bytes: &'a [u8],
    state: u64,
}

impl<'a> Chunks<'a> {
    /// The same seed gives the same chunks.
    pub fn new(bytes: &'a [u8], seed: u8) -> Self {
        Self { bytes, state: seed.into() }
    }

    /// Size of the next chunk, 1 to 64 bytes. Most are small, because splits inside a header find most bugs.
    fn size(&mut self) -> usize {
        // The linear congruential generator of Knuth's MMIX.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 << ((self.state >> 61) as usize).min(6)
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = self.size().min(into.len());
        self.bytes.read(&mut into[..size])
    }
}
