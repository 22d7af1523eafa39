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

/// Serves `POST /v1/chat/completions` as OpenAI's servers do. Returns its port and the requests so far, as text.
async fn language_model() -> (u16, Arc<Mutex<Vec<String>>>) {
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

#[tokio::test(flavor = "multi_thread")]
async fn model_that_proposes_a_cheat_is_told_why_and_nothing_of_it_is_published() {
    let (port, asked) = language_model().await;
    let mut net = TestNet::new();
    let task = net.create_task("researcher", TINY, BUDGET);
    let url = format!("http://127.0.0.1:{port}/v1");
    let dir = net.dir_of("researcher");
    spore(&dir, &["set", "local", "--base-url", &url, "--model", "test-model"]).expect_code(0);
    let node = net.start("researcher", None, &["--task", &task, "--device", "flex"]).await;

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
