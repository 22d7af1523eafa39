//! The part of a node that trains. A program without the feature `trainer` has a part that refuses to.

#[cfg(not(feature = "trainer"))]
mod absent;
#[cfg(feature = "trainer")]
mod device;

use std::sync::Arc;

use spore_api::live::LiveNode;
use spore_base::{
    fetch::ArtifactSource, llm_health::LlmHealth, progress::RunProgress, research_state::ResearchState,
    shutdown::Shutdown,
};
use spore_protocol::{Identity, TaskId};
use spore_storage::Store;
use tokio::sync::watch;

#[cfg(not(feature = "trainer"))]
pub use absent::Trainer;
#[cfg(feature = "trainer")]
pub use device::{Trainer, open_device};

use super::options::NodeOptions;

/// What the trainer shows of its work. Without a trainer nothing is shown.
#[derive(Debug, Default)]
pub struct Shown {
    pub progress: watch::Sender<Option<RunProgress>>,
    pub llm_health: watch::Sender<Option<LlmHealth>>,
    pub research: watch::Sender<ResearchState>,
}

/// The trainer's inputs from the rest of the node.
#[cfg_attr(not(feature = "trainer"), expect(dead_code, reason = "a relay trains nothing"))]
pub struct LabParts<'a> {
    pub options: &'a NodeOptions,
    pub live: &'a LiveNode,
    pub identity: Identity,
    pub store: Store,
    pub built_in: Vec<TaskId>,
    pub artifacts: Arc<dyn ArtifactSource>,
    pub shown: Shown,
    pub shutdown: Shutdown,
}
