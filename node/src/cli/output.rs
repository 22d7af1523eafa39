//! The one place that writes messages to standard error: errors, hints, warnings and notes.
//!
//! A message that cannot be written, because the disk behind standard error is full or its reader went away, is lost. It
//! never changes what the command does, or its exit code. Answers go to [`super::Context::out`], whose failures are
//! errors.

use std::io::{self, Write as _};

/// Writes a line to standard error, without colours where they are not shown.
pub fn message(line: &str) {
    // There is nobody left to tell.
    let _ = writeln!(anstream::AutoStream::auto(io::stderr().lock()), "{line}");
}
