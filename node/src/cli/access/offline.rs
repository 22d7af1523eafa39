//! The store of a data directory while no node runs.

use std::sync::Arc;

use spore_api::{live::Live, view::StoreView};
use spore_base::clock::unix_now;
use spore_ingest::{Ingest, IngestHandle};
use spore_protocol::{Identity, TaskId};
use spore_storage::Store;
use tokio::sync::watch;

use crate::{
    cli::{CliError, Context},
    genesis,
};

/// The open store, read as the API reads it.
pub struct OfflineStore {
    view: StoreView,
    live: Live,
    pinned: Option<TaskId>,
    /// None when the store is open for reading only.
    ingest: Option<LocalIngest>,
}

/// An ingest service for one command: an object that a command writes is verified like any other.
pub struct LocalIngest {
    pub handle: IngestHandle,
    _stop: watch::Sender<bool>,
}

impl LocalIngest {
    /// Starts the service on a store that this process holds.
    pub fn start(store: &Store) -> Self {
        let (stop, shutdown) = watch::channel(false);
        let (handle, ..) = Ingest::spawn(store.clone(), Arc::new(unix_now), shutdown);
        Self { handle, _stop: stop }
    }
}

impl OfflineStore {
    /// # Errors
    /// When the configuration cannot be read.
    pub(super) fn new(
        store: Store,
        identity: Option<&Identity>,
        context: &Context,
        ingest: Option<LocalIngest>,
    ) -> Result<Self, CliError> {
        let built_in = genesis::tasks().map_err(genesis::GenesisError::from)?;
        let view = StoreView::new(store, identity.map(Identity::node_id)).with_built_in(&built_in);
        let pinned = context.config()?.task.and_then(|task| view.resolve_task(&task).ok());
        Ok(Self { view, live: Live::offline(pinned), pinned, ingest })
    }

    pub fn view(&self) -> &StoreView {
        &self.view
    }

    /// The state of a process that is not a node.
    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    /// The task that the configuration names.
    pub fn pinned(&self) -> Option<TaskId> {
        self.pinned
    }

    pub(super) fn ingest(&self) -> Result<&IngestHandle, CliError> {
        let ingest = self.ingest.as_ref().map(|ingest| &ingest.handle);
        ingest.ok_or_else(|| CliError::failed("the store is open for reading only"))
    }
}
