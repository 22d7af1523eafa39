//! `spore net`: how other nodes reach this one, and how it reaches them.

use std::io::Write;

use clap::{Args as ClapArgs, Subcommand};
use spore_api::{
    dto::{ConnectedPeer, NetworkStatus, NodeStatus},
    route::Route,
};

use super::{CliError, Context, ErrorKind, access::NodeAccess, peer::short_peer, text};

/// Show how other nodes reach this one
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show whether others can dial this node, the relays through which they reach it, and which peers are connected
    /// directly
    Status(Status),
}

#[derive(Debug, ClapArgs)]
struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let Command::Status(args) = &args.command;
    let source = NodeAccess::open(context).await.map_err(|error| match error.kind {
        // Without a store there is no node either.
        ErrorKind::NotFound => CliError { kind: ErrorKind::NodeNotRunning, ..error },
        _ => error,
    })?;
    source.node()?;
    let status: NodeStatus = source.get(&Route::Status).await?;
    let peers: Vec<ConnectedPeer> = source.get(&Route::Peers).await?;
    let network = status.network.unwrap_or_default();
    if args.json {
        return context.json(&serde_json::json!({ "network": network, "peers": peers }));
    }
    let out = &mut context.out;
    for line in lines(&network, &peers) {
        writeln!(out, "{}", text::line(&line))?;
    }
    Ok(())
}

/// What a person reads.
fn lines(network: &NetworkStatus, peers: &[ConnectedPeer]) -> Vec<String> {
    let by = if network.fixed { " (set by a flag)" } else { "" };
    let reach = match network.reachability.as_str() {
        "public" => "public: other nodes can dial this one",
        "private" => "private: other nodes reach this one through relays",
        _ => "unknown: no public peer has told yet whether it reaches this node",
    };
    let mut lines = vec![format!("Reachability  {reach}{by}")];
    lines.extend(network.confirmed_addresses.iter().map(|address| format!("Reached at    {address}")));
    match network.nat.as_deref() {
        Some("cone") => {
            lines.push("Router        cone: it keeps one port for all peers, so hole punching works".into())
        }
        Some(_) => lines.push("Router        symmetric: it takes another port for each peer".into()),
        None => {}
    }
    lines.extend(network.port_mapping.iter().map(|text| format!("Port mapping  {text}")));
    for relay in &network.relays {
        let held = match relay.held_seconds {
            Some(seconds) => format!("for {}", text::duration(seconds)),
            None => "asked".to_owned(),
        };
        lines.push(format!("Relay         {} at {}, {held}", short_peer(&relay.peer_id), relay.address));
    }
    if network.serves_as_relay {
        let nodes = text::count(network.reservations, "node", "nodes");
        let circuits = text::count(network.circuits, "connection", "connections");
        lines.push(format!("Serves        as a relay for {nodes}, {circuits} now"));
    }
    for peer in peers {
        let how = match (peer.relayed, &peer.not_direct) {
            (Some(true), Some(why)) => format!("relayed ({why})"),
            (Some(true), None) => "relayed".to_owned(),
            _ => "direct".to_owned(),
        };
        let name = peer.peer_id.as_deref().map_or_else(|| "existing network".to_owned(), short_peer);
        lines.push(format!("Peer          {name}, {how}, {}", peer.address));
    }
    if peers.is_empty() {
        lines.push("Peer          none".into());
    }
    lines
}

#[cfg(test)]
mod tests {
    use spore_api::dto::RelayReservation;

    use super::*;

    #[test]
    fn status_of_a_private_node_names_its_relays_and_why_a_peer_is_relayed() {
        let relay = RelayReservation {
            peer_id: "12D3KooWrelay".into(),
            address: "/ip4/1.1.1.1/tcp/1".into(),
            held_seconds: Some(120),
        };
        let network = NetworkStatus {
            reachability: "private".into(),
            nat: Some("symmetric".into()),
            relays: vec![relay],
            ..NetworkStatus::default()
        };
        let peer: ConnectedPeer = serde_json::from_value(serde_json::json!({
            "transport": "libp2p", "peer_id": "12D3KooWpeer", "address": "/ip4/1.1.1.1/tcp/1/p2p-circuit",
            "relayed": true, "not_direct": "hole punching failed", "connected_seconds": 1, "score": 0.0
        }))
        .unwrap();
        let text = lines(&network, &[peer]).join("\n");
        for part in ["private", "symmetric", "/ip4/1.1.1.1/tcp/1, for 2m", "relayed (hole punching failed)"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(lines(&NetworkStatus::default(), &[]).join(" ").contains("unknown"));
    }
}
