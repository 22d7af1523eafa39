//! How a session treats peers that are broken or hostile.

use std::time::{Duration, Instant};

use spore_protocol::{
    Cid, SignedObject,
    legacy::{History, LegacyMessage},
};
use tokio::{io::AsyncWriteExt, sync::oneshot};

use super::support::{TestNode, eventually, task, within};
use crate::{
    limits::{
        ANSWERS, BUFFER_KEPT, FRAME_DEADLINE, FRAME_STALL, LARGE_BYTES, LARGE_DEADLINE, PAGE_BYTES, WRITE_STALL,
        WRITE_STALL_MOST,
    },
    link::{SessionCommand, SessionEnd},
    session::{
        feed::{Delivery, ObjectFeed},
        incoming::Incoming,
        known::KnownIds,
        outgoing::Outgoing,
        state::PeerAnswer,
    },
    shared::LargeMemory,
};

/// The same object with a wrong signature.
fn forged(object: &SignedObject) -> SignedObject {
    let mut signature = *object.signature();
    signature[3] ^= 1;
    SignedObject::from_canonical(object.kind(), object.canonical(), signature).unwrap()
}

#[tokio::test]
async fn one_bad_frame_is_tolerated_and_repeated_ones_end_the_connection() {
    let node = TestNode::start(&[]);
    let (mut peer, running) = node.peer().await;
    peer.hear_requests().await;
    peer.say_body(b"garbage").await;
    let object = task(1, 0).remove(0);
    peer.say_object(&object).await;
    eventually("the object is stored in spite of the garbage", || node.has(&object)).await;
    for _ in 0..3 {
        peer.say_body(b"{}").await;
    }
    assert_eq!(running.ended().await, SessionEnd::Misbehaved);
    // The address is banned: the next unreadable frame ends any connection with it.
    let (mut peer, running) = node.peer().await;
    peer.say_body(b"").await;
    assert_eq!(running.ended().await, SessionEnd::Misbehaved);
}

#[tokio::test]
async fn length_beyond_the_limit_ends_the_connection() {
    let node = TestNode::start(&[]);
    let (mut peer, running) = node.peer().await;
    peer.0.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert_eq!(running.ended().await, SessionEnd::Misbehaved);
}

#[tokio::test]
async fn forged_objects_are_not_stored_and_cost_the_connection() {
    let objects = task(1, 5);
    let node = TestNode::start(&[]);
    let (mut peer, running) = node.peer().await;
    for object in &objects[..4] {
        peer.say_object(&forged(object)).await;
    }
    assert_eq!(running.ended().await, SessionEnd::Misbehaved);
    assert_eq!(node.store.sequence(), 0);
}

#[tokio::test]
async fn forged_copy_does_not_keep_the_true_object_out() {
    let object = task(1, 0).remove(0);
    let node = TestNode::start(&[]);
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
async fn frames_that_honest_nodes_relay_in_good_faith_never_end_a_connection() {
    let node = TestNode::start(&[]);
    let (mut peer, running) = node.peer().await;
    peer.hear_requests().await;
    for _ in 0..2000 {
        peer.say_body(br#"{"type":"experiment","payload":{"val_bpb":NaN}}"#).await;
    }
    assert!(peer.settle().await.is_empty());
    running.close().await;
}

#[tokio::test]
async fn repeated_objects_are_stored_once() {
    let objects = task(1, 3);
    let node = TestNode::start(&[]);
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
async fn artifact_with_another_hash_is_refused() {
    let node = TestNode::start(&[]);
    let (mut peer, running) = node.peer().await;
    peer.hear_requests().await;
    let (reply, answer) = oneshot::channel();
    let cid = Cid::of(b"wanted");
    running.commands.send(SessionCommand::FetchArtifact { cid, reply }).await.unwrap();
    assert_eq!(peer.hear().await, LegacyMessage::CodeRequest(Some(cid)));
    // An artifact that nobody asked for is ignored.
    peer.say(&LegacyMessage::CodeResponse { cid: Some(Cid::of(b"other")), code: "!".into() }).await;
    peer.say(&LegacyMessage::CodeResponse { cid: Some(cid), code: "d3Jvbmc=".into() }).await;
    assert_eq!(within("an answer", answer).await.unwrap(), None);
}

#[tokio::test]
async fn partial_frame_is_not_awaited_for_ever() {
    let (mut theirs, ours) = tokio::io::duplex(1024);
    let mut incoming = Incoming::new(ours, LargeMemory::default());
    let start = Instant::now();
    assert!(!incoming.is_late(start + FRAME_DEADLINE), "no frame has begun");
    theirs.write_all(&[0, 0, 1, 0, b'{']).await.unwrap();
    incoming.fill().await.unwrap();
    assert!(matches!(incoming.next(start).await, Ok(None)));
    assert!(!incoming.is_late(start + FRAME_STALL - Duration::from_millis(1)));
    assert!(incoming.is_late(start + FRAME_STALL));
    // A byte now and then extends the wait, but not for ever.
    let mut now = start;
    while now < start + FRAME_DEADLINE - FRAME_STALL {
        now += FRAME_STALL / 2;
        theirs.write_all(b" ").await.unwrap();
        incoming.fill().await.unwrap();
        assert!(matches!(incoming.next(now).await, Ok(None)));
        assert!(!incoming.is_late(now));
    }
    assert!(incoming.is_late(start + FRAME_DEADLINE));
    // The peer is not to blame while this side did not read.
    incoming.restart_deadlines(start + FRAME_DEADLINE);
    assert!(!incoming.is_late(start + FRAME_DEADLINE));
}

#[tokio::test]
async fn peer_that_reads_nothing_costs_two_pages_and_is_dropped() {
    let objects = task(1, 4000);
    let node = TestNode::start(&objects);
    let (ours, _theirs) = tokio::io::duplex(1024);
    let known = std::sync::Arc::new(std::sync::Mutex::new(KnownIds::new()));
    let start = Instant::now();
    let remote = std::net::IpAddr::from([127, 0, 0, 1]);
    let mut outgoing = Outgoing::new(ours, node.shared.clone(), remote, ObjectFeed::new(known, 0), start);
    outgoing.deliver(Delivery::History { history: History::Records, since: 0 });
    // Step until there are bytes to write that nobody reads.
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
    assert!(!outgoing.is_stalled(heard + WRITE_STALL, heard + WRITE_STALL), "the peer is busy sending");
    assert!(outgoing.is_stalled(heard + WRITE_STALL_MOST, heard + WRITE_STALL_MOST));
}

#[tokio::test]
async fn peer_that_asks_and_reads_nothing_is_dropped() {
    let node = TestNode::start(&[]);
    let (ours, _theirs) = tokio::io::duplex(16);
    let known = std::sync::Arc::new(std::sync::Mutex::new(KnownIds::new()));
    let remote = std::net::IpAddr::from([127, 0, 0, 1]);
    let mut outgoing = Outgoing::new(ours, node.shared.clone(), remote, ObjectFeed::new(known, 0), Instant::now());
    for _ in 0..ANSWERS {
        outgoing.answer(PeerAnswer::Message(Box::new(LegacyMessage::Pong))).unwrap();
    }
    assert_eq!(outgoing.answer(PeerAnswer::Peers), Err(SessionEnd::Overloaded));
}

#[tokio::test]
async fn large_frame_comes_in_only_with_a_permit_and_within_a_deadline() {
    let large = LargeMemory::new(1000);
    let size = LARGE_BYTES + 1;
    let frame = [&u32::try_from(size).unwrap().to_be_bytes(), vec![b' '; size].as_slice()].concat();
    let start = Instant::now();
    let (mut first_end, ours) = tokio::io::duplex(1 << 20);
    let mut first = Incoming::new(ours, large.clone());
    let others = large.clone().acquire(900 * 1024).await.unwrap();
    first_end.write_all(&frame).await.unwrap();
    first.fill().await.unwrap();
    assert!(matches!(first.next(start).await, Ok(None)));
    assert!(first.awaits_permit(), "others hold the memory");
    drop(others);
    assert!(first.fill().await.unwrap());
    assert!(!first.awaits_permit() && large.free() < 1000);
    // The rest of the frame is awaited only for as long as other sessions may wait.
    while first.next(start).await.unwrap().is_none_or(|frame| {
        assert!(frame.permit.is_some(), "the permit goes with the content of the frame");
        false
    }) {
        assert!(!first.is_late(start) && first.is_late(start + LARGE_DEADLINE));
        first.fill().await.unwrap();
    }
    assert_eq!(large.free(), 1000);
}

#[tokio::test]
async fn store_events_do_not_pile_up_for_a_stalled_session() {
    // More than the sockets' buffers hold.
    let node = TestNode::start(&task(1, 12_000));
    let (mut peer, _running) = node.peer().await;
    peer.say(&LegacyMessage::SyncRequest { history: History::Records, since: 0 }).await;
    // The peer reads nothing from here on.
    for object in task(2, 40) {
        node.publish(object).await;
    }
    eventually("the channel is empty", || node.shared.events.is_empty()).await;
}

#[tokio::test]
async fn frame_that_an_honest_node_made_too_long_is_skipped() {
    let node = TestNode::start(&[]);
    let (mut peer, running) = node.peer().await;
    peer.hear_requests().await;
    for _ in 0..4 {
        peer.say_body(&vec![b' '; spore_protocol::frame::MAX_BODY_BYTES + 1]).await;
    }
    let object = task(1, 0).remove(0);
    peer.say_object(&object).await;
    eventually("the object behind it is stored", || node.has(&object)).await;
    running.close().await;
}
