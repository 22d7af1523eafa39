//! Killed nodes, locks, busy ports, corrupt files, a full disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use spore_tests::{TestNet, binary, command, skip::skip, spore, wait_for};

const TINY: &str = include_str!("../scripts/tiny.star");
const BUDGET: u64 = 5;
/// Several experiments of [`BUDGET`] on a slow machine.
const RESEARCH_LIMIT: Duration = Duration::from_secs(400);
const SPREAD_LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn killed_nodes_lose_nothing_acknowledged() {
    let mut net = TestNet::new();
    let task = net.create_task("researcher", TINY, BUDGET);
    let relay = net.start("relay", None, &["--no-train"]).await;
    let researcher = net.start("researcher", Some(relay), &["--task", &task, "--device", "flex"]).await;
    let known = wait_for("two records on both nodes", RESEARCH_LIMIT, async || {
        let here = net.node(researcher).records(&task).await?;
        let there = net.node(relay).records(&task).await?;
        if here.len() >= 2 && there.len() >= 2 { Ok(here) } else { Err(format!("{} and {}", here.len(), there.len())) }
    })
    .await;

    // The researcher dies in the middle of an experiment. Its worker notices that and ends.
    let left = net.node_mut(researcher).kill();
    wait_for("the worker of a killed node to end", Duration::from_secs(60), async || {
        if left.alive() { Err("it still runs".to_owned()) } else { Ok(()) }
    })
    .await;
    net.node_mut(researcher).start().await;
    let after = net.node(researcher).records(&task).await.unwrap();
    assert!(after.is_superset(&known), "{} of {} records survived", after.intersection(&known).count(), known.len());

    // The relay dies too, and then catches up with the records that were made meanwhile.
    let relayed = net.node(relay).records(&task).await.unwrap();
    drop(net.node_mut(relay).kill());
    let more = wait_for("a record made while the relay is down", RESEARCH_LIMIT, async || {
        let now = net.node(researcher).records(&task).await?;
        if now.len() > after.len() { Ok(now) } else { Err(format!("{} records", now.len())) }
    })
    .await;
    net.node_mut(relay).start().await;
    assert!(net.node(relay).records(&task).await.unwrap().is_superset(&relayed));
    wait_for("the relay to catch up", SPREAD_LIMIT, async || {
        let known = net.node(relay).records(&task).await?;
        let missing: BTreeSet<_> = more.difference(&known).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{} of {} are missing", missing.len(), more.len())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_data_directory_is_reported_with_its_holder() {
    let mut net = TestNet::new();
    let node = net.start("holder", None, &["--no-train"]).await;
    let holder = net.node(node).pid().to_string();
    spore(net.node(node).dir(), &run_on(["0"; 3])).expect_code(5).expect_stderr(&[&holder]);
}

/// The arguments of a relay on these ports: the bridge's, libp2p's and the explorer's.
fn run_on([port, p2p, web]: [&str; 3]) -> [&str; 10] {
    ["run", "--no-train", "--no-bootstrap", "--no-mdns", "--port", port, "--p2p-port", p2p, "--web-port", web]
}

#[test]
fn busy_port_is_reported() {
    let net = TestNet::new();
    // Both networks listen on every address, so the busy socket must do so too.
    let busy = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let port = port.as_str();
    for (name, ports) in [("legacy", [port, "0", "0"]), ("p2p", ["0", port, "0"]), ("web", ["0", "0", port])] {
        spore(&net.dir_of(name), &run_on(ports)).expect_code(1).expect_stderr(&[port]);
    }
}

#[test]
fn corrupt_config_is_reported_and_never_overwritten() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    spore(&dir, &["init"]).expect_code(0);
    let config = dir.join("config.toml");
    std::fs::write(&config, "port = = 3").unwrap();
    spore(&dir, &run_on(["0"; 3])).expect_code(1).expect_stderr(&["config.toml"]);
    assert_eq!(std::fs::read_to_string(config).unwrap(), "port = = 3");
}

#[test]
fn damaged_key_is_reported_and_never_replaced() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    spore(&dir, &["init"]).expect_code(0);
    let key = dir.join("identity/private_key");
    std::fs::write(&key, "not a key").unwrap();
    spore(&dir, &run_on(["0"; 3])).expect_code(1).expect_stderr(&["private_key"]);
    assert_eq!(std::fs::read_to_string(key).unwrap(), "not a key");
}

#[test]
fn full_disk_is_reported() {
    let works = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    if !works.is_ok_and(|status| status.success()) {
        return skip("`unshare -rm` does not work, so no small disk can be mounted");
    }
    let net = TestNet::new();
    let dir = net.dir_of("small");
    std::fs::create_dir(&dir).unwrap();
    let base = net.dir().join("base.star");
    std::fs::write(&base, TINY).unwrap();
    // The mount lives in a namespace that ends with the command.
    let script = r#"mount -t tmpfs -o size=200k tmpfs "$0" && cd / && exec "$@""#;
    let mut small = Command::new("unshare");
    small.args(["-rm", "sh", "-c", script]).arg(&dir).arg(binary());
    small.args(["task", "create", "--name", "n", "--description", "d", "--time-budget", "5", "--base"]).arg(&base);
    small.env_remove("SPORE_HOME").env("HOME", &dir).env("NO_COLOR", "1").arg("--data-dir").arg(dir.join("data"));
    let output = command::run(small, b"").expect_code(1);
    let message = output.stderr.to_lowercase();
    assert!(message.contains("full") || message.contains("no space"), "{}", output.stderr);
    assert!(!message.contains("panicked"), "{}", output.stderr);
}
