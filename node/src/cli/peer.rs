//! `spore peer`: who the node is connected to, and whom it dials at start.

use std::{io::Write, str::FromStr};

use clap::{Args as ClapArgs, Subcommand};
use libp2p::Multiaddr;
use toml::Value;

use super::{CliError, Context, source::Source, text, warn};
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
    /// A multiaddr such as /ip4/192.0.2.1/tcp/7471
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
    check(address)?;
    let mut peers = context.config()?.peer;
    if !peers.iter().any(|peer| peer == address) {
        peers.push(address.to_owned());
        context.data.create()?;
        save(context, &peers)?;
    }
    writeln!(context.out, "{address} is dialled whenever the node starts")?;
    if context.data.running_node().is_some() {
        let source = Source::open(context).await?;
        source.node()?.post("/peers", &dto::PeerAddress { address: address.to_owned() }).await?;
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
    if context.data.running_node().is_some() {
        let source = Source::open(context).await?;
        let connected: Vec<dto::Peer> = source.get("/peers").await?;
        for peer in connected.iter().filter(|peer| address.contains(&peer.peer_id) || peer.address.starts_with(address)) {
            source.node()?.delete(&format!("/peers/{}", peer.peer_id)).await?;
            writeln!(context.out, "disconnected {}", peer.peer_id)?;
            closed += 1;
        }
    }
    if !configured && closed == 0 {
        return Err(CliError::not_found(format!("{address} was not added and is not connected")).hint("`spore peer list` shows who is"));
    }
    Ok(())
}

fn save(context: &Context, peers: &[String]) -> Result<(), CliError> {
    let list = Value::Array(peers.iter().cloned().map(Value::String).collect());
    Ok(config::set(&context.data.config(), "", &[("peer", Some(list))])?)
}

fn check(address: &str) -> Result<(), CliError> {
    if Multiaddr::from_str(address).is_ok() {
        return Ok(());
    }
    match legacy(address) {
        Some(multiaddr) => Err(CliError::usage(format!("{address} is an address of the legacy protocol, which this version does not speak yet"))
            .hint(format!("if a Spore node runs there, use its multiaddr, such as {multiaddr}"))),
        None => Err(CliError::usage(format!("{address} is no peer address")).hint("an address looks like /ip4/192.0.2.1/tcp/7471")),
    }
}

/// What a `host:port` may mean as a multiaddr: the same host, at our own default port.
pub fn legacy(address: &str) -> Option<String> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let kind = match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => "ip4",
        Ok(std::net::IpAddr::V6(_)) => "ip6",
        Err(_) if !host.is_empty() && !host.contains('/') => "dns",
        Err(_) => return None,
    };
    Some(format!("/{kind}/{host}/tcp/7471"))
}

/// Reads a peer given to `run`: a multiaddr, or none with a warning for a legacy address.
///
/// # Errors
/// Text that is neither.
pub fn parse(address: &str) -> Result<Option<Multiaddr>, CliError> {
    if let Ok(address) = Multiaddr::from_str(address) {
        return Ok(Some(address));
    }
    match (check(address), legacy(address)) {
        (Err(error), Some(_)) => {
            warn(&format!("peer {address} is not dialled: {}; {}", error.message, error.hint.unwrap_or_default()));
            Ok(None)
        }
        (Err(error), None) => Err(error),
        (Ok(()), _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legacy_address_is_told_with_its_next_step() {
        assert_eq!(legacy("peer.sporemesh.com:7470").unwrap(), "/dns/peer.sporemesh.com/tcp/7471");
        assert_eq!(legacy("[::1]:1").unwrap(), "/ip6/::1/tcp/7471");
        assert_eq!(legacy("nonsense"), None);
        assert!(parse("127.0.0.1:7470").unwrap().is_none());
        assert!(parse("/ip4/127.0.0.1/tcp/1").unwrap().is_some());
        assert_eq!(parse("/ip4/nonsense").unwrap_err().kind as i32, 2);
    }
}
