//! The error that a command ends with: a message, a hint, and an exit code.
//!
//! The errors of the libraries say what happened and name no flag and no command. `hints` adds to each of them what
//! the user can do about it.

use std::{fmt, io};

/// The kind of a failure. Its number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    NodeNotRunning = 4,
    Locked = 5,
    /// The reader of the output went away (`spore graph | head`). This is not an error for the user.
    OutputClosed = 0,
}

/// Advice about an error, as a sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(pub String);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The failure of a command, as the user sees it.
#[derive(Debug)]
pub struct CliError {
    pub kind: ErrorKind,
    pub message: String,
    pub hint: Option<Hint>,
}

impl CliError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The end of a command whose output says already what is wrong: nothing more is printed.
    pub const fn told(kind: ErrorKind) -> Self {
        Self { kind, message: String::new(), hint: None }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Sets the hint, in place of an earlier one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(Hint(hint.into()));
        self
    }

    /// An error of the operating system. `what` names the file, or what was being done.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(ErrorKind::OutputClosed, "the output is closed"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::failed(format!("{what}: the disk is full"))
                    .hint("free some space and try again, or choose another data directory with `--data-dir DIR`")
            }
            io::ErrorKind::NotFound => Self::not_found(format!("{what}: no such file or directory")),
            io::ErrorKind::PermissionDenied => Self::failed(format!("{what}: permission denied"))
                .hint("check who owns the file, or choose another data directory with `--data-dir DIR`"),
            _ => Self::failed(format!("{what}: {error}")),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

/// Errors of writing the output.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::io("cannot write the output", &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_and_closed_pipe_are_different_kinds() {
        let full = CliError::io("store", &io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.message.contains("disk is full") && full.hint.is_some());
        assert_eq!(CliError::from(io::Error::from(io::ErrorKind::BrokenPipe)).kind as i32, 0);
    }
}
