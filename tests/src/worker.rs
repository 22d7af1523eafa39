//! A worker process, driven as the node does it: a request line goes in, event lines come out.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};

use crate::command::command;

/// A job of a few steps takes seconds. The limit only ends a hang.
const LIMIT: Duration = Duration::from_secs(300);

/// A request to train on the built-in corpus with the CPU, for exactly `steps` steps.
pub fn job(script: &str, seed: u64, steps: u64) -> Value {
    let eval = json!({"eval_bytes": 16384, "metric": "val_bpb", "hidden_pairs": 1024, "val_percent": 10, "version": 2});
    json!({"train": {
        "task": "1".repeat(64), "script": {"starlark": script}, "dataset": "builtin", "device": "flex", "seed": seed, "time_budget": 30, "steps": steps,
        "eval": eval, "threads": 2, "memory_limit": 2_u64 << 30,
    }})
}

/// Runs `spore worker` on a request. Returns its last event, such as `{"finished": {..}}`.
pub fn run(dir: &Path, request: &Value) -> Value {
    let mut command = command(dir, &["worker"]);
    command.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("spore starts");
    // The pipe stays open until the end, because a worker ends when its parent is gone.
    let mut stdin = child.stdin.take().expect("a pipe");
    writeln!(stdin, "{request}").expect("the worker reads its request");
    let start = Instant::now();
    let mut last = Value::Null;
    for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        last = serde_json::from_str(&line.expect("a line of text")).expect("events are JSON lines");
        if start.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("the worker still runs after {LIMIT:?}; last event: {last}");
        }
    }
    drop(stdin);
    let _ = child.wait();
    last
}
