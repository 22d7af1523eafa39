//! What goes wrong in a command: a message, the next step, and an exit code.

use std::{fmt, io};

use spore_base::private_file::FileError;
use spore_storage::StoreError;

use crate::config::ConfigError;

/// What kind of failure; its number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    NodeNotRunning = 4,
    Locked = 5,
    /// Whoever read the output went away (`spore graph | head`): not an error.
    OutputClosed = 0,
}

/// A command's failure, as it is shown.
#[derive(Debug)]
pub struct CliError {
    pub kind: ErrorKind,
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl CliError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
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

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error of the system, with what was being done.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(ErrorKind::OutputClosed, "output closed"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::disk_full(&what.to_string()),
            io::ErrorKind::NotFound => Self::not_found(format!("{what}: no such file or directory")),
            io::ErrorKind::PermissionDenied => Self::failed(format!("{what}: permission denied"))
                .hint("check who owns the file, or choose another --data-dir"),
            _ => Self::failed(format!("{what}: {error}")),
        }
    }

    fn disk_full(what: &str) -> Self {
        Self::failed(format!("{what}: the disk is full"))
            .hint("free some space, or choose another --data-dir, and try again")
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

/// Errors of writing to the terminal.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::io("cannot write the output", &error)
    }
}

impl From<FileError> for CliError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source } => Self::io(path.display(), &source),
            FileError::Corrupt { .. } => Self::failed(error.to_string()),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::File(error) => error.into(),
            ConfigError::Corrupt { .. } => Self::failed(error.to_string())
                .hint("correct that line, or move the file away to start with the defaults"),
            ConfigError::Value(message) => {
                Self::failed(format!("config.toml: {message}")).hint("correct that value in config.toml")
            }
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Locked { .. } => ErrorKind::Locked,
            StoreError::NotFound(_) | StoreError::NoBackup(_) => ErrorKind::NotFound,
            StoreError::NotEmpty(_) => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        Self { kind, message: error.to_string(), hint: hint_for(&error).map(str::to_owned) }
    }
}

/// What to do about an error of the store.
fn hint_for(error: &StoreError) -> Option<&'static str> {
    Some(match error {
        StoreError::Locked { .. } => "stop it first, or name another directory with --data-dir",
        StoreError::NotFound(_) => "start a node there once, or name another directory with --data-dir",
        StoreError::DiskFull => "free some space, and writing goes on within seconds; nothing acknowledged is lost",
        StoreError::Corrupt(_) => "stop the node and run `spore db check --repair`",
        StoreError::NewerSchema { .. } => "use a newer spore",
        StoreError::OlderSchema { .. } => {
            "write its records to a file with the spore that made it (`spore export`), and import that file"
        }
        StoreError::HashMismatch { .. } | StoreError::DamagedArtifact { .. } => "fetch it again from another peer",
        StoreError::TooManyPins { .. } => "unpin some first",
        StoreError::BadPins { .. } => "correct that file, or remove it",
        StoreError::NotEmpty(_) => "name an empty directory, or say that it is to be replaced",
        StoreError::NoBackup(_) => "make one with `spore db backup`",
        StoreError::CompactionFailed { .. } => "the file store/LOG in the data directory says why",
        StoreError::Rocks(_) => "if it repeats, check the disk",
        StoreError::Io { .. } => "check the path and its permissions",
        StoreError::TooLarge { .. } | StoreError::ReadOnly | StoreError::Cancelled | StoreError::Source { .. } => {
            return None;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_closed_pipe_are_told_apart() {
        let full = CliError::io("store", &io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.message.contains("disk is full") && full.hint.is_some());
        assert_eq!(CliError::from(io::Error::from(io::ErrorKind::BrokenPipe)).kind as i32, 0);
    }

    #[test]
    fn a_locked_store_ends_with_its_own_code() {
        let error = CliError::from(StoreError::Locked { holder: "process 7".into() });
        assert_eq!(error.kind as i32, 5);
        assert!(error.message.contains('7') && error.hint.is_some(), "{error}");
    }
}
