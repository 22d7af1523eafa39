//! Taking in objects from elsewhere than the network: a sporemesh data directory or a file of
//! lines. Everything goes through `ingest`, as what peers send does; what is refused is told with
//! its name and reason, and harms nothing else.
//!
//! An import that ends early is finished by a second one: what is here already is passed over.
//! Never here: the terminal, or another way to the store.

mod artifacts;
mod feed;
pub mod lines;
mod pages;
mod settings;
pub mod sporemesh;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::Serialize;
use spore_protocol::{Kind, NodeId};
use spore_storage::{StoreError, sporemesh::SporemeshError};

pub use feed::{Entry, Feed, Way};
pub use settings::{ConfigPlan, IdentityPlan, Settings};

use spore_base::private_file::FileError;
use spore_ingest::{IngestClosed, IngestFailure};

use crate::config::ConfigError;

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Tasks,
    Records,
    Controls,
    Profiles,
    Artifacts,
    Peers,
    /// Lines of a file that are none of these.
    Lines,
}

impl Part {
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

impl From<Kind> for Part {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Task => Self::Tasks,
            Kind::Experiment => Self::Records,
            Kind::Control => Self::Controls,
            Kind::Profile => Self::Profiles,
        }
    }
}

/// Numbers of one [`Part`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub found: u64,
    /// Taken in now; in a dry run, what would be.
    pub imported: u64,
    pub already_here: u64,
    /// Kept until their parents come.
    pub waiting: u64,
    pub refused: u64,
}

pub type Tallies = BTreeMap<Part, Tally>;

/// What became of something that was not simply taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Refused,
    Waiting,
}

/// Something that was not simply taken in, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub outcome: Fate,
    pub part: Part,
    /// As the source calls it; a stranger's text.
    pub id: String,
    /// Of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Stable snake_case name.
    pub reason: &'static str,
    pub detail: String,
}

/// Is told how an import goes.
pub trait Witness {
    fn notice(&mut self, notice: &Notice);

    /// After each batch. `total` is the number to expect of this part, where it is known.
    fn progress(&mut self, part: Part, tally: &Tally, total: Option<u64>);
}

/// An import could not begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Source(#[from] SporemeshError),
    #[error("{path} belongs to node {theirs}, but this data directory to node {ours}", path = path.display())]
    OtherIdentity { path: PathBuf, theirs: NodeId, ours: NodeId },
    /// The source's key, as opposed to our own files.
    #[error("{0}")]
    Key(FileError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store could not take an object: {0}")]
    Undecided(IngestFailure),
    #[error("the store could not take what was read: {0}")]
    Failed(Arc<str>),
    #[error("{what}: {source}")]
    Read { what: String, source: std::io::Error },
    #[error(transparent)]
    Closed(#[from] IngestClosed),
}
