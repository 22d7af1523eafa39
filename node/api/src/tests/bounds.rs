//! Strangers' long texts and many tasks, and slow or greedy clients, over HTTP.

use serde_json::Value;
use spore_protocol::{NodeProfile, Record, TaskManifest, VerifiedObject};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{CONNECTIONS, Server, manifest, profile, record, send};

/// Bytes of each hostile text.
const LONG: usize = 100_000;
/// Most characters that a list shows of one text, with the ellipsis.
const SHOWN: usize = 301;

/// Texts of a JSON value.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(members) => members.values().for_each(|member| texts(member, found)),
        _ => {}
    }
}

/// A server with a record, a task and a profile whose texts are all long.
async fn hostile() -> Server {
    let server = Server::start().await;
    let (by, long) = (&server.publisher, "long ".repeat(LONG / 5));
    let task = TaskManifest {
        description: long.clone(),
        task_type: long.clone(),
        metric: long.clone(),
        ..manifest(by, &long)
    };
    let next = Record {
        description: long.clone(),
        hypothesis: long.clone(),
        agent_model: long.clone(),
        gpu_model: long.clone(),
        ..record(by, server.task, Some(server.records[3]), 4, 1.6)
    };
    let profile = NodeProfile { timestamp: 9, bio: long.clone(), website: long.clone(), ..profile(by, &long) };
    let objects: Vec<VerifiedObject> =
        vec![by.sign(&task).unwrap().into(), by.sign(&next).unwrap().into(), by.sign(&profile).unwrap().into()];
    let report = server.store.insert(&objects, 3000).unwrap();
    assert_eq!(report.changes.len(), objects.len(), "{:?}", report.outcomes);
    server
}

#[tokio::test]
async fn lists_and_activity_show_a_strangers_texts_in_part() {
    let server = hostile().await;
    let (task, root) = (server.task, server.records[0]);
    for path in [
        "tasks".to_owned(),
        "nodes".into(),
        "experiments".into(),
        "activity".into(),
        "search?q=long".into(),
        format!("tasks/{task}/activity"),
        format!("tasks/{task}/experiments"),
        format!("tasks/{task}/experiments?order=metric"),
        format!("tasks/{task}/frontier?view=claims"),
        format!("tasks/{task}/nodes"),
        format!("experiments/{root}/children"),
    ] {
        let answer = server.json(&format!("/api/v1/{path}")).await;
        let mut found = Vec::new();
        texts(&answer, &mut found);
        // A sentence of the activity has a name of up to 256 bytes too.
        let longest = found.iter().map(|text| text.chars().count()).max().unwrap();
        assert!(longest <= SHOWN + 300, "{path}: {longest}");
        assert!(answer.to_string().len() < 64 << 10, "{path}");
    }
    let newest = server.json("/api/v1/experiments?limit=1").await["items"][0].clone();
    let shown = newest["description"].as_str().unwrap();
    assert!(shown.starts_with("long long") && shown.ends_with('\u{2026}') && shown.chars().count() == SHOWN, "{shown}");
    let detail = server.json(&format!("/api/v1/experiments/{}", newest["id"].as_str().unwrap())).await;
    assert!(detail["experiment"]["description"].as_str().unwrap().len() > SHOWN, "one experiment shows more");
}

#[tokio::test]
async fn events_show_a_strangers_texts_in_part() {
    let server = hostile().await;
    let request = server.request(reqwest::Method::GET, "/api/v1/events").header("last-event-id", "1");
    let (mut stream, mut seen) = (request.send().await.unwrap(), String::new());
    super::read_until(&mut stream, &mut seen, "event:status").await;
    assert!(seen.matches("event:activity").count() > 5 && seen.len() < 64 << 10, "{} bytes", seen.len());
}

#[tokio::test]
async fn activity_goes_on_before_a_sequence_number() {
    let server = Server::start().await;
    let all = server.json("/api/v1/activity?limit=500").await;
    let all = all.as_array().unwrap();
    let (mut found, mut query) = (Vec::new(), String::new());
    for _ in 0..all.len() {
        let page = server.json(&format!("/api/v1/activity?limit=2{query}")).await;
        let Some(last) = page.as_array().unwrap().last() else { break };
        query = format!("&before={}", last["sequence"]);
        found.extend(page.as_array().unwrap().clone());
    }
    assert_eq!(&found, all);
    assert_eq!(server.get("/api/v1/activity?before=x").await.0, 400);
}

#[tokio::test]
async fn task_is_found_by_its_digits_and_by_its_name_among_others() {
    let server = Server::start().await;
    let by = &server.publisher;
    let more: Vec<VerifiedObject> =
        (0..50).map(|n| by.sign(&manifest(by, &format!("task {n}"))).unwrap().into()).collect();
    server.store.insert(&more, 3000).unwrap();
    let wanted = server.json("/api/v1/tasks/task%2049").await;
    let digits = wanted["task_id"].as_str().unwrap().get(..16).unwrap().to_owned();
    assert_eq!(server.json(&format!("/api/v1/tasks/{digits}")).await, wanted);
}

#[tokio::test]
async fn half_requests_do_not_keep_a_command_out() {
    let server = Server::start().await;
    let mut half = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        // The server may have closed an earlier one already, which is no error of this one.
        let _ = stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n").await;
        half.push(stream);
    }
    assert_eq!(server.get("/api/v1/status").await.0, 200);
}

#[tokio::test]
async fn large_answers_that_nobody_reads_are_bounded_and_small_ones_still_come() {
    let server = Server::start().await;
    // More than the kernel's buffers of a connection hold.
    let body = vec![b'x'; 16 << 20];
    let cid = spore_protocol::Cid::of(&body);
    server.store.put_artifact(&body).unwrap();
    let mut answered = Vec::new();
    for _ in 0..8 {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET /api/v1/artifacts/{cid} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        answered.push((String::from_utf8_lossy(&head).into_owned(), stream));
    }
    let sent = answered.iter().filter(|(head, _)| head.ends_with("200")).count();
    assert_eq!(sent, 4, "64 MiB on their way");
    assert!(answered.iter().all(|(head, _)| head.ends_with("200") || head.ends_with("503")));
    assert_eq!(server.get("/api/v1/status").await.0, 200);
    answered.clear();
    for _ in 0..100 {
        let request = server.request(reqwest::Method::GET, &format!("/api/v1/artifacts/{cid}"));
        if send(request).await.0 == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the bytes of readers that went away are free again");
}
