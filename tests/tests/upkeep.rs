//! Upkeep of a store with the real commands: beside a running node, without one, and on a damaged disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use spore_protocol::{Cid, SignedObject};
use spore_tests::{TestNet, net::text, seed::SeededTask, spore, tree::RecordTree};

/// Enough records for a table of several blocks.
const RECORDS: usize = 400;

/// Ids of a task's records, as the command lists them.
fn listed(dir: &Path, history: &SeededTask) -> Vec<String> {
    let task = history.task.to_string();
    let graph = spore(dir, &["graph", "--task", &task, "--limit", "100000", "--json"]).expect_code(0).json();
    let mut ids: Vec<_> = graph.as_array().unwrap().iter().map(|row| text(&row["id"])).collect();
    ids.sort();
    ids
}

/// The records of a history, sorted as [`listed`] sorts them.
fn made(history: &SeededTask) -> Vec<String> {
    let mut ids: Vec<_> = history.records.iter().map(ToString::to_string).collect();
    ids.sort();
    ids
}

/// The largest table file of the database.
fn largest_table(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("store")).unwrap().map(|entry| entry.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|end| end == "sst"));
    tables.max_by_key(|path| fs::metadata(path).unwrap().len()).expect("a table file")
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    // Blocks of entries come first in a table.
    let at = bytes.len() / 4;
    bytes[at] ^= 0x55;
    fs::write(path, bytes).unwrap();
}

/// Stores an artifact as the store does, with a time of three days ago.
fn put_old(dir: &Path, bytes: &[u8]) -> PathBuf {
    let name = Cid::of(bytes).to_string();
    let folder = dir.join("artifacts").join(&name[..2]);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(&name[2..]);
    fs::write(&path, bytes).unwrap();
    let before = SystemTime::now() - Duration::from_secs(3 * 86_400);
    fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    path
}

fn columns(stats: &Value) -> Vec<String> {
    stats["columns"].as_array().unwrap().iter().map(|column| text(&column["name"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_commands_work_beside_a_node_and_without_one() {
    let mut net = TestNet::new();
    let history = SeededTask::new(31, 12);
    let dir = net.dir_of("node");
    spore(&dir, &["init"]).expect_code(0);
    history.store(&dir);
    let number = net.start("node", None, &["--no-train"]).await;

    run_upkeep(&dir, &net.dir().join("backups"), 1);
    // Commands that need the store for themselves say so.
    spore(&dir, &["db", "check", "--repair"]).expect_code(5).expect_stderr(&["in use", "hint"]);
    let backups = net.dir().join("backups").display().to_string();
    spore(&dir, &["db", "restore", &backups, "--replace"]).expect_code(5).expect_stderr(&["in use", "hint"]);

    assert_eq!(net.node_mut(number).interrupt(), 0);
    run_upkeep(&dir, &net.dir().join("backups"), 2);
    assert_eq!(listed(&dir, &history), made(&history));
}

/// Every command that can run beside a node. `backup` is the number of the backup that it makes.
fn run_upkeep(dir: &Path, backups: &Path, backup: u64) {
    let stats = spore(dir, &["db", "stats", "--json"]).expect_code(0).json();
    assert!(columns(&stats).contains(&"objects".to_owned()), "{stats}");
    assert!(stats["artifacts"].as_u64() >= Some(12) && stats["sequence"].as_u64() > Some(12), "{stats}");
    assert!(spore(dir, &["db", "stats"]).expect_code(0).stdout.contains("iB"));

    let check = spore(dir, &["db", "check", "--json"]).expect_code(0).json();
    assert_eq!((&check["finding_count"], &check["findings"]), (&json!(0), &json!([])));
    assert!(check["objects"].as_u64() > Some(12), "{check}");
    assert!(spore(dir, &["db", "check"]).expect_code(0).stdout.contains("Sound"));

    let compacted = spore(dir, &["db", "compact", "--json"]).expect_code(0).json();
    assert!(compacted["bytes_after"].as_u64() > Some(0), "{compacted}");
    let verified = spore(dir, &["db", "verify", "--json"]).expect_code(0).json();
    assert_eq!((&verified["damaged_files"], &verified["damaged_artifacts"]), (&json!([]), &json!([])));
    assert!(verified["files"].as_u64() > Some(0), "a compaction leaves table files: {verified}");

    let folder = backups.display().to_string();
    let made = spore(dir, &["db", "backup", &folder, "--json"]).expect_code(0).json();
    assert_eq!(made["backup"]["id"], backup);
    let listed = spore(dir, &["db", "backups", &folder, "--json"]).expect_code(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(backup as usize), "{listed}");

    // A script that no record names, and that was not used for three days.
    let loose = put_old(dir, format!("loose {backup}").as_bytes());
    let collect = |more: &[&str]| {
        let line = [&["gc", "--max-age", "2", "--json"][..], more].concat();
        spore(dir, &line).expect_code(0).json()
    };
    let planned = collect(&["--dry-run"]);
    assert_eq!((&planned["dry_run"], &planned["dropped_count"]), (&json!(true), &json!(1)), "{planned}");
    assert!(loose.is_file(), "a dry run drops nothing");
    let dropped = collect(&[]);
    assert_eq!((&dropped["dry_run"], &dropped["dropped"]), (&json!(false), &planned["dropped"]), "{dropped}");
    assert!(!loose.exists());
    let again = spore(dir, &["db", "stats", "--json"]).expect_code(0).json();
    assert_eq!(again["artifacts"], stats["artifacts"], "all others stay");
    spore(dir, &["gc"]).expect_code(2).expect_stderr(&["--max-age"]);

    let cid = Cid::of(b"wanted").to_string();
    spore(dir, &["gc", "pin", &cid]).expect_code(0);
    assert_eq!(spore(dir, &["gc", "pins", "--json"]).expect_code(0).json(), json!([cid]));
    assert_eq!(spore(dir, &["gc", "unpin", &cid, "--json"]).expect_code(0).json()["changed"], true);
    assert!(spore(dir, &["gc", "pins"]).expect_code(0).stdout.contains("No artifact is pinned"));
    assert!(spore(dir, &["db", "pending"]).expect_code(0).stdout.contains("No record is pending"));
}

#[test]
fn restored_backup_has_the_same_records() {
    let net = TestNet::new();
    let (history, longer) = (SeededTask::new(32, 9), SeededTask::new(32, 14));
    let (dir, fresh) = (net.dir_of("node"), net.dir_of("fresh"));
    let backups = net.dir().join("backups").display().to_string();
    spore(&dir, &["init"]).expect_code(0);
    history.store(&dir);
    spore(&dir, &["db", "backup", &backups]).expect_code(0);
    longer.store(&net.dir_of("other"));
    spore(&net.dir_of("other"), &["db", "backup", &backups, "--keep", "2"]).expect_code(0);

    spore(&fresh, &["db", "restore", &backups, "--id", "1"]).expect_code(0);
    assert_eq!(listed(&fresh, &history), made(&history));
    spore(&fresh, &["db", "check"]).expect_code(0);
    // An existing store is replaced only on request.
    spore(&fresh, &["db", "restore", &backups]).expect_code(2).expect_stderr(&["--replace"]);
    assert_eq!(listed(&fresh, &history), made(&history));
    spore(&fresh, &["db", "restore", &backups, "--replace"]).expect_code(0);
    assert_eq!(listed(&fresh, &longer), made(&longer));

    let unmade = net.dir_of("unmade");
    spore(&unmade, &["db", "restore", &fresh.display().to_string()]).expect_code(3).expect_stderr(&["no backup"]);
    assert!(!unmade.exists(), "a failed restoration leaves nothing behind");
}

#[test]
fn flipped_byte_is_reported_and_repaired_from_a_backup() {
    let net = TestNet::new();
    let history = SeededTask::new(33, RECORDS);
    let dir = net.dir_of("node");
    let backups = net.dir().join("backups").display().to_string();
    spore(&dir, &["init"]).expect_code(0);
    history.store(&dir);
    spore(&dir, &["db", "compact"]).expect_code(0);
    spore(&dir, &["db", "backup", &backups]).expect_code(0);
    let table = largest_table(&dir);
    flip(&table);

    let name = table.file_name().unwrap().to_str().unwrap();
    let verified = spore(&dir, &["db", "verify", "--json"]).expect_code(1).expect_stderr(&["db check --repair"]);
    let damaged = verified.json()["damaged_files"].clone();
    assert!(damaged.as_array().unwrap().iter().any(|file| file["file"] == name), "{name} in {damaged}");
    assert!(spore(&dir, &["db", "verify"]).expect_code(1).stdout.contains(name));

    let check = spore(&dir, &["db", "check", "--json"]).expect_code(1).expect_stderr(&["db check --repair"]).json();
    let findings = check["findings"].as_array().unwrap();
    assert!(check["finding_count"].as_u64() > Some(0) && !findings.is_empty(), "{check}");
    for finding in findings {
        for key in ["column", "key", "expected", "found"] {
            assert!(!text(&finding[key]).is_empty(), "{key} of {finding}");
        }
    }

    let repaired = spore(&dir, &["db", "check", "--repair", "--backup", &backups, "--json"]).expect_code(0).json();
    assert_eq!(repaired["fault_count"], 0, "{repaired}");
    assert_eq!(listed(&dir, &history), made(&history));
    spore(&dir, &["db", "check"]).expect_code(0);
    spore(&dir, &["db", "verify"]).expect_code(0);
}

#[test]
fn damaged_artifact_is_reported_and_removed_by_a_repair() {
    let net = TestNet::new();
    let history = SeededTask::new(34, 3);
    let dir = net.dir_of("node");
    history.store(&dir);
    let cid = Cid::of(history.script(1)).to_string();
    let file = dir.join("artifacts").join(&cid[..2]).join(&cid[2..]);
    flip(&file);
    let verified = spore(&dir, &["db", "verify", "--json"]).expect_code(1).expect_stderr(&["db check --repair"]);
    assert_eq!(verified.json()["damaged_artifacts"], json!([{ "cid": cid, "removed": false }]));
    let repaired = spore(&dir, &["db", "check", "--repair", "--json"]).expect_code(0).json();
    assert_eq!(repaired["damaged_artifacts"], json!([cid]));
    assert!(!file.exists());
    spore(&dir, &["db", "verify"]).expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn record_without_its_parent_is_listed_as_pending() {
    let mut net = TestNet::new();
    let history = SeededTask::new(35, 3);
    let number = net.start("node", None, &["--no-train"]).await;
    let objects: Vec<SignedObject> = history.objects().collect();
    let of = |index: usize| {
        let id = history.records[index].to_string();
        objects.iter().find(|object| object.id().to_string() == id).expect("the record")
    };
    for object in [&objects[0], of(0), of(2)] {
        net.node(number).submit(object).await;
    }
    let dir = net.node(number).dir().to_owned();
    let expect_waiting = || {
        let page = spore(&dir, &["db", "pending", "--json"]).expect_code(0).json();
        assert_eq!((&page["total"], page["pending"].as_array().map(Vec::len)), (&json!(1), Some(1)), "{page}");
        assert_eq!(text(&page["pending"][0]["id"]), history.records[2].to_string());
        assert_eq!(text(&page["pending"][0]["waits_for"]), history.records[1].to_string());
        let table = spore(&dir, &["db", "pending"]).expect_code(0);
        assert!(table.stdout.contains(&history.records[2].to_string()[..12]), "{}", table.stdout);
    };
    expect_waiting();
    assert_eq!(net.node_mut(number).interrupt(), 0);
    expect_waiting();
}

#[test]
fn commands_without_a_store_create_none() {
    let net = TestNet::new();
    let dir = net.dir_of("nothing");
    let cid = Cid::of(b"x").to_string();
    for args in [
        &["db", "check"][..],
        &["db", "check", "--repair"],
        &["db", "verify"],
        &["db", "stats"],
        &["db", "compact"],
        &["db", "pending"],
        &["gc", "--max-age", "1"],
        &["gc", "pin", &cid],
        &["gc", "pins"],
    ] {
        spore(&dir, args).expect_code(3).expect_stderr(&["no store", "hint"]);
        assert!(!dir.exists(), "`spore {}` made {}", args.join(" "), dir.display());
    }
    spore(&dir, &["db", "check", "--backup", "x"]).expect_code(2);
    spore(&dir, &["gc", "--max-size", "much"]).expect_code(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unwanted_objects_are_dropped_beside_a_node_and_without_one() {
    let mut net = TestNet::new();
    let dir = net.dir_of("node");
    spore(&dir, &["init"]).expect_code(0);
    let (tree, _) = RecordTree::plant(35, 30, &dir);
    let ids: Vec<_> = tree.ids().collect();
    let task = tree.task.to_string();
    let has = |id: &str| spore(&dir, &["show", id]).code == 0;

    let dropped = spore(&dir, &["db", "drop", &ids[29][..12]]).expect_code(0).stdout;
    assert!(dropped.contains("1 object") && dropped.contains("does not come back"), "{dropped}");
    assert!(!has(&ids[29]) && has(&ids[28]));
    let kept = spore(&dir, &["db", "drop", &ids[0]]).expect_code(0).stdout;
    assert!(kept.contains("1 object stays"), "the root has children: {kept}");
    spore(&dir, &["db", "drop", &"ab".repeat(32)]).expect_code(3).expect_stderr(&["nothing of that is stored here"]);
    spore(&dir, &["db", "drop"]).expect_code(2);
    spore(&dir, &["db", "drop", "--signer", "nobody"]).expect_code(2).expect_stderr(&["not a key"]);

    let number = net.start("node", None, &["--no-train", "--no-bridge"]).await;
    net.node(number).api(&format!("/experiments/{}", ids[28])).await.unwrap();
    let report = spore(&dir, &["db", "drop", "--task", &task, "--json"]).expect_code(0).json();
    assert_eq!((&report["dropped"], &report["kept"]), (&json!(30), &json!(0)), "29 records and the manifest: {report}");
    assert!(!has(&ids[0]));
    assert_eq!(net.node_mut(number).interrupt(), 0);
    assert!(spore(&dir, &["db", "check"]).expect_code(0).stdout.contains("Sound"));
}
