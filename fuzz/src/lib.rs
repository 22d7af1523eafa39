//! What the fuzz targets share: a meter for memory, and a stream that comes in odd pieces.
//!
//! A target asserts what must hold for any bytes at all; a panic, a broken assertion or a hang is
//! a finding. Stack and heap errors cannot come from the safe code that is fuzzed here, but too
//! much memory can, so an allocator counts.

mod memory;
mod pieces;

pub use memory::bounded;
pub use pieces::Pieces;
