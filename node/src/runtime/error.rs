//! Why a node does not start, or stops by itself.

use std::{net::SocketAddr, path::PathBuf};

use spore_api::problem::ApiError;
use spore_base::private_file::FileError;
use spore_bridge::ListenError;
use spore_network::NetworkError;
use spore_storage::StoreError;

use crate::{genesis::GenesisError, identity_file::KeyError};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Web(#[from] WebError),
    #[error(transparent)]
    Bridge(#[from] ListenError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The task that was named is not known, or the name fits several tasks.
    #[error(transparent)]
    Task(#[from] ApiError),
    #[error("{0}")]
    Device(String),
    #[error("this program was built without the trainer")]
    NoTrainer,
}

/// The API cannot listen on its address.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve {what} on {address}: {reason}")]
pub struct WebError {
    pub address: SocketAddr,
    what: &'static str,
    reason: String,
    /// Another program uses the port.
    pub in_use: bool,
    /// It is not the explorer but the operator's endpoints that cannot listen.
    pub is_admin: bool,
}

impl WebError {
    pub fn new(address: SocketAddr, error: &std::io::Error) -> Self {
        let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
        let reason = if in_use { "another program uses that port".to_owned() } else { error.to_string() };
        Self { address, what: "the explorer", reason, in_use, is_admin: false }
    }

    pub fn of_admin(address: SocketAddr, error: &std::io::Error) -> Self {
        Self { what: "metrics", is_admin: true, ..Self::new(address, error) }
    }
}

/// Why a running node ended, although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum NodeFailure {
    #[error(transparent)]
    Service(#[from] ServiceEnded),
    /// The data directory is no longer at its path.
    #[error("{path} was moved, removed or replaced while the node ran; the node ends and writes nothing there", path = .0.display())]
    DirectoryLost(PathBuf),
}

/// A service of a running node ended, although nobody asked the node to stop. Holds the name of the service.
#[derive(Debug, thiserror::Error)]
#[error("the node stops because its {0} ended unexpectedly")]
pub struct ServiceEnded(&'static str);

impl ServiceEnded {
    pub const fn named(service: &'static str) -> Self {
        Self(service)
    }
}
