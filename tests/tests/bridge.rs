//! What our node sends to legacy peers, seen by a bare peer that keeps every frame: each object once, no object that the
//! reference cannot read, and silence when everything is sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use serde_json::{Value, json};
use spore_protocol::{
    Cid, ControlBody, ControlEvent, Identity, SignedObject, VerifiedObject,
    control::CONTROL_VERSION,
    frame::Frame,
    json::{Map, Value as Json},
};
use spore_tests::{
    Node, TestNet,
    legacy::{LegacyListener, LegacyPeer, object_id},
    net::text,
    picture::{agree, agree_among_us},
    reference::{Reference, python},
    seed::{EPOCH, SeededTask, legacy_chain_at, stray_root},
    wait_for,
};

/// How long a few objects may take between processes of one busy machine.
const SPREAD_LIMIT: Duration = Duration::from_secs(60);
/// How long a settled network is watched for needless messages. On a slower machine the test may miss one, but does not
/// fail without one.
const QUIET: Duration = Duration::from_secs(4);

/// A control event of a type that the reference does not know.
fn unknown_event(signer: &Identity, timestamp: u64) -> SignedObject {
    let event = ControlEvent {
        kind: "annotation".into(),
        payload: Map::from([("text".into(), "only our own network knows this type".into())]),
        body: ControlBody::Other { experiment_id: None, task_id: None },
        node_id: signer.node_id(),
        timestamp,
        version: CONTROL_VERSION,
    };
    VerifiedObject::from(signer.sign(&event).unwrap()).into_signed()
}

async fn has_all(peer: &LegacyPeer, wanted: &BTreeSet<String>) {
    wait_for("a bare peer to receive everything", SPREAD_LIMIT, async || {
        let known = peer.id_set();
        let missing: Vec<_> = wanted.difference(&known).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} of {}; {}", wanted.len(), peer.summary())) }
    })
    .await;
}

fn assert_once_each(ids: &[String], whose: &str) {
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = ids.iter().filter(|id| !seen.insert(*id)).collect();
    assert!(twice.is_empty(), "{whose} received {twice:?} more than once");
}

/// Number of signed objects that a node reports as sent to its connected legacy peers.
async fn sent(node: &Node) -> Result<u64, String> {
    let peers = node.api("/peers").await?;
    Ok(peers.as_array().into_iter().flatten().filter_map(|peer| peer["sent"].as_u64()).sum())
}

fn field<'a>(frame: &'a Frame, name: &str) -> Option<&'a str> {
    match &frame.payload {
        Json::Object(map) => match map.get(name) {
            Some(Json::String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// Asserts that each task is introduced before its records. The reference refuses a root once it has another record of
/// the task, and treats a task as a legacy one when it has not seen the manifest.
fn assert_introduced(frames: &[Frame], manifests: &BTreeSet<String>) {
    let mut sent = BTreeSet::new();
    let mut begun = BTreeMap::new();
    for frame in frames {
        let Some(id) = object_id(frame) else { continue };
        if frame.kind == "experiment" {
            let task = field(frame, "task_id").unwrap_or_default().to_owned();
            assert_eq!(task.len(), 64, "{id} names its task");
            assert!(!manifests.contains(&task) || sent.contains(&task), "{id} came before its task");
            begun.entry(task).or_insert_with(|| {
                assert_eq!(field(frame, "parent"), None, "the first record of a task is its root, not {id}");
            });
        }
        sent.insert(id);
    }
}

async fn assert_readable(reference: &mut Reference, frames: &[Frame]) {
    for frame in frames.iter().filter(|frame| object_id(frame).is_some()) {
        let payload: Value = serde_json::from_str(&frame.payload.canonical()).unwrap();
        let valid = reference.try_ask(&json!({"do": "valid", "kind": frame.kind, "payload": payload})).await;
        assert_eq!(valid, Ok(true.into()), "{frame:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_the_reference_cannot_read_or_place_are_never_sent() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let history = SeededTask::new(11, 9);
    history.store(&net.dir_of("ours"));
    let dialled = LegacyListener::bind().await;
    let node = net.start("ours", None, &["--no-train", "--peer", &format!("127.0.0.1:{}", dialled.port)]).await;
    let mut offered = dialled.accept().await;
    offered.has_nothing().await.unwrap();

    let publisher = Identity::from_seed(&[77; 32]);
    let (stray, annotation) = (stray_root(&publisher, history.task), unknown_event(&publisher, EPOCH));
    let backwards = legacy_chain_at(&publisher, &[EPOCH + 300, EPOCH + 200, EPOCH + 100]);
    for object in backwards.iter().chain([&stray, &annotation]) {
        net.node(node).submit(object).await;
    }

    // One peer asks for everything, the other is dialled and never asks: both receive the same objects.
    let mut asking = LegacyPeer::dial_from(Ipv4Addr::new(127, 0, 0, 21), net.node(node).port).await.unwrap();
    let [records, controls, manifests] = asking.sync_all().await;
    assert_eq!(records, 9 + 3 + 1, "the history, the legacy chain and the root of the built-in task");
    assert_eq!(controls, 4, "only events of known types");
    assert_eq!(manifests, 2);
    let everything = asking.id_set();
    for object in history.objects().chain(backwards) {
        assert!(everything.contains(&object.id().to_string()), "{object:?}");
    }
    has_all(&offered, &everything).await;

    // Both receive new objects, and still none that the reference cannot read.
    let later = unknown_event(&publisher, EPOCH + 1);
    net.node(node).submit(&later).await;
    let news = legacy_chain_at(&publisher, &[EPOCH + 5_000]).remove(0);
    net.node(node).submit(&news).await;
    let news = BTreeSet::from([news.id().to_string()]);
    let mut reference = Reference::start(&python, &net, "reference", &[]).await;
    for peer in [&asking, &offered] {
        has_all(peer, &news).await;
        for unwanted in [&stray, &annotation, &later] {
            assert!(!peer.id_set().contains(&unwanted.id().to_string()), "{unwanted:?}");
        }
        let frames = peer.frames();
        let manifests = frames.iter().filter(|frame| frame.kind == "task").filter_map(object_id).collect();
        assert_introduced(&frames, &manifests);
        assert_readable(&mut reference, &frames).await;
        assert_eq!(peer.ended(), None);
    }
    assert_once_each(&offered.ids(), "the dialled peer");
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_over_both_networks_settles_and_is_silent() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let first = net.start("first", None, &["--no-train"]).await;
    // The second node is connected with the first one twice: over libp2p and over the bridge.
    let legacy = net.node(first).legacy_address();
    let second = net.start("second", Some(first), &["--no-train", "--peer", &legacy]).await;
    let peers = [first, second].map(|node| net.node(node).legacy_address());
    let mut reference = Reference::start(&python, &net, "reference", &peers).await;
    reference.synced().await;
    let mut onlookers = Vec::new();
    for (number, node) in (31..).zip([first, second]) {
        let from = Ipv4Addr::new(127, 0, 0, number);
        onlookers.push(LegacyPeer::dial_from(from, net.node(node).port).await.unwrap());
    }
    agree(net.node(first), &mut reference).await;
    agree_among_us(net.node(first), net.node(second)).await;

    // Each of the three publishes objects, some of them about another's records.
    let history = SeededTask::new(12, 12);
    for (number, object) in history.objects().enumerate() {
        net.node(if number % 2 == 0 { first } else { second }).submit(&object).await;
    }
    let mut news: BTreeSet<_> = history.objects().map(|object| object.id().to_string()).collect();
    for number in 0..3 {
        let record = reference.ask(json!({"do": "publish_old", "code": format!("print({number})")})).await;
        news.insert(text(&record["id"]));
    }
    news.insert(text(&reference.ask(json!({"do": "profile", "display_name": "Ada"})).await));
    agree(net.node(first), &mut reference).await;
    agree(net.node(second), &mut reference).await;
    for onlooker in &onlookers {
        has_all(onlooker, &news).await;
    }

    // All nodes have everything, so nothing is left to send. A message may still be on its way to a node that has the
    // object already, so the count must stop changing, at whatever number.
    let mut count = 0;
    wait_for("a quiet network", SPREAD_LIMIT, async || {
        let before = count;
        tokio::time::sleep(QUIET).await;
        let heard = reference.ask(json!({"do": "received"})).await.as_array().map_or(0, Vec::len);
        count = heard as u64 + sent(net.node(first)).await? + sent(net.node(second)).await?;
        if count == before { Ok(()) } else { Err(format!("{count} objects were sent, {before} some seconds ago")) }
    })
    .await;
    for onlooker in &onlookers {
        assert_once_each(&onlooker.ids(), "an onlooker");
        assert_eq!(onlooker.ended(), None);
    }
    // Older objects may come twice: the reference asked for them after it had received some.
    let heard = reference.ask(json!({"do": "received"})).await;
    let heard = heard.as_array().unwrap().iter().filter(|one| news.contains(&text(&one[2])));
    assert_once_each(&heard.map(ToString::to_string).collect::<Vec<_>>(), "the reference, by one peer,");
    reference.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_peer_is_answered_and_may_send_unknown_messages() {
    let mut net = TestNet::new();
    let node = net.start("ours", None, &["--no-train"]).await;
    let mut peer = LegacyPeer::dial(net.node(node).port).await.unwrap();
    let cid = net.node(node).put_artifact(b"print('here')").await;
    let request = |cid: &Cid| Json::Object(Map::from([("code_cid".into(), Json::String(cid.to_string()))]));
    peer.send("from_the_future", Json::Object(Map::from([("a".into(), Json::Null)]))).await.unwrap();
    peer.send("code_request", request(&Cid::of(b"nobody has this"))).await.unwrap();
    peer.send("code_request", request(&cid)).await.unwrap();
    peer.send("pex_request", Json::Object(Map::new())).await.unwrap();
    peer.send("ping", Json::Object(Map::new())).await.unwrap();
    wait_for("three answers", SPREAD_LIMIT, async || {
        let [code, pex, pong] = ["code_response", "pex_response", "pong"].map(|kind| peer.frames_of(kind).len());
        if [code, pex, pong] == [1, 1, 1] { Ok(()) } else { Err(peer.summary()) }
    })
    .await;
    let code = peer.frames_of("code_response");
    assert_eq!(field(&code[0], "code_cid"), Some(cid.to_string().as_str()));
    assert_eq!(field(&code[0], "code"), Some("cHJpbnQoJ2hlcmUnKQ=="));
    assert_eq!(peer.frames_of("pex_response")[0].payload.canonical(), r#"{"peer":[]}"#);

    // The node asks this peer, as it asks any peer.
    for question in ["sync_request", "control_sync_request", "task_sync_request", "pex_request"] {
        assert_eq!(peer.frames_of(question).len(), 1, "{}", peer.summary());
    }
    // An object that was changed after it was signed is not stored, and does not end the connection.
    let history = SeededTask::new(13, 2);
    let mut altered = Json::parse(history.manifest().as_bytes()).unwrap();
    if let Json::Object(map) = &mut altered {
        map.insert("name".into(), "another".into());
    }
    peer.send("task", altered).await.unwrap();
    peer.send_object(&history.objects().next().unwrap()).await.unwrap();
    wait_for("the task as it was signed", SPREAD_LIMIT, async || {
        net.node(node).api(&format!("/tasks/{}", history.task)).await
    })
    .await;
    let tasks = net.node(node).api("/tasks").await.unwrap();
    let names: Vec<_> = tasks["items"].as_array().unwrap().iter().map(|task| text(&task["name"])).collect();
    assert!(names.contains(&"history-13".to_owned()) && !names.contains(&"another".to_owned()), "{names:?}");
    assert_eq!(peer.ended(), None);
}
