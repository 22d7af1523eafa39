//! What honest peers receive from a session.

use spore_protocol::{
    Kind, ObjectId, SignedObject, TaskId,
    legacy::{History, LegacyMessage},
};
use tokio::sync::oneshot;

use super::support::{
    NOW, TestNode, address, connect, control, eventually, ids, manifest, profile, record, task, within,
};
use crate::link::{SessionCommand, SessionEnd};

fn everything() -> (Vec<SignedObject>, Vec<SignedObject>) {
    let legacy_root = record(7, None, None, NOW - 2000);
    let legacy = [
        SignedObject::Experiment(legacy_root.clone()),
        SignedObject::Experiment(record(8, None, Some(&legacy_root), NOW - 1999)),
    ];
    let mut left = task(1, 1200);
    left.push(control(3, &left[5], "verification"));
    left.push(profile(4));
    let mut right = task(2, 30);
    right.extend(legacy);
    right.push(control(3, &right[1], "verification"));
    right.push(profile(5));
    (left, right)
}

#[tokio::test]
async fn two_nodes_exchange_their_histories_and_then_new_objects() {
    let (left, right) = everything();
    let (a, b) = (TestNode::start(&left), TestNode::start(&right));
    let (at_a, at_b) = connect(&a, &b).await;
    eventually("both have everything", || a.has_all(&right) && b.has_all(&left)).await;
    assert_eq!(a.store.counts().unwrap().experiments, b.store.counts().unwrap().experiments);

    let new = SignedObject::Experiment(record(9, None, None, NOW - 10));
    a.publish(new.clone()).await;
    eventually("the new object of a", || b.has(&new)).await;
    let new = control(6, &new, "verification");
    b.publish(new.clone()).await;
    eventually("the new object of b", || a.has(&new)).await;
    at_a.close().await;
    assert_eq!(at_b.ended().await, SessionEnd::Closed);
}

#[tokio::test]
async fn new_object_travels_along_a_line_and_comes_back_to_nobody() {
    let nodes = [TestNode::start(&task(1, 3)), TestNode::start(&[]), TestNode::start(&[])];
    let first = connect(&nodes[0], &nodes[1]).await;
    let second = connect(&nodes[1], &nodes[2]).await;
    eventually("the far end has it", || nodes[2].has_all(&task(1, 3))).await;
    let new = SignedObject::Experiment(record(9, None, None, NOW - 10));
    nodes[0].publish(new.clone()).await;
    eventually("the far end has the new object", || nodes[2].has(&new)).await;
    // Each store stored each object once: five of the task, and the new one.
    assert!(nodes.iter().all(|node| node.store.sequence() == 6));
    drop((first, second));
}

#[tokio::test]
async fn history_comes_in_order_with_its_count_and_the_root_ahead() {
    let objects = task(1, 700);
    let node = TestNode::start(&objects);
    let (mut peer, _running) = node.peer().await;
    peer.hear_requests().await;
    peer.say(&LegacyMessage::SyncRequest { history: History::Records, since: NOW - 3900 }).await;
    let (heard, count) = peer.hear_history(History::Records).await;
    // The manifest and the root, which are older, introduce the task.
    assert_eq!(heard[0].id(), objects[0].id());
    assert_eq!(heard[1].id(), objects[1].id());
    assert_eq!(ids(&heard[2..], Kind::Experiment), ids(&objects[102..], Kind::Experiment));
    assert_eq!(count, 601);

    peer.say(&LegacyMessage::SyncRequest { history: History::Records, since: 0 }).await;
    let (heard, count) = peer.hear_history(History::Records).await;
    assert_eq!((ids(&heard, Kind::Experiment), count), (ids(&objects, Kind::Experiment), 701));
    peer.say(&LegacyMessage::SyncRequest { history: History::Tasks, since: NOW - 10_000 }).await;
    assert_eq!(peer.hear_history(History::Tasks).await, (Vec::new(), 0), "above the time, not at it");
    peer.say(&LegacyMessage::SyncRequest { history: History::Tasks, since: NOW - 10_001 }).await;
    assert_eq!(peer.hear_history(History::Tasks).await.1, 1);
}

#[tokio::test]
async fn peer_that_does_not_ask_is_offered_what_it_lacks() {
    let objects = task(1, 20);
    let node = TestNode::start(&objects);
    let (mut peer, _running) = node.peer().await;
    assert_eq!(peer.hear_requests().await, [0, 0, 0]);
    let own = [objects[0].clone(), objects[1].clone(), objects[7].clone()];
    for object in &own {
        peer.say_object(object).await;
    }
    peer.marker(History::Tasks, 1).await;
    peer.marker(History::Records, 2).await;
    peer.marker(History::Controls, 0).await;
    let offered = peer.hear_objects(19).await;
    let lacking: Vec<ObjectId> =
        objects.iter().map(SignedObject::id).filter(|id| own.iter().all(|own| own.id() != *id)).collect();
    assert_eq!(offered.iter().map(SignedObject::id).collect::<Vec<_>>(), lacking);
    assert_eq!(peer.settle().await, []);
}

#[tokio::test]
async fn new_objects_do_not_wait_for_a_peer_that_sends_no_history() {
    let node = TestNode::start(&[]);
    let (mut peer, _running) = node.peer().await;
    peer.hear_requests().await;
    let objects = task(1, 1);
    node.publish(objects[0].clone()).await;
    node.publish(objects[1].clone()).await;
    node.publish(objects[2].clone()).await;
    assert_eq!(peer.hear_objects(3).await, objects);
}

#[tokio::test]
async fn version_1_record_travels_with_the_task_that_was_derived() {
    let root = record(7, None, None, NOW - 2000);
    let child = record(8, None, Some(&root), NOW - 1999);
    let node = TestNode::start(&[SignedObject::Experiment(root.clone()), SignedObject::Experiment(child.clone())]);
    let (mut peer, _running) = node.peer().await;
    peer.say(&LegacyMessage::SyncRequest { history: History::Records, since: 0 }).await;
    for record in [&root, &child] {
        let frame = peer.hear_json().await;
        assert_eq!(frame["payload"]["id"], record.id().to_string());
        assert_eq!(frame["payload"]["task_id"], root.id().to_string());
        assert_eq!(frame["payload"]["version"], 1);
    }
}

#[tokio::test]
async fn strays_and_objects_that_the_reference_cannot_read_are_not_sent() {
    let mut objects = task(1, 2);
    let id = TaskId::from(manifest(1).id());
    let stray = record(2, Some(id), None, NOW - 6000);
    let mut nameless = record(1, Some(id), None, NOW - 100).object().clone();
    nameless.code_cid = None;
    let hidden = [
        SignedObject::Experiment(stray.clone()),
        SignedObject::Experiment(record(2, Some(id), Some(&stray), NOW - 3000)),
        control(3, &objects[1], "merge"),
        SignedObject::Experiment(super::support::sign(
            1,
            &spore_protocol::Record { task_id: None, version: 1, ..nameless },
        )),
    ];
    objects.extend(hidden.iter().cloned());
    let node = TestNode::start(&objects);
    let (mut peer, _running) = node.peer().await;
    peer.hear_requests().await;
    peer.has_nothing().await;
    assert_eq!(peer.hear_objects(4).await, objects[..4]);
    node.publish(SignedObject::Experiment(record(2, Some(id), Some(&stray), NOW - 50))).await;
    let last = profile(9);
    node.publish(last.clone()).await;
    assert_eq!(peer.hear_objects(1).await, [last]);
}

#[tokio::test]
async fn history_that_falls_short_of_its_count_is_asked_for_once_more() {
    let node = TestNode::start(&[]);
    let (mut peer, _running) = node.peer().await;
    peer.hear_requests().await;
    for object in &task(1, 3)[..3] {
        peer.say_object(object).await;
    }
    peer.marker(History::Tasks, 1).await;
    peer.marker(History::Records, 4).await;
    assert_eq!(peer.hear().await, LegacyMessage::SyncRequest { history: History::Records, since: 0 });
    peer.marker(History::Records, 4).await;
    peer.marker(History::Controls, 0).await;
    assert!(peer.settle().await.is_empty());
}

#[tokio::test]
async fn later_connection_resumes_where_the_last_one_ended() {
    let objects = task(1, 5);
    let node = TestNode::start(&[]);
    let (mut peer, running) = node.dialled().await;
    assert_eq!(peer.hear_requests().await, [0, 0, 0]);
    for object in &objects {
        peer.say_object(object).await;
    }
    peer.marker(History::Tasks, 1).await;
    peer.marker(History::Records, 6).await;
    peer.marker(History::Controls, 0).await;
    eventually("they came", || node.has_all(&objects)).await;
    let held_by_peer = node.store.sequence();
    // The answer to its ping shows the session how far the peer is.
    within("a mark", async {
        while node.shared.hub.sync_mark(&address()).is_none_or(|mark| mark.through < held_by_peer) {
            match peer.hear().await {
                LegacyMessage::Ping => peer.say(&LegacyMessage::Pong).await,
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    running.close().await;

    let meanwhile = profile(3);
    node.publish(meanwhile.clone()).await;
    let (mut peer, _running) = node.dialled().await;
    let day = 24 * 60 * 60;
    assert_eq!(peer.hear_requests().await, [NOW - 10_000 - day, NOW - 4000 + 4 - day, 0]);
    // The session does not send everything again, only what the peer missed.
    assert_eq!(peer.hear_objects(1).await, [meanwhile]);
    peer.has_nothing().await;
    assert_eq!(peer.settle().await, []);
}

#[tokio::test]
async fn artifacts_go_both_ways_and_an_absent_one_is_reported_as_absent() {
    let (a, b) = (TestNode::start(&[]), TestNode::start(&[]));
    let script = b"a script".repeat(10_000);
    let cid = b.store.put_artifact(&script).unwrap();
    let (at_a, at_b) = connect(&a, &b).await;
    let fetch = async |cid| {
        let (reply, answer) = oneshot::channel();
        at_a.commands.send(SessionCommand::FetchArtifact { cid, reply }).await.unwrap();
        within("an answer", answer).await.unwrap()
    };
    assert_eq!(fetch(cid).await, Some(script));
    assert_eq!(fetch(spore_protocol::Cid::of(b"nobody has this")).await, None);
    drop(at_b);
}

#[tokio::test]
async fn peers_are_exchanged_only_on_request() {
    let node = TestNode::start(&[]);
    let (mut peer, _running) = node.peer().await;
    peer.hear_requests().await;
    peer.say(&LegacyMessage::PexRequest).await;
    assert_eq!(peer.hear().await, LegacyMessage::PexResponse(Vec::new()));
    peer.say(&LegacyMessage::PexResponse(vec!["no address".into(), "198.51.100.7:7470".into()])).await;
    peer.say_body(br#"{"type":"of_a_later_version","payload":{}}"#).await;
    assert!(peer.settle().await.is_empty());
}
