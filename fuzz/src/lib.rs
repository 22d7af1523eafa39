//! Helpers of the fuzz targets: a memory bound, and a stream that arrives in chunks of odd sizes.
//!
//! A target asserts what must hold for all inputs. A panic, a failed assertion or a hang is a finding.
//! The code under test is safe Rust, so memory errors cannot occur. It can allocate too much, so an
//! allocator counts bytes.

mod chunks;
mod memory;

pub use chunks::Chunks;
pub use memory::bounded;
