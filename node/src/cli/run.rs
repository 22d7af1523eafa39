//! `spore run`: the node in the foreground.

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use clap::{ArgAction, Args as ClapArgs, builder::PossibleValuesParser};
use libp2p::Multiaddr;
use spore_api::page;
use spore_base::{
    mode::Mode,
    peer::{PEER_ADDRESSES, Peer},
    peer_address::PeerAddress,
    private_file::make_private,
};
use spore_bridge::{BridgeConfig, PublicPeer};
use spore_network::Reachability;

use super::{
    CliError, Context, background, display, display::Display, llm, log_file, log_format::LogFormat, peer, reference,
    service::notify::Notifier, task_fit, warn,
};
use crate::{
    config::{Config, ip_address, size},
    runtime::{self, Node, NodeFailure, NodeOptions},
};

/// Time that threads which read or write the disk get to finish when the process ends.
const THREADS_END_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Run a node that researches, verifies or relays
///
/// The node joins two networks and passes everything from one to the other: libp2p, and the existing network of the
/// Python implementation (sporemesh).
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Only re-run the experiments of other nodes
    #[arg(long, conflicts_with = "no_train")]
    verify_only: bool,
    /// Train nothing: a relay keeps records and passes them on
    #[arg(long)]
    no_train: bool,
    /// Work on one task: its id, a unique prefix of the id, or its name [default: the built-in
    /// task, or the busiest one that a trusted node created]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Stay connected to a peer: host:port in the existing network, or a libp2p multiaddr; can be repeated
    #[arg(long, short = 'c', value_name = "ADDRESS", action = ArgAction::Append)]
    peer: Vec<String>,
    /// Listen for libp2p on this multiaddr only; can be repeated [default: all addresses, port --p2p-port]
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append)]
    listen: Vec<Multiaddr>,
    /// TCP port for peers of the existing network [default: 7470]
    #[arg(long, short)]
    port: Option<u16>,
    /// Listen for peers of the existing network on this address only [default: all addresses]
    #[arg(long, value_name = "ADDRESS", value_parser = ip_address)]
    host: Option<IpAddr>,
    /// Do not listen for peers of the existing network; peers that you name are still dialled
    #[arg(long)]
    no_bridge: bool,
    /// Port of libp2p, TCP and QUIC [default: 7471]
    #[arg(long, value_name = "PORT")]
    p2p_port: Option<u16>,
    /// Port of the explorer and its API [default: 8470]
    #[arg(long, short, value_name = "PORT")]
    web_port: Option<u16>,
    /// Address of the explorer; any address but a loopback one lets others read it [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", value_parser = ip_address)]
    web_host: Option<IpAddr>,
    /// Do not serve the explorer
    #[arg(long, conflicts_with_all = ["web_port", "web_host"])]
    no_web: bool,
    /// Port of /metrics (Prometheus), /livez and /readyz, for the operator [default: none]
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Address of /metrics, /livez and /readyz; they need no token [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", value_parser = ip_address)]
    admin_host: Option<IpAddr>,
    /// Percentage of the machine that training may use [default: 100]
    #[arg(long, short, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    resource: Option<u8>,
    /// Device to train on: the graphics card (wgpu), the processor (flex), or the better of both [default: auto]
    #[arg(long, value_parser = PossibleValuesParser::new(["auto", "wgpu", "flex"]))]
    device: Option<String>,
    /// Never dial the public peer of the existing network, peer.sporemesh.com:7470, which the node tries when no peer is
    /// given or configured
    #[arg(long)]
    no_bootstrap: bool,
    /// Begin a network: dial no peer at the start, and look for none. Other nodes can still connect to this one
    #[arg(long, conflicts_with = "peer")]
    genesis: bool,
    /// Do not look for peers in the local network
    #[arg(long)]
    no_mdns: bool,
    /// Others can dial this node: answer their searches and serve as a relay, without waiting for a test
    #[arg(long, conflicts_with = "private")]
    public: bool,
    /// Others cannot dial this node: be reached through relays, without waiting for a test
    #[arg(long)]
    private: bool,
    /// An address at which others reach this node, such as that of a forwarded port; can be repeated
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append)]
    external: Vec<Multiaddr>,
    /// Do not serve as a relay for nodes behind NAT
    #[arg(long)]
    no_relay: bool,
    /// Do not ask the router for a forwarded port (UPnP)
    #[arg(long)]
    no_upnp: bool,
    /// Share of other nodes' records to re-run, 0.0 to 1.0 [default: 0.1, or 1.0 with --verify-only]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    verify_rate: Option<f64>,
    /// Disk space of the store: bytes, or a number with MiB, GiB or TiB. Above it, records of unknown signers that nobody
    /// confirmed are dropped [default: a tenth of the disk, at most 10GiB]
    #[arg(long, value_name = "SIZE", value_parser = size::parse_budget)]
    store_max: Option<u64>,
    /// `off`: use the built-in proposer although a language model is configured
    #[arg(long, value_name = "on|off", value_parser = PossibleValuesParser::new(["on", "off"]))]
    llm: Option<String>,
    /// Show more log messages; twice: many more. SPORE_LOG sets the level of each part, such as `spore_network=debug`
    #[arg(long, short, action = ArgAction::Count)]
    verbose: u8,
    /// The form of what the node prints: text for people, or a JSON object a line for programs [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
    /// Set by `spore start`: leave the terminal, and keep the log within its bound
    #[arg(long, hide = true)]
    in_background: bool,
    #[command(flatten)]
    updates: reference::Updates,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "must be 0.0 to 1.0".to_owned())
}

/// Runs the node until Ctrl-C, SIGTERM or a closed terminal.
///
/// # Errors
/// When the node cannot start, or a service ends by itself.
pub fn run(args: Args, context: &Context) -> Result<(), CliError> {
    let config = context.config()?;
    let file = context.data.config();
    if file.exists() && make_private(&file)? {
        warn(
            "other users of this machine could read config.toml until now. Its mode is 0600 now; use another API key if somebody \
             may have read the file",
        );
    }
    for note in reference::environment_notes(|name| std::env::var_os(name)) {
        warn(&note);
    }
    if let Some(note) = args.updates.note() {
        warn(note);
    }
    let mut options = options(&args, &config)?;
    if let Some(llm) = &mut options.llm {
        llm.ledger = Some(context.data.root().join(LEDGER));
    }
    if args.in_background {
        background::detach(&context.data);
    }
    let _held = background::hold(args.in_background, context)?;
    let format = args.log_format.unwrap_or_default();
    let display = Arc::new(Display::new(format).map_err(|e| CliError::io("cannot start the node", &e))?);
    display::log_to(&display, args.verbose, format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::io("cannot start the node", &e))?;
    if args.in_background {
        runtime.spawn(log_file::keep_bounded(context.data.log(), display.clone()));
    }
    let done = runtime.block_on(serve(options, context, &display));
    // The log of a node that ran or could not start comes before its error.
    display.end();
    runtime.shutdown_timeout(THREADS_END_WITHIN);
    done
}

async fn serve(options: NodeOptions, context: &Context, display: &Arc<Display>) -> Result<(), CliError> {
    let mode = options.mode;
    let proposer = options.llm.as_ref().map(|llm| format!("{} ({})", llm.model, llm.name.name()));
    // A signal during the start stops the node right after it.
    let asked = runtime::asked_to_stop();
    let page = options.web.is_some();
    let node = Node::start(options, context.data.clone()).await?;
    if node.identity_was_loose {
        warn(
            "other users of this machine could read the node's private key until now. Its mode is 0600 now; create a new \
             identity if somebody may have read the key",
        );
    }
    if let Some(lost) = &node.lost_changes {
        let count = lost.end() - lost.start() + 1;
        warn(&format!(
            "up to {count} of the last changes are lost: the write-ahead log was cut short, or an older backup was restored. \
             Other nodes send again the changes that they have. `spore db check` looks for damage"
        ));
    }
    if let Some(unfit) = unfit_task(&node, mode).await {
        warn(&unfit);
    }
    display.banner(&node, mode, proposer.as_deref(), page).await;
    let manager = Arc::new(Notifier::of_environment());
    manager.ready();
    let (told, watched) = (manager.clone(), node.live.clone());
    let telling = tokio::spawn(async move { told.follow(watched).await });
    if page && !page::embedded() {
        display.line(
            "This program was built without the explorer's page: the API works, and the page says how to build it.",
        );
    }
    let follower = tokio::spawn(display::follow(display.clone(), node.live.clone(), node.view.clone()));
    let stopping = display.clone();
    let ended = node
        .run(async move {
            asked.await;
            telling.abort();
            manager.stopping();
            stopping.line("Stopping. Press Ctrl-C again to stop at once.");
            tokio::spawn(async {
                runtime::asked_again().await;
                std::process::exit(130);
            });
        })
        .await;
    follower.abort();
    if let Err(failure @ NodeFailure::DirectoryLost(_)) = ended {
        display.end();
        super::end_at_once(&failure.into());
    }
    Ok(ended?)
}

/// The warning about a task that the configuration names and that this node cannot work on.
async fn unfit_task(node: &Node, mode: Mode) -> Option<String> {
    let pinned = *node.live.pinned.borrow();
    let (task, view) = (pinned?, node.view.clone());
    if mode == Mode::Relay {
        return None;
    }
    // A task that is not known yet may be one that this node can work on.
    let known = tokio::task::spawn_blocking(move || view.task(&task.to_string()).ok()).await.ok()??;
    task_fit::warning(&known)
}

fn options(args: &Args, config: &Config) -> Result<NodeOptions, CliError> {
    let mode = match (args.verify_only, args.no_train) {
        (true, _) => Mode::Verify,
        (_, true) => Mode::Relay,
        _ => Mode::Research,
    };
    // The file may be the reference's, which ignores a peer that is not an address.
    let mut peers: Vec<Peer> = Vec::new();
    let saved = if args.genesis { &[][..] } else { &config.peer };
    for text in saved {
        match text.parse() {
            Ok(peer) => peers.push(peer),
            Err(_) => warn(&format!("config.toml: peer: {text:?} is not an address and is ignored; {PEER_ADDRESSES}")),
        }
    }
    for text in &args.peer {
        peers.push(peer::parse(text)?);
    }
    let web = SocketAddr::new(args.web_host.unwrap_or(config.web_host), args.web_port.unwrap_or(config.web_port));
    Ok(NodeOptions {
        mode,
        task: args.task.clone().or_else(|| config.task.clone()),
        listen: listen(args, config)?,
        bridge: bridge(args, config, &peers),
        peers: peers
            .into_iter()
            .filter_map(|peer| if let Peer::Libp2p(peer) = peer { Some(peer) } else { None })
            .collect(),
        mdns: !args.no_mdns && !args.genesis,
        upnp: !args.no_upnp && !args.genesis,
        reachability: match (args.public, args.private) {
            (true, _) => Some(Reachability::Public),
            (_, true) => Some(Reachability::Private),
            _ => None,
        },
        external: args.external.clone(),
        relay: !args.no_relay,
        genesis: args.genesis,
        web: (!args.no_web).then_some(web),
        admin: admin(args, config),
        web_names: config.web.names.clone(),
        web_proxies: config.web.proxies.clone(),
        webhook: config.webhook.clone(),
        device: args.device.clone().unwrap_or_else(|| config.device.clone()),
        resource: args.resource.unwrap_or(config.resource),
        verify_rate: args.verify_rate.or(config.verify_rate),
        trust: config.trust.clone(),
        cache: config.cache.as_ref().into(),
        store_max: args.store_max.or(config.store.max),
        llm: if args.llm.as_deref() == Some("off") {
            None
        } else {
            config.llm.as_ref().map(llm::provider).transpose()?
        },
        program: std::env::current_exe().map_err(|e| CliError::io("cannot find the file of this program", &e))?,
        environment: std::env::vars_os().collect::<Vec<(OsString, OsString)>>(),
    })
}

/// Where the operator's endpoints are. None without a port.
fn admin(args: &Args, config: &Config) -> Option<SocketAddr> {
    let port = args.admin_port.or(config.admin.port)?;
    Some(SocketAddr::new(args.admin_host.unwrap_or(config.admin.host), port))
}

/// Where the cost of a language model is kept, in the data directory.
const LEDGER: &str = "llm_spent.json";
/// The form of an address to listen on, for hints.
const LISTEN_ADDRESSES: &str =
    "write an address to listen on like /ip4/0.0.0.0/tcp/7471 or /ip4/0.0.0.0/udp/7471/quic-v1";

/// The error for a bad address in the file. It is not an error of usage, because the command line is right.
fn misconfigured(key: &str, text: &str, hint: &str) -> CliError {
    CliError::failed(format!("config.toml: {key}: {text:?} is not an address")).hint(hint)
}

/// The bridge to the existing network: where it listens, and which peers it dials.
fn bridge(args: &Args, config: &Config, peers: &[Peer]) -> BridgeConfig {
    let listen = SocketAddr::new(args.host.unwrap_or(config.host), args.port.unwrap_or(config.port));
    let legacy = peers.iter().filter_map(|peer| if let Peer::Legacy(peer) = peer { Some(peer.clone()) } else { None });
    let public = match (args.no_bootstrap || args.genesis, args.peer.is_empty() && config.peer.is_empty()) {
        (true, _) => PublicPeer::Avoided(PeerAddress::public()),
        (false, true) => PublicPeer::Tried(PeerAddress::public()),
        (false, false) => PublicPeer::LikeOthers,
    };
    BridgeConfig { listen: (!args.no_bridge).then_some(listen), peers: legacy.collect(), public, known: None }
}

/// The addresses of libp2p: those of the flags, or of the configuration, or all addresses at the port.
fn listen(args: &Args, config: &Config) -> Result<Vec<Multiaddr>, CliError> {
    if !args.listen.is_empty() {
        return Ok(args.listen.clone());
    }
    if !config.listen.is_empty() && args.p2p_port.is_none() {
        let parse = |text: &String| text.parse().map_err(|_| misconfigured("listen", text, LISTEN_ADDRESSES));
        return config.listen.iter().map(parse).collect();
    }
    let port = args.p2p_port.unwrap_or(config.p2p_port);
    let mut texts = vec![format!("/ip4/0.0.0.0/tcp/{port}"), format!("/ip4/0.0.0.0/udp/{port}/quic-v1")];
    if std::net::TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0)).is_ok() {
        texts.extend([format!("/ip6/::/tcp/{port}"), format!("/ip6/::/udp/{port}/quic-v1")]);
    }
    texts.iter().map(|text| text.parse().map_err(|e| CliError::failed(format!("{text}: {e}")))).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::ErrorKind;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Args {
        Line::try_parse_from(std::iter::once("run").chain(line.split_whitespace())).unwrap().args
    }

    #[test]
    fn flags_override_the_configuration() {
        let config = Config {
            peer: vec!["/ip4/127.0.0.1/tcp/1".into()],
            task: Some("t".into()),
            resource: 50,
            listen: vec!["/ip4/127.0.0.1/tcp/9".into()],
            ..Config::default()
        };
        let chosen = options(&parsed(""), &config).unwrap();
        assert_eq!(
            (chosen.mode, chosen.resource, chosen.task.as_deref(), chosen.peers.len()),
            (Mode::Research, 50, Some("t"), 1)
        );
        assert_eq!(chosen.listen, ["/ip4/127.0.0.1/tcp/9".parse().unwrap()]);
        let chosen =
            options(&parsed("--verify-only --task u --resource 7 --peer /dns/h/tcp/2 --p2p-port 5 --no-web"), &config)
                .unwrap();
        assert_eq!((chosen.mode, chosen.resource, chosen.task.as_deref()), (Mode::Verify, 7, Some("u")));
        assert_eq!(chosen.peers, ["/ip4/127.0.0.1/tcp/1".parse().unwrap(), "/dns/h/tcp/2".parse().unwrap()]);
        assert!(chosen.listen.contains(&"/ip4/0.0.0.0/udp/5/quic-v1".parse().unwrap()));
        assert!(chosen.web.is_none() && chosen.mdns);
        let chosen = options(&parsed("--no-train --listen /ip4/127.0.0.1/tcp/0 --p2p-port 5"), &config).unwrap();
        assert_eq!((chosen.mode, chosen.listen), (Mode::Relay, vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]));
    }

    #[test]
    fn operators_endpoints_are_off_without_a_port_and_on_this_machine_without_an_address() {
        let mut config = Config::default();
        assert_eq!(options(&parsed("--admin-host 0.0.0.0"), &config).unwrap().admin, None);
        assert_eq!(options(&parsed("--admin-port 9"), &config).unwrap().admin, Some(([127, 0, 0, 1], 9).into()));
        config.admin.port = Some(7);
        assert_eq!(options(&parsed(""), &config).unwrap().admin, Some(([127, 0, 0, 1], 7).into()));
        let chosen = options(&parsed("--admin-host 0.0.0.0 --admin-port 9"), &config).unwrap();
        assert_eq!(chosen.admin, Some(([0, 0, 0, 0], 9).into()));
    }

    #[test]
    fn spelling_of_a_peer_decides_its_network() {
        let config = Config { peer: vec!["h:1".into(), "/dns/h/tcp/2".into()], port: 7000, ..Config::default() };
        let bridge = |line: &str, config: &Config| options(&parsed(line), config).unwrap().bridge;
        let chosen = bridge("--peer 127.0.0.1:3", &config);
        assert_eq!(chosen.listen, Some(([0, 0, 0, 0], 7000).into()));
        assert_eq!(chosen.peers, ["h:1".parse().unwrap(), "127.0.0.1:3".parse().unwrap()]);
        let chosen = bridge("--no-bridge --no-bootstrap --port 5", &config);
        assert_eq!((chosen.listen, chosen.peers.len()), (None, 1), "configured peers are dialled either way");
        assert_eq!(bridge("--host 127.0.0.1 --port 5", &config).listen, Some(([127, 0, 0, 1], 5).into()));
    }

    #[test]
    fn public_peer_is_tried_only_while_no_peer_is_named() {
        let public = |line: &str, peers: &[&str]| {
            let config = Config { peer: peers.iter().map(ToString::to_string).collect(), ..Config::default() };
            options(&parsed(line), &config).unwrap().bridge.public
        };
        assert_eq!(public("", &[]), PublicPeer::Tried(PeerAddress::public()));
        assert_eq!(public("--no-bridge", &[]), PublicPeer::Tried(PeerAddress::public()));
        assert_eq!(public("", &["/dns/h/tcp/2"]), PublicPeer::LikeOthers);
        assert_eq!(public("--peer h:1", &[]), PublicPeer::LikeOthers);
        for (line, peers) in [("--no-bootstrap", &[][..]), ("--no-bootstrap --peer h:1", &["h:2"])] {
            assert_eq!(public(line, peers), PublicPeer::Avoided(PeerAddress::public()));
        }
    }

    #[test]
    fn genesis_node_dials_nobody_and_still_listens() {
        let config = Config { peer: vec!["h:1".into(), "/dns/h/tcp/2".into()], ..Config::default() };
        let chosen = options(&parsed("--genesis"), &config).unwrap();
        assert_eq!((chosen.peers.len(), chosen.bridge.peers.len()), (0, 0));
        assert_eq!(chosen.bridge.public, PublicPeer::Avoided(PeerAddress::public()));
        assert!(chosen.genesis && !chosen.mdns && chosen.bridge.listen.is_some() && !chosen.listen.is_empty());
        assert!(!options(&parsed(""), &config).unwrap().genesis);
    }

    #[test]
    fn reachability_is_tested_unless_a_flag_decides_it() {
        let chosen = |line: &str| options(&parsed(line), &Config::default()).unwrap();
        let unset = chosen("");
        assert!(unset.reachability.is_none() && unset.relay && unset.upnp && unset.external.is_empty());
        assert_eq!(chosen("--private").reachability, Some(Reachability::Private));
        let set = chosen("--public --no-relay --no-upnp --external /ip4/1.1.1.1/tcp/7471");
        assert_eq!((set.reachability, set.relay, set.upnp), (Some(Reachability::Public), false, false));
        assert_eq!(set.external, ["/ip4/1.1.1.1/tcp/7471".parse().unwrap()]);
        assert!(Line::try_parse_from(["run", "--public", "--private"]).is_err());
    }

    #[test]
    fn store_budget_of_the_flag_overrides_the_configured_one() {
        let config = Config { store: crate::config::StoreConfig { max: Some(1 << 30) }, ..Config::default() };
        assert_eq!(options(&parsed(""), &Config::default()).unwrap().store_max, None);
        assert_eq!(options(&parsed(""), &config).unwrap().store_max, Some(1 << 30));
        assert_eq!(options(&parsed("--store-max 64MiB"), &config).unwrap().store_max, Some(64 << 20));
        assert!(Line::try_parse_from(["run", "--store-max", "1MiB"]).is_err());
    }

    #[test]
    fn configured_language_model_can_be_switched_off() {
        let llm = crate::config::LlmConfig {
            provider: "groq".into(),
            api_key: crate::config::Secret("k".into()),
            model: Some("m".into()),
            ..crate::config::LlmConfig::default()
        };
        let config = Config { llm: Some(llm), ..Config::default() };
        assert_eq!(options(&parsed(""), &config).unwrap().llm.unwrap().model, "m");
        assert!(options(&parsed("--llm off"), &config).unwrap().llm.is_none());
    }

    #[test]
    fn bad_peer_flag_is_a_usage_error() {
        let error = options(&parsed("--peer nonsense"), &Config::default()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        let config = Config { listen: vec!["nonsense".to_owned()], ..Config::default() };
        let error = options(&parsed(""), &config).unwrap_err();
        assert!(error.message.starts_with("config.toml: listen") && error.hint.is_some(), "{error}");
        assert_eq!(error.kind, ErrorKind::Failed);
    }

    #[test]
    fn bad_configured_peer_is_ignored_without_trying_the_public_one() {
        let peers =
            |peers: &[&str]| Config { peer: peers.iter().map(|&peer| peer.to_owned()).collect(), ..Config::default() };
        let bridge = options(&parsed(""), &peers(&["192.0.2.1", "192.0.2.1:7470"])).unwrap().bridge;
        assert_eq!(bridge.peers, ["192.0.2.1:7470".parse().unwrap()]);
        let bridge = options(&parsed(""), &peers(&["192.0.2.1"])).unwrap().bridge;
        assert_eq!((bridge.peers, bridge.public), (vec![], PublicPeer::LikeOthers));
    }
}
