//! Peers that keep to no rule. What they send is refused, counted, paid for with points, and never forwarded.

use libp2p::{gossipsub, request_response, swarm::SwarmEvent};
use spore_protocol::{
    Identity, ObjectId, SignedObject,
    cbor::{self, ByteBuf},
    fixtures,
    topic::Topic,
    wire,
};

use super::{
    objects::{chain, record, verified},
    support::{Hostile, SwarmNode, all_have, eventually},
};
use crate::{
    behaviour::BehaviourEvent,
    limits::OBJECTS_PER_REQUEST,
    messages::{ArtifactAnswer, ObjectsRequest, ReconcileScope, SyncRequest},
};

/// The object's bytes on the wire, under a signature that is not valid.
fn forged(object: &SignedObject) -> Vec<u8> {
    wire::encode_object(&fixtures::forged(object)).unwrap()
}

/// A hostile peer that the victim's gossip knows to follow these topics.
async fn in_the_mesh(seed: u8, victim: &SwarmNode, topic: Topic) -> Hostile {
    let mut hostile = Hostile::connect(seed, victim, &[topic]).await;
    hostile
        .until(|_, event| match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Subscribed { topic: found, .. })) => {
                (found.as_str() == topic.to_string()).then_some(())
            }
            _ => None,
        })
        .await;
    hostile
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_records_are_refused_and_their_sender_is_banned() {
    let victim = SwarmNode::start(1, &[]).await;
    let bystander = SwarmNode::start(2, &[&victim]).await;
    let (task, objects) = chain(&victim.identity, "forged", 1);
    for object in &objects {
        victim.publish(object.clone()).await;
    }
    all_have(&[&bystander], &objects).await;
    let mut hostile = in_the_mesh(9, &victim, Topic::Record(task)).await;
    let root = Some((objects[1].id().into(), 0));
    let genuine: Vec<_> = (1..=4).map(|n| record(&bystander.identity, task, root, n)).collect();
    for object in &genuine {
        hostile.publish(Topic::Record(task), forged(object));
    }
    hostile.disconnected().await;
    // Only the bystander is left once the victim has seen the end of the connection, too.
    victim.connected_to(1).await;
    let snapshot = victim.snapshot().await;
    assert_eq!(snapshot.rejected, [("bad_signature", 4)].into());
    assert!(bystander.snapshot().await.rejected.is_empty());
    assert!(!genuine.iter().any(|object| victim.has(object) || bystander.has(object)));
    // A forgery has the id of the genuine object, which must arrive all the same.
    bystander.publish(genuine[0].clone()).await;
    all_have(&[&victim], &genuine[..1]).await;
    // The victim has banned the hostile peer.
    hostile.swarm.dial(victim.address.clone()).unwrap();
    hostile.disconnected().await;
    assert_eq!(victim.snapshot().await.peers.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_wrong_topics_and_empty_announcements_are_refused() {
    let victim = SwarmNode::start(1, &[]).await;
    let (task, objects) = chain(&victim.identity, "garbage", 1);
    for object in &objects {
        victim.publish(object.clone()).await;
    }
    let mut hostile = in_the_mesh(9, &victim, Topic::Record(task)).await;
    let other = chain(&victim.identity, "other", 1).1;
    hostile.publish(Topic::Record(task), b"no message at all".to_vec());
    hostile.publish(Topic::Record(task), wire::encode_object(&other[1]).unwrap());
    hostile.publish(Topic::Record(task), cbor::encode(&(1u8, ByteBuf::from(vec![5; 32]), u64::MAX)).unwrap());
    let refused = |victim: &SwarmNode| {
        let network = victim.network.clone();
        async move {
            let rejected = network.snapshot().await.unwrap().rejected;
            ["malformed", "wrong_topic", "too_large"].iter().all(|code| rejected.contains_key(code))
        }
    };
    tokio::select! {
        () = eventually("three kinds of refusal", || refused(&victim)) => {}
        () = async { hostile.until(|_, _| None::<()>).await } => {}
    }
    assert!(!victim.has(&other[1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_catch_up_requests_cost_the_peer_its_connection() {
    let victim = SwarmNode::start(1, &[]).await;
    let mut hostile = Hostile::connect(9, &victim, &[]).await;
    let peer = victim.peer();
    hostile.until(|_, event| matches!(event, SwarmEvent::ConnectionEstablished { .. }).then_some(())).await;
    for n in 0..4u8 {
        let request = SyncRequest::Reconcile { scope: ReconcileScope::Tasks, message: ByteBuf::from(vec![n]) };
        hostile.swarm.behaviour_mut().sync.send_request(&peer, Ok(request));
    }
    hostile.disconnected().await;
    assert_eq!(victim.snapshot().await.rejected, [("malformed", 4)].into());
}

/// Longer than any request may be, so that the codec cannot read them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_cannot_be_read_cost_the_peer_its_connection() {
    let victim = SwarmNode::start(1, &[]).await;
    let mut hostile = Hostile::connect(9, &victim, &[]).await;
    let peer = victim.peer();
    hostile.until(|_, event| matches!(event, SwarmEvent::ConnectionEstablished { .. }).then_some(())).await;
    for n in 0..4u8 {
        let request = ObjectsRequest { kind: n, ids: vec![ObjectId([255; 32]); 4 * OBJECTS_PER_REQUEST] };
        hostile.swarm.behaviour_mut().objects.send_request(&peer, Ok(request));
    }
    hostile.disconnected().await;
    assert_eq!(victim.snapshot().await.rejected, [("malformed", 4)].into());
}

/// The peer that is asked first serves other bytes. It loses points, and the next one is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifact_with_a_wrong_hash_is_refused_and_fetched_elsewhere() {
    let honest = SwarmNode::start(1, &[]).await;
    let client = SwarmNode::start(2, &[&honest]).await;
    client.connected_to(1).await;
    let mut liar = Hostile::connect(9, &client, &[]).await;
    let (liar_peer, liar_node) = (*liar.swarm.local_peer_id(), Identity::from_seed(&[9; 32]).node_id());
    liar.until(|_, event| matches!(event, SwarmEvent::ConnectionEstablished { .. }).then_some(())).await;
    let bytes = vec![7; 100_000];
    let cid = honest.store.put_artifact(&bytes).unwrap();
    let lying = liar.until(|swarm, event| {
        if let SwarmEvent::Behaviour(BehaviourEvent::Artifact(request_response::Event::Message {
            message: request_response::Message::Request { channel, .. },
            ..
        })) = event
        {
            let answer = ArtifactAnswer::Chunk { total: 100_000, bytes: ByteBuf::from(vec![8; 100_000]) };
            let _ = swarm.behaviour_mut().artifact.send_response(channel, answer);
        }
        None::<()>
    });
    let fetching = async {
        client.connected_to(2).await;
        client.network.fetch_artifact(cid, Some(liar_node)).await.unwrap();
        client.snapshot().await
    };
    let snapshot = tokio::select! {
        snapshot = fetching => snapshot,
        () = lying => unreachable!("it lies to the end"),
    };
    assert_eq!(client.store.artifact(&cid).unwrap(), Some(bytes));
    assert_eq!(snapshot.rejected.get("id_mismatch"), Some(&1));
    let score = |peer| snapshot.peers.iter().find(|one| one.peer_id == peer).unwrap().score;
    assert!(score(liar_peer) < score(honest.peer()));
}

/// A peer that answers a request for one object with another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_with_other_objects_than_asked_for_is_refused() {
    let victim = SwarmNode::start(1, &[]).await;
    let (task, objects) = chain(&victim.identity, "answers", 1);
    for object in &objects {
        victim.publish(object.clone()).await;
    }
    let unasked = record(&victim.identity, task, Some((objects[1].id().into(), 0)), 5);
    let large =
        verified(&victim.identity, task, Some((objects[1].id().into(), 0)), 6, &"x".repeat(100_000)).into_signed();
    let mut hostile = in_the_mesh(9, &victim, Topic::Record(task)).await;
    let announcement = wire::Message::of(large).encode().unwrap();
    hostile.publish(Topic::Record(task), announcement);
    let body = ByteBuf::from(wire::encode_object(&unasked).unwrap());
    let answering = hostile.until(|swarm, event| {
        if let SwarmEvent::Behaviour(BehaviourEvent::Objects(libp2p::request_response::Event::Message {
            message: libp2p::request_response::Message::Request { channel, .. },
            ..
        })) = event
        {
            let answer = crate::messages::ObjectsAnswer { objects: vec![body.clone()], absent: Vec::new() };
            let _ = swarm.behaviour_mut().objects.send_response(channel, answer);
        }
        None::<()>
    });
    let network = victim.network.clone();
    tokio::select! {
        () = eventually("refused", || async { network.snapshot().await.unwrap().rejected.contains_key("malformed") }) => {}
        () = answering => {}
    }
    assert!(!victim.has(&unasked));
}
