//! `spore peer`: the peers that the node is connected to, and those that it dials when it starts.

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
    access::{self, ApiClient, NodeAccess},
    table::{Column, Table},
    text, warn,
};
use crate::config;

/// Characters of a peer id in the table: enough to tell the peers of one node apart.
const PEER_DIGITS: usize = 11;

/// List, add or remove peers
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the connected peers, and the peers that the node dials when it starts
    List(List),
    /// Connect to a peer now, and whenever the node starts (the same as `spore connect`)
    Add(Address),
    /// Forget a peer and close its connections (the same as `spore disconnect`)
    Remove(Address),
}

#[derive(Debug, ClapArgs, Default)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The peer that a command adds or removes.
#[derive(Debug, ClapArgs)]
pub struct Address {
    /// The address: host:port in the existing network, or a libp2p multiaddr such as /ip4/192.0.2.1/tcp/7471
    address: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.command.unwrap_or(Command::List(args.list)) {
        Command::List(args) => list(&args, context).await,
        Command::Add(args) => add(&args, context).await,
        Command::Remove(args) => remove(&args, context).await,
    }
}

async fn list(args: &List, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await.map_err(|error| match error.kind {
        // Without a store there is no node either.
        ErrorKind::NotFound => CliError { kind: ErrorKind::NodeNotRunning, ..error },
        _ => error,
    })?;
    let ended = source.node().map(|_| ()).map_err(|_| CliError::told(ErrorKind::NodeNotRunning));
    let configured = context.config()?.peer;
    let connected: Vec<dto::ConnectedPeer> = source.get(&Route::Peers).await?;
    if args.json {
        context.json(&serde_json::json!({ "connected": connected, "configured": configured }))?;
        context.out.flush()?;
        return ended;
    }
    let out = &mut context.out;
    if source.node().is_err() {
        writeln!(out, "No node is running.")?;
    } else if connected.is_empty() {
        writeln!(out, "No peer is connected.")?;
    } else {
        let mut table = Table::new([
            Column::text("ADDRESS", 20),
            Column::id("NETWORK").leaves(7),
            Column::text("PEER", 12),
            Column::text("PROGRAM", 8).leaves(1),
            Column::id("STATE").leaves(4),
            Column::id("FOR").leaves(6),
            Column::id("IN").leaves(3),
            Column::id("OUT").leaves(2),
            Column::id("SCORE").leaves(5),
        ]);
        for peer in &connected {
            table.add_row(row(peer));
        }
        writeln!(out, "{table}")?;
    }
    if !configured.is_empty() {
        writeln!(out, "Peers dialled at start: {}", configured.join(" "))?;
    }
    out.flush()?;
    ended
}

fn row(peer: &dto::ConnectedPeer) -> [String; 9] {
    let objects = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    // A libp2p peer sends its id and its program. Of a legacy peer only the direction of the connection is known.
    let who = peer.peer_id.as_deref().map(short_peer).or_else(|| peer.direction.clone());
    [
        text::line(&peer.address),
        peer.transport.clone(),
        text::line(&who.unwrap_or_default()),
        text::line(peer.agent.as_deref().unwrap_or_default()),
        peer.state.clone().unwrap_or_default(),
        text::duration(peer.connected_seconds),
        objects(peer.received),
        objects(peer.sent),
        format!("{:.1}", peer.score),
    ]
}

/// The end of a peer id. All ids of Ed25519 keys begin alike.
pub fn short_peer(id: &str) -> String {
    let skipped = id.chars().count().saturating_sub(PEER_DIGITS);
    if skipped == 0 { id.to_owned() } else { format!("\u{2026}{}", id.chars().skip(skipped).collect::<String>()) }
}

/// Saves a peer, and dials it now if a node is running.
///
/// # Errors
/// When the text is not an address, or the running node cannot reach the peer.
pub async fn add(args: &Address, context: &mut Context) -> Result<(), CliError> {
    let peer = parse(&args.address)?;
    let dialled = match ApiClient::find(&context.data).await? {
        Some(node) => Some(node.post(&Route::AddPeer, &dto::NewPeer { address: peer.to_string() }).await),
        None => None,
    };
    // A peer that the node never dials, such as itself, is not saved. One that does not answer may do so later.
    let dialled = match dialled {
        Some(Err(error)) if error.kind == ErrorKind::Usage => {
            return Err(
                error.hint("the peer is not saved; check the address, or try again later if the peer may be busy")
            );
        }
        Some(Err(error)) if error.kind != ErrorKind::Failed => return Err(error),
        other => other,
    };
    let mut peers = context.config()?.peer;
    if !peers.iter().any(|text| names(text, &peer)) {
        peers.push(peer.to_string());
        context.data.create()?;
        save(context, &peers)?;
    }
    if args.json && !matches!(dialled, Some(Err(_))) {
        let connected = dialled.is_some();
        return context
            .json(&serde_json::json!({ "address": peer.to_string(), "saved": true, "connected": connected }));
    }
    match dialled {
        Some(Ok(())) => writeln!(context.out, "Connected to {peer}. The node dials it whenever it starts.")?,
        Some(Err(error)) => return Err(error.hint("the peer is saved; the node dials it again when it starts")),
        None => {
            let absence = access::absence(&context.data);
            writeln!(context.out, "Saved {peer}. {absence}; the node dials it whenever it starts.")?;
        }
    }
    Ok(())
}

/// Forgets a peer, and closes its connections if a node is running.
///
/// # Errors
/// When the text is not an address, or the peer is neither saved nor connected.
pub async fn remove(args: &Address, context: &mut Context) -> Result<(), CliError> {
    let peer = parse(&args.address)?;
    let mut peers = context.config()?.peer;
    let before = peers.len();
    peers.retain(|text| !names(text, &peer));
    let configured = peers.len() < before;
    if configured {
        save(context, &peers)?;
        if !args.json {
            writeln!(context.out, "The node no longer dials {peer} when it starts.")?;
        }
    }
    let forgotten = match (ApiClient::find(&context.data).await?, &peer) {
        (Some(node), _) => disconnect(node, &peer, context, args.json).await?,
        (None, Peer::Legacy(address)) => forget_known(address, context, args.json)?,
        (None, Peer::Libp2p(_)) => false,
    };
    if !configured && !forgotten {
        return Err(CliError::not_found(format!("{peer} is neither saved nor connected"))
            .hint("`spore peer list` shows all peers"));
    }
    if args.json {
        let object = serde_json::json!({ "address": peer.to_string(), "removed": configured, "forgotten": forgotten });
        return context.json(&object);
    }
    Ok(())
}

/// Removes a peer from the file of known peers. Returns false when it was not there. A running node writes that file
/// itself.
fn forget_known(peer: &PeerAddress, context: &mut Context, quiet: bool) -> Result<bool, CliError> {
    let file = context.data.known_peers();
    let mut known = book_file::load(&file)?.peers;
    let before = known.len();
    known.retain(|other| other != peer);
    if known.len() == before {
        return Ok(false);
    }
    book_file::save(&file, &known)?;
    if !quiet {
        writeln!(context.out, "Forgot {peer}, which was known from earlier runs.")?;
    }
    Ok(true)
}

/// Closes the running node's connections with a peer. Returns false when the node neither had nor dialled one.
async fn disconnect(node: ApiClient, peer: &Peer, context: &mut Context, quiet: bool) -> Result<bool, CliError> {
    let address = peer.to_string();
    let mut named = vec![address.clone()];
    let source = NodeAccess::Node(node);
    if let Peer::Libp2p(_) = peer {
        // The API closes connections by peer id. The id is part of the address, or the node knows it.
        let connected: Vec<dto::ConnectedPeer> = source.get(&Route::Peers).await?;
        let ids = connected.into_iter().filter_map(|peer| peer.peer_id.map(|id| (id, peer.address)));
        named = ids.filter(|(id, at)| address.contains(id) || at.starts_with(&address)).map(|(id, _)| id).collect();
    }
    let mut closed = false;
    for peer in named {
        match source.node()?.delete(&Route::RemovePeer(peer.clone())).await {
            Ok(()) if quiet => {}
            Ok(()) => writeln!(context.out, "Disconnected from {peer}.")?,
            Err(error) if error.kind == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        closed = true;
    }
    Ok(closed)
}

/// Whether a text of the configuration names the peer, in any spelling.
fn names(text: &str, peer: &Peer) -> bool {
    text.parse().is_ok_and(|other: Peer| other == *peer)
}

fn save(context: &Context, peers: &[String]) -> Result<(), CliError> {
    let list = Value::Array(peers.iter().cloned().map(Value::String).collect());
    Ok(config::set(&context.data.config(), "", &[("peer", Some(list))])?)
}

/// Parses the address of a peer. Warns when the port belongs to the other network.
///
/// # Errors
/// When the text is not an address.
pub fn parse(address: &str) -> Result<Peer, CliError> {
    let peer = address
        .parse()
        .map_err(|_| CliError::usage(format!("{address} is not the address of a peer")).hint(PEER_ADDRESSES))?;
    if matches!(&peer, Peer::Legacy(peer) if peer.port() == config::DEFAULT_P2P_PORT) {
        warn(&format!(
            "{address} is an address in the existing network, whose usual port is 7470. Nodes speak libp2p at port 7471; \
             the address there is /ip4/HOST/tcp/7471 or /dns/HOST/tcp/7471"
        ));
    }
    Ok(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_address_is_a_usage_error_with_examples() {
        let error = parse("nonsense").unwrap_err();
        assert_eq!(error.kind as i32, 2);
        assert!(error.hint.unwrap().0.contains("/ip4/"));
        assert!(parse("127.0.0.1:7470").is_ok());
    }

    #[test]
    fn saved_peer_is_found_in_any_spelling() {
        let peer = parse("Peer.Example.org:07470").unwrap();
        assert!(names("peer.example.org:7470", &peer));
        assert!(!names("peer.example.org:7471", &peer) && !names("nonsense", &peer));
    }
}
