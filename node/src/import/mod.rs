//! Imports objects that do not come from the network: from a sporemesh data directory or from a file of lines.
//!
//! Every object goes through the ingest service, like an object of a peer. A rejected object is reported with its id and
//! the reason, and does not affect the others. An import that ended early is completed by a second one, which skips the
//! objects that are here already. Never here: the terminal, or another way into the store.

mod artifacts;
mod importer;
pub mod lines;
mod pages;
mod settings;
pub mod sporemesh;
#[cfg(test)]
mod tests;
pub mod texts;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::Serialize;
use spore_protocol::{Kind, NodeId};
use spore_storage::{StoreError, sporemesh::SporemeshError};

pub use importer::{Destination, ImportItem, Importer};
pub use settings::{ConfigPlan, IdentityPlan, SettingsPlan};

use spore_base::private_file::FileError;
use spore_ingest::{IngestClosed, IngestFailure};

use crate::{config::ConfigError, identity_file::KeyError};

/// A kind of item, which an import counts separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportKind {
    Tasks,
    Records,
    Controls,
    Profiles,
    Artifacts,
    Peers,
    /// Lines of a file that are not an object.
    Lines,
}

impl ImportKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Records => "records",
            Self::Controls => "control events",
            Self::Profiles => "profiles",
            Self::Artifacts => "artifacts",
            Self::Peers => "known peers",
            Self::Lines => "unreadable lines",
        }
    }
}

impl From<Kind> for ImportKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Task => Self::Tasks,
            Kind::Experiment => Self::Records,
            Kind::Control => Self::Controls,
            Kind::Profile => Self::Profiles,
        }
    }
}

/// The counts of one [`ImportKind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub found: u64,
    /// Imported now. In a dry run: what would be imported.
    pub imported: u64,
    pub already_here: u64,
    /// Pending records, kept until their parents arrive.
    pub waiting: u64,
    /// Rejected, with a [`Notice`] for each.
    pub refused: u64,
}

pub type Tallies = BTreeMap<ImportKind, Tally>;

/// Why an object has a [`Notice`]. The names are those of the report file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeOutcome {
    /// The object is rejected.
    Refused,
    /// The record is pending.
    Waiting,
}

/// An object that was not imported, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub outcome: NoticeOutcome,
    #[serde(rename = "part")]
    pub kind: ImportKind,
    /// The id that the source gives. Untrusted text.
    pub id: String,
    /// The line of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// A stable snake_case name of the reason.
    pub reason: &'static str,
    pub detail: String,
}

/// Observes a running import.
pub trait ImportObserver {
    /// Called for each object that is rejected or pending.
    fn notice(&mut self, notice: &Notice);

    /// Called after each batch. `total` is the expected number of objects of this kind, if it is known.
    fn progress(&mut self, kind: ImportKind, tally: &Tally, total: Option<u64>);
}

/// Why an import could not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Source(#[from] SporemeshError),
    #[error("{path} belongs to node {theirs}, but this data directory belongs to node {ours}", path = path.display())]
    OtherIdentity { path: PathBuf, theirs: NodeId, ours: NodeId },
    /// The key of the source. Our own key is [`ImportError::Key`].
    #[error("{0}")]
    SourceKey(KeyError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store could neither accept nor reject an object.
    #[error("cannot store an object: {0}")]
    Undecided(IngestFailure),
    #[error("cannot import what was read: {0}")]
    Failed(Arc<str>),
    #[error("{what}: {source}")]
    Read { what: String, source: std::io::Error },
    #[error(transparent)]
    Closed(#[from] IngestClosed),
}
