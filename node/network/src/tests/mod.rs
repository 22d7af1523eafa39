//! Networks of real nodes in one process, over memory where a test is not about sockets.

mod hostile;
pub mod objects;
mod reach;
pub mod support;

use std::time::Instant;

use objects::{chain, manifest_by, record, verified};
use spore_base::fetch::FetchError;
use spore_ingest::{Disposition, Ingest, Origin};
use spore_protocol::{TaskId, frontier::FrontierKind};
use spore_storage::Span;
use support::{NOW, SwarmNode, all_follow, all_have, config, config_on, eventually};

use super::{NetworkConfig, NetworkError, PeerInfo, limits::MAX_TASKS, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_reaches_everybody_through_a_relay() {
    let relay = SwarmNode::start(1, &[]).await;
    let a = SwarmNode::start(2, &[&relay]).await;
    let b = SwarmNode::start(3, &[&relay]).await;
    let c = SwarmNode::start(4, &[&b]).await;
    relay.connected_to(2).await;
    b.connected_to(2).await;
    let (task, objects) = chain(&a.identity, "gossip", 3);
    for object in &objects {
        a.publish(object.clone()).await;
    }
    let everybody = [&relay, &a, &b, &c];
    all_have(&everybody, &objects).await;
    all_follow(&everybody).await;
    let late: Vec<_> = (10..20).map(|n| record(&c.identity, task, Some((objects[1].id().into(), 0)), n)).collect();
    for object in &late {
        c.publish(object.clone()).await;
    }
    all_have(&everybody, &late).await;
    for node in everybody {
        assert!(node.snapshot().await.rejected.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_know_only_a_relay_find_each_other() {
    let relay = SwarmNode::start(1, &[]).await;
    let a = SwarmNode::start(2, &[&relay]).await;
    let b = SwarmNode::start(3, &[&relay]).await;
    for (node, other) in [(&a, &b), (&b, &a)] {
        eventually("connected with each other", || async {
            node.snapshot().await.peers.iter().any(|one| one.peer_id == other.peer())
        })
        .await;
    }
    // What one of them publishes reaches the other without the relay.
    relay.stop().await;
    let object = manifest_by(&a.identity, "found");
    a.publish(object.clone()).await;
    all_have(&[&b], &[object]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_joiner_gets_everything() {
    let first = SwarmNode::start(1, &[]).await;
    let (_, mut objects) = chain(&first.identity, "one", 40);
    objects.extend(chain(&first.identity, "two", 3).1);
    for object in &objects {
        first.publish(object.clone()).await;
    }
    let late = SwarmNode::start(2, &[&first]).await;
    let later = SwarmNode::start(3, &[&late]).await;
    all_have(&[&late, &later], &objects).await;
    assert_eq!(late.store.pending_count().unwrap(), 0);
    all_follow(&[&late, &later]).await;
    eventually("both tasks are followed", || async { late.snapshot().await.tasks_followed == 2 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_task_without_a_manifest_are_found_too() {
    let first = SwarmNode::start(1, &[]).await;
    let orphan = record(&first.identity, TaskId([5; 32]), None, 1);
    first.publish(orphan.clone()).await;
    let late = SwarmNode::start(2, &[&first]).await;
    all_have(&[&late], &[orphan]).await;
}

/// More tasks than a peer names in one answer, all busier than the one that matters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_task_is_found_among_any_number_of_busy_ones() {
    let first = SwarmNode::start(1, &[]).await;
    let (_, quiet) = chain(&first.identity, "quiet", 1);
    let mut busy = Vec::new();
    for task in 0..MAX_TASKS as u64 + 200 {
        let task = TaskId(*spore_protocol::Cid::of(&task.to_be_bytes()).as_bytes());
        let root = verified(&first.identity, task, None, 0, "busy");
        let child = verified(&first.identity, task, Some((root.id().into(), 0)), 1, "busy");
        busy.extend([root, child]);
    }
    first.store.insert(&busy, support::NOW).unwrap();
    for object in &quiet {
        first.publish(object.clone()).await;
    }
    let named = crate::jobs::serve::active_tasks(&first.store, MAX_TASKS).unwrap();
    assert!(!named.contains(&TaskId(quiet[0].id().0)), "the quiet task is not among the most active");
    let late = SwarmNode::start(2, &[&first]).await;
    all_have(&[&late], &quiet).await;
    let count = busy.len() as u64 + 1;
    eventually("all records came", || async { late.store.counts().unwrap().experiments == count }).await;
}

/// Two halves work apart, then one link joins them. Everything reaches even the nodes that the link does not touch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healed_partition_converges_on_both_sides() {
    let a1 = SwarmNode::start(1, &[]).await;
    let a2 = SwarmNode::start(2, &[&a1]).await;
    let b1 = SwarmNode::start(3, &[]).await;
    let b2 = SwarmNode::start(4, &[&b1]).await;
    a1.connected_to(1).await;
    b1.connected_to(1).await;
    let (task, common) = chain(&a1.identity, "split", 2);
    let root = Some((common[1].id().into(), 0));
    for node in [&a1, &b1] {
        for object in &common {
            node.publish(object.clone()).await;
        }
    }
    all_have(&[&a2, &b2], &common).await;
    let of_a: Vec<_> = (10..30).map(|n| record(&a2.identity, task, root, n)).collect();
    let of_b: Vec<_> = (30..60).map(|n| record(&b2.identity, task, root, n)).collect();
    for object in &of_a {
        a2.publish(object.clone()).await;
    }
    for object in &of_b {
        b2.publish(object.clone()).await;
    }
    all_have(&[&a1], &of_a).await;
    all_have(&[&b1], &of_b).await;
    assert!(!a1.has(&of_b[0]) && !b1.has(&of_a[0]));
    a1.network.dial(b1.address.clone()).await.unwrap();
    all_have(&[&a1, &a2, &b1, &b2], &[of_a, of_b].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_was_away_catches_up_after_its_restart() {
    let stays = SwarmNode::start(1, &[]).await;
    let goes = SwarmNode::start(2, &[&stays]).await;
    let (task, objects) = chain(&stays.identity, "away", 2);
    for object in &objects {
        stays.publish(object.clone()).await;
    }
    all_have(&[&goes], &objects).await;
    let dir = goes.stop().await;
    let missed = record(&stays.identity, task, Some((objects[2].id().into(), 1)), 9);
    stays.publish(missed.clone()).await;
    let back = SwarmNode::start_in(dir, config(2, vec![stays.address.clone()])).await;
    assert!(back.has(&objects[0]));
    all_have(&[&back], &[missed]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_record_is_announced_and_fetched_and_forwarded() {
    let a = SwarmNode::start(1, &[]).await;
    let b = SwarmNode::start(2, &[&a]).await;
    let c = SwarmNode::start(3, &[&b]).await;
    b.connected_to(2).await;
    let (task, objects) = chain(&a.identity, "large", 1);
    for object in &objects {
        a.publish(object.clone()).await;
    }
    let everybody = [&a, &b, &c];
    all_have(&everybody, &objects).await;
    let root = Some((objects[1].id().into(), 0));
    let large: Vec<_> =
        (2..5).map(|n| verified(&a.identity, task, root, n, &"long ".repeat(30_000)).into_signed()).collect();
    for object in &large {
        assert!(object.canonical().len() > spore_protocol::wire::MAX_INLINE_BYTES);
        a.publish(object.clone()).await;
    }
    all_have(&everybody, &large).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_parent_is_asked_for() {
    let a = SwarmNode::start(1, &[]).await;
    let b = SwarmNode::start(2, &[]).await;
    let (_, objects) = chain(&a.identity, "parents", 4);
    for object in &objects {
        a.publish(object.clone()).await;
    }
    let last = objects.last().unwrap().clone();
    assert_eq!(b.ingest.submit(Origin::Import, last).await.unwrap(), Disposition::Pending);
    b.network.dial(a.address.clone()).await.unwrap();
    all_have(&[&b], &objects).await;
    assert_eq!(b.store.pending_count().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifact_is_fetched_in_chunks() {
    let server = SwarmNode::start(1, &[]).await;
    let client = SwarmNode::start(2, &[&server]).await;
    client.connected_to(1).await;
    let bytes: Vec<u8> = (0..3_500_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cid = server.store.put_artifact(&bytes).unwrap();
    client.network.fetch_artifact(cid, Some(server.identity.node_id())).await.unwrap();
    assert_eq!(client.store.artifact(&cid).unwrap(), Some(bytes));
    let empty = server.store.put_artifact(b"").unwrap();
    client.network.fetch_artifact(empty, None).await.unwrap();
    let unknown = spore_protocol::Cid::of(b"nobody has this");
    assert!(matches!(client.network.fetch_artifact(unknown, None).await, Err(FetchError::NotFound(_))));
}

/// A peer whose disk damaged an artifact answers that it does not have it, and loses no points for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_artifact_is_not_served_and_fetched_elsewhere() {
    let damaged = SwarmNode::start(1, &[]).await;
    let sound = SwarmNode::start(2, &[]).await;
    let client = SwarmNode::start(3, &[&damaged, &sound]).await;
    client.connected_to(2).await;
    let bytes = vec![7; 100_000];
    let cid = sound.store.put_artifact(&bytes).unwrap();
    damaged.store.put_artifact(&bytes).unwrap();
    std::fs::write(damaged.store.artifact_path(&cid).unwrap(), vec![8; 100_000]).unwrap();
    client.network.fetch_artifact(cid, Some(damaged.identity.node_id())).await.unwrap();
    assert_eq!(client.store.artifact(&cid).unwrap(), Some(bytes));
    assert_eq!(damaged.store.artifact_path(&cid), None);
    assert!(client.snapshot().await.rejected.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_port_is_an_error_before_anything_runs() {
    let holder = SwarmNode::start_in(tempfile::tempdir().unwrap(), config_on("/ip4/127.0.0.1/tcp/0", 1)).await;
    let dir = tempfile::tempdir().unwrap();
    let store = spore_storage::Store::open(dir.path()).unwrap();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let (ingest, events, wants, _) =
        Ingest::spawn(store.clone(), std::sync::Arc::new(|| support::NOW), stopped.clone());
    let mut config = config(2, Vec::new());
    config.listen = vec![holder.address.clone()];
    let error = start(config, store, ingest, events.subscribe(), wants, stopped).unwrap_err();
    assert!(matches!(error, NetworkError::AddressInUse { .. }), "{error}");
}

async fn objects_pass_and_a_peer_can_be_dropped_on(listen: &str) {
    let a = SwarmNode::start_in(tempfile::tempdir().unwrap(), config_on(listen, 1)).await;
    let b = SwarmNode::start_in(tempfile::tempdir().unwrap(), config_on(listen, 2)).await;
    b.network.dial(a.address.clone()).await.unwrap();
    let object = manifest_by(&a.identity, "over a socket");
    a.publish(object.clone()).await;
    all_have(&[&b], &[object]).await;
    let peer = b.snapshot().await.peers.remove(0);
    assert_eq!((peer.peer_id, peer.node_id), (a.peer(), Some(a.identity.node_id())));
    b.network.disconnect(a.peer()).await.unwrap();
    // The other side may look for peers and come back, on a younger connection.
    let ended = |now: Vec<PeerInfo>| now.iter().all(|one| one.connected < peer.connected);
    eventually("disconnected", || async { ended(b.snapshot().await.peers) }).await;
    assert!(b.network.dial("/ip4/127.0.0.1/tcp/9".parse().unwrap()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_pass_over_tcp_and_a_peer_can_be_dropped() {
    objects_pass_and_a_peer_can_be_dropped_on("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_pass_over_quic_and_a_peer_can_be_dropped() {
    objects_pass_and_a_peer_can_be_dropped_on("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_records_are_caught_up_with() {
    const COUNT: u64 = 20_000;
    let first = SwarmNode::start(1, &[]).await;
    let started = Instant::now();
    let manifest = manifest_by(&first.identity, "many");
    let task = TaskId(manifest.id().0);
    let mut parents: Vec<(spore_protocol::RecordId, u64)> = Vec::new();
    let mut batch = vec![manifest.verify().unwrap()];
    for n in 0..COUNT {
        // A tree of some width: each record builds on one of its recent predecessors.
        let parent = n.checked_sub(1 + n * n % 17 % n.max(1)).and_then(|at| parents.get(at as usize).copied());
        let object = verified(&first.identity, task, parent, n, "one of many");
        parents.push((object.id().into(), parent.map_or(0, |(_, depth)| depth + 1)));
        batch.push(object);
        if batch.len() == 1000 || n + 1 == COUNT {
            first.store.insert(&batch, support::NOW).unwrap();
            batch.clear();
        }
    }
    println!("{COUNT} records made in {:.1} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let late = SwarmNode::start(2, &[&first]).await;
    eventually("all records came", || async { late.store.counts().unwrap().experiments == COUNT }).await;
    println!("{COUNT} records caught up with in {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(late.store.pending_count().unwrap(), 0);
    let frontier = |node: &SwarmNode| -> Vec<_> {
        let page = node.store.listing(&task, &FrontierKind::Reference, &Span::first(10)).unwrap();
        page.items.iter().map(|record| record.id).collect()
    };
    assert_eq!(frontier(&late), frontier(&first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_learns_from_its_peers_that_its_clock_is_behind() {
    let relay = SwarmNode::start(1, &[]).await;
    let others = [SwarmNode::start(2, &[&relay]).await, SwarmNode::start(3, &[&relay]).await];
    let bootstrap = [&relay, &others[0], &others[1]].map(|node| node.address.clone());
    let slow = NetworkConfig { clock: std::sync::Arc::new(|| NOW - 10_800), ..config(4, bootstrap.into()) };
    let slow = SwarmNode::start_in(tempfile::tempdir().unwrap(), slow).await;
    eventually("three clocks are read", || async { slow.ingest.clock().is_some_and(|offset| offset.is_wrong()) }).await;
    assert_eq!(slow.ingest.clock().unwrap().seconds, 10_800);
    eventually("the others agree with each other", || async {
        relay.ingest.clock().is_some_and(|offset| offset.is_right())
    })
    .await;
}
