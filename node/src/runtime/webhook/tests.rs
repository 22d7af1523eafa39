//! News out of a real store, and their delivery to a server on this machine.

use std::sync::{Arc, Mutex};

use spore_protocol::{Identity, Record, VerifiedObject, fixtures};
use warp::Filter as _;

use super::*;

/// When objects arrive.
const RECEIVED: u64 = fixtures::EPOCH + 1000;

struct World {
    store: Store,
    own: Identity,
    task: TaskId,
    root: RecordId,
    _dir: tempfile::TempDir,
}

/// A store that trusts identity 2, with a task and a record of identity 1 on a CPU.
fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let (own, trusted) = (fixtures::identity(1), fixtures::identity(2));
    let store = Store::open_with_trust(dir.path(), [trusted.node_id()].into()).unwrap();
    let manifest = fixtures::sign(&own, &fixtures::manifest(&own));
    let task = TaskId::from(manifest.id());
    let root = fixtures::sign(&own, &record(&own, task, 2.0, None));
    let id = root.id().into();
    store.insert(&[manifest.into(), root.into()], RECEIVED).unwrap();
    World { store, own, task, root: id, _dir: dir }
}

fn record(by: &Identity, task: TaskId, metric: f64, parent: Option<(RecordId, u64)>) -> Record {
    let base = fixtures::record(by, Some(task), None);
    Record {
        parent: parent.map(|(id, _)| id),
        depth: parent.map_or(0, |(_, depth)| depth + 1),
        val_bpb: metric,
        gpu_model: "CPU".into(),
        ..base
    }
}

/// A measurement of a stored record by the trusted key.
fn measured(store: &Store, id: RecordId, value: f64, agrees: bool) -> VerifiedObject {
    let (trusted, record) = (fixtures::identity(2), store.record(&id).unwrap().unwrap().signed);
    let at = record.timestamp + 100;
    if agrees {
        fixtures::verification(&trusted, &record, value, at).into()
    } else {
        fixtures::challenge(&trusted, &record, value, at).into()
    }
}

#[test]
fn new_best_of_the_class_is_told_once_and_a_claim_never() {
    let World { store, own, task, root, _dir } = world();
    let class = HardwareClass::of("CPU");
    let mut seen = Seen::new(store.clone(), Some(class), own.node_id()).unwrap();
    let at = store.sequence();
    let claim = fixtures::sign(&own, &record(&own, task, 1.5, Some((root, 0))));
    let id = RecordId::from(claim.id());
    store.insert(&[claim.into()], RECEIVED).unwrap();
    let (at, news) = seen.news(&store, at).unwrap();
    assert_eq!(news.len(), 0, "a claim is no best");
    store.insert(&[measured(&store, id, 1.5, true)], RECEIVED).unwrap();
    let (at, news) = seen.news(&store, at).unwrap();
    assert_eq!((news.len(), &news[0]["event"], &news[0]["experiment_id"]), (1, &json!("best"), &json!(id.to_string())));
    assert_eq!(news[0]["previous_experiment_id"], Value::Null);
    assert_eq!(seen.news(&store, at).unwrap().1.len(), 0);
    let mut restarted = Seen::new(store.clone(), Some(HardwareClass::of("CPU")), own.node_id()).unwrap();
    assert_eq!(restarted.news(&store, 0).unwrap().1.len(), 0, "what held at the start is no news");
}

#[test]
fn refuted_record_of_this_node_is_told_once_and_others_records_are_not() {
    let World { store, own, task, root, _dir } = world();
    let other = fixtures::identity(3);
    let mut seen = Seen::new(store.clone(), None, own.node_id()).unwrap();
    let at = store.sequence();
    let foreign = fixtures::sign(&other, &record(&other, task, 1.0, Some((root, 0))));
    let foreign_id = RecordId::from(foreign.id());
    store.insert(&[foreign.into()], RECEIVED).unwrap();
    let objects = [measured(&store, root, 9.0, false), measured(&store, foreign_id, 9.0, false)];
    store.insert(&objects, RECEIVED).unwrap();
    let verdict = store.summary(&root).unwrap().unwrap().verdict;
    assert!(matches!(verdict, Verdict::Disputed | Verdict::Rejected), "{verdict:?}");
    let (at, news) = seen.news(&store, at).unwrap();
    assert_eq!((news.len(), &news[0]["experiment_id"]), (1, &json!(root.to_string())));
    assert_eq!((seen.news(&store, at).unwrap().1.len(), seen.news(&store, 0).unwrap().1.len()), (0, 0));
}

#[test]
fn names_in_sentences_call_nobody() {
    assert_eq!(plain("<!channel> @all tiny-gpt\u{202e}\n"), "channel all tiny-gpt");
    assert_eq!(plain(&"x".repeat(900)).len(), MAX_NAME);
}

#[tokio::test]
async fn message_is_sent_again_until_it_is_taken_and_redirects_are_not_followed() {
    let answers = Arc::new(Mutex::new(vec![200u16, 307, 503]));
    let bodies = Arc::new(Mutex::new(Vec::<Value>::new()));
    let (left, seen) = (answers.clone(), bodies.clone());
    let route = warp::post().and(warp::body::json()).map(move |body: Value| {
        seen.lock().unwrap().push(body);
        let status = left.lock().unwrap().pop().unwrap_or(200);
        let reply = warp::reply::with_header(warp::reply(), "location", "http://127.0.0.1:1/");
        warp::reply::with_status(reply, warp::http::StatusCode::from_u16(status).unwrap())
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(warp::serve(route).incoming(listener).run());
    let (messages, queue) = mpsc::channel(QUEUE);
    let (_stop, shutdown) = tokio::sync::watch::channel(false);
    messages.send(json!({ "n": 1 })).await.unwrap();
    messages.send(json!({ "n": 2 })).await.unwrap();
    drop(messages);
    tokio::time::timeout(Duration::from_secs(60), send_all(url, queue, shutdown)).await.unwrap();
    let numbers: Vec<_> = bodies.lock().unwrap().iter().map(|body| body["n"].clone()).collect();
    assert_eq!(numbers, [1, 1, 2], "503 is tried again, a redirect ends it");
    assert!(answers.lock().unwrap().is_empty());
}
