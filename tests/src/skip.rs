//! Tests that need what not every machine has.

/// Tells that a test cannot run here, loudly. In CI (`CI=true`) nothing may be skipped, so it fails.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot run here, and CI skips nothing: {reason}");
    println!("SKIPPED: {reason}");
    eprintln!("SKIPPED: {reason}");
}
