//! `spore peer`: who the node is connected to, and whom it dials at start.

use std::io::Write;

use clap::{Args as ClapArgs, Subcommand};
use libp2p::Multiaddr;
use toml::Value;

use super::{
    CliError, Context,
    source::{Client, Source},
    text, warn,
};
use crate::{api::dto, config};

/// List, add or remove peers
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List connected peers, and those dialled at start
    List(List),
    /// Dial a peer now, and whenever the node starts
    Add(Address),
    /// Forget a peer that was added
    Remove(Address),
}

#[derive(Debug, ClapArgs, Default)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct Address {
    /// host:port, or a multiaddr such as /ip4/192.0.2.1/tcp/7471
    address: String,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.command.unwrap_or(Command::List(List::default())) {
        Command::List(args) => list(&args, context).await,
        Command::Add(args) => add(&args.address, context).await,
        Command::Remove(args) => remove(&args.address, context).await,
    }
}

async fn list(args: &List, context: &mut Context) -> Result<(), CliError> {
    let source = Source::open(context).await?;
    let configured = context.config()?.peer;
    let connected: Vec<dto::Peer> = source.get("/peers").await?;
    if args.json {
        return context.json(&serde_json::json!({ "connected": connected, "configured": configured }));
    }
    let out = &mut context.out;
    if source.node().is_err() {
        writeln!(out, "No node is running.")?;
    } else if connected.is_empty() {
        writeln!(out, "No peer is connected.")?;
    } else {
        let mut table = text::table(["PEER", "NODE", "ADDRESS", "AGENT", "FOR", "SCORE"]);
        for peer in &connected {
            table.add_row([
                peer.peer_id.clone(),
                text::short(peer.node_id.as_deref().unwrap_or_default()),
                text::line(&peer.address),
                text::line(peer.agent.as_deref().unwrap_or_default()),
                text::duration(peer.connected_seconds),
                format!("{:.1}", peer.score),
            ]);
        }
        writeln!(out, "{table}")?;
    }
    if !configured.is_empty() {
        writeln!(out, "Dialled at start: {}", configured.join(" "))?;
    }
    Ok(())
}

async fn add(address: &str, context: &mut Context) -> Result<(), CliError> {
    parse(address)?;
    let mut peers = context.config()?.peer;
    if !peers.iter().any(|peer| peer == address) {
        peers.push(address.to_owned());
        context.data.create()?;
        save(context, &peers)?;
    }
    writeln!(context.out, "{address} is dialled whenever the node starts")?;
    if let Some(node) = Client::find(&context.data).await? {
        let dialled = node.post("/peers", &dto::PeerAddress { address: address.to_owned() }).await;
        dialled.map_err(|e| e.hint("it is saved, and dialled again when the node starts"))?;
        writeln!(context.out, "and is connected now")?;
    }
    Ok(())
}

async fn remove(address: &str, context: &mut Context) -> Result<(), CliError> {
    let mut peers = context.config()?.peer;
    let before = peers.len();
    peers.retain(|peer| peer != address);
    let configured = peers.len() < before;
    if configured {
        save(context, &peers)?;
        writeln!(context.out, "{address} is no longer dialled at start")?;
    }
    let mut closed = 0;
    if let Some(node) = Client::find(&context.data).await? {
        let source = Source::Node(node);
        let connected: Vec<dto::Peer> = source.get("/peers").await?;
        for peer in connected.iter().filter(|peer| address.contains(&peer.peer_id) || peer.address.starts_with(address))
        {
            source.node()?.delete(&format!("/peers/{}", peer.peer_id)).await?;
            writeln!(context.out, "disconnected {}", peer.peer_id)?;
            closed += 1;
        }
    }
    if !configured && closed == 0 {
        return Err(CliError::not_found(format!("{address} was not added and is not connected"))
            .hint("`spore peer list` shows who is"));
    }
    Ok(())
}

fn save(context: &Context, peers: &[String]) -> Result<(), CliError> {
    let list = Value::Array(peers.iter().cloned().map(Value::String).collect());
    Ok(config::set(&context.data.config(), "", &[("peer", Some(list))])?)
}

/// The reference's port, where another protocol is spoken.
const LEGACY_PORT: &str = ":7470";

/// Reads a peer's address.
///
/// # Errors
/// Text that is none.
pub fn parse(address: &str) -> Result<Multiaddr, CliError> {
    let parsed = config::peer_address(address)
        .ok_or_else(|| CliError::usage(format!("{address} is no peer address")).hint(config::PEER_ADDRESSES))?;
    if address.ends_with(LEGACY_PORT) {
        warn(&format!(
            "{address}: at port 7470 nodes of the Python implementation answer, whose protocol this version does not speak; nodes of this one listen at 7471"
        ));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_a_usage_error_with_examples() {
        let error = parse("nonsense").unwrap_err();
        assert_eq!(error.kind as i32, 2);
        assert!(error.hint.unwrap().contains("/ip4/"));
        assert!(parse("127.0.0.1:7470").is_ok());
    }
}
