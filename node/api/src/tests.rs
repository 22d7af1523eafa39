//! The API against a real store with signed objects, over real HTTP.

mod bounds;
mod compat;
mod judgements;
mod listings;
mod noise;
mod objects;
mod routes;
mod sharing;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};
use serde_json::Value;
use spore_base::{mode::Mode, peer::Peer};
use spore_ingest::Ingest;
use spore_protocol::{
    Cid, ControlEvent, Identity, NodeProfile, Record, RecordId, TaskId, TaskManifest, VerifiedObject, control::Rerun,
    fixtures,
};
use spore_storage::Store;
use tokio::{net::TcpListener, sync::watch};

use super::{
    Api, dto,
    live::LiveNode,
    ports::{KnownPeer, Networks, NetworksSnapshot, TaskMaker},
    problem::ApiError,
    proxies::Proxies,
    serve,
    view::StoreView,
};

const TOKEN: &str = "sesame";
/// Connections of the server: few, because the clients of a test need descriptors too.
const CONNECTIONS: usize = 64;
const SCRIPT: &[u8] = b"model = 1\n";

/// Networks without a peer, in which every dial succeeds. The binary's tests drive the API on a real bridge.
struct Reachable;

impl Networks for Reachable {
    fn snapshot(&self) -> BoxFuture<'_, NetworksSnapshot> {
        async { NetworksSnapshot::default() }.boxed()
    }

    fn follow(&self, _: TaskId) -> BoxFuture<'_, Result<(), ApiError>> {
        async { Ok(()) }.boxed()
    }

    fn connect(&self, _: Peer) -> BoxFuture<'_, Result<(), ApiError>> {
        async { Ok(()) }.boxed()
    }

    fn disconnect(&self, _: KnownPeer) -> BoxFuture<'_, Result<(), ApiError>> {
        async { Ok(()) }.boxed()
    }
}

impl TaskMaker for Reachable {
    fn create(&self, _: dto::NewTask) -> BoxFuture<'_, Result<TaskId, ApiError>> {
        async { Err(ApiError::unavailable("no trainer")) }.boxed()
    }
}

/// A server on a store with one task of four records, one of them verified.
struct Server {
    address: SocketAddr,
    store: Store,
    publisher: Identity,
    task: TaskId,
    records: Vec<RecordId>,
    ingest: spore_ingest::IngestHandle,
    stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

fn manifest(by: &Identity, name: &str) -> TaskManifest {
    TaskManifest { name: name.into(), base_code_cid: Some(Cid::of(SCRIPT)), timestamp: 1000, ..fixtures::manifest(by) }
}

fn record(by: &Identity, task: TaskId, parent: Option<RecordId>, number: u64, metric: f64) -> Record {
    Record {
        parent,
        depth: number,
        code_cid: Some(Cid::of(SCRIPT)),
        val_bpb: metric,
        peak_vram_mb: 0.00001,
        description: format!("number {number}, \"signed\":null"),
        timestamp: 1001 + number,
        ..fixtures::record(by, Some(task), None)
    }
}

fn profile(by: &Identity, name: &str) -> NodeProfile {
    NodeProfile { timestamp: 1, ..fixtures::profile(by, name) }
}

impl Server {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let (publisher, verifier) = (fixtures::identity(1), fixtures::identity(2));
        // The node trusts the verifier, and itself no more than others: then each record begins as a claim.
        let store = Store::open_with_trust(dir.path(), [verifier.node_id()].into()).unwrap();
        store.put_artifact(SCRIPT).unwrap();
        let task = publisher.sign(&manifest(&publisher, "first")).unwrap();
        let task_id = TaskId::from(task.id());
        let mut objects: Vec<VerifiedObject> =
            vec![task.into(), publisher.sign(&profile(&publisher, "Sybil")).unwrap().into()];
        let mut records = Vec::new();
        for (number, metric) in [2.0, 1.9, 1.8, 1.7].into_iter().enumerate() {
            let signed =
                publisher.sign(&record(&publisher, task_id, records.last().copied(), number as u64, metric)).unwrap();
            records.push(RecordId::from(signed.id()));
            objects.push(signed.into());
        }
        let rerun = Rerun {
            experiment_id: records[3],
            task_id: Some(task_id),
            node_id: verifier.node_id(),
            gpu: "CPU".into(),
            value: 1.7,
        };
        objects
            .push(verifier.sign(&ControlEvent::verification(rerun, publisher.node_id(), true, 2000)).unwrap().into());
        store.insert(&objects, 3000).unwrap();

        let (stop, shutdown) = watch::channel(false);
        let (ingest, events, ..) = Ingest::spawn(store.clone(), Arc::new(|| 5000), shutdown.clone());
        let view = StoreView::new(store.clone(), Some(publisher.node_id()));
        let live = LiveNode {
            mode: Mode::Relay,
            started: std::time::Instant::now(),
            networks: Arc::new(Reachable),
            tasks: Arc::new(Reachable),
            ingest: ingest.clone(),
            events,
            progress: watch::channel(None).1,
            proposer: watch::channel(None).1,
            research: watch::channel(spore_base::research_state::ResearchState::Off).1,
            pinned: Arc::new(watch::channel(None).0),
            hardware_class: None,
            device: None,
            warnings: Default::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Api {
            view,
            node: Some(live),
            pinned: None,
            token: Some(TOKEN.into()),
            page: true,
            names: vec!["explorer.example.org".into()],
            proxies: Proxies::parse(&[]).unwrap(),
            connections: CONNECTIONS,
            shutdown,
        };
        tokio::spawn(serve(api, listener));
        Self { address, store, publisher, task: task_id, records, ingest, stop, _dir: dir }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.request(method, format!("http://{}{path}", self.address))
    }

    async fn get(&self, path: &str) -> (u16, String) {
        send(self.request(reqwest::Method::GET, path)).await
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

async fn send(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn tasks_records_and_nodes_are_read() {
    let server = Server::start().await;
    let status = server.json("/api/v1/status").await;
    assert_eq!(
        (&status["experiment_count"], &status["verified_experiment_count"], &status["mode"]),
        (&4.into(), &1.into(), &"relay".into())
    );
    assert_eq!(status["active_task"], Value::Null, "no trusted key signed the task");
    let stat = server.json("/api/stat").await;
    for key in ["experiment_count", "verified_experiment_count", "task_count", "peer_count", "frontier_size", "node_id"]
    {
        assert_eq!(stat[key], status[key], "{key}");
    }
    let tasks = server.json("/api/v1/tasks").await;
    assert_eq!((&tasks["items"][0]["name"], &tasks["items"][0]["best"]), (&"first".into(), &1.7.into()));
    for name in [server.task.to_string(), server.task.to_string()[..9].to_uppercase(), "first".into()] {
        assert_eq!(server.json(&format!("/api/v1/tasks/{name}")).await["task_id"], server.task.to_string(), "{name}");
    }
    let frontier = server.json(&format!("/api/v1/tasks/{}/frontier?class=cpu", server.task)).await;
    assert_eq!(frontier["items"].as_array().unwrap().len(), 1);
    assert_eq!(tasks["items"][0]["best_class"], "CPU");
    assert_eq!((&tasks["items"][0]["claims_count"], &tasks["items"][0]["confirmed_signers"]), (&3.into(), &1.into()));
    assert_eq!(frontier["items"][0]["display_name"], "Sybil");
    let graph = server.json(&format!("/api/v1/tasks/{}/graph", server.task)).await;
    assert_eq!(graph["parents"], serde_json::json!([-1, 0, 1, 2]));
    assert_eq!(graph["verified"], serde_json::json!([false, false, false, true]));
    let node = server.json(&format!("/api/v1/nodes/{}", server.publisher.node_id().short())).await;
    assert_eq!((&node["display_name"], &node["experiment_count"]), (&"Sybil".into(), &4.into()));
    assert_eq!(
        server.json(&format!("/api/v1/tasks/{}/nodes", server.task)).await["items"].as_array().unwrap().len(),
        2
    );
    let activity = server.json(&format!("/api/v1/tasks/{}/activity?limit=1", server.task)).await;
    assert_eq!((&activity[0]["kind"], &activity[0]["value"]), (&"verification".into(), &1.7.into()));
    assert_eq!(server.json("/api/v1/openapi.json").await["info"]["title"], "Spore node");
}

#[tokio::test]
async fn signed_object_keeps_the_spelling_of_its_numbers() {
    let server = Server::start().await;
    let id = server.records[3];
    let (status, body) = server.get(&format!("/api/v1/experiments/{}", &id.to_string()[..12])).await;
    assert_eq!(status, 200, "{body}");
    let signed = server.store.record(&id).unwrap().unwrap().signed.to_json();
    assert!(signed.contains("1e-05"), "{signed}");
    assert!(body.contains(&format!("\"signed\":{signed}")), "{body}");
    let detail: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(detail["experiment"]["description"], "number 3, \"signed\":null");
    let lineage: Vec<_> =
        detail["lineage"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(lineage, server.records[..3].iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(
        (&detail["code"], &detail["judgement"]["local"]["verdict"]),
        (&"model = 1\n".into(), &"verified".into())
    );
    assert_eq!(detail["judgement"]["measurements"][0]["value"], 1.7);
}

#[tokio::test]
async fn wrong_requests_are_refused_with_the_fitting_status() {
    let server = Server::start().await;
    let unknown = "0".repeat(64);
    for (path, expected) in [
        ("/api/v1/experiments/zz".to_owned(), 404),
        (format!("/api/v1/experiments/{unknown}"), 404),
        (format!("/api/v1/tasks/{unknown}/graph"), 404),
        (format!("/api/v1/nodes/{unknown}"), 404),
        (format!("/api/v1/artifacts/{unknown}"), 404),
        ("/api/v1/artifacts/zz".to_owned(), 400),
        ("/api/v1/experiments?before=x".to_owned(), 400),
        ("/api/v1/experiments?limit=x".to_owned(), 400),
        ("/api/v1/events?task=zz".to_owned(), 404),
        ("/api/v2/status".to_owned(), 404),
        ("/assets/none.js".to_owned(), 404),
    ] {
        let (status, body) = server.get(&path).await;
        assert_eq!(status, expected, "{path}: {body}");
    }
    let head = server.request(reqwest::Method::HEAD, "/api/v1/status").send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert!(head.bytes().await.unwrap().is_empty());
    let (status, body) =
        send(server.request(reqwest::Method::GET, "/api/v1/status").header("host", "evil.example")).await;
    assert_eq!(status, 421, "{body}");
    let answer = server.request(reqwest::Method::GET, "/").send().await.unwrap();
    assert!(answer.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn ambiguous_prefix_is_refused_with_the_candidates() {
    let server = Server::start().await;
    // Eighteen ids begin with one of sixteen digits: two share their first digit.
    let more: Vec<VerifiedObject> = (0..17)
        .map(|n| server.publisher.sign(&manifest(&server.publisher, &format!("task {n}"))).unwrap().into())
        .collect();
    server.store.insert(&more, 3000).unwrap();
    let ids: Vec<_> = server.store.tasks().unwrap().iter().map(|task| task.task_id.to_string()).collect();
    let shared = (0..16)
        .map(|digit| format!("{digit:x}"))
        .find(|digit| ids.iter().filter(|id| id.starts_with(digit)).count() > 1)
        .unwrap();
    let (status, body) = server.get(&format!("/api/v1/tasks/{shared}")).await;
    let problem: Value = serde_json::from_str(&body).unwrap();
    let named = ids.iter().filter(|id| problem["hint"].as_str().unwrap().contains(*id)).count();
    assert!(status == 409 && named > 1, "{status}: {body}");
}

#[tokio::test]
async fn writing_requests_need_the_token_and_go_through_the_ingest_service() {
    let server = Server::start().await;
    let next = server.publisher.sign(&record(&server.publisher, server.task, Some(server.records[3]), 4, 1.6)).unwrap();
    let object = VerifiedObject::from(next.clone()).into_signed().to_json();
    let post = |path: &str, token: &str, body: String| {
        send(server.request(reqwest::Method::POST, path).bearer_auth(token).body(body))
    };
    assert_eq!(post("/api/v1/objects", "wrong", object.clone()).await.0, 401);
    let (status, body) = post("/api/v1/objects", TOKEN, object.clone()).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("accepted"), "{body}");
    assert!(post("/api/v1/objects", TOKEN, object.clone()).await.1.contains("known"));
    assert_eq!(post("/api/v1/objects", TOKEN, object.replace("number 4", "number 5")).await.0, 400);
    assert!(server.store.record(&next.id().into()).unwrap().is_some());

    let cid = Cid::of(b"text");
    let path = format!("/api/v1/artifacts?cid={cid}");
    assert_eq!(post(&path, TOKEN, "another text".into()).await.0, 400);
    let (status, body) = post(&path, TOKEN, "text".into()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(server.get(&format!("/api/v1/artifacts/{cid}")).await, (200, "text".to_owned()));

    assert_eq!(post("/api/v1/peers", TOKEN, r#"{"address":"/ip4/127.0.0.1/tcp/1"}"#.into()).await.0, 200);
    assert_eq!(post("/api/v1/peers", TOKEN, r#"{"address":"nonsense"}"#.into()).await.0, 400);
    assert_eq!(post("/api/v1/peers", TOKEN, "x".repeat(2 << 20)).await.0, 413);
    assert_eq!(post("/api/v1/status", TOKEN, String::new()).await.0, 405);
    let (status, body) = post("/api/v1/task/use", TOKEN, r#"{"task":"first"}"#.into()).await;
    assert!(status == 200 && body.contains(&server.task.to_string()), "{body}");
    assert_eq!(server.json("/api/v1/status").await["active_task"], server.task.to_string());
}

#[tokio::test]
async fn maintenance_needs_the_token() {
    let server = Server::start().await;
    let job = |token: &str, job: Value| {
        let request = server.request(reqwest::Method::POST, "/api/v1/upkeep").bearer_auth(token);
        send(request.body(job.to_string()))
    };
    assert_eq!(job("wrong", serde_json::json!({ "job": "check" })).await.0, 401);
    assert_eq!(server.get("/api/v1/upkeep/stats").await.0, 401);
    assert_eq!(server.get("/api/v1/%75pkeep/stats").await.0, 401);
    for wrong in
        [serde_json::json!({ "job": "nonsense" }), serde_json::json!({ "job": "backup", "folder": "a", "keep": 1 })]
    {
        assert_eq!(job(TOKEN, wrong.clone()).await.0, 400, "{wrong}");
    }
    let (status, body) = job(TOKEN, serde_json::json!({ "job": "check" })).await;
    assert_eq!(status, 200, "{body}");
    let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 1 && lines[0]["progress"]["stage"].is_string(), "{body}");
    let report = &lines.last().unwrap()["report"];
    assert_eq!((&report["job"], &report["finding_count"], &report["objects"]), (&"check".into(), &0.into(), &7.into()));

    let cid = Cid::of(SCRIPT).to_string();
    let pin = |method| send(server.request(method, &format!("/api/v1/upkeep/pins/{cid}")).bearer_auth(TOKEN));
    let (status, body) = pin(reqwest::Method::POST).await;
    assert!(status == 200 && body.contains("true"), "{body}");
    let read = |path: &str| send(server.request(reqwest::Method::GET, path).bearer_auth(TOKEN));
    assert_eq!(read("/api/v1/upkeep/pins").await.1, format!("[\"{cid}\"]"));
    let stats: Value = serde_json::from_str(&read("/api/v1/upkeep/stats").await.1).unwrap();
    assert_eq!((&stats["artifacts"], &stats["pins"], &stats["pending"]), (&1.into(), &1.into(), &0.into()));
    assert_eq!(pin(reqwest::Method::DELETE).await.0, 200);
    assert_eq!(read("/api/v1/upkeep/pins").await.1, "[]");
}

/// Reads a stream of events until `text` has come.
async fn read_until(response: &mut reqwest::Response, seen: &mut String, text: &str) {
    tokio::time::timeout(Duration::from_secs(30), async {
        while !seen.contains(text) {
            let chunk = response.chunk().await.unwrap().expect("the stream has not ended");
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    })
    .await
    .unwrap_or_else(|_| panic!("no {text:?} in {seen}"));
}

#[tokio::test]
async fn events_are_streamed_and_resumed() {
    let server = Server::start().await;
    let path = format!("/api/v1/events?task={}", server.task);
    let mut stream = server.request(reqwest::Method::GET, &path).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "event:status").await;
    assert!(seen.contains("event:ready") && !seen.contains("event:activity"), "{seen}");

    let next = server.publisher.sign(&record(&server.publisher, server.task, Some(server.records[3]), 4, 1.6)).unwrap();
    let object = VerifiedObject::from(next.clone()).into_signed();
    server.ingest.submit(spore_ingest::Origin::Local, object).await.unwrap();
    read_until(&mut stream, &mut seen, &next.id().to_string()).await;

    // A client that has seen the first five changes reconnects: the others come again, in order.
    let resumed = server.request(reqwest::Method::GET, &path).header("last-event-id", "5");
    let (mut stream, mut seen) = (resumed.send().await.unwrap(), String::new());
    read_until(&mut stream, &mut seen, &next.id().to_string()).await;
    let sequence = |id: &RecordId| server.store.summary(id).unwrap().unwrap().sequence;
    let expected = server.records.iter().filter(|id| sequence(id) > 5).count();
    assert_eq!(seen.matches("event:activity").count(), expected + 2, "{seen}");

    server.stop.send(true).unwrap();
    let ended =
        tokio::time::timeout(Duration::from_secs(30), async { while let Ok(Some(_)) = stream.chunk().await {} }).await;
    assert!(ended.is_ok(), "the stream ends when the node stops");
}

#[tokio::test]
async fn idle_connections_do_not_keep_a_request_out() {
    let server = Server::start().await;
    let mut idle = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        idle.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(server.get("/api/v1/status").await.0, 200);
}

#[tokio::test]
async fn listed_host_name_is_served_and_others_are_not() {
    let server = Server::start().await;
    let ask = |host: &'static str| {
        send(server.request(reqwest::Method::GET, "/api/v1/status").header(reqwest::header::HOST, host))
    };
    assert_eq!(ask("explorer.example.org").await.0, 200);
    let (status, body) = ask("example.org").await;
    assert_eq!(status, 421);
    assert!(body.contains("[web] names"), "{body}");
}
