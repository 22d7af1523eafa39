//! Lines that go dead without a word: cables that are pulled, machines that sleep or move.

use std::time::Instant;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::support::{SwarmNode, config_on, eventually};
use crate::NetworkConfig;

/// A line to a TCP address: its own address, and what cuts it. The sockets stay open when it is cut.
async fn line_to(port: u16) -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let (cut, is_cut) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut is_cut = is_cut.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => return,
                    _ = is_cut.wait_for(|cut| *cut) => {}
                }
                std::future::pending::<()>().await;
            });
        }
    });
    (own, cut)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_behind_a_dead_line_is_noticed_on_both_sides() {
    let tcp = "/ip4/127.0.0.1/tcp/0";
    let server = SwarmNode::start_in(tempfile::tempdir().unwrap(), config_on(tcp, 1)).await;
    let port = server.address.to_string().rsplit('/').next().unwrap().parse().unwrap();
    let (line, cut) = line_to(port).await;
    let named = format!("/ip4/127.0.0.1/tcp/{line}").parse().unwrap();
    let settings = NetworkConfig { bootstrap: vec![named], ..config_on(tcp, 2) };
    let client = SwarmNode::start_in(tempfile::tempdir().unwrap(), settings).await;
    client.connected_to(1).await;
    server.connected_to(1).await;
    cut.send_replace(true);
    let dead = Instant::now();
    for node in [&server, &client] {
        // They may have found another way to each other since.
        eventually("the dead connection is closed", || async {
            node.snapshot().await.peers.iter().all(|peer| peer.connected < dead.elapsed())
        })
        .await;
    }
}
