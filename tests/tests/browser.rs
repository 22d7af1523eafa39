//! The explorer in Chromium, against real nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use spore_protocol::{HardwareClass, Record, RecordId, Status, TaskId, VerifiedObject, fixtures};
use spore_storage::{GraphChanges, ParentColumn, SHORT_ID, Store, TaskGraph};
use spore_tests::{TestNet, command::spore_with_input, seed::SeededTask, skip::skip};

/// The browser that scripts/setup installs, or `CHROMIUM`.
fn chromium() -> Option<String> {
    let named = std::env::var("CHROMIUM").ok();
    let known = ["/usr/bin/chromium", "/usr/bin/google-chrome", "/usr/bin/chromium-browser"];
    let installed = std::env::var("HOME").ok().and_then(|home| {
        let cache = Path::new(&home).join(".cache/ms-playwright");
        let versions = std::fs::read_dir(cache).ok()?.flatten();
        let programs = versions.map(|version| version.path().join("chrome-linux/headless_shell"));
        programs.filter(|path| path.is_file()).map(|path| path.display().to_string()).next()
    });
    named.or_else(|| known.into_iter().find(|path| Path::new(path).is_file()).map(str::to_owned)).or(installed)
}

#[tokio::test(flavor = "multi_thread")]
async fn explorer_shows_a_task_an_experiment_and_records_that_arrive_meanwhile() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Some(chromium) = chromium() else { return skip("no Chromium: scripts/setup installs one, or set CHROMIUM") };
    if !root.join("explorer-ui/node_modules/playwright-core").is_dir() {
        return skip("explorer-ui/node_modules is missing: scripts/setup installs it");
    }
    let mut net = TestNet::new();
    // More records than a page of the table holds.
    let (short, long) = (SeededTask::new(3, 60), SeededTask::new(3, 63));
    short.store(&net.dir_of("shown"));
    long.store(&net.dir_of("other"));
    let shown = net.start("shown", None, &["--no-train"]).await;

    let experiment = short.verified().next().unwrap().to_string();
    let arguments = [net.node(shown).url(""), short.task.to_string(), experiment.clone(), chromium];
    let mut script = Command::new("node")
        .arg(root.join("tests/browser/explorer.mjs"))
        .args(arguments)
        .current_dir(&root)
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node starts");
    let group = Group(Pid::from_child(&script));
    let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
    let mut log = Vec::new();
    let mut signed = None;
    while let Some(Ok(line)) = lines.next() {
        // The page shows sixty records. Three more arrive from another node while it is open.
        if line == "waiting for records" {
            net.start("other", Some(shown), &["--no-train"]).await;
        }
        if let Some(json) = line.strip_prefix("signed: ") {
            signed = Some(serde_json::from_str::<String>(json).unwrap());
        }
        log.push(line);
    }
    let mut errors = String::new();
    script.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(script.wait().unwrap().success(), "{}\n{errors}", log.join("\n"));
    drop(group);

    // The record that the page copied is the signed one, to the last digit.
    let signed = signed.expect("the signed record was copied");
    let output = spore_with_input(net.dir(), &["inspect", "--json", "-"], signed.as_bytes()).expect_code(0);
    let found: Value = output.json_lines().remove(0);
    assert_eq!((&found["id"], &found["valid"]), (&Value::from(experiment), &Value::Bool(true)));
}

/// The script and its browser; dropping it ends both.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// Graphs of every kind for the page's unit tests, each with its bytes as a node sends them.
const GOLDEN: &str = "explorer-ui/src/lib/chart/golden.json";
/// Set, the test writes the file instead of comparing it.
const UPDATE: &str = "SPORE_UPDATE_GOLDEN";

#[test]
fn page_is_tested_with_the_bytes_that_a_node_sends() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(GOLDEN);
    let mut golden = serde_json::to_string_pretty(&golden_graphs()).unwrap();
    golden.push('\n');
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &golden).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == golden,
        "{GOLDEN} is not what the code writes. Write it with {UPDATE}=1 and review the change"
    );
}

fn golden_graphs() -> Value {
    let whole = TaskGraph {
        sequence: 9,
        class_names: ["CPU", "gr\u{f6}\u{df}er"].map(HardwareClass::of).to_vec(),
        ids: [0xaa, 0xbb, 1].map(|byte| RecordId([byte; 32])).to_vec(),
        // The clock of the first record's signer was wrong: it comes before its parent.
        parents: vec![Some(2), Some(0), None],
        timestamps: vec![5, 1_757_000_000, 1 << 40],
        metrics: vec![1.5, -0.0, 1e300],
        statuses: vec![Status::Keep, Status::Discard, Status::Crash],
        classes: vec![1, 0, 1],
        verified: vec![true, false, false],
        on_frontier: vec![true, false, false],
        stray: vec![false, true, false],
        refused: vec![false, true, false],
        disputed: vec![false, false, true],
    };
    let outside = TaskGraph { parents: vec![Some(7), Some(1), None], ..whole.clone() };
    let (older, changes, newer) = two_looks();
    let empty = TaskGraph {
        sequence: 0,
        class_names: Vec::new(),
        ids: Vec::new(),
        parents: Vec::new(),
        timestamps: Vec::new(),
        metrics: Vec::new(),
        statuses: Vec::new(),
        classes: Vec::new(),
        verified: Vec::new(),
        on_frontier: Vec::new(),
        stray: Vec::new(),
        refused: Vec::new(),
        disputed: Vec::new(),
    };
    let place = |parent: Option<u32>| parent.map_or(json!(-1), |place| json!(place));
    json!({
        "whole": golden_graph(&whole, place),
        "outside": golden_graph(&outside, place),
        "empty": golden_graph(&empty, place),
        "older": golden_graph(&older, place),
        "changes": golden_graph(&changes, |parent| json!(parent.map(|id| short(&id)))),
        "newer": golden_graph(&newer, place),
    })
}

/// The first bytes of an id in hex, as a graph has them.
fn short(id: &RecordId) -> String {
    id.to_string().chars().take(2 * usize::from(SHORT_ID)).collect()
}

fn golden_graph<P: ParentColumn + Copy>(graph: &TaskGraph<P>, parent: impl Fn(Option<P>) -> Value) -> Value {
    let cursor = format!("cursor-{}", graph.sequence);
    let number = |status: &Status| Status::ALL.iter().position(|one| one == status);
    json!({
        "bytes": graph.to_bytes(&cursor, SHORT_ID).iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "cursor": cursor,
        "columns": {
            "ids": graph.ids.iter().map(short).collect::<Vec<_>>(),
            "parents": graph.parents.iter().copied().map(parent).collect::<Vec<_>>(),
            "timestamps": graph.timestamps,
            "metrics": graph.metrics,
            "statuses": graph.statuses.iter().map(number).collect::<Vec<_>>(),
            "classes": graph.classes,
            "class_names": graph.class_names.iter().map(HardwareClass::as_str).collect::<Vec<_>>(),
            "verified": graph.verified,
            "frontier": graph.on_frontier,
            "stray": graph.stray,
            "refused": graph.refused,
            "disputed": graph.disputed,
        },
    })
}

/// A task's graph, what changed until a second look, and the graph then: a verdict, a record between the others in time
/// with a class of its own, a better one, its child, and a stray.
fn two_looks() -> (TaskGraph, GraphChanges, TaskGraph) {
    let dir = tempfile::tempdir().unwrap();
    let (creator, other) = (fixtures::identity(1), fixtures::identity(2));
    let store = Store::open_with_trust(dir.path(), [other.node_id()].into()).unwrap();
    let manifest = fixtures::sign(&creator, &fixtures::manifest(&creator));
    let task = TaskId::from(manifest.id());
    let insert = |objects: &[VerifiedObject]| {
        assert_eq!(store.insert(objects, fixtures::EPOCH).unwrap().changes.len(), objects.len());
    };
    let record = |parent: Option<&_>, metric: f64, after: u64, gpu: &str| {
        let record = Record {
            val_bpb: metric,
            timestamp: fixtures::EPOCH + after,
            gpu_model: gpu.into(),
            ..fixtures::record(&creator, Some(task), parent)
        };
        fixtures::sign(&creator, &record)
    };
    let root = record(None, 3.0, 0, "CPU");
    let (kept, last) = (record(Some(&root), 2.5, 100, "CPU"), record(Some(&root), 2.75, 300, "H100"));
    insert(&[manifest.into(), root.clone().into(), kept.clone().into(), last.clone().into()]);
    let older = store.graph(&task).unwrap();
    let better = record(Some(&kept), 2.0, 400, "CPU");
    let stray = Record { timestamp: fixtures::EPOCH + 350, ..fixtures::record(&other, Some(task), None) };
    insert(&[
        fixtures::verification(&other, &last, 2.75, fixtures::EPOCH + 310).into(),
        record(Some(&root), 2.25, 200, "RTX 4090").into(),
        fixtures::verification(&other, &kept, 2.9, fixtures::EPOCH + 320).into(),
        better.clone().into(),
        record(Some(&better), 1.75, 500, "CPU").into(),
        fixtures::sign(&other, &stray).into(),
    ]);
    let changes = store.graph_changes(&task, older.sequence).unwrap().expect("no change of the root");
    (older, changes, store.graph(&task).unwrap())
}
