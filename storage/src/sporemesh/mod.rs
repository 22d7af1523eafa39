//! Reads the data directory of a sporemesh node (the Python implementation): the rows of its SQLite databases as
//! signed objects, and its artifacts.
//!
//! Nothing is written there, not even the helper files that SQLite makes beside a database: a database that is not in
//! use is opened as immutable, one in use is copied first ([`database`]). The objects are not verified here. They go
//! through the ingest service like objects from peers.
//!
//! Never here: identities, configuration and peers, which the node takes over.

mod artifacts;
mod database;
mod rows;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use spore_protocol::{Kind, Reject, SignedObject};

pub use artifacts::{ArtifactFile, ArtifactFiles};
pub use rows::SourceRows;

use database::Database;

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SporemeshError {
    #[error("there is no data of a sporemesh node in {0}")]
    NotFound(PathBuf),
    #[error("{path} cannot be read: {what}")]
    Database { path: PathBuf, what: String },
    #[error("{0} changed while it was read")]
    Busy(PathBuf),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

impl SporemeshError {
    fn io(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let what = format!("cannot {doing} {}", path.display());
        move |source| Self::Io { what, source }
    }

    fn sqlite(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Database { path, what: error.to_string() }
    }
}

type Result<T, E = SporemeshError> = std::result::Result<T, E>;

/// Why a row is no object.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadRow {
    #[error(transparent)]
    Reject(#[from] Reject),
    #[error("column {column} holds {holds}")]
    Column { column: &'static str, holds: &'static str },
    #[error("SQLite cannot read the row: {0}")]
    Unreadable(String),
}

impl BadRow {
    /// A stable name in snake case.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Reject(reject) => reject.code(),
            Self::Column { .. } => "bad_column",
            Self::Unreadable(_) => "unreadable_row",
        }
    }
}

/// One row of a table.
#[derive(Debug)]
pub struct SourceRow {
    /// The object's id as the table claims it.
    pub id: String,
    pub object: std::result::Result<SignedObject, BadRow>,
}

/// A sporemesh node's data directory.
#[derive(Clone, Debug)]
pub struct Sporemesh {
    root: PathBuf,
    /// The folder for copies of databases that are in use, while they are read.
    scratch: PathBuf,
}

impl Sporemesh {
    /// Opens the data directory `root`. Copies are made in the folder `scratch`, where they are needed.
    ///
    /// # Errors
    /// [`SporemeshError::NotFound`] where there is nothing of a sporemesh node.
    pub fn open(root: &Path, scratch: &Path) -> Result<Self> {
        let known = [root.join("db"), root.join("artifact"), root.join("identity").join("private_key")];
        if !known.iter().any(|path| path.exists()) {
            return Err(SporemeshError::NotFound(root.to_owned()));
        }
        Ok(Self { root: root.to_owned(), scratch: scratch.to_owned() })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The rows with objects of this kind, parents mostly before their children. None where there is no database for
    /// them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn rows(&self, kind: Kind) -> Result<Option<SourceRows>> {
        let file = match kind {
            Kind::Experiment => "graph.sqlite",
            Kind::Task => "task.sqlite",
            Kind::Control => "control.sqlite",
            Kind::Profile => "profile.sqlite",
        };
        let database = Database::open(&self.root.join("db").join(file), &self.scratch)?;
        database.map(|database| SourceRows::new(database, kind)).transpose().map(Option::flatten)
    }

    /// How many tasks the source's node derived from a root record, without a manifest. They are not read, because
    /// our lineage rules derive them again.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn derived_tasks(&self) -> Result<u64> {
        let database = Database::open(&self.root.join("db").join("task.sqlite"), &self.scratch)?;
        database.map_or(Ok(0), |database| rows::derived_tasks(&database))
    }

    /// The files of all artifacts.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn artifacts(&self) -> Result<ArtifactFiles> {
        ArtifactFiles::list(&self.root.join("artifact"))
    }
}
