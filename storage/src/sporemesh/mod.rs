//! Reading the data directory of a sporemesh node (the Python implementation): its SQLite
//! databases as rows turned into signed objects, and its artifacts.
//!
//! Nothing is written there, not even the helper files that SQLite makes beside a database: a
//! database at rest is opened as immutable, one in use is copied first ([`database`]). What comes
//! out is not verified; it goes through the same door as what peers send.
//!
//! Never here: identities, configuration and peers, which are the node's to take over.

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

/// A source could not be read.
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

/// Why a row gave no object.
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
    /// Stable snake_case name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Reject(reject) => reject.code(),
            Self::Column { .. } => "bad_column",
            Self::Unreadable(_) => "unreadable_row",
        }
    }
}

/// One row of one table.
#[derive(Debug)]
pub struct SourceRow {
    /// What the table calls the object; a claim.
    pub id: String,
    pub object: std::result::Result<SignedObject, BadRow>,
}

/// A sporemesh node's data directory.
#[derive(Clone, Debug)]
pub struct Sporemesh {
    root: PathBuf,
    /// Where databases in use are copied to, for as long as they are read.
    scratch: PathBuf,
}

impl Sporemesh {
    /// The data directory `root`; copies, where they are needed, are made in the folder `scratch`.
    ///
    /// # Errors
    /// [`SporemeshError::NotFound`] where nothing of a sporemesh node is.
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

    /// The rows that hold objects of this kind, parents mostly before their children; none where
    /// there is no database for them.
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

    /// Tasks that the source's node derived from a root record, without a manifest. Our lineage
    /// rules derive them again, so nothing of them is taken.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn derived_tasks(&self) -> Result<u64> {
        let database = Database::open(&self.root.join("db").join("task.sqlite"), &self.scratch)?;
        database.map_or(Ok(0), |database| rows::derived_tasks(&database))
    }

    /// Every artifact's file.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn artifacts(&self) -> Result<ArtifactFiles> {
        ArtifactFiles::list(&self.root.join("artifact"))
    }
}
