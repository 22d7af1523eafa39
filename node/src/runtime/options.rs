//! The options of one run of a node, as the command line decides them.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use libp2p::Multiaddr;
use spore_api::proxies::Proxies;
use spore_base::mode::Mode;
use spore_bridge::BridgeConfig;
use spore_lab::research::llm::ProviderConfig;
use spore_network::Reachability;
use spore_protocol::NodeId;

use crate::{config::WebhookConfig, housekeeping::CacheBounds};

/// Everything that the environment and the user decide about a run.
#[derive(Clone)]
pub struct NodeOptions {
    pub mode: Mode,
    /// A task's id, unique prefix or name. None: the default task.
    pub task: Option<String>,
    /// Addresses on which libp2p listens.
    pub listen: Vec<Multiaddr>,
    /// Peers that the node stays connected to over libp2p.
    pub peers: Vec<Multiaddr>,
    /// The existing network. `known` is not used: known peers are in the data directory.
    pub bridge: BridgeConfig,
    /// Whether the node begins a network: it dials no peer that it knows from earlier runs.
    pub genesis: bool,
    /// Whether to look for peers in the local network.
    pub mdns: bool,
    /// Whether to ask the router for a forwarded port.
    pub upnp: bool,
    /// Whether others can dial this node, if the user knows.
    pub reachability: Option<Reachability>,
    /// Addresses at which others reach this node, if the user knows.
    pub external: Vec<Multiaddr>,
    /// Whether to serve as a relay for nodes behind NAT while others can dial this node.
    pub relay: bool,
    /// Address of the API and the explorer. None: the API alone, on this machine at any free port, for commands.
    pub web: Option<SocketAddr>,
    /// Address of the operator's endpoints, such as /metrics. None: there are none.
    pub admin: Option<SocketAddr>,
    /// Host names of reverse proxies, by which the explorer may be asked too.
    pub web_names: Vec<String>,
    /// Reverse proxies that are believed where a request comes from.
    pub web_proxies: Proxies,
    /// Where the node tells its news.
    pub webhook: Option<WebhookConfig>,
    /// `auto`, `wgpu` or `flex`.
    pub device: String,
    /// Percent of the machine that training may use, 1..=100.
    pub resource: u8,
    /// Share of other nodes' records that the node re-runs, 0.0..=1.0. None: the default of the mode.
    pub verify_rate: Option<f64>,
    /// Nodes whose measurements decide what holds here, besides this node itself.
    pub trust: Vec<NodeId>,
    /// Bounds of the artifact cache.
    pub cache: CacheBounds,
    /// Disk budget of the store, in bytes. None: see [`crate::disk_budget`].
    pub store_max: Option<u64>,
    /// The language model that proposes experiments. None: the built-in proposer.
    pub llm: Option<ProviderConfig>,
    /// The file of this program, which also runs as the worker process.
    pub program: PathBuf,
    /// The environment. A worker gets the variables that graphics drivers need.
    pub environment: Vec<(OsString, OsString)>,
}

/// Without the environment and the language model's key, which are secrets.
impl std::fmt::Debug for NodeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeOptions")
            .field("mode", &self.mode)
            .field("task", &self.task)
            .field("listen", &self.listen)
            .field("peers", &self.peers)
            .field("bridge", &self.bridge)
            .field("web", &self.web)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
