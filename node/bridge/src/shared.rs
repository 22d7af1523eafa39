//! What all sessions share: the store, the ingest service, the hub, and the memory for large messages.

use std::sync::Arc;

use spore_base::clock::Clock;
use spore_ingest::{IngestHandle, StoreEvent};
use spore_storage::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::{hub::HubHandle, limits::LARGE_KIB};

/// What every session uses of the rest of the node.
pub struct SharedState {
    pub store: Store,
    pub ingest: IngestHandle,
    /// A session subscribes only to be woken. It reads the changes themselves from the store's change log.
    pub events: broadcast::Sender<StoreEvent>,
    pub hub: HubHandle,
    pub large: LargeMemory,
    /// The wall clock: timestamps of objects are compared with it.
    pub clock: Clock,
}

/// All sessions share one of these.
pub type SharedRef = Arc<SharedState>;

/// Memory held for one large message or artifact. Dropping it gives the memory back.
pub type LargePermit = OwnedSemaphorePermit;

/// Memory for everything large that all sessions together hold, as a semaphore with one permit for each KiB.
#[derive(Clone, Debug)]
pub struct LargeMemory(Arc<Semaphore>);

impl Default for LargeMemory {
    /// [`LARGE_KIB`] of memory.
    fn default() -> Self {
        Self::new(LARGE_KIB)
    }
}

impl LargeMemory {
    pub fn new(kib: u32) -> Self {
        Self(Arc::new(Semaphore::new(usize::try_from(kib).unwrap_or(usize::MAX))))
    }

    /// Waits until this many bytes are free, in the order of the calls. None only if the semaphore were closed, which
    /// nothing does.
    pub async fn acquire(self, bytes: usize) -> Option<LargePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(LARGE_KIB).min(LARGE_KIB);
        self.0.acquire_many_owned(kib).await.ok()
    }

    /// KiB that are free.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.0.available_permits()
    }
}
