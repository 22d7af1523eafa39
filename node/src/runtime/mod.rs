//! The composition root: opens the store, starts every service of a node, and stops them together.
//!
//! One watch tells every service to stop. A service that ends by itself stops the node with a message, because a node
//! without its network or its ingest service is useless. Everything that the environment or the user decides comes in
//! through [`NodeOptions`]; nothing here reads flags, variables or the terminal.

mod admin;
mod descriptors;
mod directory;
mod error;
mod options;
mod services;
mod signals;
mod start;
mod trainer;
mod twin;
mod webhook;

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use spore_api::{live::LiveNode, view::StoreView};
use spore_base::peer_address::PeerAddress;
use spore_protocol::NodeId;
use tokio::sync::watch;

pub use error::{NodeFailure, ServiceEnded, StartError, WebError};
pub use options::NodeOptions;
pub use signals::{asked_again, asked_to_stop};
#[cfg(feature = "trainer")]
pub use trainer::open_device;

use crate::data_dir::DataDir;
use directory::DirectoryWatch;
use services::Services;

/// Time that the services get to stop: a worker is killed, the store is flushed, streams are closed.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A running node.
pub struct Node {
    pub live: LiveNode,
    pub view: StoreView,
    pub node_id: NodeId,
    /// Address of the API on this machine.
    pub address: SocketAddr,
    /// Other users could read the node's key until now.
    pub identity_was_loose: bool,
    /// See [`spore_storage::Store::lost_changes`].
    pub lost_changes: Option<RangeInclusive<u64>>,
    /// The public peer of the existing network, if the node tries it.
    pub public_peer: Option<PeerAddress>,
    stop: watch::Sender<bool>,
    services: Services,
    directory: DirectoryWatch,
}

impl Node {
    /// Opens everything and starts every service.
    ///
    /// # Errors
    /// [`StartError`]. No service is left running then.
    pub async fn start(options: NodeOptions, data: DataDir) -> Result<Self, StartError> {
        start::start(options, data).await
    }

    /// Runs until `asked` resolves or a service ends by itself, then stops all services.
    ///
    /// # Errors
    /// [`NodeFailure::Service`] when a service ended by itself. [`NodeFailure::DirectoryLost`] when the data directory is
    /// no longer at its path: then the services go on, and the caller must end the process at once, because closing the
    /// store would write into what is not the node's own.
    pub async fn run(mut self, asked: impl Future<Output = ()>) -> Result<(), NodeFailure> {
        let directory = self.directory.clone();
        let ended = tokio::select! {
            () = asked => Ok(()),
            service = self.services.next_ended() => Err(ServiceEnded::named(service.unwrap_or("runtime")).into()),
            () = directory.keep() => Err(directory.lost()),
        };
        if !self.directory.is_here().await {
            std::mem::forget(self);
            return Err(directory.lost());
        }
        self.stop().await;
        ended
    }

    async fn stop(&mut self) {
        self.directory.forget();
        // An error means that no service listens any more, so all have stopped.
        let _ = self.stop.send(true);
        let all = async { while self.services.next_ended().await.is_some() {} };
        if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
            tracing::warn!("some services did not stop within {} s", STOP_WITHIN.as_secs());
            self.services.abort();
        }
    }
}
