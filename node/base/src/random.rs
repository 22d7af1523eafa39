//! The one source of randomness: the crate `rand`, seeded by the operating system.

use rand::{Rng as _, TryRng as _, rngs::SysRng};

/// Random bytes for a key or a token, straight from the operating system.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn secret<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

/// A random number for jitter and sampling. Not for secrets.
pub fn number() -> u64 {
    rand::rng().next_u64()
}
