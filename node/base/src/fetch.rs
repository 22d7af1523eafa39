//! How a service gets an artifact that is not in the store.
//!
//! Research, verification and the artifact mirror fetch through [`ArtifactSource`], so that none of them knows the
//! networks. The binary implements the trait over libp2p and the bridge.

use std::sync::Arc;

use futures::future::BoxFuture;
use spore_protocol::{Cid, NodeId};

/// Largest artifact fetched: a dataset. Disk space is the operator's.
pub const ARTIFACT_LIMIT: u64 = 1024 * 1024 * 1024;

/// A place that artifacts can be fetched from.
pub trait ArtifactSource: Send + Sync {
    /// Brings an artifact of at most `limit` bytes into the store. The source asks the node `hint` first, if that
    /// node is connected.
    ///
    /// # Errors
    /// [`FetchError`] when no peer has the artifact, the artifact is too large, or the store refuses it.
    fn fetch_within(&self, cid: Cid, hint: Option<NodeId>, limit: u64) -> BoxFuture<'_, Result<(), FetchError>>;

    /// How many peers a fetch asks now. A source that does not know says none.
    fn peers(&self) -> BoxFuture<'_, usize> {
        Box::pin(std::future::ready(0))
    }
}

/// Why an artifact could not be fetched.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    #[error("no connected peer has artifact {0}")]
    NotFound(Cid),
    #[error("artifact {cid} is {size} bytes, more than the {limit} allowed")]
    TooLarge { cid: Cid, size: u64, limit: u64 },
    #[error("too many artifacts are being fetched; try {0} again in a moment")]
    Busy(Cid),
    #[error("could not store artifact {cid}: {reason}")]
    Store { cid: Cid, reason: Arc<str> },
    #[error("the network has shut down")]
    Closed,
}
