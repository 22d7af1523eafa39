//! From the store to the shapes of the API: the one place where they are converted, for the HTTP server and for
//! commands that read the store without a node.
//!
//! [`StoreView`] only reads, and blocks while it does: call it on a blocking thread. Ids may be given as unique
//! prefixes. Lists are bounded here. The files beside this one hold a kind of object each.

mod activity;
mod experiments;
mod frontiers;
mod graphs;
mod heads;
mod judgements;
mod listings;
mod nodes;
mod noise;
mod resolve;
mod tasks;
mod text;

pub use experiments::ExperimentText;
pub use frontiers::FrontierView;
pub(crate) use graphs::{Form, Graphs, Kept};
pub use heads::Head;
pub use listings::Filter;
pub(crate) use text::plain_line;

use std::{sync::Arc, time::Instant};

use spore_base::peer_id::peer_id;
use spore_protocol::{NodeId, TaskId};
use spore_storage::Store;

use super::{
    dto,
    live::{self, Live},
    problem::ApiError,
};

/// A store as the API shows it. Cheap to clone.
#[derive(Clone)]
pub struct StoreView {
    store: Store,
    node_id: Option<NodeId>,
    peer_id: String,
    /// Tasks that are built into the program: defaults, whoever signed them.
    built_in: Arc<[TaskId]>,
    pub(crate) graphs: Arc<Graphs>,
}

impl StoreView {
    /// `node_id` is this node's own. None for a store without a node's key.
    pub fn new(store: Store, node_id: Option<NodeId>) -> Self {
        let peer_id = node_id.and_then(|node| peer_id(&node)).map(|peer| peer.to_string()).unwrap_or_default();
        Self { store, node_id, peer_id, built_in: Arc::default(), graphs: Arc::default() }
    }

    /// With the tasks that are built into the program.
    #[must_use]
    pub fn with_built_in(self, tasks: &[TaskId]) -> Self {
        Self { built_in: tasks.into(), ..self }
    }

    /// The store that is shown.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The state of the node: what the store holds, and what `live` says of the process.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn status(&self, live: &Live) -> Result<dto::NodeStatus, ApiError> {
        let counts = self.store.counts()?;
        let active_task = match live.active_task {
            Some(task) => Some(task),
            None => self.store.default_task(&self.built_in, |_| true)?,
        };
        Ok(dto::NodeStatus {
            experiment_count: counts.experiments,
            verified_experiment_count: counts.verified,
            task_count: counts.tasks,
            peer_count: live.peers.len() as u64,
            legacy_peer_count: live.peers.iter().filter(|peer| peer.transport == "legacy").count() as u64,
            legacy_listen_addresses: live.legacy_listen_addresses.clone(),
            network: live.network.clone(),
            frontier_size: counts.frontier,
            trusted: self.store.seeds()?.iter().map(ToString::to_string).collect(),
            node_id: self.node_id.map(|node| node.to_string()).unwrap_or_default(),
            peer_id: self.peer_id.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            mode: live.mode.into(),
            active_task: active_task.map(|task| task.to_string()),
            hardware_class: live.hardware_class.clone(),
            device: live.device.clone(),
            listen_addresses: live.listen_addresses.clone(),
            rejected: live.rejected.clone(),
            pending_count: counts.pending,
            sequence: self.store.sequence(),
            uptime_seconds: live.uptime.as_secs(),
            activity: live.activity.clone(),
            problem: live.problem,
            clock_offset_seconds: live.clock_offset_seconds,
            warnings: live.warnings.clone(),
            proposer: live.proposer.as_ref().map(|health| live::proposer(health, Instant::now())),
            research: live.research.clone(),
        })
    }
}
