//! The engine of a command that trains while no node runs: the command holds the store, and signs with the node's key.
//!
//! A node that runs later on the store passes on what was published. Never here: what is trained.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use spore_base::{
    clock::unix_now,
    fetch::{ArtifactSource, FetchError},
};
use spore_ingest::IngestHandle;
use spore_lab::engine::{self, Engine, EngineError, EngineSettings, Works};
use spore_protocol::{Cid, Identity, NodeId, TaskId};
use spore_storage::Store;
use tokio::sync::{Semaphore, broadcast, watch};

use super::{CliError, Context};
use crate::{genesis, runtime};

/// Events of the store that nobody here listens to.
const EVENTS: usize = 1;

/// What this process holds of the node.
pub struct Local {
    pub store: Store,
    pub ingest: IngestHandle,
    pub identity: Identity,
    pub task: TaskId,
}

impl Local {
    /// Opens the device, that of the configuration where none is named, and makes the engine that a node would have.
    ///
    /// # Errors
    /// When the device cannot be opened, or the configuration cannot be read.
    pub async fn engine(self, device: Option<&str>, context: &Context) -> Result<Engine, CliError> {
        let config = context.config()?;
        let program = std::env::current_exe().map_err(|e| CliError::io("cannot find the file of this program", &e))?;
        let device = device.map_or_else(|| config.device.clone(), str::to_owned);
        let environment = std::env::vars_os().collect();
        let ready = runtime::open_device(&device, config.resource, program, environment, &context.data).await?;
        let settings = EngineSettings {
            // Whoever names a task may run it, whoever made it.
            pinned: watch::channel(Some(self.task)).1,
            built_in: genesis::tasks().map_err(genesis::GenesisError::from)?,
            verify_rate: 0.0,
            resource: config.resource.into(),
            device: ready.profile.backend.into(),
            memory_limit: engine::memory_limit(config.resource.into()),
        };
        Ok(Engine {
            store: self.store,
            ingest: self.ingest,
            artifacts: Arc::new(NoPeers),
            identity: self.identity,
            device: ready.profile,
            supervisor: ready.supervisor,
            clock: Arc::new(unix_now),
            settings,
            events: broadcast::channel(EVENTS).0,
            progress: watch::channel(None).0,
            research: watch::Sender::default(),
            permit: Arc::new(Semaphore::new(1)),
            works: Works::default(),
        })
    }
}

/// The network of a process that has none.
struct NoPeers;

impl ArtifactSource for NoPeers {
    fn fetch_within(&self, cid: Cid, _hint: Option<NodeId>, _limit: u64) -> BoxFuture<'_, Result<(), FetchError>> {
        std::future::ready(Err(FetchError::NotFound(cid))).boxed()
    }
}

/// The error of an engine, with what to do about it.
pub fn engine_error(error: EngineError) -> CliError {
    let hint = match &error {
        EngineError::Stopped => return CliError::failed("the experiment was stopped; nothing was published"),
        EngineError::Script(_) => "`spore script check SCRIPT` shows what is wrong",
        EngineError::Missing(_) | EngineError::Artifact { .. } => {
            "a running node fetches scripts and datasets from its peers: `spore run`, or build on another experiment with \
             `--parent ID`"
        }
        EngineError::Task { .. } => "`spore tasks` lists the tasks; `--parent ID` names the experiment to build on",
        EngineError::Publish(_) => "train for the task's time, without `--steps`",
        EngineError::Machine(_) | EngineError::Killed(_) => {
            "end other work on this machine, or choose another device with `--device`"
        }
        EngineError::Store(_) => "`spore db check` looks at the store",
    };
    CliError::failed(error.to_string()).hint(hint)
}
