//! What a person reads in a terminal: tables that fit, states that are those of the running node, and errors that say
//! where and what.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::Stdio,
    time::Duration,
};

use spore_tests::{
    TestNet,
    command::{binary, command, run_within},
    spore,
};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::{
    snapshot::Transcript,
    world::{World, seed, write_identity},
};

/// A base script that the trainer accepts.
const BASE: &str = include_str!("../../scripts/tiny.star");

#[test]
fn tables_fit_narrow_terminals_as_reviewed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let World { best, .. } = seed(&dir);
    for columns in ["40", "80", "120"] {
        let mut transcript = Transcript::new(&dir).columns(columns);
        transcript.run(&["tasks"]);
        transcript.run(&["frontier", "--task", "small-gpt"]).run(&[
            "frontier",
            "--task",
            "small-gpt",
            "--view",
            "claims",
        ]);
        transcript.run(&["search", "made-up"]).run(&["db", "pending"]).run(&["data", "list"]);
        transcript.assert(&format!("columns-{columns}"));
        let width: usize = columns.parse().unwrap();
        for line in transcript.text().lines().filter(|line| line.starts_with(&best.to_string()[..12])) {
            assert!(line.trim_end().chars().count() <= width, "{columns}: {line}");
        }
    }
}

#[test]
fn status_and_peer_end_with_exit_code_4_without_a_node() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    for args in [&["status"][..], &["status", "--json"], &["status", "--watch"], &["peer"], &["peer", "--json"]] {
        spore(&dir, args).expect_code(4);
    }
    seed(&dir);
    for args in [&["status"][..], &["status", "--json"], &["status", "--watch"], &["peer"], &["peer", "--json"]] {
        spore(&dir, args).expect_code(4);
    }
    spore(&dir, &["status", "--task", "small-gpt"]).expect_code(0);
}

#[test]
fn errors_are_json_where_json_is_wanted() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    seed(&dir);
    for (args, code, part) in [
        (&["task", "show", "ffff", "--json"][..], 3, "ffff"),
        (&["tasks", "--limit", "0", "--json"], 2, "--limit"),
        (&["connect", "nonsense", "--json"], 2, "nonsense"),
        (&["search", "-", "--json"], 2, "no word"),
    ] {
        let output = spore(&dir, args).expect_code(code);
        let error: serde_json::Value =
            serde_json::from_str(&output.stderr).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        assert!(error["error"].as_str().unwrap().contains(part), "{error}");
        assert!(error["hint"].is_string() && error["exit_code"] == code, "{error}");
    }
}

#[test]
fn second_task_of_a_name_and_invisible_characters_are_told() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    seed(&dir);
    let base = net.dir().join("base.star");
    fs::write(&base, BASE).unwrap();
    let create = |name: &str| spore(&dir, &["task", "create", "--name", name, "--base", base.to_str().unwrap()]);
    create("small-gpt").expect_code(0).expect_stderr(&["has the name small-gpt already"]);
    spore(&dir, &["task", "show", "small-gpt"]).expect_code(2).expect_stderr(&["more than one task", "created by"]);
    create("auto").expect_code(2).expect_stderr(&["meaning of its own"]);
    create("tiny\u{200b}").expect_code(2).expect_stderr(&["U+200B"]);
    create("two\nlines").expect_code(2).expect_stderr(&["U+000A"]);
}

#[test]
fn configuration_errors_name_key_line_and_nearest_key() {
    let net = TestNet::new();
    for (name, config, parts) in [
        ("type", "# ports\nport = \"x\"", &["line 2", "port: ", "0 to 65535"][..]),
        ("large", "resource = 500", &["line 1", "resource: ", "a percentage from 1 to 100"]),
        ("list", "\npeer = 3", &["line 2", "peer: ", "a list"]),
        ("range", "# share\nresource = 0", &["line 2", "resource is 0"]),
        ("near", "prot = 7471", &["line 1", "unknown key prot", "port was meant"]),
    ] {
        let dir = net.dir_of(name);
        write_identity(&dir);
        fs::write(dir.join("config.toml"), config).unwrap();
        spore(&dir, &["info"]).expect_stderr(parts);
    }
    let dir = net.dir_of("local");
    write_identity(&dir);
    fs::write(dir.join("config.toml"), "web_host = \"localhost\"").unwrap();
    spore(&dir, &["info"]).expect_code(0);
}

#[test]
fn inspect_reads_exports_and_import_reads_bare_objects() {
    let net = TestNet::new();
    let (dir, other) = (net.dir_of("node"), net.dir_of("other"));
    let World { root, .. } = seed(&dir);
    let all = net.dir().join("all.ndjson").display().to_string();
    spore(&dir, &["export", &all]).expect_code(0);
    spore(&dir, &["inspect", &all]).expect_code(0);
    let shown = spore(&dir, &["show", &root.to_string(), "--json"]).expect_code(0).json();
    // As a person saves it: over several lines, without a frame.
    let bare = net.dir().join("bare.json").display().to_string();
    fs::write(&bare, serde_json::to_string_pretty(&shown["signed"]).unwrap()).unwrap();
    spore(&dir, &["inspect", &bare]).expect_code(0);
    let task = spore(&dir, &["export", "--task", "small-gpt"]).expect_code(0).stdout;
    let manifest: serde_json::Value = serde_json::from_str(task.lines().next().unwrap()).unwrap();
    let both = format!("{}\n{}", manifest["payload"], fs::read_to_string(&bare).unwrap());
    fs::write(&bare, both).unwrap();
    let summary = spore(&other, &["import", &bare, "--json"]).expect_code(0).json();
    assert_eq!(
        (&summary["parts"]["tasks"]["imported"], &summary["parts"]["records"]["imported"]),
        (&1.into(), &1.into())
    );
    fs::write(&bare, "{\"id\":\"x\",\"val_bpb\":1}\n").unwrap();
    let refused = spore(&other, &["import", &bare]);
    assert!(!refused.stdout.contains("Nothing new") && refused.stdout.contains("rejected"), "{refused:?}");
}

#[test]
fn profile_show_has_all_five_fields() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let fields = [
        ("--display-name", "display_name", "Sybil"),
        ("--bio", "bio", "Trains at night"),
        ("--website", "website", "https://example.org/"),
        ("--avatar-url", "avatar_url", "https://example.org/picture"),
        ("--donation-address", "donation_address", "an address"),
    ];
    let mut args = vec!["profile", "set"];
    args.extend(fields.iter().flat_map(|(flag, _, value)| [*flag, *value]));
    spore(&dir, &args).expect_code(0);
    let shown = spore(&dir, &["profile", "show"]).expect_code(0).stdout;
    let json = spore(&dir, &["profile", "show", "--json"]).expect_code(0).json();
    for (_, field, value) in fields {
        assert!(shown.contains(value), "{value}: {shown}");
        assert_eq!(json[field], value, "{json}");
    }
}

/// `spore ARGS` in a terminal of its own, whose screen and keyboard are pipes. None where there is no `script`.
fn in_terminal(dir: &std::path::Path, args: &str) -> Option<std::process::Child> {
    let line = format!("exec {} {args}", binary().display());
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("SPORE_HOME", dir).env("HOME", dir).env_remove("SPORE_LLM_KEY");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()
}

/// Reads the screen until `wanted` says that enough is there, or to the end.
fn screen(terminal: &mut std::process::Child, wanted: impl Fn(&str) -> bool) -> String {
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    let out = terminal.stdout.as_mut().unwrap();
    while !wanted(&text) {
        match out.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(count) => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
        }
    }
    text
}

#[test]
fn key_that_is_typed_at_the_prompt_is_not_shown() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let Some(mut terminal) = in_terminal(&dir, "set openai") else {
        return spore_tests::skip::skip("no `script` here");
    };
    let asked = screen(&mut terminal, |text| text.contains(": "));
    assert!(asked.contains("key"), "{asked}");
    terminal.stdin.as_mut().unwrap().write_all(b"sk-typed\n").unwrap();
    let rest = screen(&mut terminal, |_| false);
    assert_eq!(terminal.wait().unwrap().code(), Some(0), "{asked}{rest}");
    assert!(!asked.contains("sk-typed") && !rest.contains("sk-typed"), "{asked}{rest}");
    let config = fs::read_to_string(dir.join("config.toml")).unwrap();
    assert!(config.contains("api_key = \"sk-typed\""), "{config}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watched_status_is_drawn_again_in_its_place() {
    let mut net = TestNet::new();
    let number = net.start("node", None, &["--no-train"]).await;
    let dir = net.node(number).dir().to_owned();
    let Some(mut terminal) = in_terminal(&dir, "status --watch") else {
        return spore_tests::skip::skip("no `script` here");
    };
    let again = "\u{1b}[H\u{1b}[2J";
    let text = screen(&mut terminal, |text| text.matches(again).count() >= 2 && text.ends_with('\n'));
    let views: Vec<_> = text.split(again).collect();
    assert!(views.len() >= 3 && views.iter().take(2).all(|view| view.matches("Node ").count() == 1), "{text}");
    assert_eq!(net.node_mut(number).interrupt(), 0);
    screen(&mut terminal, |_| false);
    assert_eq!(terminal.wait().unwrap().code(), Some(4), "the watch ends with the node");
}

#[tokio::test(flavor = "multi_thread")]
async fn running_node_is_told_by_info_and_connect_waits_for_a_handshake() {
    let mut net = TestNet::new();
    let dir = net.dir_of("node");
    seed(&dir);
    let number = net.start("node", None, &["--no-train", "--no-bridge", "--task", "small-gpt"]).await;
    let info = spore(&dir, &["info"]).expect_code(0).stdout;
    let (live, file) = info.split_once("In config.toml").unwrap();
    assert!(live.contains("Mode            relay") && live.contains("Bridge          nowhere"), "{info}");
    assert!(live.contains("small-gpt") && file.contains("the default task"), "{info}");
    let info = spore(&dir, &["info", "--json"]).expect_code(0).json();
    assert_eq!(info["live"]["mode"], "relay");
    spore(&dir, &["status"]).expect_code(0);
    spore(&dir, &["peer", "--json"]).expect_code(0).json();

    // Any other program: it takes the connection and says something of its own.
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = web.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let _ = stream.write_all(b"HTTP/1.0 400 Bad request\r\n\r\n").await;
        }
    });
    let connect = |address: String| {
        let dir = dir.clone();
        tokio::task::spawn_blocking(move || spore(&dir, &["connect", &address]))
    };
    connect(address.clone()).await.unwrap().expect_code(2).expect_stderr(&["sent no message"]);
    let own = net.node(number).multiaddr();
    connect(own).await.unwrap().expect_code(2).expect_stderr(&["this node's own"]);
    let saved = spore(&dir, &["peer", "--json"]).expect_code(0).json();
    assert_eq!(saved["configured"], serde_json::json!([]), "a program that is no peer is not saved");

    let mut watch = command(&dir, &["status", "--watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    for _ in 0..2 {
        let status: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(status["mode"], "relay");
    }
    assert_eq!(net.node_mut(number).interrupt(), 0);
    assert_eq!(watch.wait().unwrap().code(), Some(4), "the watch ends with the node");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_to_a_silent_program_is_told_within_seconds() {
    let mut net = TestNet::new();
    let dir = net.dir_of("node");
    let number = net.start("node", None, &["--no-train"]).await;
    // The operating system takes the connections. Nobody says anything.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let connect = |address: String, code: i32, part: &'static str| {
        let dir = dir.clone();
        tokio::task::spawn_blocking(move || {
            // A command that waited for the general limit of the API's client would take a minute.
            let connect = run_within(command(&dir, &["connect", &address]), b"", Duration::from_secs(30));
            connect.expect_code(code).expect_stderr(&[part, "within"]);
        })
    };
    let legacy = connect(format!("127.0.0.1:{port}"), 2, "took the connection and sent no message");
    let libp2p = connect(format!("/ip4/127.0.0.1/tcp/{port}"), 1, "no handshake of libp2p");
    legacy.await.unwrap();
    libp2p.await.unwrap();
    let saved = spore(&dir, &["peer", "--json"]).expect_code(0).json();
    assert_eq!(saved["configured"], serde_json::json!([format!("/ip4/127.0.0.1/tcp/{port}")]));
    drop(silent);
    assert_eq!(net.node_mut(number).interrupt(), 0);
}
