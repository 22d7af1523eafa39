//! Commands that read, with and without a node.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;
use spore_tests::{TestNet, command::spore_with_input, net::text, seed::SeededTask, spore};

fn vectors() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/objects.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

#[test]
fn inspect_accepts_the_valid_objects_of_the_reference() {
    let net = TestNet::new();
    let valid: Vec<_> = vectors().into_iter().filter(|case| case["valid"] == true).collect();
    assert!(valid.len() > 50);
    let lines: Vec<_> = valid.iter().map(|case| text(&case["json"])).collect();
    let file = net.dir().join("objects.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let found = spore(net.dir(), &["inspect", "--json", file.to_str().unwrap()]).expect_code(0).json_lines();
    assert_eq!(found.len(), valid.len());
    for (found, case) in found.iter().zip(&valid) {
        assert_eq!(
            (&found["id"], &found["kind"], &found["valid"]),
            (&case["id"], &case["kind"], &Value::Bool(true)),
            "{}",
            case["name"]
        );
    }
    let printed = spore(net.dir(), &["inspect", file.to_str().unwrap()]).expect_code(0);
    assert!(printed.stdout.contains(&text(&valid[0]["id"])[..8]), "{}", printed.stdout);
}

#[test]
fn inspect_gives_a_reason_for_each_invalid_object_of_the_reference() {
    let net = TestNet::new();
    let invalid: Vec<_> = vectors().into_iter().filter(|case| case["valid"] == false).collect();
    assert!(invalid.len() >= 10);
    for case in &invalid {
        let (name, json, kind) = (text(&case["name"]), text(&case["json"]), text(&case["kind"]));
        let output =
            spore_with_input(net.dir(), &["inspect", "--json", "--kind", &kind, "-"], json.as_bytes()).expect_code(1);
        let found = output.json_lines();
        assert!(found.iter().any(|line| line["valid"] == false), "{name}: {found:?}");
        assert!(
            found.iter().filter(|line| line["valid"] == false).all(|line| !text(&line["reason"]).is_empty()),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn commands_that_read_create_nothing() {
    let net = TestNet::new();
    let dir = net.dir_of("nothing");
    for args in [
        &["status", "--json"][..],
        &["info"],
        &["graph"],
        &["frontier"],
        &["frontier", "--json"],
        &["search", "words"],
        &["task", "list"],
        &["task", "show", "abcd"],
        &["tasks"],
        &["peer"],
        &["version"],
    ] {
        let output = spore(&dir, args);
        assert!([0, 2, 3, 4].contains(&output.code), "{output:?}");
        assert!(output.code == 0 || !output.stderr.is_empty(), "{output:?}");
        assert!(!dir.exists(), "`spore {}` made {}", args.join(" "), dir.display());
    }
    spore(&dir, &["no-such-command"]).expect_code(2);
    spore(&dir, &["run", "--no-train", "--verify-only"]).expect_code(2);
    assert!(!dir.exists());
}

#[test]
fn unknown_id_is_not_found() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    SeededTask::new(1, 4).store(&dir);
    let unknown = "f".repeat(64);
    for args in [
        ["task", "show", unknown.as_str()],
        ["frontier", "--task", &unknown],
        ["graph", "--task", &unknown],
        ["status", "--task", &unknown],
    ] {
        spore(&dir, &args).expect_code(3).expect_stderr(&[&unknown[..8]]);
    }
}

/// The values of a key in the list that a command prints.
fn listed(value: &Value, key: &str) -> Vec<String> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}")).iter().map(|row| text(&row[key])).collect()
}

/// Checks the output of the reading commands for a history, with and without a node.
fn check_reading(dir: &Path, history: &SeededTask) {
    let task = history.task.to_string();
    let prefix = &task[..10];
    let frontier = spore(dir, &["frontier", "--task", prefix, "--json"]).expect_code(0).json();
    let metrics: Vec<_> = frontier.as_array().unwrap().iter().map(|row| row["val_bpb"].as_f64().unwrap()).collect();
    assert!(!metrics.is_empty() && metrics.is_sorted(), "best first: {metrics:?}");
    let records: BTreeSet<_> = history.records.iter().map(ToString::to_string).collect();
    assert!(listed(&frontier, "id").iter().all(|id| records.contains(id)));

    let tasks = spore(dir, &["task", "list", "--json"]).expect_code(0).json();
    assert!(listed(&tasks, "task_id").contains(&task), "{tasks}");
    let shown = spore(dir, &["task", "show", prefix, "--json"]).expect_code(0).json();
    assert_eq!(text(&shown["task_id"]), task);

    let graph = spore(dir, &["graph", "--task", prefix]).expect_code(0);
    for id in &records {
        assert!(graph.stdout.contains(&id[..8]), "{id} is not in the tree:\n{}", graph.stdout);
    }

    let recent = spore(dir, &["graph", "--task", prefix, "--limit", "2"]).expect_code(0);
    assert!(
        recent.stdout.contains(&format!("2 of {} experiments; `--limit N` shows more", records.len())),
        "{recent:?}"
    );
    check_search(dir, history);

    let status = spore(dir, &["status", "--json"]);
    assert!([0, 4].contains(&status.code), "{status:?}");
    let status = status.json();
    for key in ["experiment_count", "verified_experiment_count", "task_count", "peer_count", "frontier_size"] {
        assert!(status[key].is_u64(), "{key} in {status}");
    }
    assert!(status["experiment_count"].as_u64() >= Some(history.records.len() as u64), "{status}");
    assert_eq!(status["verified_experiment_count"].as_u64(), Some(history.verified().count() as u64), "{status}");
    assert_eq!(text(&status["node_id"]).len(), 64);
}

/// Checks that experiments are found by words and by the first digits of their ids.
fn check_search(dir: &Path, history: &SeededTask) {
    let task = history.task.to_string();
    let third = history.records[3].to_string();
    let found = |args: &[&str]| {
        let json = spore(dir, &[&["search", "--json", "--task", &task], args].concat()).expect_code(0).json();
        listed(&json, "id")
    };
    assert_eq!(found(&["number", "3"]), [third.as_str()]);
    assert_eq!(found(&["LEARNING"]).len(), history.records.len());
    assert_eq!(found(&["learning", "--limit", "2"]).len(), 2);
    assert_eq!(found(&[&third[..12]]), [third.as_str()]);
    assert!(found(&["learning", "nothing-of-the-kind"]).is_empty());
    let printed = spore(dir, &["search", "learning", "--limit", "2"]).expect_code(0);
    assert!(printed.stdout.contains("2 experiments shown"), "{printed:?}");
    spore(dir, &["search", "-", "--task", &task]).expect_code(2).expect_stderr(&["no word"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_commands_agree_with_and_without_a_node() {
    let mut net = TestNet::new();
    let history = SeededTask::new(2, 7);
    let dir = net.dir_of("node");
    spore(&dir, &["init"]).expect_code(0);
    history.store(&dir);
    check_reading(&dir, &history);
    let before = spore(&dir, &["frontier", "--task", &history.task.to_string(), "--json"]).expect_code(0).json();

    let number = net.start("node", None, &["--no-train"]).await;
    check_reading(&dir, &history);
    let during = spore(&dir, &["frontier", "--task", &history.task.to_string(), "--json"]).expect_code(0).json();
    assert_eq!(listed(&before, "id"), listed(&during, "id"));
    assert_eq!(net.node_mut(number).interrupt(), 0);
    check_reading(&dir, &history);
}

#[test]
fn pin_takes_prefixes_of_artifacts_and_of_experiments() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let world = crate::world::seed(&dir);
    let shown = spore(&dir, &["show", &world.best.to_string(), "--json"]).expect_code(0).json();
    let (script, dataset) = (text(&shown["experiment"]["code_cid"]), "da".repeat(32));
    for (given, cid) in
        [(&world.best.to_string()[..], &script), (&world.best.to_string()[..10], &script), (&dataset[..8], &dataset)]
    {
        let pinned = spore(&dir, &["gc", "pin", given, "--json"]).expect_code(0).json();
        assert_eq!(&text(&pinned["cid"]), cid, "{given}");
    }
    // A pinned artifact has a prefix too, and one of nothing is refused.
    spore(&dir, &["gc", "unpin", &script[..10]]).expect_code(0);
    spore(&dir, &["gc", "pin", "00000000"]).expect_code(2).expect_stderr(&["begins with 00000000"]);
}

#[test]
fn init_keeps_the_identity_that_is_there() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    spore(&dir, &["init"]).expect_code(0);
    let key = || std::fs::read_to_string(dir.join("identity/private_key")).unwrap();
    let first = key();
    spore(&dir, &["init"]);
    assert_eq!(key(), first);
    let node_id = std::fs::read_to_string(dir.join("identity/node_id")).unwrap();
    let info = spore(&dir, &["info", "--json"]).expect_code(0).json();
    assert_eq!(text(&info["node_id"]), node_id.trim());
}

#[test]
fn ambiguous_prefix_is_not_guessed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    // Seventeen tasks share a first digit somewhere.
    let mut histories: Vec<_> = (0..17).map(|number| SeededTask::new(number, 1)).collect();
    for history in &histories {
        history.store(&dir);
    }
    histories.sort_by_key(|history| history.task);
    let shared = histories.windows(2).find_map(|pair| {
        let (a, b) = (pair[0].task.to_string(), pair[1].task.to_string());
        let length = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
        (length > 0).then(|| a[..length].to_owned())
    });
    let output = spore(&dir, &["task", "show", &shared.unwrap()]);
    assert!([2, 3].contains(&output.code), "{output:?}");
    assert!(!output.stderr.is_empty());
}
