//! Commands beside a running node.

use spore_tests::{TestNet, spore};

use crate::{snapshot::Transcript, world::seed};

#[tokio::test(flavor = "multi_thread")]
async fn output_beside_a_node_is_as_reviewed() {
    let mut net = TestNet::new();
    let dir = net.dir_of("node");
    seed(&dir);
    let number = net.start("node", None, &["--no-train", "--task", "small-gpt"]).await;
    let backups = net.dir().join("backups").display().to_string();
    // Addresses differ in number from machine to machine.
    let listens = spore(&dir, &["status"]).expect_code(0).stdout;
    let listens = listens.lines().find(|line| line.starts_with("Listens on")).unwrap().to_owned();
    let mut transcript = Transcript::wide(&dir);
    transcript.run(&["status"]).replace(&listens, "Listens on    [ADDRESSES]");
    transcript.run(&["explorer"]).run(&["peer"]).run(&["connect", "127.0.0.1:1"]).run(&["peer"]);
    transcript.run(&["disconnect", "127.0.0.1:1"]).run(&["disconnect", "127.0.0.1:1"]);
    transcript.assert("running");
    let mut transcript = Transcript::new(&dir);
    transcript.run(&["db", "check", "--repair"]).run(&["db", "restore", &backups]);
    spore(&dir, &["db", "backup", &backups]).expect_code(0);
    transcript.run(&["db", "restore", &backups, "--replace"]).run(&["import", "no-such-file"]);
    transcript.run(&["run", "--no-train", "--no-web", "--port", "0", "--p2p-port", "0"]);
    transcript.assert("errors-locked");
    assert_eq!(net.node_mut(number).interrupt(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn export_beside_a_node_has_the_same_bytes_as_without_one() {
    let mut net = TestNet::new();
    let dir = net.dir_of("node");
    seed(&dir);
    let file = net.dir().join("all.ndjson").display().to_string();
    let number = net.start("node", None, &["--no-train", "--task", "small-gpt"]).await;
    let during = |args: &[&str]| spore(&dir, args).expect_code(0).stdout;
    let (all, task) = (during(&["export"]), during(&["export", "--task", "small-gpt"]));
    spore(&dir, &["export", &file]).expect_code(0);
    assert_eq!(net.node_mut(number).interrupt(), 0);
    assert!(all.lines().count() > task.lines().count() && task.lines().count() > 5, "{task}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), all);
    let after = |args: &[&str]| spore(&dir, args).expect_code(0).stdout;
    assert_eq!((after(&["export"]), after(&["export", "--task", "small-gpt"])), (all, task));
}

#[tokio::test(flavor = "multi_thread")]
async fn connected_peers_are_shown_as_reviewed() {
    let mut net = TestNet::new();
    crate::world::write_identity(&net.dir_of("first"));
    let first = net.start("first", None, &["--no-train"]).await;
    let second = net.start("second", Some(first), &["--no-train"]).await;
    let dir = net.node(second).dir().to_owned();
    spore_tests::wait_for("the two to connect", std::time::Duration::from_secs(60), async || {
        let status = net.node(second).api("/status").await?;
        if status["peer_count"].as_u64() == Some(1) { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    Transcript::wide(&dir).run(&["peer", "list"]).without_numbers().assert("peers");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_of_a_relay_is_as_reviewed() {
    let mut net = TestNet::new();
    let dir = net.dir_of("node");
    seed(&dir);
    let number = net.start("node", None, &["--no-train", "--task", "small-gpt"]).await;
    assert_eq!(net.node_mut(number).interrupt(), 0);
    // Addresses differ in number from machine to machine. Messages of the log begin with their time.
    let log = net.node(number).log();
    // A program without the built page says so.
    let varies = |line: &str| {
        line.trim_start().starts_with("listens ") || line.starts_with("20") || line.contains("explorer's page")
    };
    let lines: Vec<_> = log.lines().filter(|line| !varies(line)).collect();
    let mut transcript = Transcript::new(&dir);
    transcript.add_text(&lines.join("\n"));
    transcript.assert("log-relay");
}
