//! Real nodes over sockets of this machine: relays, peers of earlier runs, and peers that peers name.

use std::net::TcpListener;

use libp2p::Multiaddr;

use super::support::{SwarmNode, all_have, config, config_on, eventually};
use crate::{NetworkConfig, Reachability, tests::objects::manifest_by};

/// A TCP address that no program uses now.
fn free_address() -> Multiaddr {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

async fn start(config: NetworkConfig) -> SwarmNode {
    SwarmNode::start_in(tempfile::tempdir().unwrap(), config).await
}

/// A relay whose operator says that it is public.
async fn relay(seed: u8, address: &Multiaddr) -> SwarmNode {
    start(NetworkConfig {
        external: vec![address.clone()],
        reachability: Some(Reachability::Public),
        ..config_on(&address.to_string(), seed)
    })
    .await
}

/// The settings of a node that nobody can dial.
fn hidden(seed: u8, relay: &Multiaddr) -> NetworkConfig {
    NetworkConfig { listen: Vec::new(), reachability: Some(Reachability::Private), ..config(seed, vec![relay.clone()]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_nobody_can_dial_meet_through_a_relay_and_exchange_artifacts() {
    let address = free_address();
    let relay = relay(1, &address).await;
    let (a, b) = (start(hidden(2, &address)).await, start(hidden(3, &address)).await);
    for (node, other) in [(&a, &b), (&b, &a)] {
        eventually("connected through the relay", || async {
            node.snapshot().await.peers.iter().any(|one| one.peer_id == other.peer() && one.relayed)
        })
        .await;
    }
    let served = relay.snapshot().await.reach;
    assert!(served.serves && served.reservations == 2 && served.circuits >= 1, "{served:?}");
    let bytes = vec![7; 3_000_000];
    let cid = a.store.put_artifact(&bytes).unwrap();
    b.network.fetch_artifact(cid, Some(a.identity.node_id())).await.unwrap();
    let object = manifest_by(&a.identity, "hidden");
    a.publish(object.clone()).await;
    all_have(&[&b, &relay], &[object]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reservation_is_asked_for_again_after_the_relay_died() {
    let address = free_address();
    let first = relay(1, &address).await;
    let node = start(hidden(2, &address)).await;
    let held = || async { node.snapshot().await.reach.relays.iter().any(|relay| relay.held.is_some()) };
    eventually("a reservation", held).await;
    first.stop().await;
    eventually("the address at the dead relay is withdrawn", || async {
        let snapshot = node.snapshot().await;
        snapshot.listen_addresses.is_empty() && snapshot.external_addresses.is_empty()
    })
    .await;
    let _second = relay(1, &address).await;
    eventually("a reservation again", held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_whose_named_peer_is_dead_finds_others_of_earlier_runs() {
    let address = free_address();
    let named = start(config_on(&address.to_string(), 1)).await;
    let knowing = |seed, remembered| NetworkConfig {
        bootstrap: vec![address.clone()],
        remembered,
        ..config_on("/ip4/127.0.0.1/tcp/0", seed)
    };
    let file = tempfile::tempdir().unwrap().keep().join("reached_peers");
    let other = start(knowing(2, None)).await;
    let node = start(knowing(3, Some(file.clone()))).await;
    let is_with_other = |node: &SwarmNode| {
        let (network, other) = (node.network.clone(), other.peer());
        async move { network.snapshot().await.unwrap().peers.iter().any(|one| one.peer_id == other) }
    };
    eventually("connected with the other one", || is_with_other(&node)).await;
    eventually("the other one said where it is", || async {
        let peers = node.snapshot().await.peers;
        peers.iter().any(|one| one.peer_id == other.peer() && one.agent.is_some())
    })
    .await;
    named.stop().await;
    let dir = node.stop().await;
    assert!(std::fs::read_to_string(&file).unwrap().contains(&other.peer().to_string()));
    let again = SwarmNode::start_in(dir, knowing(3, Some(file.clone()))).await;
    eventually("connected with the other one again", || is_with_other(&again)).await;
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
}
