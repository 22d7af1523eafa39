//! Abuse of the HTTP API. The crates of the networks test abuse of the networks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use spore_tests::{TestNet, http, seed::SeededTask};

#[tokio::test(flavor = "multi_thread")]
async fn api_refuses_abuse_and_stays_up() {
    let mut net = TestNet::new();
    let number = net.start("node", None, &["--no-train"]).await;
    let node = net.node(number);
    let client = http::client();

    // A request that changes the node needs the token.
    let peer = r#"{"address":"127.0.0.1:1"}"#;
    for token in [None, Some("Bearer "), Some("Bearer 00000000000000000000000000000000")] {
        let mut request = client.post(node.url("/api/v1/peers")).header("content-type", "application/json").body(peer);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let (status, body) = http::send(request).await.unwrap();
        assert_eq!(status, 401, "{token:?}: {body}");
        assert!(problem(&body).contains("token"), "{body}");
    }

    // An attacker's page may resolve its own name to this machine. The API does not answer to that name.
    let (status, body) =
        http::send(client.get(node.url("/api/v1/status")).header("host", "evil.example")).await.unwrap();
    assert!([400, 403, 421].contains(&status), "{status}: {body}");

    // Bodies are bounded, with the token and without. The node may close the connection before it has read all of a
    // large one.
    let token = std::fs::read_to_string(node.dir().join("api_token")).unwrap();
    let submit = |body: Vec<u8>| client.post(node.url("/api/v1/objects")).bearer_auth(token.trim()).body(body);
    for (request, refused) in
        [(client.post(node.url("/api/v1/peers")).body(vec![b'x'; 32 << 20]), 401), (submit(vec![b'x'; 32 << 20]), 413)]
    {
        match http::send(request).await {
            Ok((status, body)) => assert_eq!(status, refused, "{body}"),
            Err(closed) => {
                assert!(["BrokenPipe", "Reset", "reset"].iter().any(|word| closed.contains(word)), "{closed}")
            }
        }
    }

    // The token does not let an invalid object past the ingest service.
    let object = SeededTask::new(4, 1).manifest();
    for (body, expected) in [
        (b"{}".to_vec(), 400),
        (vec![b'['; 100_000], 400),
        (object.replace("history-4", "history-5").into_bytes(), 400),
        (object.clone().into_bytes(), 200),
    ] {
        let (status, answer) = http::send(submit(body)).await.unwrap();
        assert_eq!(status, expected, "{answer}");
    }

    // Errors are JSON, and no file outside the page can be reached.
    let unknown = "0".repeat(64);
    for (path, expected) in [
        (format!("/api/v1/experiments/{unknown}"), 404),
        (format!("/api/v1/tasks/{unknown}"), 404),
        (format!("/api/v1/tasks/{unknown}/graph"), 404),
        ("/api/v1/no/such/thing".to_owned(), 404),
    ] {
        let (status, body) = http::get(&node.url(&path)).await.unwrap();
        assert_eq!(status, expected, "{path}: {body}");
        assert!(!problem(&body).is_empty(), "{path}: {body}");
    }
    for path in [
        "/api/v1/experiments/zz",
        "/api/v1/experiments?limit=-1",
        "/api/v1/experiments?before=%00",
        "/api/v1/nodes?after=n%f0%9f%8d%84",
        "/api/v1/tasks?limit=99999999999999999999",
        "/api/v1/search?q=%00%ff",
        "/api/v1/tasks/zz/graph.bin",
        "/api/v1/events?task=zz",
    ] {
        let (status, body) = http::get(&node.url(path)).await.unwrap();
        assert!([400, 404].contains(&status), "{path}: {status}: {body}");
    }
    let key = std::fs::read_to_string(node.dir().join("identity/private_key")).unwrap();
    for path in [
        "/../identity/private_key",
        "/%2e%2e/identity/private_key",
        "/assets/..%2f..%2fidentity/private_key",
        "//identity/private_key",
    ] {
        let (_, body) = http::get(&node.url(path)).await.unwrap();
        assert!(!body.contains(key.trim()), "{path} gives the key away");
    }

    assert!(node.api("/status").await.is_ok(), "the node is still there");
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

/// The message in the body of an error.
fn problem(body: &str) -> String {
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(body);
    parsed.ok().and_then(|value| value["error"].as_str().map(str::to_lowercase)).unwrap_or_default()
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut net = TestNet::new();
    let number = net.start("node", None, &["--no-train"]).await;
    let dir = net.node(number).dir().to_owned();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.join("identity/private_key")), 0o600);
    let tokens: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("token")))
        .collect();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert_eq!(mode(&tokens[0]), 0o600);
}
