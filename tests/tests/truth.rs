//! Frontiers, verdicts and research under attack, with real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use spore_protocol::{
    Cid, ControlEvent, Identity, Object, Record, RecordId, Signed, SignedObject, TaskId, TaskManifest, Verified,
    VerifiedObject, fixtures,
};
use spore_tests::{
    TestNet,
    net::{Node, PROCESSOR, text},
    wait_for,
};

const TINY: &str = include_str!("../scripts/tiny.star");
/// Seconds of training. Long enough for a few hundred steps on a slow processor.
const BUDGET: u64 = 5;
/// Several experiments of [`BUDGET`] with their evaluation and re-runs, on a machine that does other things.
const RESEARCH_LIMIT: Duration = Duration::from_secs(900);
/// Messages between processes of one machine.
const SPREAD_LIMIT: Duration = Duration::from_secs(120);
/// A claim that no script reaches.
const FAKE: f64 = 0.0001;

/// Makes these keys trusted by the node in `dir`, which has not started.
fn trust(dir: &Path, keys: &[&Identity]) {
    let keys: Vec<_> = keys.iter().map(|key| format!("\"{}\"", key.node_id())).collect();
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("config.toml"), format!("trust = [{}]\n", keys.join(", "))).unwrap();
}

/// A key of nobody.
fn key(number: u64) -> Identity {
    Identity::from_seed(&Cid::of(&number.to_le_bytes()).0)
}

/// A task with an honest root and a fake below it. The objects are signed; nothing is trained.
struct Scene {
    task: TaskId,
    manifest: Verified<TaskManifest>,
    root: Verified<Record>,
    fake: Verified<Record>,
}

impl Scene {
    fn new(creator: &Identity, attacker: &Identity) -> Self {
        let manifest = fixtures::sign(creator, &fixtures::manifest(creator));
        let task = TaskId::from(manifest.id());
        let root = fixtures::sign(creator, &record(creator, task, None, 2.5));
        let fake = fixtures::sign(attacker, &record(attacker, task, Some(&root), FAKE));
        Self { task, manifest, root, fake }
    }

    async fn show(&self, node: &Node) {
        node.submit(&signed(self.manifest.clone())).await;
        node.submit(&signed(self.root.clone())).await;
        node.submit(&signed(self.fake.clone())).await;
    }
}

fn record(by: &Identity, task: TaskId, parent: Option<&Signed<Record>>, metric: f64) -> Record {
    Record { gpu_model: PROCESSOR.into(), val_bpb: metric, ..fixtures::record(by, Some(task), parent) }
}

/// What a re-run by this key found.
fn measured(by: &Identity, record: &Signed<Record>, value: f64) -> SignedObject {
    let rerun = fixtures::rerun(by, record, value);
    signed(fixtures::sign(by, &ControlEvent::challenge(rerun, record.timestamp + 1)))
}

fn signed<T: Object>(object: Verified<T>) -> SignedObject
where
    VerifiedObject: From<Verified<T>>,
{
    VerifiedObject::from(object).into_signed()
}

fn id<T: Object>(object: &Signed<T>) -> String {
    object.id().to_string()
}

/// The ids that the frontier of a view lists: `frontier`, `global` or `claims`.
async fn listed(node: &Node, task: &str, view: &str) -> Result<BTreeSet<String>, String> {
    let class = spore_protocol::HardwareClass::of(PROCESSOR);
    let page = node.api(&format!("/tasks/{task}/frontier?view={view}&class={class}&limit=500")).await?;
    Ok(page["items"].as_array().into_iter().flatten().map(|item| text(&item["id"])).collect())
}

async fn verdict(node: &Node, id: &str) -> Result<String, String> {
    Ok(text(&node.api(&format!("/experiments/{id}")).await?["experiment"]["verdict"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_fake_is_on_no_frontier_and_its_honest_parent_stays() {
    let (creator, attacker, seed) = (key(1), key(2), key(3));
    let scene = Scene::new(&creator, &attacker);
    let mut net = TestNet::new();
    trust(&net.dir_of("relay"), &[&seed]);
    let relay = net.start("relay", None, &["--no-train"]).await;
    let (node, task) = (net.node(relay), scene.task.to_string());
    scene.show(node).await;
    node.submit(&measured(&seed, &scene.root, 2.5)).await;
    // Before it is measured, the fake is a claim and beats nobody.
    wait_for("the root on the frontier", SPREAD_LIMIT, async || {
        let frontier = listed(node, &task, "frontier").await?;
        if frontier.contains(&id(&scene.root)) { Ok(()) } else { Err(format!("{frontier:?}")) }
    })
    .await;
    assert!(listed(node, &task, "claims").await.unwrap().contains(&id(&scene.fake)));

    node.submit(&measured(&seed, &scene.fake, 2.5)).await;
    wait_for("the fake to be rejected", SPREAD_LIMIT, async || match verdict(node, &id(&scene.fake)).await?.as_str() {
        "rejected" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    for view in ["frontier", "global", "claims"] {
        assert!(!listed(node, &task, view).await.unwrap().contains(&id(&scene.fake)), "{view}");
    }
    assert!(listed(node, &task, "frontier").await.unwrap().contains(&id(&scene.root)));
    let summary = node.api(&format!("/tasks/{task}")).await.unwrap();
    assert_eq!(summary["best_id"], Value::String(id(&scene.root)), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn free_keys_change_no_local_verdict_and_a_strangers_task_no_default() {
    let (creator, attacker, seed) = (key(1), key(2), key(3));
    let scene = Scene::new(&creator, &attacker);
    let mut net = TestNet::new();
    trust(&net.dir_of("relay"), &[&seed]);
    let relay = net.start("relay", None, &["--no-train"]).await;
    let (node, task) = (net.node(relay), scene.task.to_string());
    let default = async || text(&node.api("/status").await.unwrap()["active_task"]);
    let before = default().await;
    scene.show(node).await;
    node.submit(&measured(&seed, &scene.root, 2.5)).await;
    node.submit(&measured(&seed, &scene.fake, 2.5)).await;
    // Four free keys uphold the fake and reject the root.
    for number in 10..14 {
        node.submit(&measured(&key(number), &scene.fake, FAKE)).await;
        node.submit(&measured(&key(number), &scene.root, 9.0)).await;
    }
    wait_for("all measurements to be judged", SPREAD_LIMIT, async || {
        let judged = node.api(&format!("/experiments/{}/judgement", id(&scene.root))).await?;
        let count = judged["measurements"].as_array().map_or(0, Vec::len);
        if count == 5 { Ok(()) } else { Err(judged.to_string()) }
    })
    .await;
    assert_eq!(verdict(node, &id(&scene.fake)).await.unwrap(), "rejected");
    assert_eq!(verdict(node, &id(&scene.root)).await.unwrap(), "verified");
    assert_eq!(listed(node, &task, "frontier").await.unwrap(), BTreeSet::from([id(&scene.root)]));

    // 26 objects of a task that nobody here trusts: its manifest, its root and 24 more records.
    let stranger = key(20);
    let manifest = fixtures::sign(&stranger, &fixtures::manifest(&stranger));
    let strange = TaskId::from(manifest.id());
    let root = fixtures::sign(&stranger, &record(&stranger, strange, None, 2.5));
    node.submit(&signed(manifest)).await;
    node.submit(&signed(root.clone())).await;
    for number in 0..24 {
        let by = key(100 + number);
        let child = Record { timestamp: now(), ..record(&by, strange, Some(&root), FAKE) };
        node.submit(&signed(fixtures::sign(&by, &child))).await;
    }
    assert_eq!(default().await, before, "the default task is the same");
    assert_ne!(before, strange.to_string());
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_of_a_partition_end_with_the_same_frontier() {
    let (creator, attacker, seeds) = (key(1), key(2), [key(3), key(4)]);
    let scene = Scene::new(&creator, &attacker);
    let child = fixtures::sign(&creator, &record(&creator, scene.task, Some(&scene.root), 2.4));
    let mut net = TestNet::new();
    for name in ["left", "right"] {
        trust(&net.dir_of(name), &[&seeds[0], &seeds[1]]);
    }
    let left = net.start("left", None, &["--no-train"]).await;
    let right = net.start("right", None, &["--no-train"]).await;
    let task = scene.task.to_string();
    // Both halves know the task. Each hears of other records and measurements, and of free keys' measurements.
    for half in [left, right] {
        scene.show(net.node(half)).await;
    }
    let (here, there) = (net.node(left), net.node(right));
    here.submit(&measured(&seeds[0], &scene.root, 2.5)).await;
    here.submit(&measured(&key(30), &scene.fake, FAKE)).await;
    there.submit(&measured(&seeds[1], &scene.fake, 2.5)).await;
    there.submit(&signed(child.clone())).await;
    there.submit(&measured(&seeds[1], &child, 2.4)).await;
    there.submit(&measured(&key(31), &child, 9.0)).await;

    there.connect(&here.multiaddr()).await;
    let expected = BTreeSet::from([id(&child)]);
    wait_for("both halves to have the same frontier", SPREAD_LIMIT, async || {
        let mut seen = Vec::new();
        for node in [here, there] {
            let frontier = listed(node, &task, "frontier").await?;
            seen.push((frontier, verdict(node, &id(&scene.fake)).await?, verdict(node, &id(&scene.root)).await?));
        }
        let done =
            seen.iter().all(|(frontier, fake, root)| *frontier == expected && fake == "rejected" && root == "verified");
        if done { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

/// The experiments of a task that the node itself published.
async fn own_experiments(node: &Node, task: &str) -> Result<Vec<Value>, String> {
    let us = text(&node.api("/status").await?["node_id"]);
    let page = node.api(&format!("/tasks/{task}/experiments?limit=500")).await?;
    Ok(page["items"].as_array().into_iter().flatten().filter(|e| text(&e["node_id"]) == us).cloned().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn research_goes_on_among_two_hundred_fakes() {
    let mut net = TestNet::new();
    let task = net.create_task("researcher", TINY, BUDGET);
    let number = net.start("researcher", None, &["--task", &task, "--device", "flex", "--verify-rate", "0.2"]).await;
    let node = net.node(number);
    let root = wait_for("the root", RESEARCH_LIMIT, async || {
        own_experiments(node, &task).await?.first().cloned().ok_or_else(|| "no record".to_owned())
    })
    .await;
    let root_id: RecordId = text(&root["id"]).parse().unwrap();
    let signed_root = node.api(&format!("/experiments/{root_id}")).await.unwrap()["signed"].clone();

    // 200 claims of one key: the honest script with another learning rate, so that each has to be run to be refuted.
    let attacker = key(2);
    let mut fakes = BTreeSet::new();
    for fake in 0..200_u64 {
        let script = TINY.replace("0.005,", &format!("0.{:05},", 500 + fake));
        let code = node.put_artifact(script.as_bytes()).await;
        let claim = Record {
            parent: Some(root_id),
            depth: 1,
            code_cid: Some(code),
            dataset_cid: text(&signed_root["dataset_cid"]),
            prepare_cid: text(&signed_root["prepare_cid"]),
            time_budget: BUDGET,
            num_steps: 20,
            timestamp: now(),
            ..record(&attacker, task.parse().unwrap(), None, FAKE)
        };
        let claim = fixtures::sign(&attacker, &claim);
        fakes.insert(id(&claim));
        node.submit(&signed(claim)).await;
    }
    let known = own_experiments(node, &task).await.unwrap().len();

    // Whether one of them is better than the root depends on how busy the machine is.
    let own = wait_for("a refuted fake, and three more experiments", RESEARCH_LIMIT, async || {
        let own = own_experiments(node, &task).await?;
        let mut refuted = 0;
        for fake in &fakes {
            refuted += usize::from(verdict(node, fake).await? == "rejected");
        }
        if own.len() >= known + 3 && refuted > 0 {
            Ok(own)
        } else {
            Err(format!("{} own experiments, {refuted} refuted fakes", own.len()))
        }
    })
    .await;
    let built_on_fakes: Vec<_> = own.iter().filter(|e| fakes.contains(&text(&e["parent"]))).collect();
    assert!(built_on_fakes.is_empty(), "{built_on_fakes:?}");
    let frontier = listed(node, &task, "frontier").await.unwrap();
    assert!(!frontier.is_empty() && frontier.is_disjoint(&fakes), "{frontier:?}");
    let best: f64 = node.api(&format!("/tasks/{task}")).await.unwrap()["best"].as_f64().unwrap();
    assert!(best > 1.0, "{best}");
}
