//! Research with a language model, which a server of the test plays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use spore_tests::{TestNet, net::text, spore, wait_for};
use warp::Filter as _;

const TINY: &str = include_str!("../scripts/tiny.star");
const LOOK_AHEAD: &str = include_str!("../scripts/look_ahead.star");
const BUDGET: u64 = 5;
/// The root and two proposals on a slow machine.
const RESEARCH_LIMIT: Duration = Duration::from_secs(900);

/// The answer of the model to request number `turn`: first it cheats, then it changes a number.
fn reply(turn: usize) -> String {
    let script = if turn == 0 { LOOK_AHEAD.to_owned() } else { TINY.replace("0.005,", &format!("0.{:03},", 5 + turn)) };
    format!("Hypothesis: turn {turn} helps\nDescription: change number {turn}\n\n```python\n{script}```\n")
}

/// The answer to request number `turn`: first the base script with a comment and another name, then a changed number.
fn reply_with_a_comment_first(turn: usize) -> String {
    match turn {
        0 => format!("Description: only a comment\n```\n# Faster.\n{}```\n", TINY.replace("rate", "speed")),
        _ => reply(turn),
    }
}

/// Serves `POST /v1/chat/completions` as OpenAI's servers do, with the answer that `reply` makes for each request.
/// Returns its port and the requests so far, as text.
async fn language_model(reply: fn(usize) -> String) -> (u16, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let requests = asked.clone();
    let route =
        warp::path!("v1" / "chat" / "completions").and(warp::post()).and(warp::body::json()).map(move |body: Value| {
            assert_eq!(body["model"], "test-model");
            let mut requests = requests.lock().unwrap();
            let content = reply(requests.len());
            requests.push(body.to_string());
            warp::reply::json(&json!({"choices": [{"message": {"role": "assistant", "content": content}}]}))
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(warp::serve(route).incoming(listener).run());
    (port, asked)
}

/// Starts a node that asks the language model at the port, on a new task. Gives its number and the task's id.
async fn start_researcher(net: &mut TestNet, port: u16) -> (usize, String) {
    let task = net.create_task("researcher", TINY, BUDGET);
    let url = format!("http://127.0.0.1:{port}/v1");
    let dir = net.dir_of("researcher");
    spore(&dir, &["set", "local", "--base-url", &url, "--model", "test-model"]).expect_code(0);
    let node = net.start("researcher", None, &["--task", &task, "--device", "flex"]).await;
    (node, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn model_that_proposes_a_cheat_is_told_why_and_nothing_of_it_is_published() {
    let (port, asked) = language_model(reply).await;
    let mut net = TestNet::new();
    let (node, task) = start_researcher(&mut net, port).await;

    let honest = wait_for("an honest result of the model's", RESEARCH_LIMIT, async || {
        let page = net.node(node).api(&format!("/tasks/{task}/experiments?limit=50")).await?;
        let proposed: Vec<_> =
            page["items"].as_array().into_iter().flatten().filter(|e| e["agent_model"] == "test-model").collect();
        assert!(proposed.iter().all(|e| e["status"] != "crash"), "{proposed:?}");
        proposed.first().map(|e| (*e).clone()).ok_or_else(|| format!("asked {} times", asked.lock().unwrap().len()))
    })
    .await;

    // The cheat is refused before it runs, and the next request tells the model the line and the reason.
    let second = asked.lock().unwrap().get(1).cloned().unwrap_or_default();
    assert!(second.contains("not causal"), "{second}");
    assert!(text(&honest["description"]).contains("change number"), "{honest}");
    let detail = net.node(node).api(&format!("/experiments/{}", text(&honest["id"]))).await.unwrap();
    let diff = text(&detail["diff"]);
    assert!(diff.contains("-rate = tune(\"lr\"") && diff.contains("+rate = tune(\"lr\""), "{diff}");
    assert_eq!(detail["signed"]["hypothesis"].as_str().unwrap().split(' ').next(), Some("turn"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_that_changes_only_a_comment_and_a_name_is_refused_before_it_runs() {
    let (port, asked) = language_model(reply_with_a_comment_first).await;
    let mut net = TestNet::new();
    let (node, task) = start_researcher(&mut net, port).await;

    let proposed = wait_for("a result of the model's", RESEARCH_LIMIT, async || {
        let page = net.node(node).api(&format!("/tasks/{task}/experiments?limit=50")).await?;
        let proposed: Vec<_> = page["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|e| e["agent_model"] == "test-model")
            .cloned()
            .collect();
        if proposed.is_empty() { Err(format!("asked {} times", asked.lock().unwrap().len())) } else { Ok(proposed) }
    })
    .await;

    assert!(proposed.iter().all(|e| text(&e["description"]).contains("change number")), "{proposed:?}");
    let second = asked.lock().unwrap().get(1).cloned().unwrap_or_default();
    assert!(second.contains("the same experiment"), "{second}");
    let info = spore(net.node(node).dir(), &["info"]).expect_code(0).stdout;
    let (live, _) = info.split_once("In config.toml").unwrap();
    assert!(live.contains("Proposer        test-model (local): "), "{info}");
    let proposer = net.node(node).api("/status").await.unwrap()["proposer"].clone();
    assert_eq!((&proposer["model"], &proposer["state"]), (&json!("test-model"), &json!("ok")), "{proposer}");
    assert!(proposer["asked"].as_u64() > proposer["answered"].as_u64(), "{proposer}");
}

/// The worker processes of a node.
fn workers(node: u32) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{node}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<i32> =
        children.flat_map(|text| text.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect();
    let is_worker = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"worker")
    };
    pids.into_iter().filter(is_worker).filter_map(Pid::from_raw).collect()
}

/// Sends these signals, one after another, to the worker of a research that trains.
async fn signal_training_worker(net: &TestNet, node: usize, signals: &[Signal]) {
    let worker = wait_for("a worker that trains", RESEARCH_LIMIT, async || {
        let research = net.node(node).api("/status").await?["research"].clone();
        let found = workers(net.node(node).pid());
        match found.as_slice() {
            [worker] if research["state"] == "training" && research["step"].as_u64() > Some(0) => Ok(*worker),
            _ => Err(format!("{research}, {} workers", found.len())),
        }
    })
    .await;
    for signal in signals {
        let _ = rustix::process::kill_process(worker, *signal);
        // The program's own handler of a fault takes the first one.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits for an own record beside the root and checks that none is a crash.
async fn expect_results_without_crashes(net: &TestNet, node: usize, task: &str, least: usize) {
    let found = wait_for("results after the interruption", RESEARCH_LIMIT, async || {
        let page = net.node(node).api(&format!("/tasks/{task}/experiments?limit=50")).await?;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        if items.len() >= least { Ok(items) } else { Err(format!("{} records", items.len())) }
    })
    .await;
    assert!(found.iter().all(|record| record["status"] != "crash"), "{found:?}");
}

/// Runs research with the built-in proposer and interrupts the worker of its first experiment, the baseline.
async fn interrupted(signals: &[Signal]) {
    let mut net = TestNet::new();
    let task = net.create_task("researcher", TINY, BUDGET);
    let node = net.start("researcher", None, &["--task", &task, "--device", "flex"]).await;
    signal_training_worker(&net, node, signals).await;
    wait_for("the second run", RESEARCH_LIMIT, async || {
        let log = net.node(node).log();
        if log.contains("it runs once more") { Ok(()) } else { Err(log) }
    })
    .await;
    expect_results_without_crashes(&net, node, &task, 2).await;
    assert!(!net.node(node).log().contains("crashed"), "{}", net.node(node).log());
}

#[tokio::test(flavor = "multi_thread")]
async fn experiment_whose_worker_was_killed_runs_again_and_is_no_crash() {
    interrupted(&[Signal::KILL]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn experiment_whose_worker_faulted_runs_again_and_is_no_crash() {
    interrupted(&[Signal::SEGV, Signal::SEGV]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn experiment_whose_worker_was_stopped_runs_again_and_is_no_crash() {
    interrupted(&[Signal::STOP]).await;
}

/// A group of processes with a bound of memory, which is removed when this is dropped.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// None where this user may make none, or the kernel bounds no memory.
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("spore-test-{}", std::process::id());
        // Version 1 has a tree for each resource, version 2 one for all.
        let trees = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        trees.into_iter().find_map(|(tree, limit)| {
            let group = Self(Path::new(tree).join(&name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }

    /// Moves a process into the group, with the children that it makes afterwards.
    fn hold(&self, process: u32) {
        // A process that ended meanwhile needs no bound.
        let _ = fs::write(self.0.join("cgroup.procs"), process.to_string());
    }

    /// Processes that the kernel ended because the group had no memory left.
    fn killed(&self) -> u64 {
        let files = ["memory.oom_control", "memory.events"].map(|name| fs::read_to_string(self.0.join(name)));
        let lines = files.iter().flatten().flat_map(|text| text.lines());
        lines.filter_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok()).sum()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn experiment_that_the_out_of_memory_killer_ended_is_no_crash() {
    // The node starts outside of the group, so it plans with the memory of the whole machine, as beside other programs
    // that take the memory later. Then the kernel lets it have less than a worker takes.
    let Some(group) = MemoryGroup::new(400 << 20) else {
        return spore_tests::skip::skip("no memory group can be made here");
    };
    let mut net = TestNet::new();
    // A small model on so many tokens at once that its numbers need gigabytes.
    let task = net.create_task("researcher", &TINY.replace("batch = 8,", "batch = 4096,"), BUDGET);
    let node = net.start("researcher", None, &["--task", &task, "--device", "flex"]).await;
    group.hold(net.node(node).pid());
    workers(net.node(node).pid()).iter().for_each(|worker| group.hold(worker.as_raw_nonzero().get().unsigned_abs()));
    let log = wait_for("the killer to come and be told", RESEARCH_LIMIT, async || {
        let log = net.node(node).log();
        if group.killed() > 0 && log.contains("it runs once more") { Ok(log) } else { Err(log) }
    })
    .await;
    let page = net.node(node).api(&format!("/tasks/{task}/experiments?limit=50")).await.unwrap();
    let crashes: Vec<_> = page["items"].as_array().unwrap().iter().filter(|one| one["status"] == "crash").collect();
    assert!(crashes.is_empty() && !log.contains("crashed"), "{crashes:?} {log}");
    assert_eq!(net.node_mut(node).interrupt(), 0);
}

/// Lets the workers of a node run for a tenth of the time, from a thread of its own, until this is dropped.
struct SlowWorkers {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SlowWorkers {
    /// Far less than a training step, so that each step is slow, and not one in ten.
    const RUN: Duration = Duration::from_micros(400);
    const STOPPED: Duration = Duration::from_millis(4);

    fn of(node: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let slow = move || {
            while !until.load(Relaxed) {
                let slowed = workers(node);
                for (signal, pause) in [(Signal::CONT, Self::RUN), (Signal::STOP, Self::STOPPED)] {
                    signal_all(&slowed, signal);
                    std::thread::sleep(pause);
                }
            }
            signal_all(&workers(node), Signal::CONT);
        };
        Self { over, thread: Some(std::thread::spawn(slow)) }
    }
}

impl Drop for SlowWorkers {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn signal_all(processes: &[Pid], signal: Signal) {
    for process in processes {
        // One that has ended meanwhile is no matter.
        let _ = rustix::process::kill_process(*process, signal);
    }
}

/// The `progress` events of a node, from now on.
async fn progress_of(net: &TestNet, node: usize) -> Arc<Mutex<Vec<Value>>> {
    let mut stream = spore_tests::http::client().get(net.node(node).url("/api/v1/events")).send().await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let found = seen.clone();
    tokio::spawn(async move {
        let mut text = String::new();
        while let Ok(Some(bytes)) = stream.chunk().await {
            text.push_str(&String::from_utf8_lossy(&bytes));
            while let Some(end) = text.find('\n') {
                let line: String = text.drain(..=end).collect();
                let data = line.strip_prefix("data:").and_then(|data| serde_json::from_str::<Value>(data).ok());
                found.lock().unwrap().extend(data.filter(|data| data["elapsed_seconds"].is_number()));
            }
        }
    });
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn experiment_that_was_slow_only_while_its_speed_was_measured_is_not_published() {
    let mut net = TestNet::new();
    let task = net.create_task("researcher", TINY, BUDGET);
    let node = net.start("researcher", None, &["--task", &task, "--device", "flex"]).await;
    let progress = progress_of(&net, node).await;
    let slow = SlowWorkers::of(net.node(node).pid());
    let planned = wait_for("a number of steps that is planned while the worker is slow", RESEARCH_LIMIT, async || {
        let found = progress.lock().unwrap().iter().filter_map(|one| one["steps"].as_u64()).find(|steps| *steps > 0);
        found.ok_or_else(|| "none".to_owned())
    })
    .await;
    drop(slow);

    expect_results_without_crashes(&net, node, &task, 1).await;
    let page = net.node(node).api(&format!("/tasks/{task}/experiments?limit=50")).await.unwrap();
    let mut steps = Vec::new();
    for record in page["items"].as_array().unwrap() {
        let detail = net.node(node).api(&format!("/experiments/{}", text(&record["id"]))).await.unwrap();
        if detail["signed"]["parent"].is_null() {
            steps.push(detail["signed"]["num_steps"].as_u64().unwrap());
        }
    }
    // The rule is about time, whatever the speed was: a run that used less than nine tenths of its budget is planned
    // again, for more steps. Only one that was slow to its end keeps the number. Events show its time but for the last
    // second.
    let seen = progress.lock().unwrap();
    let used = seen.iter().filter(|one| one["steps"].as_u64() == Some(planned));
    let used = used.filter_map(|one| one["elapsed_seconds"].as_f64()).fold(0.0, f64::max);
    let of_root = *steps.first().expect("the first experiment");
    assert!(
        of_root > planned || used > BUDGET as f64 / 2.0,
        "{of_root} steps, {planned} planned, {used} s of {BUDGET}"
    );
}
