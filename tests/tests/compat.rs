//! The reference's API as our node serves it, beside the reference's own answers on the same objects.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Value, json};
use spore_tests::{
    Node, TestNet, http,
    net::text,
    picture::agree,
    reference::{Reference, python, seed},
    spore,
};

/// What depends on the node that answers, and not on the objects: verdicts and reputation are each node's own (the
/// reference believes claims), and so are its peers and its task.
const OWN: [&str; 11] = [
    "verified",
    "verified_count",
    "verified_experiment_count",
    "reputation",
    "activity",
    "ws_client",
    "peer_count",
    "active_task_id",
    "is_active",
    // Our node has itself, and the task that is built into it, beside the reference's.
    "node_count",
    "task_count",
];

/// Characters of an answer that a failed test shows.
const MOST_SHOWN: usize = 600;

/// An answer without what is a node's own. Lists in which the reference has no order are sorted.
fn comparable(mut answer: Value, unordered: bool) -> Value {
    strip(&mut answer);
    if let (true, Some(items)) = (unordered, answer.as_array_mut()) {
        items.sort_by_key(Value::to_string);
    }
    answer
}

/// The first different pair of values below two answers, with its place.
fn difference(place: &str, own: &Value, other: &Value) -> String {
    match (own, other) {
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap();
            difference(&format!("{place}[{at}]"), &a[at], &b[at])
        }
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            let name = a.keys().find(|name| a[*name] != b[*name]).unwrap();
            difference(&format!("{place}.{name}"), &a[name], &b[name])
        }
        _ => {
            let [own, other] =
                [own, other].map(|answer| answer.to_string().chars().take(MOST_SHOWN).collect::<String>());
            format!("{place}\n  ours   {own}\n  theirs {other}")
        }
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Object(members) => {
            members.retain(|name, _| !OWN.contains(&name.as_str()));
            for name in ["frontier_id", "participants", "edge"] {
                if let Some(items) = members.get_mut(name).and_then(Value::as_array_mut) {
                    items.sort_by_key(Value::to_string);
                }
            }
            members.values_mut().for_each(strip);
        }
        _ => {}
    }
}

async fn ours(node: &Node, path: &str) -> Value {
    let (status, body) = http::get(&node.url(path)).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

async fn theirs(reference: &mut Reference, path: &str) -> Value {
    let answer = reference.ask(json!({"do": "explore", "path": path})).await;
    assert_eq!(answer["status"], 200, "{path}: {answer}");
    answer["body"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_under_the_references_paths_equal_its_own() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let seeded = seed(&python, &net.dir_of("reference"), &["--records", "24"]);
    // Its peers get no profiles of the past, so both begin with the same files.
    let (dir, source) = (net.dir_of("ours"), net.dir_of("reference"));
    spore(&dir, &["import", "sporemesh", source.to_str().unwrap(), "--without-identity"]).expect_code(0);
    let mut reference = Reference::start(&python, &net, "reference", &[]).await;
    let node = net.start("ours", None, &["--no-train", "--peer", &reference.address()]).await;
    agree(net.node(node), &mut reference).await;

    let (task, legacy) = (text(&seeded["task"]), text(&seeded["legacy_task"]));
    let (me, record) = (text(&seeded["node_id"]), text(&seeded["claims"]["held"]));
    let unknown = "0".repeat(64);
    let script = ours(net.node(node), &format!("/api/experiment/{record}")).await["code_cid"].clone();
    let mut paths = Vec::new();
    for of in [&task, &legacy] {
        for path in [
            "/api/feed?task_id=ID&limit=7",
            "/api/keeps/recent?task_id=ID",
            "/api/stat?task_id=ID",
            "/api/task/ID",
            "/api/task/ID/feed",
            "/api/graph?task_id=ID",
            "/api/frontier?task_id=ID",
            "/api/frontier?task_id=ID&gpu=CPU",
            "/api/recent?task_id=ID&limit=5",
            "/api/nodes?task_id=ID",
            "/api/nodes?task_id=ID&sort=published&status=keep&has_profile=true",
            "/api/nodes/search?task_id=ID&q=ada",
            "/api/search?task_id=ID&q=number",
            "/api/search?task_id=ID&q=n",
        ] {
            paths.push(path.replace("ID", of));
        }
        for path in ["/api/node/ME", "/api/node/ME/experiment", "/api/node/ME/activity"] {
            let path = path.replace("ME", &me);
            paths.push(format!("{path}?task_id={of}"));
            paths.push(format!("{path}?task_id={of}&status=discard&gpu=CPU&frontier_only=false&limit=3&offset=1"));
        }
    }
    for path in ["/api/experiment/ID", "/api/experiment/ID/ancestor", "/api/experiment/ID/children"] {
        paths.push(path.replace("ID", &record));
        paths.push(path.replace("ID", &unknown));
    }
    for path in ["/api/task/ID", "/api/task/ID/feed", "/api/node/ID", "/api/node/ID/profile", "/api/artifact/ID"] {
        paths.push(path.replace("ID", &unknown));
    }
    paths.extend(["/api/tasks".into(), "/api/tasks/hot".into(), "/api/tasks/hot?limit=1".into()]);
    paths.extend([format!("/api/node/{me}/profile"), format!("/api/artifact/{}", text(&script))]);

    let mut different = Vec::new();
    for path in &paths {
        let unordered = path.starts_with("/api/nodes") || path.contains("/frontier");
        let (mut own, mut other) = (ours(net.node(node), path).await, theirs(&mut reference, path).await);
        if path.starts_with("/api/stat") {
            // Who answers.
            (own["node_id"], other["node_id"]) = (Value::Null, Value::Null);
        }
        let [own, other] = [own, other].map(|answer| comparable(answer, unordered));
        if own != other {
            different.push(difference(path, &own, &other));
        }
    }
    assert!(different.is_empty(), "{} of {} answers differ:\n{}", different.len(), paths.len(), different.join("\n"));
    reference.assert_unharmed().await;
}
