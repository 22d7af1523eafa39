//! Every class of error with its hint and its exit code.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use spore_tests::{TestNet, seed::SeededTask, spore};

use crate::{
    snapshot::Transcript,
    world::{seed, write_identity},
};

/// A data directory with a configuration file.
fn configured(net: &TestNet, name: &str, config: &str) -> PathBuf {
    let dir = net.dir_of(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), config).unwrap();
    dir
}

#[test]
fn wrong_usage_is_reported_as_reviewed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    Transcript::new(&dir)
        .run(&["nonsense"])
        .run(&["show"])
        .run(&["run", "--resource", "0"])
        .run(&["run", "--no-train", "--verify-only"])
        .run(&["run", "--no-train", "--peer", "nonsense"])
        .run(&["run", "--no-train", "--device", "abacus"])
        .run(&["connect", "nonsense"])
        .run(&["frontier", "--limit", "0"])
        .run(&["set", "nobody", "sesame"])
        .run(&["set", "groq"])
        .run(&["set", "local", "--base-url", "ftp://127.0.0.1"])
        .run(&["profile", "set"])
        .run(&["profile", "set", "--display-name", &"x".repeat(81)])
        .run(&["profile", "set", "--website", "example.org"])
        .run(&["gc"])
        .run(&["gc", "--max-size", "much"])
        .run(&["gc", "pin", "abc"])
        .run(&["import"])
        .run_with_input(&["inspect", "-"], "")
        .assert("errors-usage");
}

#[test]
fn missing_data_is_reported_as_reviewed() {
    let net = TestNet::new();
    let dir = net.dir_of("nothing");
    Transcript::new(&dir)
        .run(&["info"])
        .run(&["status"])
        .run(&["db", "check"])
        .run(&["db", "check", "--repair"])
        .run(&["disconnect", "192.0.2.1:7470"])
        .run(&["import", "no-such-file"])
        .run(&["import", "sporemesh", "no-such-directory"])
        .run(&["inspect", "no-such-file"])
        .run(&["db", "backups", "no-such-directory"])
        .run(&["db", "restore", "no-such-directory"])
        .run(&["data", "add", "no-such-file"])
        .run(&["task", "create", "--name", "n", "--base", "no-such-file"])
        .assert("errors-missing");
    assert!(!dir.join("store").exists());
}

#[test]
fn unknown_names_are_reported_as_reviewed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    seed(&dir);
    fs::write(net.dir().join("empty"), "").unwrap();
    fs::write(net.dir().join("short"), "too short a text").unwrap();
    fs::write(net.dir().join("bad.star"), "model = nonsense(").unwrap();
    let unknown = "f".repeat(64);
    let (best, any) = (seed_best(&dir), "task create --name n --base bad.star");
    let create: Vec<_> = any.split(' ').collect();
    Transcript::new(&dir)
        .run(&["task", "show", "ffff"])
        .run(&["task", "show", "no such task"])
        .run(&["show", "ffff"])
        .run(&["show", "xyz"])
        .run(&["show", "--code", &best])
        .run(&["profile", "show", "ffff"])
        .run(&["search", "-"])
        .run(&["export", "--task", "ffff"])
        .run(&["data", "add", "empty"])
        .run(&["data", "add", "short"])
        .run(&[&create[..], &["--dataset", "jack"]].concat())
        .run(&[&create[..], &["--dataset", &unknown]].concat())
        .run(&create)
        .assert("errors-unknown");
}

/// The id of the record whose script is not here.
fn seed_best(dir: &Path) -> String {
    let found = spore(dir, &["search", "half", "the", "learning", "rate", "--json"]).expect_code(0).json();
    found[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn ambiguous_prefix_is_reported_with_its_candidates() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    write_identity(&dir);
    // Seventeen tasks share a first digit somewhere.
    for number in 0..17 {
        SeededTask::new(number, 1).store(&dir);
    }
    let mut transcript = Transcript::new(&dir);
    for digit in "0123456789abcdef".chars() {
        let prefix = digit.to_string();
        if spore(&dir, &["task", "show", &prefix]).stderr.contains("more than one") {
            transcript.run(&["task", "show", &prefix]);
        }
    }
    transcript.assert("errors-ambiguous");
}

#[test]
fn bad_files_are_reported_as_reviewed() {
    let net = TestNet::new();
    for (name, config) in [
        ("corrupt", "port = = 3"),
        ("type", "# ports\nport = \"x\""),
        ("range", "resource = 0"),
        ("cache", "[cache]\nmax_age_days = 0"),
        ("twice", "task = \"a\"\ntask_id = \"b\""),
        ("listen", "listen = [\"nonsense\"]"),
        ("trust", "# friends\ntrust = [\"Alice\"]"),
        ("llm", "[llm]\nprovider = \"nobody\"\napi_key = \"sesame\""),
    ] {
        let dir = configured(&net, name, config);
        Transcript::new(&dir).run(&["run", "--no-train"]).assert(&format!("errors-config-{name}"));
    }
    let dir = configured(&net, "unknown", "prot = 1\n[llm]\nprovider = \"groq\"\napi_key = \"k\"\nheat = 1\n");
    write_identity(&dir);
    Transcript::new(&dir).run(&["info"]).assert("warning-config-unknown");

    let dir = net.dir_of("key");
    write_identity(&dir);
    fs::write(dir.join("identity/private_key"), "not a key").unwrap();
    fs::write(dir.join("datasets.json"), "[").unwrap();
    Transcript::new(&dir).run(&["info"]).run(&["init"]).run(&["data", "list"]).assert("errors-files");

    let (source, dir) = (net.dir_of("source"), net.dir_of("target"));
    fs::create_dir_all(source.join("identity")).unwrap();
    fs::write(source.join("identity/private_key"), "08".repeat(32)).unwrap();
    write_identity(&dir);
    Transcript::new(&dir).run(&["import", "sporemesh", "source"]).assert("errors-other-identity");
    fs::write(source.join("identity/private_key"), "zz").unwrap();
    Transcript::new(&dir).run(&["import", "sporemesh", "source"]).assert("errors-source-key");
}

#[test]
fn damage_is_reported_as_reviewed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    seed(&dir);
    let backups = net.dir().join("backups").display().to_string();
    spore(&dir, &["db", "backup", &backups]).expect_code(0);
    Transcript::new(&dir).run(&["db", "restore", &backups]).assert("errors-not-empty");
    let cid = spore(&dir, &["task", "show", "small-gpt", "--json"]).expect_code(0).json()["base_code_cid"].clone();
    let cid = cid.as_str().unwrap();
    fs::write(dir.join("artifacts").join(&cid[..2]).join(&cid[2..]), "# another script\n").unwrap();
    Transcript::new(&dir).run(&["db", "verify"]).run(&["db", "check", "--repair"]).assert("errors-damaged-artifact");
}

#[test]
fn busy_port_is_reported_as_reviewed() {
    let net = TestNet::new();
    // Both networks listen on every address, so the busy socket must too.
    let busy = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let run = ["run", "--no-train", "--no-bootstrap", "--no-mdns"];
    for (name, ports) in [("legacy", [&port, "0", "0"]), ("p2p", ["0", &port, "0"]), ("web", ["0", "0", &port])] {
        let dir = net.dir_of(name);
        let ports = ["--port", ports[0], "--p2p-port", ports[1], "--web-port", ports[2]];
        let mut transcript = Transcript::new(&dir);
        transcript.run(&[&run[..], &ports].concat()).replace(&port, "[PORT]");
        transcript.assert(&format!("errors-busy-{name}"));
    }
}
