//! `spore import` and `spore export`, with data directories that the reference's own classes wrote and with our own files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use spore_protocol::{Cid, RecordId};
use spore_storage::{Store, unwatched};
use spore_tests::{
    Output, TestNet,
    command::{command, spore_with_input},
    net::{text, texts},
    reference::{Reference, python, seed},
    seed::SeededTask,
    spore,
};

/// Time in which an importing process makes its store.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);

/// Every file below a directory, with its bytes and its mode.
fn files(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(folder) = ahead.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            if path.is_dir() {
                ahead.push(path.clone());
                found.insert(path, (Vec::new(), mode));
            } else {
                found.insert(path.clone(), (fs::read(&path).unwrap(), mode));
            }
        }
    }
    found
}

/// Runs `spore import sporemesh SOURCE` into `dir`. Returns the summary.
fn import(dir: &Path, source: &Path, flags: &[&str]) -> Value {
    let source = source.display().to_string();
    let args: Vec<_> = ["import", "sporemesh", &source, "--json"].into_iter().chain(flags.iter().copied()).collect();
    spore(dir, &args).expect_code(0).json()
}

/// The counts of a kind of object: found, imported, already here, pending, rejected.
fn numbers(summary: &Value, part: &str) -> [u64; 5] {
    ["found", "imported", "already_here", "waiting", "refused"]
        .map(|name| summary["parts"][part][name].as_u64().unwrap_or_else(|| panic!("{part} {name} in {summary}")))
}

/// The ids of the exported objects, by the type of their line. For profiles, the ids of their nodes.
fn exported(dir: &Path, flags: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let args: Vec<_> = ["export"].into_iter().chain(flags.iter().copied()).collect();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in spore(dir, &args).expect_code(0).json_lines() {
        let id = match line["type"].as_str() {
            Some("task") => "task_id",
            Some("profile") => "node_id",
            _ => "id",
        };
        assert!(found.entry(text(&line["type"])).or_default().insert(text(&line["payload"][id])), "twice: {line}");
    }
    found
}

/// The ids of all control events among exported objects.
fn controls(exported: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let events = exported.iter().filter(|(kind, _)| !["task", "experiment", "profile"].contains(&kind.as_str()));
    events.flat_map(|(_, ids)| ids.clone()).collect()
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

/// Asserts that a data directory holds everything that `seed.py` reported, in the tasks of our own rules.
fn assert_holds(dir: &Path, seeded: &Value) {
    let all = exported(dir, &[]);
    assert_eq!(all["experiment"], keys(&seeded["records"]));
    assert_eq!(all["profile"], keys(&seeded["profiles"]));
    let tasks: BTreeSet<_> = seeded["records"].as_object().unwrap().values().map(text).collect();
    for task in &tasks {
        let members = seeded["records"].as_object().unwrap().iter().filter(|(_, of)| text(of) == *task);
        let shown = spore(dir, &["task", "show", task, "--json"]).expect_code(0).json();
        assert_eq!(shown["experiment_count"].as_u64(), Some(members.count() as u64), "{shown}");
        assert!(
            !spore(dir, &["frontier", "--task", task, "--view", "reference", "--json"])
                .expect_code(0)
                .json()
                .as_array()
                .unwrap()
                .is_empty()
        );
    }
    let store = Store::open_read_only(dir).unwrap();
    assert_eq!(store.check(&mut unwatched).unwrap().findings, []);
    for task in &tasks {
        assert_eq!(store.task(&task.parse().unwrap()).unwrap().unwrap().stray_count, 0);
    }
    for cid in texts(&seeded["artifacts"]) {
        let cid: Cid = cid.parse().unwrap();
        assert!(store.artifact(&cid).unwrap().is_some(), "artifact {cid}");
    }
}

#[test]
fn data_of_a_reference_node_is_imported_and_left_as_it_is() {
    let Some(python) = python() else { return };
    let net = TestNet::new();
    let (source, dir) = (net.dir_of("reference"), net.dir_of("ours"));
    let seeded = seed(&python, &source, &["--peer", "192.0.2.1:7470"]);
    let before = files(&source);

    let dry = import(&dir, &source, &["--dry-run"]);
    assert!(!dir.exists(), "a dry run creates nothing");
    let summary = import(&dir, &source, &[]);
    assert_eq!(files(&source), before);
    let records = seeded["records"].as_object().unwrap().len() as u64;
    let artifacts = seeded["artifacts"].as_array().unwrap().len() as u64;
    let events = seeded["controls"].as_array().unwrap().len() as u64;
    for summary in [&dry, &summary] {
        for (part, count) in [
            ("tasks", 1),
            ("records", records),
            ("controls", events),
            ("profiles", 2),
            ("artifacts", artifacts),
            ("peers", 1),
        ] {
            assert_eq!(numbers(summary, part), [count, count, 0, 0, 0], "{part}");
        }
    }
    assert_holds(&dir, &seeded);
    assert_eq!(controls(&exported(&dir, &[])), texts(&seeded["controls"]).into_iter().collect());

    let info = spore(&dir, &["info", "--json"]).expect_code(0).json();
    assert_eq!(info["node_id"], seeded["node_id"]);
    let key = dir.join("identity").join("private_key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(dir.join("known_peer")).unwrap(), "192.0.2.1:7470\n");
    let config: toml::Table = fs::read_to_string(dir.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!(config["host"].as_str(), Some("127.0.0.1"));
    assert_eq!(config["peer"].as_array().unwrap().len(), 1);
    assert!(!config.contains_key("auto_update") && !config.contains_key("data_dir"), "{config}");
    assert!(texts(&summary["config"]["not_applicable"]).contains(&"auto_update".to_owned()), "{summary}");

    // The node computes verdicts itself: a claim with another value counts against a record.
    let verdict = |claim: &str| {
        let store = Store::open_read_only(&dir).unwrap();
        let id: RecordId = text(&seeded["claims"][claim]).parse().unwrap();
        store.record(&id).unwrap().unwrap().summary.global_verdict.name().to_owned()
    };
    assert_eq!((verdict("held").as_str(), verdict("failed").as_str()), ("verified", "disputed"));

    let ours = ["identity", "config.toml", "known_peer"].map(|name| dir.join(name));
    let state = || files(&dir).into_iter().filter(|(path, _)| ours.iter().any(|own| path.starts_with(own)));
    let settled: Vec<_> = state().collect();
    let again = import(&dir, &source, &[]);
    assert_eq!(state().collect::<Vec<_>>(), settled);
    assert_eq!(numbers(&again, "records"), [records, 0, records, 0, 0]);
    let said = spore(&dir, &["import", "sporemesh", source.to_str().unwrap()]).expect_code(0);
    assert!(said.stdout.contains("Nothing new"), "{}", said.stdout);
}

#[test]
fn both_programs_may_share_a_data_directory() {
    let Some(python) = python() else { return };
    let net = TestNet::new();
    // Both programs use ~/.spore by default.
    let (home, dir) = (net.dir().to_owned(), net.dir().join(".spore"));
    let seeded = seed(&python, &dir, &[]);
    let theirs = files(&dir);
    let data_dir = dir.display().to_string();
    let args = ["--data-dir", &data_dir, "import", "sporemesh", "--json"];
    let summary = spore(&home, &args).expect_code(0).json();
    assert_eq!((&summary["in_place"], &summary["identity"]), (&json!(true), &json!("same")), "{summary}");
    let now = files(&dir);
    for (path, state) in &theirs {
        assert!(now.get(path) == Some(state), "{} changed", path.display());
    }
    assert_holds(&dir, &seeded);
    let again = spore(&home, &args).expect_code(0).json();
    assert_eq!(numbers(&again, "records")[1..3], [0, seeded["records"].as_object().unwrap().len() as u64]);
}

#[test]
fn bad_rows_are_reported_and_affect_no_others() {
    let Some(python) = python() else { return };
    let net = TestNet::new();
    let (source, dir) = (net.dir_of("reference"), net.dir_of("ours"));
    let seeded = seed(&python, &source, &["--corrupt"]);
    let report = net.dir().join("report.ndjson");
    let summary = import(&dir, &source, &["--report", report.to_str().unwrap()]);
    let notices: Vec<Value> =
        fs::read_to_string(&report).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut expected = BTreeSet::new();
    for (kind, part) in [
        ("experiment", "records"),
        ("control", "controls"),
        ("profile", "profiles"),
        ("task", "tasks"),
        ("artifact", "artifacts"),
    ] {
        let bad: Vec<_> = seeded["corrupt"][kind].as_object().unwrap().values().map(text).collect();
        let [found, imported, here, waiting, refused] = numbers(&summary, part);
        assert_eq!((refused, here, waiting), (bad.len() as u64, 0, 0), "{part}: {summary}");
        assert_eq!(found, imported + refused, "{part}");
        expected.extend(bad.into_iter().map(|id| (part.to_owned(), id)));
    }
    let named: BTreeSet<_> = notices.iter().map(|notice| (text(&notice["part"]), text(&notice["id"]))).collect();
    assert_eq!(named, expected);
    for notice in &notices {
        assert_eq!(notice["outcome"], "refused");
        assert!(!text(&notice["reason"]).is_empty() && !text(&notice["detail"]).is_empty(), "{notice}");
    }
    assert_holds(&dir, &seeded);
    // `--verbose` prints them too.
    let said = spore(&dir, &["import", "sporemesh", source.to_str().unwrap(), "--verbose"]).expect_code(0);
    let altered = text(&seeded["corrupt"]["experiment"]["altered"]);
    said.expect_stderr(&[&altered, "id_mismatch"]);
}

#[test]
fn layout_without_tasks_is_read() {
    let Some(python) = python() else { return };
    let net = TestNet::new();
    let (source, dir) = (net.dir_of("reference"), net.dir_of("ours"));
    let seeded = seed(&python, &source, &["--old"]);
    let summary = import(&dir, &source, &[]);
    assert_eq!(numbers(&summary, "records"), [4, 4, 0, 0, 0]);
    assert!(summary["parts"]["tasks"].is_null(), "{summary}");
    assert_holds(&dir, &seeded);
    let task = text(&seeded["legacy_task"]);
    let shown = spore(&dir, &["task", "show", &task, "--json"]).expect_code(0).json();
    assert_eq!(text(&shown["name"]), format!("legacy-{}", &task[..8]));
    assert_eq!(text(&shown["root"]), task, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_records_of_a_running_reference_are_imported() {
    let Some(python) = python() else { return };
    let net = TestNet::new();
    let seeded = seed(&python, &net.dir_of("reference"), &[]);
    let mut reference = Reference::start(&python, &net, "reference", &[]).await;
    let (task, root) = (text(&seeded["task"]), text(&seeded["claims"]["held"]));
    // Python keeps integers as they are given; the database does not.
    let mut published = Vec::new();
    for (metric, memory) in [(json!(2), json!(100)), (json!(1.0), json!(0)), (json!(0), json!(0.0))] {
        let facts = json!({"do": "publish", "code": format!("print({metric})"), "parent": root, "depth": 1,
            "task_id": task, "val_bpb": metric, "peak_vram_mb": memory});
        published.push(text(&reference.ask(facts).await["id"]));
    }
    let names = || files(reference.dir()).into_keys().collect::<Vec<_>>();
    let before = names();
    assert!(before.iter().any(|path| path.to_string_lossy().ends_with("graph.sqlite-wal")), "{before:?}");
    let dir = net.dir_of("ours");
    let summary = import(&dir, reference.dir(), &[]);
    assert_eq!(names(), before);
    let records = seeded["records"].as_object().unwrap().len() + published.len();
    assert_eq!(numbers(&summary, "records")[..2], [records as u64; 2]);
    let ours = exported(&dir, &[]);
    assert!(published.iter().all(|id| ours["experiment"].contains(id)));
    assert_eq!(reference.records().await.into_keys().collect::<BTreeSet<_>>(), ours["experiment"]);
    reference.stop().await;
}

#[test]
fn another_identity_is_refused_before_any_change() {
    let Some(python) = python() else { return };
    let net = TestNet::new();
    let (source, dir) = (net.dir_of("reference"), net.dir_of("ours"));
    let seeded = seed(&python, &source, &[]);
    spore(&dir, &["init"]).expect_code(0);
    let before = files(&dir);
    let args = ["import", "sporemesh", source.to_str().unwrap()];
    spore(&dir, &args).expect_code(1).expect_stderr(&["--data-dir", "--without-identity", &text(&seeded["node_id"])]);
    assert!(files(&dir) == before, "the data directory is unchanged");
    let key = || fs::read(dir.join("identity").join("private_key")).unwrap();
    let ours = key();
    let summary = import(&dir, &source, &["--without-identity"]);
    assert_eq!((key(), &summary["identity"]), (ours, &json!("left_out")));
    // The export also has the built-in task.
    let ours = exported(&dir, &[]);
    assert!(keys(&seeded["records"]).is_subset(&ours["experiment"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn running_node_is_named_with_a_hint() {
    let mut net = TestNet::new();
    let file = net.dir().join("all.ndjson");
    let history = SeededTask::new(3, 4);
    let other = net.dir_of("other");
    history.store(&other);
    spore(&other, &["export", file.to_str().unwrap()]).expect_code(0);
    let number = net.start("node", None, &["--no-train"]).await;
    let dir = net.dir_of("node");
    for args in [&["import", file.to_str().unwrap()][..], &["import", "--dry-run", file.to_str().unwrap()]] {
        spore(&dir, args).expect_code(5).expect_stderr(&["hint", "start it again"]);
    }
    assert_eq!(net.node_mut(number).interrupt(), 0);
    spore(&dir, &["import", file.to_str().unwrap()]).expect_code(0);
}

/// Ids on a task's frontier, best first.
fn frontier(dir: &Path, history: &SeededTask) -> Vec<String> {
    let task = history.task.to_string();
    let listed = spore(dir, &["frontier", "--task", &task, "--view", "reference", "--json"]).expect_code(0).json();
    listed.as_array().unwrap().iter().map(|row| text(&row["id"])).collect()
}

#[test]
fn exported_objects_are_imported_the_same() {
    let net = TestNet::new();
    let (from, to) = (net.dir_of("from"), net.dir_of("to"));
    let (first, second) = (SeededTask::new(1, 40), SeededTask::new(2, 3));
    first.store(&from);
    second.store(&from);
    let file = net.dir().join("all.ndjson");
    let said = spore(&from, &["export", file.to_str().unwrap()]).expect_code(0);
    assert!(said.stdout.contains("43 records"), "{}", said.stdout);
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(spore(&from, &["export"]).expect_code(0).stdout, written);
    let types: Vec<_> =
        written.lines().map(|line| text(&serde_json::from_str::<Value>(line).unwrap()["type"])).collect();
    assert!(types.is_sorted_by_key(|kind| ["task", "experiment"].iter().position(|one| one == kind).unwrap_or(2)));

    let read = |args: &[&str]| -> Output { spore_with_input(&to, args, written.as_bytes()).expect_code(0) };
    let summary = read(&["import", "-", "--json"]).json();
    assert_eq!(numbers(&summary, "records"), [43, 43, 0, 0, 0]);
    assert_eq!(spore(&to, &["export", "-"]).expect_code(0).stdout, written);
    assert_eq!((frontier(&to, &first), frontier(&to, &second)), (frontier(&from, &first), frontier(&from, &second)));
    assert_eq!(Store::open_read_only(&to).unwrap().check(&mut unwatched).unwrap().findings, []);
    assert!(read(&["import", "-"]).stdout.contains("Nothing new"));

    let one = exported(&to, &["--task", &second.task.to_string()[..12]]);
    let records: BTreeSet<_> = second.records.iter().map(ToString::to_string).collect();
    assert_eq!(one["experiment"], records);
    assert_eq!(one["task"], BTreeSet::from([second.task.to_string()]));
    spore(&to, &["export", "--task", "no such task"]).expect_code(3);
}

#[test]
fn bad_lines_are_reported_by_number() {
    let net = TestNet::new();
    let (from, to) = (net.dir_of("from"), net.dir_of("to"));
    SeededTask::new(1, 3).store(&from);
    let mut lines: Vec<_> = spore(&from, &["export"]).expect_code(0).stdout.lines().map(str::to_owned).collect();
    lines.insert(1, "nonsense".to_owned());
    lines[2] = lines[2].replace("learning rate", "learning late");
    let args = ["import", "-", "--verbose"];
    let output = spore_with_input(&to, &args, lines.join("\n").as_bytes()).expect_code(1);
    output.expect_stderr(&["line 2", "not_json", "line 3", "id_mismatch"]);
    // Without the root the other records are pending. The root comes with the next import.
    let whole = spore(&from, &["export"]).expect_code(0).stdout;
    spore_with_input(&to, &["import", "-"], whole.as_bytes()).expect_code(0);
    assert_eq!(spore(&to, &["export"]).expect_code(0).stdout, whole);
    spore(&to, &["import", "no-such-file"]).expect_code(3);
    spore(&to, &["import", "sporemesh", "no-such-directory"]).expect_code(3).expect_stderr(&["no-such-directory"]);
    spore(&to, &["import"]).expect_code(2);
}

#[test]
fn killed_import_is_completed_by_the_next() {
    let net = TestNet::new();
    let (from, to) = (net.dir_of("from"), net.dir_of("to"));
    let history = SeededTask::new(4, 4000);
    history.store(&from);
    let file = net.dir().join("all.ndjson");
    let file = file.to_str().unwrap();
    spore(&from, &["export", file]).expect_code(0);
    let mut child = command(&to, &["import", file]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !to.join("store").join("CURRENT").exists() && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < BEGIN_LIMIT, "the import does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let summary = spore(&to, &["import", file, "--json"]).expect_code(0).json();
    let [found, imported, here, waiting, refused] = numbers(&summary, "records");
    assert_eq!((found, imported + here, waiting, refused), (4000, 4000, 0, 0));
    assert_eq!(exported(&to, &[]), exported(&from, &[]));
    assert_eq!(Store::open_read_only(&to).unwrap().check(&mut unwatched).unwrap().findings, []);
}
