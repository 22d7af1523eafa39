//! Files, signals and processes: what a node and its commands do when the machine around them misbehaves.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use rustix::process::Signal;
use spore_tests::{
    TestNet,
    command::{binary, command, run_within, wait_within},
    seed::SeededTask,
    spore, wait_for,
};

/// Far more than any of these takes, and less than a command that waits for a hung program used to take.
const LIMIT: Duration = Duration::from_secs(45);

/// A node that trains nothing, at any port.
const RELAY: [&str; 9] =
    ["run", "--no-train", "--no-bootstrap", "--no-mdns", "--port", "0", "--p2p-port", "0", "--no-web"];

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// The exit code of a command whose standard error is a full disk.
fn code_with_full_stderr(dir: &Path, args: &[&str]) -> Option<i32> {
    let mut child = command(dir, args).stdout(Stdio::null()).stderr(full()).spawn().unwrap();
    wait_within(&mut child, LIMIT)
}

#[test]
fn full_standard_error_changes_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    spore(dir, &["init"]).expect_code(0);
    assert_eq!(code_with_full_stderr(dir, &["show", "zzzz"]), Some(spore(dir, &["show", "zzzz"]).code));
    fs::write(dir.join("config.toml"), "no_such_key = 1\n").unwrap();
    assert_eq!(code_with_full_stderr(dir, &["info"]), Some(0), "a warning that cannot be written");
    assert_eq!(code_with_full_stderr(dir, &["run", "--no-such-flag"]), Some(2));
    let mut child = command(dir, &["info"]).stdout(full()).stderr(full()).spawn().unwrap();
    assert_eq!(wait_within(&mut child, LIMIT), Some(1), "an answer that cannot be written");
    let mut child = command(dir, &["--help"]).stdout(full()).stderr(full()).spawn().unwrap();
    assert_eq!(wait_within(&mut child, LIMIT), Some(1), "help that cannot be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_runs_and_ends_well_while_its_output_is_full() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), "no_such_key = 1\n").unwrap();
    let args =
        ["run", "--no-train", "--no-bootstrap", "--no-mdns", "--port", "0", "--p2p-port", "0", "--no-web", "-vv"];
    let mut child = command(&dir, &args).stdout(full()).stderr(full()).spawn().unwrap();
    wait_for("the node", LIMIT, async || answers(&dir)).await;
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM);
    assert_eq!(wait_within(&mut child, LIMIT), Some(0));
}

/// Whether a node answers for the directory.
fn answers(dir: &Path) -> Result<(), String> {
    let status = spore(dir, &["status", "--json"]);
    if status.code == 0 && status.json()["mode"] == "relay" { Ok(()) } else { Err(status.stdout + &status.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_ends_a_node_like_term() {
    let mut net = TestNet::new();
    let number = net.start("node", None, &["--no-train"]).await;
    for signal in [Signal::HUP, Signal::TERM] {
        assert_eq!(net.node_mut(number).end_by(signal), 0, "{signal:?}");
        assert!(!net.node(number).dir().join("node.json").exists(), "{signal:?}");
        net.node_mut(number).start().await;
    }
    assert_eq!(net.node_mut(number).interrupt(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_ignores_hangup_survives_it() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    fs::create_dir_all(&dir).unwrap();
    let mut child = Command::new("nohup")
        .arg(binary())
        .args(RELAY)
        .env("SPORE_HOME", &dir)
        .env("HOME", &dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    wait_for("the node", LIMIT, async || answers(&dir)).await;
    let _ = rustix::process::kill_process(pid, Signal::HUP);
    // A signal that ends the node is delivered before a command is answered.
    spore(&dir, &["status"]).expect_code(0);
    answers(&dir).unwrap();
    assert!(child.try_wait().unwrap().is_none());
    let _ = rustix::process::kill_process(pid, Signal::TERM);
    assert_eq!(wait_within(&mut child, LIMIT), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn control_file_that_was_removed_comes_back() {
    let mut net = TestNet::new();
    let number = net.start("node", None, &["--no-train"]).await;
    let dir = net.node(number).dir().to_owned();
    let before = fs::read_to_string(dir.join("node.json")).unwrap();
    fs::remove_file(dir.join("node.json")).unwrap();
    wait_for("the file to come back", LIMIT, async || answers(&dir)).await;
    assert_eq!(fs::read_to_string(dir.join("node.json")).unwrap(), before);
    assert_eq!(net.node_mut(number).end_by(Signal::TERM), 0);
    assert!(!dir.join("node.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn node_starts_while_reading_commands_hold_the_store() {
    let mut net = TestNet::new();
    let number = net.start("node", None, &["--no-train"]).await;
    assert_eq!(net.node_mut(number).interrupt(), 0);
    let dir = net.node(number).dir().to_owned();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As two scripts that read in a loop.
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let mut reader = command(&dir, &["tasks"]);
                    drop(reader.stdout(Stdio::null()).stderr(Stdio::null()).status());
                }
            });
        }
        for _ in 0..6 {
            let mut node = command(&dir, &RELAY).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let started = (0..1500).any(|_| {
                std::thread::sleep(Duration::from_millis(20));
                dir.join("node.json").exists() || node.try_wait().unwrap().is_some()
            });
            let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&node), Signal::TERM);
            let code = wait_within(&mut node, LIMIT);
            let told = std::io::read_to_string(node.stderr.take().unwrap()).unwrap();
            done.store(code != Some(0), Relaxed);
            assert!(started && code == Some(0), "{code:?}: {told}");
        }
        done.store(true, Relaxed);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn second_node_is_refused_at_once_and_a_long_reader_after_a_wait() {
    let mut net = TestNet::new();
    let number = net.start("node", None, &["--no-train"]).await;
    let dir = net.node(number).dir().to_owned();
    spore(&dir, &RELAY).expect_code(5).expect_stderr(&["in use by spore, process"]);
    assert_eq!(net.node_mut(number).interrupt(), 0);
    let reader = spore_storage::Store::open_read_only(&dir).unwrap();
    spore(&dir, &RELAY).expect_code(5).expect_stderr(&["that only read it"]);
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_node_with_the_same_key_is_told_of() {
    let mut net = TestNet::new();
    let first = net.start("first", None, &["--no-train"]).await;
    let dir = net.dir_of("second");
    fs::create_dir_all(dir.join("identity")).unwrap();
    for name in ["private_key", "node_id"] {
        fs::copy(net.node(first).dir().join("identity").join(name), dir.join("identity").join(name)).unwrap();
    }
    // A machine of its own or the same one: another port is another node.
    let second = net.start("second", None, &["--no-train"]).await;
    let address = net.node(first).multiaddr();
    spore(&dir, &["connect", &address]).expect_code(1).expect_stderr(&["this node's own key answers there"]);
    let status = spore(&dir, &["status"]).expect_code(0).stdout;
    assert!(status.contains("answers with this node's key: another node runs with it"), "{status}");
    for number in [first, second] {
        assert_eq!(net.node_mut(number).interrupt(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_process_does_not_hold_a_command_for_a_minute() {
    let mut net = TestNet::new();
    let number = net.start("node", None, &["--no-train"]).await;
    let dir = net.node(number).dir().to_owned();
    net.node(number).signal(Signal::STOP);
    let status = run_within(command(&dir, &["status"]), b"", LIMIT);
    net.node(number).signal(Signal::CONT);
    status.expect_code(5).expect_stderr(&["too busy to answer"]);
    assert_eq!(net.node_mut(number).interrupt(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_whose_directory_was_replaced_ends_and_touches_nothing_there() {
    let mut net = TestNet::new();
    let number = net.start("node", None, &["--no-train"]).await;
    let dir = net.node(number).dir().to_owned();
    let moved = dir.with_extension("moved");
    fs::rename(&dir, &moved).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("node.json"), "another node's").unwrap();
    assert_eq!(net.node_mut(number).wait_for_end(), 1);
    let log = net.node(number).log();
    assert!(log.contains("was moved, removed or replaced while the node ran"), "{log}");
    let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["node.json"], "nothing was written or removed");
    assert_eq!(fs::read_to_string(dir.join("node.json")).unwrap(), "another node's");
    spore(&moved, &["db", "check"]).expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_starts_without_a_usable_dns_configuration() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    fs::create_dir_all(&dir).unwrap();
    let script = "mount --bind /dev/null /etc/resolv.conf && exec \"$0\" \"$@\"";
    let namespace = |program: &Path, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).arg(program).args(args);
        command.env("SPORE_HOME", &dir).env("HOME", &dir).stdin(Stdio::null());
        command
    };
    if !namespace(Path::new("true"), &[]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return spore_tests::skip::skip("mount namespaces are not allowed here");
    }
    let mut child = namespace(&binary(), &RELAY).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the node", LIMIT, async || answers(&dir)).await;
    let warnings = spore(&dir, &["status"]).expect_code(0).stdout;
    assert!(warnings.contains("DNS configuration cannot be used"), "{warnings}");
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM);
    assert_eq!(wait_within(&mut child, LIMIT), Some(0));
}

/// A user of whom no file is: the kernel's "nobody".
const NOBODY: &str = "65534";

#[test]
fn directory_of_another_user_is_told_from_an_empty_one() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    SeededTask::new(1, 2).store(&dir);
    spore(&dir, &["tasks"]).expect_code(0);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything, so another user asks.
    let mut asking = command(&dir, &["tasks"]);
    if rustix::process::geteuid().is_root() {
        let mut other = Command::new("setpriv");
        other.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        let mut may = Command::new("setpriv");
        may.args(other.get_args()).arg(binary()).arg("--version");
        if !may.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return spore_tests::skip::skip("another user cannot run the program here");
        }
        other.arg(binary()).arg("tasks").env("SPORE_HOME", &dir).env("HOME", &dir).stdin(Stdio::null());
        asking = other;
    }
    let told = run_within(asking, b"", LIMIT);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(!told.stderr.contains("no store"), "{told:?}");
    told.expect_code(1).expect_stderr(&["ermission denied", "hint: check the path and its permissions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_filter_that_cannot_be_read_is_told() {
    let net = TestNet::new();
    let filters = [("bad", "spore_network=loud", true), ("good", "spore_network=debug", false), ("empty", " ", false)];
    for (name, filter, told) in filters {
        // A directory for each: what one node left behind says nothing about the next.
        let dir = net.dir_of(name);
        fs::create_dir_all(&dir).unwrap();
        let mut child = command(&dir, &RELAY)
            .env("SPORE_LOG", filter)
            .stdout(Stdio::null())
            .stderr(fs::File::create(net.dir().join("log")).unwrap())
            .spawn()
            .unwrap();
        wait_for("the node", LIMIT, async || answers(&dir)).await;
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM);
        assert_eq!(wait_within(&mut child, LIMIT), Some(0));
        let log = fs::read_to_string(net.dir().join("log")).unwrap();
        assert_eq!(log.contains("SPORE_LOG has no effect"), told, "{filter}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_terminal_ends_a_node_like_term() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    fs::create_dir_all(&dir).unwrap();
    let line = format!("exec {} {}", binary().display(), RELAY.join(" "));
    let terminal = Command::new("script")
        .args(["-qc", &line, "/dev/null"])
        .env("SPORE_HOME", &dir)
        .env("HOME", &dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut terminal) = terminal else { return spore_tests::skip::skip("there is no `script` here") };
    wait_for("the node", LIMIT, async || answers(&dir)).await;
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    wait_for("the node to end", LIMIT, async || {
        if dir.join("node.json").exists() { Err("node.json is there".to_owned()) } else { Ok(()) }
    })
    .await;
    // The store was closed and its lock released.
    wait_for("the store to be free", LIMIT, async || {
        let check = spore(&dir, &["db", "check"]);
        if check.code == 0 { Ok(()) } else { Err(check.stdout + &check.stderr) }
    })
    .await;
}
