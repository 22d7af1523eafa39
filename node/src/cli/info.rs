//! `spore info`: the identity and the configuration of this node.

use std::io::Write;

use clap::Args as ClapArgs;
use serde_json::json;
use spore_base::peer_id::peer_id;

use super::{CliError, Context, access::ApiClient, text};
use crate::identity_file;

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
    let config = context.config()?;
    let node_id = identity.node_id();
    let running = ApiClient::find(&context.data).await?.map(|client| client.node);
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
            "listen": config.listen, "peer": config.peer, "llm": llm, "running": running,
        }));
    }
    let out = &mut context.out;
    writeln!(out, "Node ID         {node_id}")?;
    writeln!(out, "Peer ID         {}", peer.unwrap_or_default())?;
    writeln!(out, "Version         {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "Data directory  {}", context.data.root().display())?;
    writeln!(out, "Task            {}", config.task.as_deref().unwrap_or("the default task"))?;
    let trust = match config.trust.len() as u64 {
        0 => "this node's own key".to_owned(),
        n => format!("this node's own key and {}", text::count(n, "other", "others")),
    };
    writeln!(out, "Trust           {trust}")?;
    writeln!(out, "Device          {}, at most {} % of it", config.device, config.resource)?;
    let llm = config.llm.map(|llm| format!("{} {}", llm.provider, llm.model.unwrap_or_default()));
    writeln!(out, "Proposer        {}", llm.as_deref().unwrap_or("built in").trim())?;
    let everywhere = || format!("all addresses, port {} (TCP and QUIC)", config.p2p_port);
    writeln!(out, "Listens on      {}", if config.listen.is_empty() { everywhere() } else { config.listen.join(" ") })?;
    writeln!(out, "Bridge          {}", std::net::SocketAddr::new(config.host, config.port))?;
    writeln!(
        out,
        "Peers           {}",
        if config.peer.is_empty() { "none configured".to_owned() } else { config.peer.join(" ") }
    )?;
    match running {
        Some(node) => writeln!(out, "Running         yes, process {}, http://{}", node.pid, node.address)?,
        None => writeln!(out, "Running         no")?,
    }
    Ok(())
}
