//! `spore set` and `spore llm test`, with a server of the test in the part of the language model.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use spore_tests::{
    Output, TestNet,
    command::{command, run, spore_with_input},
    spore,
};
use warp::Filter as _;

/// The paths and the keys of the requests that a server got.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A server that gives every request the same answer.
async fn server(status: u16, body: Value) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let seen = asked.clone();
    let route = warp::path::full().and(warp::header::headers_cloned()).and_then(
        move |path: warp::path::FullPath, headers: warp::http::HeaderMap| {
            let key = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
            let host = headers.get("host").map(|host| host.to_str().unwrap().to_owned()).unwrap_or_default();
            seen.lock().unwrap().push((format!("{host}{}", path.as_str()), key.unwrap_or_default()));
            let code = warp::http::StatusCode::from_u16(status).unwrap();
            let reply = warp::reply::with_status(body.to_string(), code);
            async move { Ok::<_, Infallible>(reply) }
        },
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(route).incoming(listener).run());
    (address, asked)
}

const TINY: &str = include_str!("../../scripts/tiny.star");

fn answer_with(script: &str) -> Value {
    let content = format!("Description: wider\n```\n{script}```\n");
    json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 6100, "completion_tokens": 20}})
}

fn answer() -> Value {
    answer_with(TINY)
}

/// Runs `spore ARGS` with variables in its environment, away from the threads that play the server.
async fn spore_with(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = command(dir, args);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.envs(variables.iter().copied());
    tokio::task::spawn_blocking(move || run(command, b"")).await.unwrap()
}

fn config(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("config.toml")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn test_of_the_language_model_tells_how_it_answers() {
    let (address, asked) = server(200, answer()).await;
    let net = TestNet::new();
    let dir = net.dir_of("node");
    spore(&dir, &["llm", "test"]).expect_code(3).expect_stderr(&["no language model is configured", "spore set"]);
    let url = format!("http://{address}/v1/");
    spore(&dir, &["set", "custom", "sk-x", "--base-url", &url, "--model", "m1"]).expect_code(0);
    let told = spore_with(&dir, &["llm", "test", "--json"], &[]).await.expect_code(0).json();
    let lines = json!(TINY.lines().count());
    assert_eq!((&told["model"], &told["finish"], &told["script_lines"]), (&json!("m1"), &json!("whole"), &lines));
    assert_eq!(told["problem"], Value::Null);
    assert_eq!((&told["prompt_tokens"], &told["answer_tokens"]), (&json!(6100), &json!(20)));
    assert!(told["question_characters"].as_u64().unwrap() > 10_000 && told["seconds"].as_f64().is_some(), "{told}");
    let told = spore_with(&dir, &["llm", "test"], &[]).await.expect_code(0).stdout;
    for part in ["m1 (custom)", "characters", "6100 of the question, 20 of the answer", "wider", "can be run"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let (wrong, _) = server(200, answer_with("train(1)\n")).await;
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2, "one question each");
    spore(&dir, &["set", "custom", "sk-x", "--base-url", &format!("http://{wrong}/v1"), "--model", "m1"])
        .expect_code(0);
    let told = spore_with(&dir, &["llm", "test"], &[]).await.expect_code(0).stdout;
    assert!(told.contains("none that can be used: "), "{told}");
    assert_eq!(asked[0], (format!("{address}/v1/chat/completions"), "Bearer sk-x".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_model_is_told_with_its_cure() {
    let (address, _) = server(401, json!({"error": {"message": "Incorrect API key: sk-x"}})).await;
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let url = format!("http://{address}/v1");
    spore(&dir, &["set", "openai", "sk-x", "--base-url", &url]).expect_code(0);
    let told = spore_with(&dir, &["llm", "test"], &[]).await.expect_code(1);
    assert!(!told.stderr.contains("sk-x"), "{}", told.stderr);
    told.expect_stderr(&["status 401: Incorrect API key: ***", "spore set PROVIDER KEY"]);
    spore(&dir, &["set", "local", "--base-url", "http://127.0.0.1:1/v1"]).expect_code(0);
    let told = spore_with(&dir, &["llm", "test"], &[]).await.expect_code(1);
    told.expect_stderr(&["127.0.0.1:1", "refused", "check that the server runs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_server_is_reached_past_a_proxy_and_another_one_through_it() {
    let (address, asked) = server(200, answer()).await;
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let closed = "http://127.0.0.1:9";
    spore(&dir, &["set", "local", "--base-url", &format!("http://{address}/v1")]).expect_code(0);
    let proxies = [("HTTP_PROXY", closed), ("HTTPS_PROXY", closed), ("http_proxy", closed), ("ALL_PROXY", closed)];
    spore_with(&dir, &["llm", "test"], &proxies).await.expect_code(0);
    assert_eq!(asked.lock().unwrap().len(), 1);
    spore(&dir, &["set", "local", "--base-url", "http://models.example.org/v1"]).expect_code(0);
    let proxy = format!("http://{address}");
    spore_with(&dir, &["llm", "test"], &[("http_proxy", &proxy)]).await.expect_code(0);
    let last = asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last.0, "models.example.org/v1/chat/completions");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_comes_from_standard_input_or_the_environment() {
    let (address, asked) = server(200, answer()).await;
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let url = format!("http://{address}/v1");
    spore_with_input(&dir, &["set", "openai", "-", "--base-url", &url], b" sk-stdin\r\n").expect_code(0);
    assert!(config(&dir).contains("api_key = \"sk-stdin\""), "{}", config(&dir));
    spore_with(&dir, &["llm", "test"], &[]).await.expect_code(0);
    let variable = [("SPORE_LLM_KEY", "sk-environment\n")];
    spore_with(&dir, &["llm", "test"], &variable).await.expect_code(0);
    let keys: Vec<_> = asked.lock().unwrap().iter().map(|(_, key)| key.clone()).collect();
    assert_eq!(keys, ["Bearer sk-stdin", "Bearer sk-environment"]);
    // With the variable, no key is asked for, and none is written.
    let said = spore_with(&dir, &["set", "groq"], &variable).await.expect_code(0);
    assert!(said.stdout.contains("SPORE_LLM_KEY") && !config(&dir).contains("sk-"), "{}", said.stdout);
    let refused = spore_with(&dir, &["llm", "test"], &[("SPORE_LLM_KEY", "sk x")]).await.expect_code(1);
    refused.expect_stderr(&["SPORE_LLM_KEY: the API key contains a character that no key has"]);
}

#[test]
fn key_that_cannot_be_one_is_refused() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    for key in ["sk-x\r\nHost: y", "sk x", "sk-\u{e4}", "\u{1b}[31m"] {
        spore(&dir, &["set", "openai", key]).expect_code(2).expect_stderr(&["a character that no key has"]);
    }
    for key in ["", " ", "\r\n"] {
        spore(&dir, &["set", "openai", key]).expect_code(2).expect_stderr(&["the API key is empty"]);
    }
    spore(&dir, &["set", "openai"]).expect_code(2).expect_stderr(&[
        "needs an API key",
        "standard input",
        "SPORE_LLM_KEY",
    ]);
    spore(&dir, &["set", "custom", "k", "--model", "m"]).expect_code(2).expect_stderr(&["--base-url"]);
    spore(&dir, &["set", "custom", "k", "--base-url", "http://h/v1"]).expect_code(2).expect_stderr(&["--model"]);
    assert!(!dir.join("config.toml").exists(), "nothing was written");
    spore(&dir, &["set", "openai", " sk-x\r\n"]).expect_code(0);
    assert!(config(&dir).contains("api_key = \"sk-x\""));
}

#[test]
fn set_alone_shows_the_choice_without_the_key() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let shown = spore(&dir, &["set"]).expect_code(0).stdout;
    assert!(shown.contains("built-in proposer") && shown.contains("anthropic") && shown.contains("custom"), "{shown}");
    assert!(!dir.exists() || !dir.join("config.toml").exists(), "looking changes nothing");
    let line =
        ["set", "groq", "sesame", "-m", "llama", "--max-tokens", "4096", "--temperature", "0.7", "--context", "32768"];
    spore(&dir, &line).expect_code(0);
    let shown = spore(&dir, &["set"]).expect_code(0).stdout;
    for part in ["groq", "llama", "https://api.groq.com/openai/v1", "in config.toml", "4096", "0.7", "32768"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let json = spore(&dir, &["set", "--json"]).expect_code(0);
    assert_eq!((&json.json()["llm"]["max_tokens"], &json.json()["llm"]["key"]), (&json!(4096), &json!("config.toml")));
    assert!(!shown.contains("sesame") && !json.stdout.contains("sesame"));
    spore(&dir, &["set", "groq", "k", "--temperature", "3"]).expect_code(1).expect_stderr(&["llm.temperature is 3"]);
}
