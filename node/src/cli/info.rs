//! `spore info`: the identity and the configuration of this node.

use std::io::Write;

use clap::Args as ClapArgs;
use serde_json::json;
use spore_api::{dto, route::Route};
use spore_base::peer_id::peer_id;

use super::{
    CliError, Context,
    access::{ApiClient, NodeAccess},
    overview::{self, Counts},
    proposer, text,
};
use crate::{
    config::{self, Config, LlmConfig},
    identity_file,
};

/// Show the identity, the data directory and the configuration of the node
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let identity = identity_file::load(&context.data.identity())?.ok_or_else(|| {
        CliError::not_found(format!("there is no node in {}", context.data.root().display()))
            .hint("create one with `spore init`")
    })?;
    let source = NodeAccess::open(context).await.ok();
    // Reading the store without a node has warned about unknown keys.
    let config = match &source {
        Some(NodeAccess::Store(_)) => config::load(&context.data.config())?.config,
        _ => context.config()?,
    };
    let node_id = identity.node_id();
    let node = ApiClient::find(&context.data).await?;
    let running = node.as_ref().map(|client| client.node.clone());
    let live = match node {
        Some(client) => Some(Seen::of(&NodeAccess::Node(client)).await?),
        None => None,
    };
    // Without a node the numbers come from the store. There are none where there is no store, or another process holds it.
    let stored = match (&live, &source) {
        (None, Some(store)) => Seen::of(store).await.ok(),
        _ => None,
    };
    let counts = live.as_ref().or(stored.as_ref()).map(|seen| Counts::of(&seen.status, seen.task.as_ref()));
    let peer = peer_id(&node_id).map(|peer| peer.to_string());
    let llm = config
        .llm
        .as_ref()
        .map(|llm| json!({ "provider": llm.provider, "model": llm.model, "base_url": llm.base_url }));
    if args.json {
        return context.json(&json!({
            "node_id": node_id.to_string(), "peer_id": peer, "version": env!("CARGO_PKG_VERSION"),
            "data_dir": context.data.root(), "task": config.task, "trust": config.trust.iter().map(ToString::to_string).collect::<Vec<_>>(), "device": config.device, "resource": config.resource,
            "host": config.host, "port": config.port, "p2p_port": config.p2p_port,
            "listen": config.listen, "peer": config.peer, "llm": llm, "running": running, "store": counts,
            "live": live.as_ref().map(|live| &live.status),
        }));
    }
    let (out, is_running) = (&mut context.out, running.is_some());
    writeln!(out, "Node ID         {node_id}")?;
    writeln!(out, "Peer ID         {}", peer.unwrap_or_default())?;
    writeln!(out, "Version         {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "Data directory  {}", context.data.root().display())?;
    if let Some(live) = live {
        // A flag of the running node overrides config.toml.
        live.print(out)?;
        if let Some(node) = running {
            writeln!(out, "Running         yes, process {}, http://{}", node.pid, node.address)?;
        }
        writeln!(out, "\nIn config.toml, for the next start")?;
    }
    print_config(out, &config)?;
    if !is_running {
        writeln!(out, "Running         no")?;
    }
    if let Some(counts) = counts {
        counts.print(out)?;
    }
    Ok(())
}

fn print_config(out: &mut dyn Write, config: &Config) -> std::io::Result<()> {
    writeln!(out, "Task            {}", config.task.as_deref().unwrap_or("the default task"))?;
    let trust = match config.trust.len() as u64 {
        0 => "this node's own key".to_owned(),
        n => format!("this node's own key and {}", text::count(n, "other", "others")),
    };
    writeln!(out, "Trust           {trust}")?;
    writeln!(out, "Device          {}, at most {} % of it", config.device, config.resource)?;
    let name = |llm: &LlmConfig| format!("{} {}", llm.provider, llm.model.as_deref().unwrap_or_default());
    let llm = config.llm.as_ref().map(name);
    writeln!(out, "Proposer        {}", llm.as_deref().unwrap_or("built in").trim())?;
    print_addresses(out, config)
}

/// Where a node with this configuration listens, and whom it dials.
fn print_addresses(out: &mut dyn Write, config: &Config) -> std::io::Result<()> {
    let everywhere = || format!("all addresses, port {} (TCP and QUIC)", config.p2p_port);
    writeln!(out, "Listens on      {}", if config.listen.is_empty() { everywhere() } else { config.listen.join(" ") })?;
    writeln!(out, "Bridge          {}", std::net::SocketAddr::new(config.host, config.port))?;
    writeln!(
        out,
        "Peers           {}",
        if config.peer.is_empty() { "none configured".to_owned() } else { config.peer.join(" ") }
    )
}

/// The state of a node or of a store, and the task that the node works on.
struct Seen {
    status: dto::NodeStatus,
    task: Option<dto::TaskSummary>,
}

impl Seen {
    async fn of(source: &NodeAccess) -> Result<Self, CliError> {
        let status: dto::NodeStatus = source.get(&Route::Status).await?;
        let task = overview::active_task(source, &status).await;
        Ok(Self { status, task })
    }

    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let all = |addresses: &[String]| if addresses.is_empty() { "nowhere".to_owned() } else { addresses.join(" ") };
        let status = &self.status;
        writeln!(out, "Mode            {}", status.mode)?;
        let task = overview::task_name(status, self.task.as_ref());
        writeln!(out, "Task            {}", task.as_deref().unwrap_or("none yet"))?;
        if let Some(device) = &status.device {
            let class = status.hardware_class.as_deref().unwrap_or_default();
            writeln!(out, "Device          {} ({class})", text::line(device))?;
        }
        // A node that does no research has none.
        if let Some(live) = &status.proposer {
            for (number, line) in proposer::lines(live).iter().enumerate() {
                writeln!(out, "{:16}{line}", if number == 0 { "Proposer" } else { "" })?;
            }
        } else if status.mode == "research" {
            writeln!(out, "Proposer        built in")?;
        }
        writeln!(out, "Listens on      {}", all(&status.listen_addresses))?;
        writeln!(out, "Bridge          {}", all(&status.legacy_listen_addresses))?;
        writeln!(out, "Peers           {} connected", status.peer_count)
    }
}
