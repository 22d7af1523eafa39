//! A byte stream that comes in pieces of any size, as TCP gives it.

use std::io::{self, Read};

/// Reads bytes in pieces whose sizes follow from a seed.
pub struct Pieces<'a> {
    bytes: &'a [u8],
    state: u64,
}

impl<'a> Pieces<'a> {
    /// The same seed gives the same pieces.
    pub fn new(bytes: &'a [u8], seed: u8) -> Self {
        Self { bytes, state: seed.into() }
    }

    /// From 1 byte to 64, often the smallest: borders within a header matter most.
    fn size(&mut self) -> usize {
        // Knuth's multiplier (MMIX).
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 << ((self.state >> 61) as usize).min(6)
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = self.size().min(into.len());
        self.bytes.read(&mut into[..size])
    }
}
