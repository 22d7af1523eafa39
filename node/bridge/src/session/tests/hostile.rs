//! What a session does about peers that are broken or mean harm.

use std::time::{Duration, Instant};

use spore_protocol::{
    Cid, SignedObject,
    legacy::{History, LegacyMessage},
};
use tokio::{io::AsyncWriteExt, sync::oneshot};

use super::support::{Node, eventually, task, within};
use crate::{
    limits::{
        ANSWERS, BUFFER_KEPT, FRAME_DEADLINE, FRAME_STALL, LARGE_BYTES, LARGE_DEADLINE, PAGE_BYTES, WRITE_STALL,
        WRITE_STALL_MOST,
    },
    link::{self, Ended, SessionCommand},
    session::{
        feed::{Feed, Order},
        incoming::Incoming,
        known::Known,
        outgoing::Outgoing,
        state::Answer,
    },
};

/// The same object under a signature that does not fit.
fn forged(object: &SignedObject) -> SignedObject {
    let mut signature = *object.signature();
    signature[3] ^= 1;
    SignedObject::from_canonical(object.kind(), object.canonical(), signature).unwrap()
}

#[tokio::test]
async fn one_bad_frame_is_survived_and_repeated_ones_are_not() {
    let node = Node::start(&[]);
    let (mut peer, running) = node.peer().await;
    peer.hear_requests().await;
    peer.say_body(b"garbage").await;
    let object = task(1, 0).remove(0);
    peer.say_object(&object).await;
    eventually("the object came in spite of the garbage", || node.has(&object)).await;
    for _ in 0..3 {
        peer.say_body(b"{}").await;
    }
    assert_eq!(running.ended().await, Ended::Misbehaved);
    // Its address is banned: the next frame that cannot be read ends a connection of it.
    let (mut peer, running) = node.peer().await;
    peer.say_body(b"").await;
    assert_eq!(running.ended().await, Ended::Misbehaved);
}

#[tokio::test]
async fn a_length_beyond_the_limit_ends_the_connection() {
    let node = Node::start(&[]);
    let (mut peer, running) = node.peer().await;
    peer.0.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert_eq!(running.ended().await, Ended::Misbehaved);
}

#[tokio::test]
async fn forged_objects_are_not_stored_and_cost_the_connection() {
    let objects = task(1, 5);
    let node = Node::start(&[]);
    let (mut peer, running) = node.peer().await;
    for object in &objects[..4] {
        peer.say_object(&forged(object)).await;
    }
    assert_eq!(running.ended().await, Ended::Misbehaved);
    assert_eq!(node.store.sequence(), 0);
}

#[tokio::test]
async fn a_forged_copy_does_not_keep_the_true_object_out() {
    let object = task(1, 0).remove(0);
    let node = Node::start(&[]);
    let (mut peer, _running) = node.peer().await;
    peer.say_object(&forged(&object)).await;
    eventually("the copy is refused", || node.shared.ingest.rejected().contains_key("bad_signature")).await;
    within("the true one is stored", async {
        while !node.has(&object) {
            peer.say_object(&object).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_honest_nodes_relay_in_good_faith_never_ends_a_connection() {
    let node = Node::start(&[]);
    let (mut peer, running) = node.peer().await;
    peer.hear_requests().await;
    for _ in 0..2000 {
        peer.say_body(br#"{"type":"experiment","payload":{"val_bpb":NaN}}"#).await;
    }
    assert!(peer.settle().await.is_empty());
    running.close().await;
}

#[tokio::test]
async fn repeated_objects_are_taken_once() {
    let objects = task(1, 3);
    let node = Node::start(&[]);
    let (mut peer, _running) = node.peer().await;
    peer.hear_requests().await;
    for _ in 0..300 {
        for object in &objects {
            peer.say_object(object).await;
        }
    }
    assert!(peer.settle().await.is_empty(), "and none comes back");
    eventually("all are stored", || node.has_all(&objects)).await;
    assert_eq!(node.store.sequence(), objects.len() as u64);
}

#[tokio::test]
async fn an_artifact_that_is_another_is_refused() {
    let node = Node::start(&[]);
    let (mut peer, running) = node.peer().await;
    peer.hear_requests().await;
    let (reply, answer) = oneshot::channel();
    let cid = Cid::of(b"wanted");
    running.commands.send(SessionCommand::FetchArtifact { cid, reply }).await.unwrap();
    assert_eq!(peer.hear().await, LegacyMessage::CodeRequest(Some(cid)));
    // What nobody asked for is passed over.
    peer.say(&LegacyMessage::CodeResponse { cid: Some(Cid::of(b"other")), code: "!".into() }).await;
    peer.say(&LegacyMessage::CodeResponse { cid: Some(cid), code: "d3Jvbmc=".into() }).await;
    assert_eq!(within("an answer", answer).await.unwrap(), None);
}

#[tokio::test]
async fn half_a_frame_is_not_waited_for_for_ever() {
    let (mut theirs, ours) = tokio::io::duplex(1024);
    let mut incoming = Incoming::new(ours, link::large());
    let start = Instant::now();
    assert!(!incoming.is_late(start + FRAME_DEADLINE), "no frame has begun");
    theirs.write_all(&[0, 0, 1, 0, b'{']).await.unwrap();
    incoming.fill().await.unwrap();
    assert!(matches!(incoming.next(start).await, Ok(None)));
    assert!(!incoming.is_late(start + FRAME_STALL - Duration::from_millis(1)));
    assert!(incoming.is_late(start + FRAME_STALL));
    // A byte now and then puts it off, but not for ever.
    let mut now = start;
    while now < start + FRAME_DEADLINE - FRAME_STALL {
        now += FRAME_STALL / 2;
        theirs.write_all(b" ").await.unwrap();
        incoming.fill().await.unwrap();
        assert!(matches!(incoming.next(now).await, Ok(None)));
        assert!(!incoming.is_late(now));
    }
    assert!(incoming.is_late(start + FRAME_DEADLINE));
    // While we did not read, the peer is not to blame.
    incoming.excuse(start + FRAME_DEADLINE);
    assert!(!incoming.is_late(start + FRAME_DEADLINE));
}

#[tokio::test]
async fn a_peer_that_takes_nothing_costs_two_pages_and_is_dropped() {
    let objects = task(1, 4000);
    let node = Node::start(&objects);
    let (ours, _theirs) = tokio::io::duplex(1024);
    let known = std::sync::Arc::new(std::sync::Mutex::new(Known::new()));
    let start = Instant::now();
    let remote = std::net::IpAddr::from([127, 0, 0, 1]);
    let mut outgoing = Outgoing::new(ours, node.shared.clone(), remote, Feed::new(known, 0), start);
    outgoing.send(Order::Answer { history: History::Records, since: 0 });
    // Until there is something to write that nobody takes.
    loop {
        match tokio::time::timeout(Duration::from_millis(300), outgoing.step()).await {
            Ok(step) => step.unwrap(),
            Err(_) if outgoing.held() > 0 => break,
            Err(_) => {}
        }
    }
    assert!(outgoing.held() <= 3 * PAGE_BYTES + BUFFER_KEPT, "{} bytes", outgoing.held());
    assert_eq!(outgoing.drained(), None);
    let heard = Instant::now();
    assert!(!outgoing.is_stalled(heard, heard + WRITE_STALL / 2));
    assert!(outgoing.is_stalled(heard, heard + WRITE_STALL));
    assert!(!outgoing.is_stalled(heard + WRITE_STALL, heard + WRITE_STALL), "it is busy sending");
    assert!(outgoing.is_stalled(heard + WRITE_STALL_MOST, heard + WRITE_STALL_MOST));
}

#[tokio::test]
async fn a_peer_that_asks_and_takes_nothing_is_dropped() {
    let node = Node::start(&[]);
    let (ours, _theirs) = tokio::io::duplex(16);
    let known = std::sync::Arc::new(std::sync::Mutex::new(Known::new()));
    let remote = std::net::IpAddr::from([127, 0, 0, 1]);
    let mut outgoing = Outgoing::new(ours, node.shared.clone(), remote, Feed::new(known, 0), Instant::now());
    for _ in 0..ANSWERS {
        outgoing.say(Answer::Message(Box::new(LegacyMessage::Pong))).unwrap();
    }
    assert_eq!(outgoing.say(Answer::Peers), Err(Ended::Overloaded));
}

#[tokio::test]
async fn a_large_frame_comes_in_only_when_there_is_room_and_soon() {
    let large = std::sync::Arc::new(tokio::sync::Semaphore::new(1000));
    let size = LARGE_BYTES + 1;
    let frame = [&u32::try_from(size).unwrap().to_be_bytes(), vec![b' '; size].as_slice()].concat();
    let start = Instant::now();
    let (mut first_end, ours) = tokio::io::duplex(1 << 20);
    let mut first = Incoming::new(ours, large.clone());
    let others = large.clone().acquire_many_owned(900).await.unwrap();
    first_end.write_all(&frame).await.unwrap();
    first.fill().await.unwrap();
    assert!(matches!(first.next(start).await, Ok(None)));
    assert!(first.waits(), "others hold the room");
    drop(others);
    assert!(first.fill().await.unwrap());
    assert!(!first.waits() && large.available_permits() < 1000);
    // All of it is awaited for no longer than others can be made to wait.
    while first.next(start).await.unwrap().is_none_or(|came| {
        assert!(came.room.is_some(), "the room goes with what is in the frame");
        false
    }) {
        assert!(!first.is_late(start) && first.is_late(start + LARGE_DEADLINE));
        first.fill().await.unwrap();
    }
    assert_eq!(large.available_permits(), 1000);
}

#[tokio::test]
async fn what_a_stalled_session_has_not_looked_at_is_not_kept_for_it() {
    // More than the sockets' buffers take.
    let node = Node::start(&task(1, 12_000));
    let (mut peer, _running) = node.peer().await;
    peer.say(&LegacyMessage::SyncRequest { history: History::Records, since: 0 }).await;
    // The peer reads nothing from here on.
    for object in task(2, 40) {
        node.publish(object).await;
    }
    eventually("the channel is empty", || node.shared.events.is_empty()).await;
}

#[tokio::test]
async fn a_frame_that_an_honest_node_made_too_long_is_passed_over() {
    let node = Node::start(&[]);
    let (mut peer, running) = node.peer().await;
    peer.hear_requests().await;
    for _ in 0..4 {
        peer.say_body(&vec![b' '; spore_protocol::frame::MAX_BODY_BYTES + 1]).await;
    }
    let object = task(1, 0).remove(0);
    peer.say_object(&object).await;
    eventually("what follows it is taken", || node.has(&object)).await;
    running.close().await;
}
