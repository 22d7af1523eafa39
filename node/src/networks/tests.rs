//! The API over real HTTP, with a real bridge.

use std::sync::Arc;

use serde_json::Value;
use spore_api::{Api, live::LiveNode, ports::TaskMaker, route::Route, serve, view::StoreView};
use spore_base::mode::Mode;
use spore_bridge::{BridgeConfig, Listeners};
use spore_ingest::Ingest;
use spore_network::{NetworkCommand, Snapshot};
use spore_protocol::{Identity, frame::Frame};
use spore_storage::Store;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, sync::watch};

use super::*;

const TOKEN: &str = "sesame";

/// Makes no task: these tests are about peers.
struct NoTasks;

impl TaskMaker for NoTasks {
    fn create(&self, _: dto::NewTask) -> BoxFuture<'_, Result<TaskId, ApiError>> {
        async { Err(ApiError::unavailable("no trainer")) }.boxed()
    }
}

/// The API's address, on a store without objects, a bridge that listens for nobody and no libp2p peers.
async fn start(dir: &tempfile::TempDir, shutdown: watch::Receiver<bool>) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = Store::open(dir.path()).unwrap();
    let identity = Identity::from_seed(&[1; 32]);
    let (ingest, events, ..) = Ingest::spawn(store.clone(), Arc::new(|| 5000), shutdown.clone());
    let (network, mut commands) = NetworkHandle::channel();
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            if let NetworkCommand::Snapshot(reply) = command {
                let _ = reply.send(Snapshot::default());
            }
        }
    });
    let (bridge, _) = spore_bridge::start(
        BridgeConfig::default(),
        Listeners::default(),
        store.clone(),
        ingest.clone(),
        events.clone(),
        Arc::new(|| 5000),
        shutdown.clone(),
    );
    let live = LiveNode {
        mode: Mode::Relay,
        started: std::time::Instant::now(),
        networks: Arc::new(NodeNetworks { network, bridge }),
        tasks: Arc::new(NoTasks),
        ingest,
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
    let view = StoreView::new(store, Some(identity.node_id()));
    let api = Api {
        view,
        node: Some(live),
        pinned: None,
        token: Some(TOKEN.into()),
        page: false,
        names: Vec::new(),
        proxies: Default::default(),
        connections: spore_api::MAX_CONNECTIONS,
        shutdown,
    };
    tokio::spawn(serve(api, listener));
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_peers_are_added_listed_and_removed_by_host_and_port() {
    let (dir, (_stop, shutdown)) = (tempfile::tempdir().unwrap(), watch::channel(false));
    let root = start(&dir, shutdown).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = async |request: reqwest::RequestBuilder| {
        let answer = request.bearer_auth(TOKEN).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap().to_string();
    let add = || send(client.post(format!("{root}/api/v1/peers")).body(format!(r#"{{"address":"{address}"}}"#)));
    let remove = || send(client.delete(format!("{root}{}", Route::RemovePeer(address.clone()).path())));
    let json = async |path: &str| {
        let (status, body) = send(client.get(format!("{root}/api/v1{path}"))).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    // A program that says nothing of the protocol is no peer.
    let web = async {
        let (mut stream, _) = other.accept().await.unwrap();
        stream.write_all(b"HTTP/1.0 400 Bad request\r\n\r\n").await.unwrap();
    };
    let ((status, body), ()) = tokio::join!(add(), web);
    assert!(status == 409 && body.contains("sent no message of the existing network"), "{status} {body}");
    let peer = async {
        let (mut stream, _) = other.accept().await.unwrap();
        let ping = Frame { kind: "ping".into(), payload: spore_protocol::json::Value::Object(Default::default()) };
        stream.write_all(&ping.encode().unwrap()).await.unwrap();
        stream
    };
    let ((status, body), mut stream) = tokio::join!(add(), peer);
    assert_eq!(status, 200, "{body}");
    let peers = json("/peers").await;
    let peer = &peers[0];
    assert_eq!((&peer["transport"], &peer["direction"]), (&"legacy".into(), &"outbound".into()), "{peers}");
    assert_eq!((&peer["address"], &peer["peer_id"]), (&address.as_str().into(), &Value::Null));
    let status = json("/status").await;
    assert_eq!((&status["peer_count"], &status["legacy_peer_count"]), (&1.into(), &1.into()));
    assert_eq!(remove().await.0, 200);
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
    assert_eq!(remove().await.0, 404, "a peer that was removed is not dialled again");
    drop(other);
    let (status, body) = add().await;
    assert!(status == 503 && body.contains(&address) && body.contains("refused"), "{body}");
    assert_eq!(remove().await.0, 200, "a peer that did not answer is still dialled until it is removed");
}
