//! Listings over HTTP: pages in both directions, cursors that last, search, and the compact graph.

use serde_json::Value;
use spore_protocol::{Identity, Record, RecordId, VerifiedObject, fixtures};
use spore_storage::SHORT_ID;

use super::{Server, manifest, profile, record, send};

/// Records added to the four that the server begins with.
const MORE: u64 = 12;

/// A record directly under the task's root.
fn child(by: &Identity, server: &Server, number: u64, metric: f64) -> Record {
    Record { depth: 1, ..record(by, server.task, Some(server.records[0]), number, metric) }
}

/// Stores new objects, all of which are good.
fn store(server: &Server, objects: &[VerifiedObject]) {
    let report = server.store.insert(objects, 3000).unwrap();
    assert_eq!(report.changes.len(), objects.len(), "{:?}", report.outcomes);
}

/// A server with enough of everything for several pages: records of two nodes and two classes under the first one, of
/// which the trusted verifier confirmed two thirds, and tasks.
async fn server() -> Server {
    let server = Server::start().await;
    let other = fixtures::identity(3);
    let mut objects: Vec<VerifiedObject> = vec![other.sign(&profile(&other, "Other")).unwrap().into()];
    for n in 0..MORE {
        let by = if n % 2 == 0 { &server.publisher } else { &other };
        // Some beat all before them, some do not.
        let metric = 1.9 - 0.05 * ((n * 5) % MORE) as f64;
        let gpu_model = if n % 4 == 3 { "RTX 4090" } else { "CPU" }.to_owned();
        let signed = by.sign(&Record { gpu_model, ..child(by, &server, 10 + n, metric) }).unwrap();
        objects.push(signed.clone().into());
        if n % 3 != 0 {
            objects.push(fixtures::verification(&fixtures::identity(2), &signed, metric, 2500).into());
        }
    }
    for n in 0..4 {
        objects.push(other.sign(&manifest(&other, &format!("task {n}"))).unwrap().into());
    }
    store(&server, &objects);
    server
}

/// Every listing, as the path and the beginning of the query.
fn listings(server: &Server) -> Vec<String> {
    let (task, root, node) = (server.task, server.records[0], server.publisher.node_id());
    [
        "tasks?".to_owned(),
        "nodes?".into(),
        "experiments?".into(),
        format!("experiments?node={node}&"),
        format!("tasks/{task}/nodes?"),
        format!("tasks/{task}/frontier?"),
        format!("tasks/{task}/frontier?class=CPU&"),
        format!("tasks/{task}/frontier?view=global&"),
        format!("tasks/{task}/frontier?view=claims&"),
        format!("tasks/{task}/frontier?view=claims&class=RTX%204090&"),
        format!("tasks/{task}/frontier?view=reference&"),
        format!("tasks/{task}/experiments?"),
        format!("tasks/{task}/experiments?order=metric&"),
        format!("tasks/{task}/improvements?"),
        format!("tasks/{task}/improvements?class=cpu&"),
        format!("experiments/{root}/children?"),
        format!("search?q=number&task={task}&"),
    ]
    .map(|path| format!("/api/v1/{path}"))
    .into()
}

fn items(page: &Value) -> Vec<Value> {
    items_of(&page["items"])
}

fn items_of(list: &Value) -> Vec<Value> {
    list.as_array().unwrap().clone()
}

fn ids(page: &Value) -> Vec<String> {
    items(page).iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Reads on from a query, two items a page, to the listing's end.
async fn walk(server: &Server, listing: &str, way: &str, start: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), start.to_owned());
    loop {
        let page = server.json(&format!("{listing}limit=2&{cursor}")).await;
        assert!(items(&page).len() <= 2, "{listing}: {page}");
        found.extend(items(&page));
        match page["next"].as_str() {
            Some(next) => cursor = format!("{way}={next}"),
            None => return found,
        }
    }
}

#[tokio::test]
async fn pages_in_both_directions_hold_the_same_as_the_whole_list() {
    let server = server().await;
    for listing in listings(&server) {
        let whole = server.json(&format!("{listing}limit=500")).await;
        assert_eq!(whole["next"], Value::Null, "{listing}");
        let mut whole = items(&whole);
        assert!(!whole.is_empty(), "{listing}");
        assert_eq!(walk(&server, &listing, "after", "").await, whole, "{listing}");
        let last = server.json(&format!("{listing}limit=1&before=end")).await;
        let before_last =
            walk(&server, &listing, "before", &format!("before={}", last["first"].as_str().unwrap())).await;
        whole.reverse();
        assert_eq!(items(&last), whole[..1], "{listing}");
        assert_eq!(before_last, whole[1..], "{listing}");
        assert_eq!(walk(&server, &listing, "before", "before=end").await, whole, "{listing}");
    }
}

#[tokio::test]
async fn lists_have_the_order_that_was_asked_for() {
    let server = server().await;
    let numbers =
        |page: &Value, key: &str| -> Vec<f64> { items(page).iter().map(|item| item[key].as_f64().unwrap()).collect() };
    let task = format!("/api/v1/tasks/{}", server.task);
    let recent = numbers(&server.json(&format!("{task}/experiments")).await, "timestamp");
    assert!(recent.len() == 4 + MORE as usize && recent.is_sorted_by(|a, b| a >= b), "{recent:?}");
    let best = numbers(&server.json(&format!("{task}/experiments?order=metric")).await, "val_bpb");
    assert!(best.len() == recent.len() && best.is_sorted(), "{best:?}");
    let series = server.json(&format!("{task}/improvements")).await;
    assert!(numbers(&series, "timestamp").is_sorted());
    assert!(numbers(&series, "metric").is_sorted_by(|a, b| a > b), "{series}");
    let summary = server.json(&task).await;
    assert_eq!(numbers(&series, "metric").last(), summary["best"].as_f64().as_ref());
    for class in ["CPU", "RTX_4090"] {
        for (view, best) in [("frontier", "best"), ("global", "best_global")] {
            let listed = server.json(&format!("{task}/frontier?view={view}&class={class}")).await;
            let of_class = items_of(&summary["classes"]).into_iter().find(|one| one["class"] == class).unwrap();
            assert!(numbers(&listed, "val_bpb").is_sorted());
            assert_eq!(numbers(&listed, "val_bpb").first(), of_class[best].as_f64().as_ref(), "{view} of {class}");
        }
    }
}

#[tokio::test]
async fn cursor_stays_valid_when_objects_are_stored() {
    let server = server().await;
    let listing = format!("/api/v1/tasks/{}/experiments?", server.task);
    let whole = ids(&server.json(&listing).await);
    let first = server.json(&format!("{listing}limit=5")).await;
    let (top, next) = (first["first"].as_str().unwrap(), first["next"].as_str().unwrap());

    let made = |number: u64| server.publisher.sign(&child(&server.publisher, &server, number, 3.0)).unwrap();
    let (newest, between) = (made(99), made(12));
    store(&server, &[newest.clone().into(), between.clone().into()]);

    let rest = ids(&server.json(&format!("{listing}after={next}")).await);
    let without: Vec<_> = rest.into_iter().filter(|id| *id != between.id().to_string()).collect();
    assert_eq!(without, whole[5..], "nothing is missed, nothing comes twice");
    assert_eq!(ids(&server.json(&format!("{listing}before={top}")).await), [newest.id().to_string()]);
}

#[tokio::test]
async fn foreign_cursors_and_bad_limits_are_refused_with_a_hint() {
    let server = server().await;
    let foreign = |listing: &str| {
        // A cursor of another order, which could be misread.
        let by_metric = format!("/api/v1/tasks/{}/experiments?order=metric&limit=1", server.task);
        let other = "/api/v1/tasks?limit=1".to_owned();
        if listing.contains("order=metric") { other } else { by_metric }
    };
    for listing in listings(&server) {
        let foreign = server.json(&foreign(&listing)).await["next"].as_str().unwrap().to_owned();
        for wrong in
            ["after=x", "before=%00", "limit=x", "limit=0", "limit=501", "limit=-1", &format!("after={foreign}")]
        {
            let (status, body) = server.get(&format!("{listing}{wrong}")).await;
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert!(status == 400 && problem["hint"].is_string(), "{listing}{wrong}: {status}: {body}");
        }
    }
    for (path, expected) in [
        (format!("/api/v1/tasks/{}/experiments?order=size", server.task), 400),
        (format!("/api/v1/tasks/{}/frontier?view=best", server.task), 400),
        (format!("/api/v1/tasks/{}/frontier?view=reference&class=CPU", server.task), 400),
        (format!("/api/v1/tasks/{}/frontier?class=TPU", server.task), 200),
        ("/api/v1/search".to_owned(), 400),
        ("/api/v1/search?q=%20-%20".to_owned(), 400),
        ("/api/v1/search?q=number&task=zz".to_owned(), 404),
        (format!("/api/v1/experiments/{}/children", "0".repeat(64)), 404),
        (format!("/api/v1/tasks/{}/improvements", "0".repeat(64)), 404),
    ] {
        let (status, body) = server.get(&path).await;
        assert_eq!(status, expected, "{path}: {body}");
    }
}

#[tokio::test]
async fn search_finds_by_all_words_and_by_the_first_digits_of_an_id() {
    let server = server().await;
    let path = |question: &str| format!("/api/v1/search?q={question}");
    // The records' descriptions are "number N, ...".
    let found = server.json(&path("NUMBER+13")).await;
    assert!(items(&found).len() == 1 && found["items"][0]["description"].as_str().unwrap().starts_with("number 13"));
    assert!(items(&server.json(&path("number+nonsense")).await).is_empty());
    let id = server.records[2].to_string();
    assert_eq!(ids(&server.json(&path(&id[..12].to_uppercase())).await), [id.as_str()]);
    assert!(items(&server.json(&path(&id[..3])).await).is_empty(), "three digits fit too much");
    let elsewhere = items(&server.json("/api/v1/tasks").await).into_iter().find(|task| task["name"] == "task 0");
    let elsewhere = elsewhere.unwrap()["task_id"].as_str().unwrap().to_owned();
    assert!(items(&server.json(&format!("{}&task={elsewhere}", path(&id[..12]))).await).is_empty());
}

#[tokio::test]
async fn record_found_by_id_comes_first_and_once() {
    let server = server().await;
    let wanted = server.records[1];
    // Another record speaks of it by the digits that people use.
    let digits = wanted.to_string()[..8].to_owned();
    let description = format!("as {digits} with more steps");
    let speaks = Record { description, ..child(&server.publisher, &server, 50, 1.5) };
    let speaks = server.publisher.sign(&speaks).unwrap();
    store(&server, &[speaks.clone().into()]);
    let expected = [wanted.to_string(), RecordId::from(speaks.id()).to_string()];
    assert_eq!(ids(&server.json(&format!("/api/v1/search?q={digits}")).await), expected);
    let first = server.json(&format!("/api/v1/search?q={digits}&limit=1")).await;
    assert_eq!(ids(&first), expected[..1]);
    let next = first["next"].as_str().unwrap();
    let second = server.json(&format!("/api/v1/search?q={digits}&limit=1&after={next}")).await;
    assert_eq!(ids(&second), expected[1..]);
}

const BINARY: &str = "application/octet-stream";

/// `GET` a task's graph in its compact form.
fn graph(server: &Server, query: &str) -> reqwest::RequestBuilder {
    server.request(reqwest::Method::GET, &format!("/api/v1/tasks/{}/graph.bin{query}", server.task))
}

fn etag(answer: &reqwest::Response) -> String {
    answer.headers()["etag"].to_str().unwrap().to_owned()
}

/// The cursor of an answer: a text after the magic bytes, the version and the content.
fn cursor(bytes: &[u8]) -> String {
    let length = usize::from(bytes[7]);
    String::from_utf8(bytes[8..8 + length].to_vec()).unwrap()
}

#[tokio::test]
async fn compact_graph_is_the_stores_own_and_is_sent_again_only_when_changed() {
    let server = server().await;
    // Longer than one chunk.
    let more: Vec<VerifiedObject> = (0..2000)
        .map(|n| server.publisher.sign(&child(&server.publisher, &server, 100 + n, 3.0)))
        .map(|signed| signed.unwrap().into())
        .collect();
    store(&server, &more);
    let json = format!("/api/v1/tasks/{}/graph", server.task);
    let by_accept = || server.request(reqwest::Method::GET, &json).header("accept", BINARY);
    let mut tag = None;
    for request in [graph(&server, ""), by_accept()] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], BINARY);
        let (length, of_answer) = (answer.content_length(), etag(&answer));
        let bytes = answer.bytes().await.unwrap();
        assert_eq!(format!("{}-8", of_answer.trim_matches('"')), format!("graph-{}", cursor(&bytes)));
        assert_eq!(bytes, server.store.graph(&server.task).unwrap().to_bytes(&cursor(&bytes), SHORT_ID));
        assert_eq!(length, Some(bytes.len() as u64));
        tag = Some((of_answer, bytes.len()));
    }
    let (tag, length) = tag.unwrap();
    let again = graph(&server, "").header("if-none-match", &tag).send().await.unwrap();
    assert_eq!((again.status().as_u16(), etag(&again)), (304, tag.clone()));
    store(&server, &[server.publisher.sign(&child(&server.publisher, &server, 90, 1.0)).unwrap().into()]);
    let changed = graph(&server, "").header("if-none-match", tag).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    assert!(changed.bytes().await.unwrap().len() > length);
    let json = server.json(&json).await;
    assert_eq!(json["ids"].as_array().unwrap().len(), 2000 + 5 + MORE as usize);
    let (status, body) = send(server.request(reqwest::Method::GET, "/api/v1/tasks/zz/graph.bin")).await;
    assert!(status == 404 && body.contains("zz"), "{body}");
}

#[tokio::test]
async fn graph_keeps_its_etag_through_changes_of_other_tasks_and_loses_it_by_a_verdict() {
    let server = server().await;
    let other = server.publisher.sign(&manifest(&server.publisher, "another")).unwrap();
    let of_json = format!("/api/v1/tasks/{}/graph", server.task);
    let (tag, json) = (etag(&graph(&server, "").send().await.unwrap()), server.json(&of_json).await);
    let foreign = server.publisher.sign(&record(&server.publisher, other.id().into(), None, 0, 1.0)).unwrap();
    store(&server, &[other.into(), foreign.into()]);
    let again = graph(&server, "").header("if-none-match", &tag).send().await.unwrap();
    assert_eq!((again.status().as_u16(), etag(&again)), (304, tag.clone()));
    assert_eq!(server.json(&of_json).await, json);

    let verified = server.store.record(&server.records[1]).unwrap().unwrap().signed;
    store(&server, &[fixtures::verification(&fixtures::identity(2), &verified, 1.9, 3000).into()]);
    let changed = graph(&server, "").header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    assert_ne!(etag(&changed), tag);
    let count = |json: &Value| json["verified"].as_array().unwrap().iter().filter(|v| **v == Value::Bool(true)).count();
    assert_eq!(count(&server.json(&of_json).await), count(&json) + 1);
}

#[tokio::test]
async fn graph_since_a_cursor_has_the_changed_records_alone() {
    let server = server().await;
    let whole = graph(&server, "").send().await.unwrap().bytes().await.unwrap();
    let since = format!("?since={}", cursor(&whole));
    let sequence = server.store.task_sequence(&server.task).unwrap();
    let nothing = graph(&server, &since).send().await.unwrap().bytes().await.unwrap();
    assert_eq!((whole[5], nothing[5], cursor(&nothing)), (0, 1, cursor(&whole)));
    assert!(nothing.len() < 64);

    let better = server.publisher.sign(&child(&server.publisher, &server, 90, 1.0)).unwrap();
    store(&server, &[better.into()]);
    let answer = graph(&server, &since).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["cache-control"].to_str().unwrap()), (200, "no-store"));
    let changes = answer.bytes().await.unwrap();
    let expected = server.store.graph_changes(&server.task, sequence).unwrap().unwrap();
    assert!((1..=2).contains(&expected.ids.len()));
    assert_eq!(changes, expected.to_bytes(&cursor(&changes), SHORT_ID));
    let after = format!("?since={}", cursor(&changes));
    assert_eq!(graph(&server, &after).send().await.unwrap().bytes().await.unwrap()[5], 1);
}

#[tokio::test]
async fn graph_since_an_unknown_cursor_is_whole_and_says_so() {
    let server = server().await;
    let whole = graph(&server, "").send().await.unwrap().bytes().await.unwrap();
    let ours = cursor(&whole);
    let (of_run, sequence) = ours.strip_suffix("-8").unwrap().rsplit_once('-').unwrap();
    let later = format!("{of_run}-{}-8", sequence.parse::<u64>().unwrap() + 1);
    for unknown in ["7", "3-abc-1", &later, "%00", &"9".repeat(200)] {
        let answer = graph(&server, &format!("?since={unknown}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.unwrap(), whole, "{unknown}");
    }
}

#[tokio::test]
async fn filtered_experiments_are_those_of_the_class_and_statuses_in_both_directions() {
    let server = server().await;
    let path = format!("/api/v1/tasks/{}/experiments?", server.task);
    let whole = items(&server.json(&format!("{path}limit=500")).await);
    for (filter, class, status) in [
        ("class=CPU", Some("CPU"), None),
        ("status=keep", None, Some("keep")),
        ("class=CPU&status=keep", Some("CPU"), Some("keep")),
    ] {
        let fits = |one: &&Value| {
            class.is_none_or(|class| one["hardware_class"] == class)
                && status.is_none_or(|status| one["status"] == status)
        };
        let mut expected: Vec<_> = whole.iter().filter(fits).cloned().collect();
        assert!(!expected.is_empty(), "{filter}");
        assert_eq!(walk(&server, &format!("{path}{filter}&"), "after", "").await, expected, "{filter}");
        expected.reverse();
        assert_eq!(walk(&server, &format!("{path}{filter}&"), "before", "before=end").await, expected, "{filter}");
    }
    assert_eq!(server.get(&format!("{path}status=kept")).await.0, 400);
}
