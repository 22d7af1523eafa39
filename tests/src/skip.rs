//! Tests that need something which not every machine has.

/// Reports that a test cannot run on this machine. In CI (`CI=true`) no test may be skipped, so the test fails.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "the test cannot run, and CI skips no test: {reason}");
    println!("SKIPPED: {reason}");
    eprintln!("SKIPPED: {reason}");
}
