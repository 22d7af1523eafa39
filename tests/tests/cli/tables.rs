//! The output of the commands that read, on a store with fixed ids and without a node.

use spore_tests::TestNet;

use crate::{
    snapshot::Transcript,
    world::{World, seed},
};

#[test]
fn tables_are_as_reviewed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let World { task, publisher, .. } = seed(&dir);
    let task = task.to_string();
    Transcript::new(&dir).run(&["info"]).run(&["status"]).run(&["status", "--task", &task[..8]]).assert("status");
    Transcript::new(&dir).run(&["tasks"]).run(&["tasks", "--limit", "1"]).run(&["task", "list"]).assert("tasks");
    Transcript::new(&dir).run(&["task", "show", "small-gpt"]).assert("task-show");
    Transcript::new(&dir)
        .run(&["frontier", "--task", "small-gpt"])
        .run(&["frontier", "--task", "small-gpt", "--class", "CPU"])
        .run(&["frontier", "--task", "small-gpt", "--class", "TPU"])
        .run(&["frontier", "--task", "small-gpt", "--limit", "1"])
        .run(&["frontier", "--task", "small-gpt", "--class", "RTX_4090"])
        .run(&["frontier", "--task", "small-gpt", "--view", "claims"])
        .run(&["frontier", "--task", "small-gpt", "--view", "global"])
        .run(&["frontier", "--task", "small-gpt", "--view", "reference", "--limit", "2"])
        .run(&["frontier", "--task", "small-gpt", "--view", "reference", "--class", "CPU"])
        .run(&["frontier", "--task", "legacy-d65d5e0e"])
        .assert("frontier");
    Transcript::new(&dir)
        .run(&["graph", "--task", "small-gpt"])
        .run(&["graph", "--task", "small-gpt", "--limit", "2"])
        .assert("graph");
    Transcript::new(&dir)
        .run(&["search", "warm"])
        .run(&["search", "made-up", "--limit", "2"])
        .run(&["search", "unheard"])
        .assert("search");
    Transcript::new(&dir).run(&["profile", "show"]).run(&["profile", "show", &publisher[..8]]).assert("profile-show");
    Transcript::new(&dir).run(&["peer"]).run(&["data", "list"]).run(&["gc", "pins"]).assert("empty-lists");
}

#[test]
fn experiments_are_shown_as_reviewed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let World { root, best, hostile, .. } = seed(&dir);
    let mut transcript = Transcript::new(&dir);
    for id in [root, best, hostile] {
        transcript.run(&["show", &id.to_string()]);
    }
    transcript.run(&["show", "--code", &root.to_string()]).assert("show");
}

#[test]
fn maintenance_is_shown_as_reviewed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    seed(&dir);
    let backups = net.dir().join("backups").display().to_string();
    let cid = "ab".repeat(32);
    Transcript::new(&dir)
        .run(&["db", "check"])
        .run(&["db", "verify"])
        .run(&["db", "pending"])
        .run(&["gc", "--dry-run", "--max-age", "1"])
        .run(&["gc", "pin", &cid])
        .run(&["gc", "pin", &cid])
        .run(&["gc", "pins"])
        .run(&["gc", "unpin", &cid])
        .run(&["gc", "unpin", &cid])
        .assert("maintenance");
    // Sizes and numbers of files are RocksDB's.
    let mut transcript = Transcript::wide(&dir);
    transcript.run(&["db", "backup", &backups]).run(&["db", "backups", &backups]).run(&["db", "compact"]);
    transcript.run(&["db", "restore", &backups, "--replace"]).run(&["db", "check", "--repair"]);
    transcript.without_numbers().assert("backups");
    let mut transcript = Transcript::wide(&dir);
    transcript.run(&["db", "stats"]).without_numbers().assert("stats");
}

#[test]
fn changes_are_confirmed_as_reviewed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let World { task, .. } = seed(&dir);
    let text = net.dir().join("text");
    std::fs::write(&text, "All work and no play makes Jack a dull boy.\n".repeat(50_000)).unwrap();
    Transcript::new(&dir)
        .run(&["set", "groq", "sesame", "--model", "llama"])
        .run(&["set", "none"])
        .run(&["set", "trust"])
        .run(&["set", "trust", "ed4928c6"])
        .run(&["set", "trust", "ed4928c6"])
        .run(&["frontier", "--task", "small-gpt"])
        .run(&["set", "trust", "--remove", "ed4928c6"])
        .run(&["set", "trust", "--remove", "ed4928c6"])
        .run(&["set", "trust", "nobody"])
        .run(&["set", "trust", "--json"])
        .run(&["task", "use", &task.to_string()])
        .run(&["task", "use", "auto"])
        .run(&["connect", "peer.example.org:7470"])
        .run(&["connect", "peer.example.org:7471"])
        .run(&["connect", "/dns/peer.example.org/tcp/7471"])
        .run(&["peer", "list"])
        .run(&["disconnect", "peer.example.org:7470"])
        .run(&["profile", "set", "--display-name", "Sybil"])
        .run(&["data", "add", "text", "--name", "jack"])
        .run(&["data", "list"])
        .run(&["init"])
        .run(&["info"])
        .assert("changes");
}

#[test]
fn imports_and_exports_are_summarized_as_reviewed() {
    let net = TestNet::new();
    let (dir, other) = (net.dir_of("node"), net.dir_of("other"));
    seed(&dir);
    Transcript::new(&dir)
        .run(&["export", "all.ndjson"])
        .run(&["export", "--task", "small-gpt", "one.ndjson"])
        .assert("export");
    let all = std::fs::read_to_string(net.dir().join("all.ndjson")).unwrap();
    let bad = all.replacen("half the learning rate", "half the learning late", 1) + "nonsense\n";
    Transcript::new(&other)
        .run(&["import", "one.ndjson", "--dry-run"])
        .run_with_input(&["import", "-", "--verbose"], &bad)
        .run(&["import", "all.ndjson"])
        .run(&["import", "all.ndjson"])
        .assert("import");
}
