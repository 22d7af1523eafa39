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
use spore_bridge::{BridgeConfig, ListenError, PublicPeer};
use spore_lab::research::llm::{Provider, ProviderConfig};

use super::{CliError, Context, ErrorKind, display, display::Display, peer, warn};
use crate::{
    config::{Config, LlmConfig},
    runtime::{self, Node, Options, StartError, WebError},
};

/// How long threads that read or write the disk may hold up the end of the process.
const THREADS_END_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Run a node: research, verify or pass records on
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Only re-run others' experiments
    #[arg(long, conflicts_with = "no_train")]
    verify_only: bool,
    /// Train nothing: keep records and pass them on
    #[arg(long)]
    no_train: bool,
    /// Stay with one task: its id, a unique prefix of it, or its name [default: the most active one]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// A peer to stay connected with: host:port of the existing network, or a multiaddr of libp2p; may be given several times
    #[arg(long, value_name = "ADDRESS", action = ArgAction::Append)]
    peer: Vec<String>,
    /// Let libp2p listen on this multiaddr only; may be given several times [default: all addresses, at --p2p-port]
    #[arg(long, value_name = "MULTIADDR", action = ArgAction::Append)]
    listen: Vec<Multiaddr>,
    /// Port for peers of the existing network, TCP [default: 7470]
    #[arg(long)]
    port: Option<u16>,
    /// Address at which these are listened for [default: all addresses]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// Do not listen for peers of the existing network; those given are dialled all the same
    #[arg(long)]
    no_bridge: bool,
    /// Port of libp2p, TCP and QUIC [default: 7471]
    #[arg(long, value_name = "PORT")]
    p2p_port: Option<u16>,
    /// Port of the explorer and its API [default: 8470]
    #[arg(long, value_name = "PORT")]
    web_port: Option<u16>,
    /// Address to serve the explorer on; any but a loopback address lets others read it [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    web_host: Option<IpAddr>,
    /// Serve no explorer
    #[arg(long, conflicts_with_all = ["web_port", "web_host"])]
    no_web: bool,
    /// Percent of the machine that training may take [default: 100]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    resource: Option<u8>,
    /// What to train on: a graphics card (wgpu), the processor (flex), or the better of both [default: auto]
    #[arg(long, value_parser = PossibleValuesParser::new(["auto", "wgpu", "flex"]))]
    device: Option<String>,
    /// Never try the public peer of the existing network, peer.sporemesh.com:7470, as is done while no peer is given or configured
    #[arg(long)]
    no_bootstrap: bool,
    /// Do not look for peers on the local network
    #[arg(long)]
    no_mdns: bool,
    /// Share of others' records that are re-run, 0.0 to 1.0 [default: 0.1, with --verify-only 1.0]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    verify_rate: Option<f64>,
    /// Who proposes experiments: `off` leaves the configured language model out
    #[arg(long, value_name = "on|off", value_parser = PossibleValuesParser::new(["on", "off"]))]
    llm: Option<String>,
    /// Say more; twice: much more. SPORE_LOG sets the level for each part, as in `spore_node=debug`
    #[arg(long, short, action = ArgAction::Count)]
    verbose: u8,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "must be 0.0 to 1.0".to_owned())
}

/// Runs the node until Ctrl-C or SIGTERM.
///
/// # Errors
/// Whatever keeps it from starting, and a part that ends by itself.
pub fn run(args: Args, context: &Context) -> Result<(), CliError> {
    let config = context.config()?;
    let file = context.data.config();
    if file.exists() && make_private(&file)? {
        warn("other users could read config.toml; its mode is 0600 now. Set another API key if they may have");
    }
    let options = options(&args, &config)?;
    let display = Arc::new(Display::new().map_err(|e| CliError::io("cannot start", &e))?);
    display::log_to(&display, args.verbose);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::io("cannot start", &e))?;
    let done = runtime.block_on(serve(options, context, &display));
    // Whether it ran or could not start: what was logged is shown before the error is.
    display.end();
    runtime.shutdown_timeout(THREADS_END_WITHIN);
    done
}

async fn serve(options: Options, context: &Context, display: &Arc<Display>) -> Result<(), CliError> {
    let mode = options.mode;
    let proposer = options.llm.as_ref().map(|llm| format!("{} ({})", llm.model, llm.name.name()));
    // Asked during the start, it ends after it.
    let asked = runtime::asked_to_end();
    let page = options.web.is_some();
    let node = Node::start(options, context.data.clone()).await?;
    if node.identity_was_loose {
        warn(
            "other users could read the node's private key; its mode is 0600 now. Make a new identity if they may have",
        );
    }
    if let Some(lost) = &node.lost_changes {
        let count = lost.end() - lost.start() + 1;
        warn(&format!(
            "up to {count} of the last changes are gone: the store's log was cut short, or an older backup was restored. Other nodes bring back what they know; `spore db check` looks for damage"
        ));
    }
    display.banner(&node, mode, proposer.as_deref(), page).await;
    if page && !page::embedded() {
        display
            .line("the explorer's page is not built into this program: its API answers, the page says how to build it");
    }
    let shower = tokio::spawn(display::follow(display.clone(), node.live.clone(), node.view.clone()));
    let ending = display.clone();
    let ended = node
        .run(async move {
            asked.await;
            ending.line("ending; once more ends at once");
            tokio::spawn(async {
                runtime::asked_to_end().await;
                std::process::exit(130);
            });
        })
        .await;
    shower.abort();
    ended
        .map_err(|e| CliError::failed(e.to_string()).hint("see the messages above; start it again with -v to see more"))
}

fn options(args: &Args, config: &Config) -> Result<Options, CliError> {
    let mode = match (args.verify_only, args.no_train) {
        (true, _) => Mode::Verify,
        (_, true) => Mode::Relay,
        _ => Mode::Research,
    };
    // The reference, whose file this may be, passes over a peer that is no address.
    let mut peers: Vec<Peer> = Vec::new();
    for text in &config.peer {
        match text.parse() {
            Ok(peer) => peers.push(peer),
            Err(_) => warn(&format!("config.toml: peer: {text:?} is no address and is left out; {PEER_ADDRESSES}")),
        }
    }
    for text in &args.peer {
        peers.push(peer::parse(text)?);
    }
    let web = SocketAddr::new(args.web_host.unwrap_or(config.web_host), args.web_port.unwrap_or(config.web_port));
    Ok(Options {
        mode,
        task: args.task.clone().or_else(|| config.task.clone()),
        listen: listen(args, config)?,
        bridge: bridge(args, config, &peers),
        peers: peers
            .into_iter()
            .filter_map(|peer| if let Peer::Libp2p(peer) = peer { Some(peer) } else { None })
            .collect(),
        mdns: !args.no_mdns,
        web: (!args.no_web).then_some(web),
        device: args.device.clone().unwrap_or_else(|| config.device.clone()),
        resource: args.resource.unwrap_or(config.resource),
        verify_rate: args.verify_rate.or(config.verify_rate),
        cache: config.cache.as_ref().into(),
        llm: if args.llm.as_deref() == Some("off") { None } else { config.llm.as_ref().map(provider).transpose()? },
        program: std::env::current_exe().map_err(|e| CliError::io("cannot find this program's own file", &e))?,
        environment: std::env::vars_os().collect::<Vec<(OsString, OsString)>>(),
    })
}

/// How an address to listen on is written, for hints.
const LISTEN_ADDRESSES: &str =
    "an address to listen on looks like /ip4/0.0.0.0/tcp/7471 or /ip4/0.0.0.0/udp/7471/quic-v1";

/// What the file says, not the command line: no error of usage.
fn misconfigured(key: &str, text: &str, hint: &str) -> CliError {
    CliError::failed(format!("config.toml: {key}: {text:?} is no address")).hint(hint)
}

/// The existing network: where its peers are listened for, and which are dialled.
fn bridge(args: &Args, config: &Config, peers: &[Peer]) -> BridgeConfig {
    let listen = SocketAddr::new(args.host.unwrap_or(config.host), args.port.unwrap_or(config.port));
    let legacy = peers.iter().filter_map(|peer| if let Peer::Legacy(peer) = peer { Some(peer.clone()) } else { None });
    let public = match (args.no_bootstrap, args.peer.is_empty() && config.peer.is_empty()) {
        (true, _) => PublicPeer::Avoided(PeerAddress::public()),
        (false, true) => PublicPeer::Tried(PeerAddress::public()),
        (false, false) => PublicPeer::LikeOthers,
    };
    BridgeConfig { listen: (!args.no_bridge).then_some(listen), peers: legacy.collect(), public, known: None }
}

/// Where libp2p listens: the flag, else the configuration, else everywhere at the port.
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

fn provider(llm: &LlmConfig) -> Result<ProviderConfig, CliError> {
    let hint = "set it again with `spore set PROVIDER KEY`";
    let name: Provider =
        llm.provider.parse().map_err(|e| CliError::failed(format!("config.toml: llm: {e}")).hint(hint))?;
    let mut provider = ProviderConfig::new(name, llm.api_key.0.clone());
    if let Some(model) = &llm.model {
        provider.model.clone_from(model);
    }
    if let Some(url) = &llm.base_url {
        provider.base_url = url.trim_end_matches('/').to_owned();
    }
    Ok(provider)
}

impl From<WebError> for CliError {
    fn from(error: WebError) -> Self {
        let hint = if error.in_use {
            "another spore may run here already; choose another port with --web-port, or --no-web"
        } else {
            "choose another address with --web-host and --web-port"
        };
        Self::failed(error.to_string()).hint(hint)
    }
}

impl From<ListenError> for CliError {
    fn from(error: ListenError) -> Self {
        let hint = if error.in_use {
            "another spore, or the reference's, may run here already; choose another port with --port, or --no-bridge"
        } else {
            "choose another address with --host and --port, or --no-bridge"
        };
        Self::failed(error.to_string()).hint(hint)
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::DataDir(error) => error.into(),
            StartError::Store(error) => error.into(),
            StartError::Web(error) => error.into(),
            StartError::Bridge(error) => error.into(),
            StartError::Task(error) => Self::from(error)
                .hint("`spore tasks` lists those known; a full id may be unknown here and is then looked for"),
            StartError::Device(_) => {
                Self::failed(error.to_string()).hint("choose another device with --device, or --no-train")
            }
            StartError::NoTrainer => {
                Self::new(ErrorKind::Usage, error.to_string()).hint("run it as a relay: spore run --no-train")
            }
            StartError::Network(_) | StartError::Genesis(_) => Self::failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Args {
        Line::try_parse_from(std::iter::once("run").chain(line.split_whitespace())).unwrap().args
    }

    #[test]
    fn flags_go_before_the_configuration() {
        let config = Config {
            peer: vec!["/ip4/127.0.0.1/tcp/1".into()],
            task: Some("t".into()),
            resource: 50,
            listen: vec!["/ip4/127.0.0.1/tcp/9".into()],
            ..Config::default()
        };
        let told = options(&parsed(""), &config).unwrap();
        assert_eq!(
            (told.mode, told.resource, told.task.as_deref(), told.peers.len()),
            (Mode::Research, 50, Some("t"), 1)
        );
        assert_eq!(told.listen, ["/ip4/127.0.0.1/tcp/9".parse().unwrap()]);
        let told =
            options(&parsed("--verify-only --task u --resource 7 --peer /dns/h/tcp/2 --p2p-port 5 --no-web"), &config)
                .unwrap();
        assert_eq!((told.mode, told.resource, told.task.as_deref()), (Mode::Verify, 7, Some("u")));
        assert_eq!(told.peers, ["/ip4/127.0.0.1/tcp/1".parse().unwrap(), "/dns/h/tcp/2".parse().unwrap()]);
        assert!(told.listen.contains(&"/ip4/0.0.0.0/udp/5/quic-v1".parse().unwrap()));
        assert!(told.web.is_none() && told.mdns);
        let told = options(&parsed("--no-train --listen /ip4/127.0.0.1/tcp/0 --p2p-port 5"), &config).unwrap();
        assert_eq!((told.mode, told.listen), (Mode::Relay, vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]));
    }

    #[test]
    fn the_existing_network_is_listened_for_and_its_peers_are_told_by_their_spelling() {
        let config = Config { peer: vec!["h:1".into(), "/dns/h/tcp/2".into()], port: 7000, ..Config::default() };
        let bridge = |line: &str, config: &Config| options(&parsed(line), config).unwrap().bridge;
        let told = bridge("--peer 127.0.0.1:3", &config);
        assert_eq!(told.listen, Some(([0, 0, 0, 0], 7000).into()));
        assert_eq!(told.peers, ["h:1".parse().unwrap(), "127.0.0.1:3".parse().unwrap()]);
        let told = bridge("--no-bridge --no-bootstrap --port 5", &config);
        assert_eq!((told.listen, told.peers.len()), (None, 1), "configured peers are dialled either way");
        assert_eq!(bridge("--host 127.0.0.1 --port 5", &config).listen, Some(([127, 0, 0, 1], 5).into()));
    }

    #[test]
    fn the_public_peer_is_tried_only_while_no_peer_is_named() {
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
    fn a_configured_language_model_can_be_left_out() {
        let llm = LlmConfig {
            provider: "groq".into(),
            api_key: crate::config::Secret("k".into()),
            model: Some("m".into()),
            base_url: None,
        };
        let config = Config { llm: Some(llm), ..Config::default() };
        assert_eq!(options(&parsed(""), &config).unwrap().llm.unwrap().model, "m");
        assert!(options(&parsed("--llm off"), &config).unwrap().llm.is_none());
    }

    #[test]
    fn a_peer_that_is_none_is_a_usage_error() {
        let error = options(&parsed("--peer nonsense"), &Config::default()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        let config = Config { listen: vec!["nonsense".to_owned()], ..Config::default() };
        let error = options(&parsed(""), &config).unwrap_err();
        assert!(error.message.starts_with("config.toml: listen") && error.hint.is_some(), "{error}");
        assert_eq!(error.kind, ErrorKind::Failed);
    }

    #[test]
    fn a_configured_peer_that_is_none_is_left_out_and_calls_for_no_public_one() {
        let peers =
            |peers: &[&str]| Config { peer: peers.iter().map(|&peer| peer.to_owned()).collect(), ..Config::default() };
        let bridge = options(&parsed(""), &peers(&["192.0.2.1", "192.0.2.1:7470"])).unwrap().bridge;
        assert_eq!(bridge.peers, ["192.0.2.1:7470".parse().unwrap()]);
        let bridge = options(&parsed(""), &peers(&["192.0.2.1"])).unwrap().bridge;
        assert_eq!((bridge.peers, bridge.public), (vec![], PublicPeer::LikeOthers));
    }
}
