//! `spore peer`: who the node is connected to, and whom it dials at start.

use std::io::Write;

use clap::{Args as ClapArgs, Subcommand};
use spore_api::{dto, route::Route};
use spore_base::{
    peer::{PEER_ADDRESSES, Peer},
    peer_address::PeerAddress,
};
use spore_bridge::book_file;
use toml::Value;

use super::{
    CliError, Context, ErrorKind,
    source::{Client, Source},
    text, warn,
};
use crate::config;

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
    /// Dial a peer now, and whenever the node starts (also `spore connect`)
    Add(Address),
    /// Forget a peer that was added (also `spore disconnect`)
    Remove(Address),
}

#[derive(Debug, ClapArgs, Default)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A peer, for commands that add or remove one.
#[derive(Debug, ClapArgs)]
pub struct Address {
    /// host:port of a node of the existing network, or a libp2p multiaddr such as /ip4/192.0.2.1/tcp/7471
    address: String,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.command.unwrap_or(Command::List(List::default())) {
        Command::List(args) => list(&args, context).await,
        Command::Add(args) => add(&args, context).await,
        Command::Remove(args) => remove(&args, context).await,
    }
}

async fn list(args: &List, context: &mut Context) -> Result<(), CliError> {
    let source = Source::open(context).await?;
    let configured = context.config()?.peer;
    let connected: Vec<dto::ConnectedPeer> = source.get(&Route::Peers).await?;
    if args.json {
        return context.json(&serde_json::json!({ "connected": connected, "configured": configured }));
    }
    let out = &mut context.out;
    if source.node().is_err() {
        writeln!(out, "No node is running.")?;
    } else if connected.is_empty() {
        writeln!(out, "No peer is connected.")?;
    } else {
        let mut table = text::table(["NETWORK", "PEER", "ADDRESS", "STATE", "FOR", "IN", "OUT", "SCORE"]);
        for peer in &connected {
            table.add_row(row(peer));
        }
        writeln!(out, "{table}")?;
    }
    if !configured.is_empty() {
        writeln!(out, "Dialled at start: {}", configured.join(" "))?;
    }
    Ok(())
}

fn row(peer: &dto::ConnectedPeer) -> [String; 8] {
    let objects = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    // libp2p's peers say what they are; those of the existing network who dialled whom is all that is known.
    let who = match &peer.peer_id {
        Some(id) => format!("{id} {}", text::line(peer.agent.as_deref().unwrap_or_default())),
        None => peer.direction.clone().unwrap_or_default(),
    };
    [
        peer.transport.clone(),
        who.trim_end().to_owned(),
        text::line(&peer.address),
        peer.state.clone().unwrap_or_default(),
        text::duration(peer.connected_seconds),
        objects(peer.received),
        objects(peer.sent),
        format!("{:.1}", peer.score),
    ]
}

/// Saves a peer, and dials it now if a node is running.
///
/// # Errors
/// What is no address, and a running node that does not reach the peer.
pub async fn add(args: &Address, context: &mut Context) -> Result<(), CliError> {
    let peer = parse(&args.address)?;
    let dialled = match Client::find(&context.data).await? {
        Some(node) => Some(node.post(&Route::AddPeer, &dto::NewPeer { address: peer.to_string() }).await),
        None => None,
    };
    // What the node will never dial, such as itself, is not saved. What does not answer now may do so later.
    let dialled = match dialled {
        Some(Err(error)) if error.kind != ErrorKind::Failed => return Err(error),
        other => other,
    };
    let mut peers = context.config()?.peer;
    if !peers.iter().any(|text| names(text, &peer)) {
        peers.push(peer.to_string());
        context.data.create()?;
        save(context, &peers)?;
    }
    match dialled {
        Some(Ok(())) => writeln!(context.out, "{peer} is connected, and dialled whenever the node starts")?,
        Some(Err(error)) => return Err(error.hint("it is saved, and dialled again when the node starts")),
        None => {
            writeln!(context.out, "{peer} is saved: it is dialled whenever the node starts. No node is running now")?
        }
    }
    Ok(())
}

/// Forgets a peer, and closes the connections with it if a node is running.
///
/// # Errors
/// What is no address, and a peer that is neither saved nor connected.
pub async fn remove(args: &Address, context: &mut Context) -> Result<(), CliError> {
    let peer = parse(&args.address)?;
    let mut peers = context.config()?.peer;
    let before = peers.len();
    peers.retain(|text| !names(text, &peer));
    let configured = peers.len() < before;
    if configured {
        save(context, &peers)?;
        writeln!(context.out, "{peer} is no longer dialled at start")?;
    }
    let forgotten = match (Client::find(&context.data).await?, &peer) {
        (Some(node), _) => disconnect(node, &peer, context).await?,
        (None, Peer::Legacy(address)) => forget_known(address, context)?,
        (None, Peer::Libp2p(_)) => false,
    };
    if !configured && !forgotten {
        return Err(CliError::not_found(format!("{peer} was not added and is not connected"))
            .hint("`spore peer list` shows who is"));
    }
    Ok(())
}

/// Takes a peer out of those that the next node would find in the data directory; false when it was
/// not there. A running node keeps that file itself.
fn forget_known(peer: &PeerAddress, context: &mut Context) -> Result<bool, CliError> {
    let file = context.data.known_peers();
    let mut known = book_file::load(&file)?.peers;
    let before = known.len();
    known.retain(|other| other != peer);
    if known.len() == before {
        return Ok(false);
    }
    book_file::save(&file, &known)?;
    writeln!(context.out, "{peer} is no longer known from earlier runs")?;
    Ok(true)
}

/// Closes the running node's connections with a peer; false when it had none and dialled none.
async fn disconnect(node: Client, peer: &Peer, context: &mut Context) -> Result<bool, CliError> {
    let address = peer.to_string();
    let mut named = vec![address.clone()];
    let source = Source::Node(node);
    if let Peer::Libp2p(_) = peer {
        // Connections are closed by the peer's id, which is part of the address or known to the node.
        let connected: Vec<dto::ConnectedPeer> = source.get(&Route::Peers).await?;
        let ids = connected.into_iter().filter_map(|peer| peer.peer_id.map(|id| (id, peer.address)));
        named = ids.filter(|(id, at)| address.contains(id) || at.starts_with(&address)).map(|(id, _)| id).collect();
    }
    let mut closed = false;
    for peer in named {
        match source.node()?.delete(&Route::RemovePeer(peer.clone())).await {
            Ok(()) => writeln!(context.out, "{peer} is not connected any more")?,
            Err(error) if error.kind == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        closed = true;
    }
    Ok(closed)
}

/// Whether a text of the configuration names the peer, however it is spelled there.
fn names(text: &str, peer: &Peer) -> bool {
    text.parse().is_ok_and(|other: Peer| other == *peer)
}

fn save(context: &Context, peers: &[String]) -> Result<(), CliError> {
    let list = Value::Array(peers.iter().cloned().map(Value::String).collect());
    Ok(config::set(&context.data.config(), "", &[("peer", Some(list))])?)
}

/// Reads a peer's address.
///
/// # Errors
/// Text that is none.
pub fn parse(address: &str) -> Result<Peer, CliError> {
    let peer =
        address.parse().map_err(|_| CliError::usage(format!("{address} is no peer address")).hint(PEER_ADDRESSES))?;
    if matches!(&peer, Peer::Legacy(peer) if peer.port() == config::DEFAULT_P2P_PORT) {
        warn(&format!(
            "{address} is dialled as a node of the existing network, whose port is 7470; at 7471 nodes speak libp2p, for which the address is written /ip4/HOST/tcp/7471 or /dns/HOST/tcp/7471"
        ));
    }
    Ok(peer)
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

    #[test]
    fn a_saved_peer_is_found_however_it_is_spelled() {
        let peer = parse("Peer.Example.org:07470").unwrap();
        assert!(names("peer.example.org:7470", &peer));
        assert!(!names("peer.example.org:7471", &peer) && !names("nonsense", &peer));
    }
}
