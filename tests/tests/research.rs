//! Research with a language model, which a server of the test plays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use spore_tests::{TestNet, net::text, spore, wait_for};
use warp::Filter as _;

const TINY: &str = include_str!("../scripts/tiny.star");
const LOOK_AHEAD: &str = include_str!("../scripts/look_ahead.star");
const BUDGET: u64 = 5;
/// The root and two proposals on a slow machine.
const RESEARCH_LIMIT: Duration = Duration::from_secs(400);

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
    let proposer = net.node(node).api("/status").await.unwrap()["proposer"].clone();
    assert_eq!((&proposer["model"], &proposer["state"]), (&json!("test-model"), &json!("ok")), "{proposer}");
    assert!(proposer["asked"].as_u64() > proposer["answered"].as_u64(), "{proposer}");
}
