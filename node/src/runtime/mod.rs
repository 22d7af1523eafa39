//! The composition root: opens the store, starts every service of a node, and stops them together.
//!
//! One watch tells every service to stop. A service that ends by itself stops the node with a message, because a node
//! without its network or its ingest service is useless. Everything that the environment or the user decides comes in
//! through [`NodeOptions`]; nothing here reads flags, variables or the terminal.

mod error;
mod options;
mod services;
mod start;
mod trainer;

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use spore_api::{live::LiveNode, view::StoreView};
use spore_base::peer_address::PeerAddress;
use spore_protocol::NodeId;
use tokio::sync::watch;

pub use error::{ServiceEnded, StartError, WebError};
pub use options::NodeOptions;

use crate::data_dir::DataDir;
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
    data: DataDir,
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
    /// [`ServiceEnded`] when a service ended by itself.
    pub async fn run(mut self, asked: impl Future<Output = ()>) -> Result<(), ServiceEnded> {
        let ended = tokio::select! {
            () = asked => None,
            service = self.services.next_ended() => Some(service.unwrap_or("runtime")),
        };
        self.stop().await;
        ended.map_or(Ok(()), |service| Err(ServiceEnded::named(service)))
    }

    async fn stop(&mut self) {
        self.data.forget_node();
        // An error means that no service listens any more, so all have stopped.
        let _ = self.stop.send(true);
        let all = async { while self.services.next_ended().await.is_some() {} };
        if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
            tracing::warn!("some services did not stop within {} s", STOP_WITHIN.as_secs());
            self.services.abort();
        }
    }
}

/// Resolves when Ctrl-C or SIGTERM asks this process to stop, from the call on and not only from the first poll.
pub fn asked_to_stop() -> impl Future<Output = ()> + Send {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        match signals {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
            _ => {
                tracing::error!("cannot receive signals; stop this process with SIGKILL");
                std::future::pending::<()>().await;
            }
        }
    }
}
