//! A node in the background, as a service, and watched by an operator.

use std::{fs, os::unix::net::UnixDatagram, path::Path, process::Stdio, time::Duration};

use rustix::process::Signal;
use spore_tests::{
    TestNet,
    command::{command, run, wait_within},
    http,
    net::free_ports,
    spore,
};

/// A node starts and stops within seconds, but the machine may be training two models.
const LIMIT: Duration = Duration::from_secs(45);

/// Flags of a relay that needs no port.
const RELAY: [&str; 8] = ["--no-train", "--no-bootstrap", "--no-mdns", "--port", "0", "--p2p-port", "0", "--no-web"];

/// Stops the node when a test fails.
struct Stopped<'a>(&'a Path);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let _ = command(self.0, &["stop", "--kill"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn with<'a>(first: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    [&[first], flags].concat()
}

fn mode(dir: &Path) -> String {
    let status = spore(dir, &["status", "--json"]);
    if status.code == 0 { status.json()["mode"].as_str().unwrap().to_owned() } else { String::new() }
}

fn pid(dir: &Path) -> u64 {
    let text = fs::read_to_string(dir.join("process.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["pid"].as_u64().unwrap()
}

#[test]
fn background_node_starts_keeps_its_flags_over_a_restart_and_ends() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let _stopped = Stopped(&dir);
    spore(&dir, &["stop"]).expect_code(4).expect_stderr(&["no node is running"]);
    spore(&dir, &["log"]).expect_code(3).expect_stderr(&["no log", "spore start"]);
    let started = spore(&dir, &with("start", &RELAY)).expect_code(0);
    assert!(started.stdout.contains("runs in the background"), "{}", started.stdout);
    assert_eq!(mode(&dir), "relay");
    let first = pid(&dir);
    let again = spore(&dir, &["start"]).expect_code(0);
    assert!(again.stdout.contains(&format!("runs already: process {first}")), "{}", again.stdout);
    let log = spore(&dir, &["log"]).expect_code(0).stdout;
    assert!(log.contains("mode      relay"), "{log}");
    assert_eq!(spore(&dir, &["log", "-n", "1"]).stdout.lines().count(), 1);
    spore(&dir, &["restart"]).expect_code(0);
    assert_ne!(pid(&dir), first);
    assert_eq!(mode(&dir), "relay", "the flags are those of before");
    let stopped = spore(&dir, &["stop"]).expect_code(0);
    assert!(stopped.stdout.contains("Stopped process"), "{}", stopped.stdout);
    assert!(!dir.join("node.json").exists());
    spore(&dir, &["stop"]).expect_code(4);
}

#[test]
fn foreground_node_is_stopped_and_a_killed_one_does_not_count() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let _stopped = Stopped(&dir);
    let mut child = command(&dir, &with("run", &RELAY)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let up = std::time::Instant::now();
    while mode(&dir) != "relay" {
        assert!(up.elapsed() < LIMIT);
    }
    let stop = spore(&dir, &["stop"]);
    assert_eq!(wait_within(&mut child, LIMIT), Some(0));
    stop.expect_code(0);
    let mut child = command(&dir, &with("run", &RELAY)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while mode(&dir) != "relay" {
        assert!(up.elapsed() < 2 * LIMIT);
    }
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::KILL);
    wait_within(&mut child, LIMIT);
    spore(&dir, &["stop"]).expect_code(4);
}

#[test]
fn node_that_cannot_start_tells_why() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let args = with("start", &["--no-train", "--peer", "nonsense"]);
    spore(&dir, &args).expect_code(2).expect_stderr(&["nonsense", "the node did not start"]);
    spore(&dir, &["start", "--no-such-flag"]).expect_code(2);
    spore(&dir, &["stop"]).expect_code(4);
}

#[test]
fn log_beyond_its_bound_moves_away() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let _stopped = Stopped(&dir);
    fs::create_dir_all(&dir).unwrap();
    let size = 9 << 20;
    fs::write(dir.join("node.log"), vec![b'x'; size]).unwrap();
    spore(&dir, &with("start", &RELAY)).expect_code(0);
    assert_eq!(fs::metadata(dir.join("node.log.1")).unwrap().len(), size as u64);
    assert!(fs::metadata(dir.join("node.log")).unwrap().len() < 1 << 20);
    // The running node does the same.
    let log = fs::OpenOptions::new().append(true).open(dir.join("node.log")).unwrap();
    std::io::Write::write_all(&mut &log, &vec![b'y'; size]).unwrap();
    let began = std::time::Instant::now();
    while fs::metadata(dir.join("node.log")).unwrap().len() > 1 << 20 {
        assert!(began.elapsed() < LIMIT, "the log grows on");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(fs::metadata(dir.join("node.log.2")).unwrap().len(), size as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn service_manager_hears_of_the_start_the_state_and_the_end() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let _stopped = Stopped(&dir);
    let path = net.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let mut node = command(&dir, &with("run", &RELAY));
    node.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "500000");
    let mut child = node.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let heard = || {
        let mut buffer = [0; 1024];
        let size = manager.recv(&mut buffer).expect("the node tells");
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    };
    assert_eq!(heard(), "READY=1");
    assert_eq!(mode(&dir), "relay", "a node that is ready answers");
    let first = heard();
    assert!(first.contains("WATCHDOG=1") && first.contains("STATUS=0 peers, relaying records"), "{first}");
    assert!(heard().contains("WATCHDOG=1"));
    spore(&dir, &["restart"]).expect_code(1).expect_stderr(&["service", "systemctl"]);
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM);
    let end = std::iter::repeat_with(heard).take(1000).find(|said| said.contains("STOPPING=1"));
    assert!(end.is_some());
    assert_eq!(wait_within(&mut child, LIMIT), Some(0));
}

#[test]
fn unit_file_is_printed_written_and_removed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let text = spore(&dir, &["service", "install", "--print", "--", "--no-train"]).expect_code(0).stdout;
    assert!(text.contains("Type=notify") && text.contains(" --no-train\n"), "{text}");
    spore(&dir, &["service", "install", "--", "--no-such-flag"]).expect_code(2);
    let unit = dir.join(".config/systemd/user/spore.service");
    spore(&dir, &["service", "install"]).expect_code(0);
    assert!(unit.exists());
    spore(&dir, &["service", "uninstall"]).expect_code(0);
    assert!(!unit.exists());
    spore(&dir, &["service", "uninstall"]).expect_code(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_reads_metrics_and_health_on_a_port_of_their_own() {
    let mut net = TestNet::new();
    let [admin] = free_ports();
    let number = net.start("node", None, &["--no-train", "--admin-port", &admin.to_string()]).await;
    let url = |path: &str| format!("http://127.0.0.1:{admin}{path}");
    let get = async |path: &str| http::send(http::client().get(url(path))).await.unwrap();
    assert_eq!(get("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(get("/readyz").await, (200, "ok\n".to_owned()));
    let (code, metrics) = get("/metrics").await;
    assert_eq!(code, 200);
    for line in ["spore_ready 1", "spore_peers{network=\"libp2p\"} 0", "# TYPE spore_warnings gauge"] {
        assert!(metrics.lines().any(|found| found == line), "{line}:\n{metrics}");
    }
    assert!(metrics.contains("mode=\"relay\"") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert_eq!(get("/api/v1/status").await.0, 404);
    assert_eq!(http::send(http::client().post(url("/metrics"))).await.unwrap().0, 405);
    let foreign = http::client().get(url("/metrics")).header("host", "evil.example");
    assert_eq!(http::send(foreign).await.unwrap().0, 421, "a page of another name reads nothing");
    assert_eq!(net.node_mut(number).interrupt(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_log_is_one_object_a_line() {
    let mut net = TestNet::new();
    let number = net.start("node", None, &["--no-train", "--log-format", "json", "-v"]).await;
    assert_eq!(net.node_mut(number).interrupt(), 0);
    let log = net.node(number).log();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    assert!(lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()), "{log}");
    assert!(lines.iter().any(|line| line["message"] == "mode      relay: keeps records and passes them on"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_faults_names_the_next_step_and_ends_with_1() {
    let mut net = TestNet::new();
    let dir = net.dir_of("sick");
    fs::create_dir_all(&dir).unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    fs::write(dir.join("config.toml"), format!("port = {port}\nresorce = 7\n")).unwrap();
    let found = spore(&dir, &["doctor", "--json"]).expect_code(1).json();
    let findings = found["findings"].as_array().unwrap();
    let of = |about: &str, level: &str| {
        let mut all = findings.iter().filter(|one| one["about"] == about && one["level"] == level);
        all.next().unwrap_or_else(|| panic!("{about} is not {level}: {found}")).clone()
    };
    assert!(of("bridge port", "broken")["next"].as_str().unwrap().contains("spore config set port"));
    assert!(of("configuration", "weak")["text"].as_str().unwrap().contains("resource"));
    assert_eq!(of("node", "note")["next"], serde_json::Value::Null);
    let said = spore(&dir, &["doctor"]).expect_code(1).stdout;
    assert!(said.contains("BROKEN") && said.contains("next: "), "{said}");
    let number = net.start("well", None, &["--no-train"]).await;
    let well = spore(net.node(number).dir(), &["doctor"]).expect_code(0).stdout;
    assert!(well.contains("ok      node") && !well.contains("BROKEN"), "{well}");
    assert_eq!(net.node_mut(number).interrupt(), 0);
}

#[test]
fn setting_is_changed_where_it_stands_and_its_origin_is_shown() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    fs::create_dir_all(&dir).unwrap();
    let real = net.dir().join("real.toml");
    fs::write(&real, "# mine\nport = 7 # the port\n").unwrap();
    std::os::unix::fs::symlink(&real, dir.join("config.toml")).unwrap();
    spore(&dir, &["config", "set", "port", "7001"]).expect_code(0);
    spore(&dir, &["config", "set", "peer", "h:1,/dns/h/tcp/2"]).expect_code(0);
    spore(&dir, &["config", "set", "web.names", "a.example.org"]).expect_code(0);
    let text = fs::read_to_string(&real).unwrap();
    assert!(text.starts_with("# mine\nport = 7001 # the port\n"), "{text}");
    assert!(fs::symlink_metadata(dir.join("config.toml")).unwrap().is_symlink());
    assert_eq!(spore(&dir, &["config", "get", "port"]).expect_code(0).stdout, "7001\n");
    assert_eq!(spore(&dir, &["config", "get", "web.names"]).stdout, "[\"a.example.org\"]\n");
    let mut show = command(&dir, &["config", "show", "--origin"]);
    show.env("SPORE_DEVICE", "flex");
    let shown = run(show, b"").expect_code(0).stdout;
    let line = |key: &str| shown.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap().to_owned();
    assert!(line("port").contains("7001") && line("port").contains("config.toml line 2"), "{shown}");
    assert!(line("device").contains("flex") && line("device").contains("SPORE_DEVICE"), "{shown}");
    assert!(line("resource").contains("100") && line("resource").contains("default"), "{shown}");
    spore(&dir, &["config", "set", "prot", "1"]).expect_code(2).expect_stderr(&["port was meant, perhaps"]);
    spore(&dir, &["config", "set", "resource", "500"]).expect_code(2).expect_stderr(&["resource"]);
    spore(&dir, &["config", "unset", "port"]).expect_code(0);
    assert_eq!(spore(&dir, &["config", "get", "port"]).stdout, "7470\n");
    spore(&dir, &["config", "get", "task"]).expect_code(3);
    let mut bad = command(&dir, &["config", "show"]);
    bad.env("SPORE_PORT", "99999");
    assert!(run(bad, b"").stderr.contains("SPORE_PORT"));
}

#[test]
fn edited_configuration_takes_effect_only_when_it_can_be_read() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let edit = |script: &str| {
        let editor = net.dir().join("editor");
        fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut program = command(&dir, &["config", "edit"]);
        program.env("EDITOR", &editor).env_remove("VISUAL");
        run(program, b"")
    };
    edit("echo 'port = 7002' > \"$1\"").expect_code(0);
    assert_eq!(spore(&dir, &["config", "get", "port"]).stdout, "7002\n");
    edit("echo 'port = x' > \"$1\"").expect_code(1).expect_stderr(&["as it was"]);
    assert_eq!(spore(&dir, &["config", "get", "port"]).stdout, "7002\n");
    // The draft is opened again.
    edit("grep -q 'port = x' \"$1\" && echo 'port = 7003' > \"$1\"").expect_code(0);
    assert_eq!(spore(&dir, &["config", "get", "port"]).stdout, "7003\n");
}

#[test]
fn running_node_is_not_cleaned_and_nobody_is_taken_for_a_yes() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let _stopped = Stopped(&dir);
    spore(&dir, &with("start", &RELAY)).expect_code(0);
    spore(&dir, &["clean", "--yes"]).expect_code(5).expect_stderr(&["spore stop"]);
    spore(&dir, &["stop"]).expect_code(0);
    spore(&dir, &["clean"]).expect_code(2).expect_stderr(&["--yes"]);
    assert!(dir.join("store").exists());
    spore(&dir, &["clean", "--yes"]).expect_code(0);
    assert!(!dir.join("store").exists() && dir.join("identity/private_key").exists());
    spore(&dir, &["clean", "--all", "--yes"]).expect_code(0);
    assert!(!dir.exists());
}

#[test]
fn report_of_a_node_that_tried_nothing_says_so() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    spore(&dir, &["report"]).expect_code(3);
    spore(&dir, &["init"]).expect_code(0);
    let report = spore(&dir, &["report", "--since", "2d", "--json"]).expect_code(0).json();
    assert_eq!((&report["experiments"], &report["results"]), (&0.into(), &serde_json::json!([])));
    assert!(spore(&dir, &["report"]).expect_code(0).stdout.contains("0 kept, 0 crashed"));
    spore(&dir, &["report", "--since", "soon"]).expect_code(2).expect_stderr(&["24h"]);
}
