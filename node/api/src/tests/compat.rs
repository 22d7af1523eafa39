//! The reference's API, over HTTP. `tests/tests/compat.rs` compares it with a real node of the reference.

use serde_json::{Value, json};
use spore_protocol::{VerifiedObject, fixtures};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Server, record};

#[tokio::test]
async fn routes_of_the_reference_are_answered_with_its_shapes() {
    let server = Server::start().await;
    let (task, node) = (server.task.to_string(), server.publisher.node_id().to_string());
    let last = server.records[3].to_string();
    let of_task = format!("?task_id={task}");
    let tasks = server.json("/api/tasks").await;
    assert_eq!((&tasks[0]["task_id"], &tasks[0]["experiment_count"]), (&json!(task), &json!(4)));
    assert_eq!(tasks[0]["participants"], json!([node]));
    let detail = server.json(&format!("/api/task/{task}")).await;
    assert_eq!((&detail["frontier"][0]["id"], detail["recent"].as_array().unwrap().len()), (&json!(last), 4));
    let graph = server.json(&format!("/api/graph{of_task}")).await;
    assert_eq!((graph["node"].as_array().unwrap().len(), graph["edge"].as_array().unwrap().len()), (4, 3));
    assert_eq!(graph["frontier_id"], json!([last]));
    let feed = server.json(&format!("/api/task/{task}/feed?limit=1")).await;
    assert_eq!((&feed[0]["kind"], &feed[0]["impact"]), (&json!("frontier_keep"), &json!("improved by 0.100000")));
    let nodes = server.json(&format!("/api/nodes{of_task}&sort=published")).await;
    assert_eq!((&nodes[0]["node_id"], &nodes[0]["keep_count"]), (&json!(node), &json!(4)));
    assert_eq!(nodes[0]["best_experiment"]["id"], json!(last));
    let one = server.json(&format!("/api/node/{node}{of_task}&limit=1&offset=1")).await;
    assert_eq!((&one["total_experiments"], one["experiments"].as_array().unwrap().len()), (&json!(4), 1));
    let ancestors = server.json(&format!("/api/experiment/{last}/ancestor")).await;
    let ids: Vec<_> = ancestors.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, server.records.iter().rev().map(ToString::to_string).collect::<Vec<_>>());
    for (path, found) in [
        (format!("/api/search{of_task}&q=number"), 4),
        (format!("/api/search{of_task}&q=x"), 0),
        (format!("/api/nodes/search{of_task}&q=sybil"), 1),
        (format!("/api/frontier{of_task}"), 1),
        (format!("/api/frontier{of_task}&gpu=H100"), 0),
        (format!("/api/recent{of_task}&limit=3"), 3),
        (format!("/api/keeps/recent{of_task}"), 4),
        (format!("/api/experiment/{}/children", server.records[0]), 1),
        (format!("/api/node/{node}/experiment{of_task}&verified_only=true"), 1),
        (format!("/api/node/{node}/activity{of_task}"), 4),
        ("/api/tasks/hot".into(), 1),
    ] {
        assert_eq!(server.json(&path).await.as_array().unwrap().len(), found, "{path}");
    }
    let cid = spore_protocol::Cid::of(super::SCRIPT);
    assert_eq!(server.json(&format!("/api/artifact/{cid}")).await["content"], "model = 1\n");
    assert_eq!(server.json(&format!("/api/node/{node}/profile")).await["display_name"], "Sybil");
}

#[tokio::test]
async fn unknown_object_of_the_reference_is_an_error_in_a_200_and_an_unknown_path_is_404_with_a_hint() {
    let server = Server::start().await;
    let unknown = "0".repeat(64);
    for path in ["task/ID", "task/ID/feed", "experiment/ID", "node/ID", "node/ID/profile", "artifact/ID"] {
        let path = format!("/api/{}", path.replace("ID", &unknown));
        assert_eq!(server.json(&path).await, json!({ "error": "not found" }), "{path}");
    }
    for path in ["/api", "/api/nothing", "/api/v1/nothing"] {
        let (status, body) = server.get(path).await;
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert!(status == 404 && problem["hint"].as_str().unwrap().contains("openapi.json"), "{path}: {body}");
    }
    assert_eq!(server.get("/api/recent?limit=x").await.0, 400);
}

#[tokio::test]
async fn socket_sends_new_records_as_the_reference_does() {
    let server = Server::start().await;
    assert_eq!(server.get("/ws").await.0, 400, "a request that is no handshake");
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let handshake = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let mut until = async |seen: &mut Vec<u8>, wanted: &str| {
        while !String::from_utf8_lossy(seen).contains(wanted) {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).await.unwrap();
            assert!(read > 0, "the socket ended: {}", String::from_utf8_lossy(seen));
            seen.extend(&chunk[..read]);
        }
    };
    until(&mut seen, "\r\n\r\n").await;
    let head = String::from_utf8_lossy(&seen).into_owned();
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let next = server.publisher.sign(&record(&server.publisher, server.task, Some(server.records[3]), 4, 1.6)).unwrap();
    // The socket may subscribe a moment after the handshake: a second record finds the first in the change log.
    let object = VerifiedObject::from(next.clone()).into_signed();
    server.ingest.submit(spore_ingest::Origin::Local, object).await.unwrap();
    let other = fixtures::identity(7);
    let second = other.sign(&record(&other, server.task, Some(server.records[3]), 4, 1.5)).unwrap();
    server
        .ingest
        .submit(spore_ingest::Origin::Local, VerifiedObject::from(second.clone()).into_signed())
        .await
        .unwrap();
    until(&mut seen, &second.id().to_string()).await;
    let text = String::from_utf8_lossy(&seen);
    assert!(
        text.contains("{\"data\":{") && text.contains("\"event\":\"experiment\"") && !text.contains("is_frontier"),
        "{text}"
    );
}
