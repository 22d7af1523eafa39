//! The node itself: its key, its configuration, and what it says of itself while it runs.

use std::os::unix::fs::PermissionsExt as _;

use spore_api::{dto::NodeStatus, route::Route};
use spore_lab::research::llm::Client;
use spore_storage::Store;

use super::{Finding, text};
use crate::{
    cli::{
        CliError, Context,
        access::{ApiClient, NodeAccess},
        hints::{hint_for_llm, hint_for_problem},
        llm,
    },
    config::{self, Config},
    data_dir::DataDir,
    identity_file, process_file,
};

/// Seconds after which a node without a peer is told of.
const LONELY: u64 = 120;
/// Seconds by which a clock may be wrong.
const CLOCK: f64 = 60.0;

/// The node's key can be read, by its owner alone.
pub fn identity(data: &DataDir) -> Finding {
    match identity_file::load(&data.identity()) {
        Ok(Some(identity)) => Finding::ok("identity", format!("node {}", text::short(&identity.node_id().to_string()))),
        Ok(None) => Finding::note("identity", "there is no key yet; the first start makes one"),
        Err(error) => Finding::of_error("identity", error.into()),
    }
}

/// The configuration can be read, and has an effect in all its keys.
pub fn configuration(context: &Context) -> (Option<Config>, Vec<Finding>) {
    const ABOUT: &str = "configuration";
    let path = context.data.config();
    let loaded = match config::load(&path) {
        Ok(loaded) => loaded,
        Err(error) => return (None, vec![Finding::of_error(ABOUT, error.into())]),
    };
    let mut found: Vec<_> =
        loaded.notes.iter().map(|note| Finding::weak(ABOUT, note.clone(), "correct it: `spore config edit`")).collect();
    if loaded.loose {
        let mode = std::fs::metadata(&path).map_or(0, |meta| meta.permissions().mode() & 0o777);
        let said = format!("other users can read config.toml (mode {mode:o}), which may hold an API key");
        found.push(Finding::weak(ABOUT, said, format!("chmod 600 {}", path.display())));
    }
    match config::environment::over(&path, loaded.config, |name| std::env::var(name).ok()) {
        Ok(config) => {
            if found.is_empty() {
                found.push(Finding::ok(ABOUT, path.display().to_string()));
            }
            (Some(config), found)
        }
        Err(error) => {
            found.push(Finding::of_error(ABOUT, error.into()));
            (None, found)
        }
    }
}

/// No node answers: none runs, or one that is in trouble.
pub fn not_running(data: &DataDir) -> Finding {
    if process_file::is_held(&data.process()) || Store::is_held(data.root()) {
        let next = "try again in a minute; `spore log` shows what it does, `spore stop --kill` ends it";
        return Finding::weak("node", "a process has the data directory and does not answer", next);
    }
    Finding::note("node", "no node is running; `spore start` starts one")
}

/// What the running node says of itself.
pub async fn running(client: ApiClient) -> Vec<Finding> {
    let address = client.node.address.clone();
    let status = NodeAccess::Node(client).get::<NodeStatus>(&Route::Status).await;
    let status = match status {
        Ok(status) => status,
        Err(error) => return vec![Finding::of_error("node", error)],
    };
    let mut found = vec![of_problem(&status, &address), clock(&status), peers(&status), reachability(&status)];
    for warning in &status.warnings {
        found.push(Finding::weak("node", warning.clone(), "`spore status` shows whether it lasts"));
    }
    if let Some(fault) = status.proposer.as_ref().and_then(|proposer| proposer.fault.as_deref()) {
        let next = hint_for_llm(fault).unwrap_or("`spore llm test` asks it one question");
        found.push(Finding::weak("language model", format!("the node gets no answers: {fault}"), next));
    }
    found
}

fn of_problem(status: &NodeStatus, address: &str) -> Finding {
    match status.problem {
        None => Finding::ok("node", format!("{} at http://{address}: {}", status.mode, status.activity)),
        Some(problem) => {
            let next = hint_for_problem(problem).unwrap_or("`spore log` shows more").to_owned();
            Finding::broken("node", status.activity.clone(), next)
        }
    }
}

/// The clock of this machine beside those of peers.
fn clock(status: &NodeStatus) -> Finding {
    let Some(offset) = status.clock_offset_seconds else {
        return Finding::note("clock", "no peer has told the time yet");
    };
    let seconds = offset.abs().min(1e12) as u64;
    let said =
        format!("{} {}", text::duration(seconds), if offset > 0.0 { "behind the peers" } else { "ahead of the peers" });
    if offset.abs() > CLOCK {
        return Finding::broken(
            "clock",
            said,
            "set it: `timedatectl set-ntp true`; nothing is signed while it is far off",
        );
    }
    Finding::ok("clock", said)
}

fn peers(status: &NodeStatus) -> Finding {
    let said = text::count(status.peer_count, "peer", "peers");
    if status.peer_count == 0 && status.uptime_seconds > LONELY {
        let next = "name one with `spore connect ADDRESS`, and look whether a firewall stops TCP and UDP";
        return Finding::weak("peers", format!("no peer after {}", text::duration(status.uptime_seconds)), next);
    }
    Finding::ok("peers", said)
}

/// Whether the node listens where others can reach it.
fn reachability(status: &NodeStatus) -> Finding {
    let local = |address: &String| {
        ["/ip4/127.", "/ip6/::1/", "127.", "[::1]", "localhost"].iter().any(|begin| address.starts_with(begin))
    };
    let all: Vec<_> = status.listen_addresses.iter().chain(&status.legacy_listen_addresses).collect();
    if all.is_empty() {
        return Finding::weak("reachability", "the node listens nowhere", "see `listen`: `spore config get listen`");
    }
    if all.iter().all(|address| local(address)) {
        return Finding::note("reachability", "the node listens on this machine only");
    }
    let said = format!("listens on {}", text::count(all.len() as u64, "address", "addresses"));
    let network = status.network.clone().unwrap_or_default();
    let held = network.relays.iter().filter(|relay| relay.held_seconds.is_some()).count() as u64;
    match network.reachability.as_str() {
        "public" => Finding::ok("reachability", format!("{said}; other nodes can dial this one")),
        "private" if held > 0 => {
            let relays = text::count(held, "relay", "relays");
            Finding::ok("reachability", format!("{said}; other nodes reach this one through {relays}"))
        }
        "private" => Finding::weak(
            "reachability",
            format!("{said}; other nodes can neither dial this one nor reach it through a relay"),
            "forward the port of libp2p (TCP and UDP 7471) to this machine, or connect to a node that serves as a relay",
        ),
        _ => Finding::note("reachability", format!("{said}; no public peer has told yet whether it reaches this node")),
    }
}

/// The language model answers, if there is one and it is to be asked.
pub async fn model(ask: bool, config: Option<&Config>) -> Finding {
    const ABOUT: &str = "language model";
    let Some(model) = config.and_then(|config| config.llm.as_ref()) else {
        return Finding::note(ABOUT, "none is configured: the built-in proposer proposes experiments");
    };
    let provider = match llm::provider(model) {
        Ok(provider) => provider,
        Err(error) => return Finding::of_error(ABOUT, error),
    };
    let name = format!("{} ({})", provider.model, provider.name.name());
    if !ask {
        return Finding::note(ABOUT, format!("{name} is configured; `spore doctor --llm` asks it a question"));
    }
    match answer(provider).await {
        Ok(()) => Finding::ok(ABOUT, format!("{name} answers")),
        Err(error) => Finding::of_error(ABOUT, error),
    }
}

async fn answer(provider: spore_lab::research::llm::ProviderConfig) -> Result<(), CliError> {
    let question = llm::question(provider.context)?;
    let client = Client::new(provider).map_err(|e| CliError::failed(e.to_string()))?;
    client.ask(&question).await.map(drop).map_err(|error| llm::unanswered(&error))
}

#[cfg(test)]
mod tests {
    use spore_api::dto;

    use super::*;
    use crate::cli::doctor::Level;

    fn status() -> NodeStatus {
        let dir = tempfile::tempdir().unwrap();
        let view = spore_api::view::StoreView::new(Store::open(dir.path()).unwrap(), None);
        view.status(&spore_api::live::Live { mode: "relay", ..Default::default() }).unwrap()
    }

    #[test]
    fn wrong_clock_is_told_with_its_direction() {
        let of = |offset| clock(&NodeStatus { clock_offset_seconds: offset, ..status() });
        assert_eq!(of(None).level, Level::Note);
        assert_eq!(of(Some(2.0)).level, Level::Ok);
        let behind = of(Some(10_800.0));
        assert!(behind.level == Level::Broken && behind.text == "3h behind the peers", "{}", behind.text);
        assert!(of(Some(-10_800.0)).text.contains("ahead"));
    }

    #[test]
    fn node_without_peers_is_a_weak_point_after_a_while() {
        let of = |uptime_seconds| peers(&NodeStatus { uptime_seconds, ..status() }).level;
        assert_eq!((of(1), of(LONELY + 1)), (Level::Ok, Level::Weak));
    }

    #[test]
    fn node_that_listens_here_only_is_told_so() {
        let of = |addresses: &[&str]| {
            let listen_addresses = addresses.iter().map(ToString::to_string).collect();
            reachability(&NodeStatus { listen_addresses, ..status() }).text
        };
        assert!(of(&["/ip4/127.0.0.1/tcp/1"]).contains("this machine only"));
        assert!(of(&["/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/1"]).contains("2 addresses"));
        let told = |network| {
            let listen_addresses = vec!["/ip4/192.168.1.2/tcp/1".to_owned()];
            reachability(&NodeStatus { listen_addresses, network: Some(network), ..status() }).level
        };
        let private = dto::NetworkStatus { reachability: "private".into(), ..Default::default() };
        let relay = dto::RelayReservation { peer_id: "r".into(), address: "a".into(), held_seconds: Some(1) };
        assert_eq!(told(dto::NetworkStatus { relays: vec![relay], ..private.clone() }), Level::Ok);
        assert_eq!(told(private), Level::Weak);
        assert!(of(&[]).contains("nowhere"));
    }
}
