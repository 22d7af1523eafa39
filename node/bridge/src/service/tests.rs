//! What the bridge's task guarantees, with real sockets on loopback. Sessions run as usual meanwhile.

use std::{net::Ipv4Addr, path::Path};

use spore_ingest::Ingest;
use spore_storage::Store;
use tokio::{
    io::{AsyncReadExt as _, copy, sink},
    net::TcpListener,
    sync::watch,
};

use super::{
    super::{limits::MAX_PER_ADDRESS, link::LinkDirection},
    *,
};

/// Bounds a hang; no test passes or fails by speed.
const HANG: std::time::Duration = std::time::Duration::from_secs(60);

struct RunningBridge {
    bridge: BridgeHandle,
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
    /// Where it listens. Port 0 when it does not listen.
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

async fn running(config: BridgeConfig) -> RunningBridge {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (stop, shutdown) = watch::channel(false);
    let (ingest, events, ..) = Ingest::spawn(store.clone(), Arc::new(|| 5000), shutdown.clone());
    let listeners = Listeners::bind(config.listen).await.unwrap();
    let port = listeners.addresses().first().map_or(0, SocketAddr::port);
    let (bridge, task) = start(config, listeners, store, ingest, events, Arc::new(|| 5000), shutdown);
    RunningBridge { bridge, task, stop, address: (Ipv4Addr::LOCALHOST, port).into(), _dir: dir }
}

impl RunningBridge {
    async fn end(self) {
        self.stop.send(true).unwrap();
        timeout(HANG, self.task).await.expect("the bridge ends").unwrap();
    }
}

/// A bridge that listens on loopback and dials nobody.
fn listening() -> BridgeConfig {
    BridgeConfig { listen: Some((Ipv4Addr::LOCALHOST, 0).into()), ..BridgeConfig::default() }
}

fn dialling(peer: &TcpListener) -> BridgeConfig {
    BridgeConfig { peers: vec![peer.local_addr().unwrap().into()], ..BridgeConfig::default() }
}

async fn other() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// Reads until the other side closes.
async fn closed(mut stream: TcpStream) {
    // A reset ends the copy as an orderly end does.
    let _ = copy(&mut stream, &mut sink()).await;
}

fn known(path: &Path) -> Vec<PeerAddress> {
    book_file::load(path).unwrap().peers
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_hangs_up_is_dialled_again() {
    let peer = other().await;
    let node = running(dialling(&peer)).await;
    for _ in 0..3 {
        drop(peer.accept().await.unwrap());
    }
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connected_peer_is_known_after_a_restart_and_a_removed_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("known_peer");
    let (peer, gone) = (other().await, other().await);
    let addresses = [&peer, &gone].map(|listener| PeerAddress::from(listener.local_addr().unwrap()));
    let node = running(BridgeConfig { known: Some(file.clone()), ..BridgeConfig::default() }).await;
    for address in &addresses {
        node.bridge.connect(address.clone()).await.unwrap();
    }
    let (stream, _) = gone.accept().await.unwrap();
    assert!(node.bridge.disconnect(&addresses[1]).await);
    closed(stream).await;
    let _stream = peer.accept().await.unwrap();
    node.end().await;
    assert_eq!(known(&file), addresses[..1]);

    let node = running(BridgeConfig { known: Some(file.clone()), ..BridgeConfig::default() }).await;
    peer.accept().await.unwrap();
    node.end().await;
    assert_eq!(known(&file), addresses[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_peer_is_dialled_as_configured_and_never_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("known_peer");
    let (public, second) = (other().await, other().await);
    let address = PeerAddress::from(public.local_addr().unwrap());
    let config = |public| BridgeConfig { public, known: Some(file.clone()), ..BridgeConfig::default() };
    let node = running(config(PublicPeer::Tried(address.clone()))).await;
    let _stream = public.accept().await.unwrap();
    node.end().await;
    assert_eq!(known(&file), []);

    // As after `spore import sporemesh`: the file names it, and the operator does not want it.
    let second = PeerAddress::from(second.local_addr().unwrap());
    book_file::save(&file, &[address.clone(), second.clone()]).unwrap();
    let (book, _) = open_book(config(PublicPeer::Avoided(address.clone())));
    assert_eq!((book.source(&address), book.source(&second)), (None, Some(PeerSource::Known)));
    let (book, _) = open_book(config(PublicPeer::LikeOthers));
    assert_eq!(book.source(&address), Some(PeerSource::Known));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_of_an_address_are_closed_at_once() {
    let node = running(listening()).await;
    let mut open = Vec::new();
    for _ in 0..MAX_PER_ADDRESS {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        // A session sends first, so this one has its slot.
        stream.read_u8().await.unwrap();
        open.push(stream);
    }
    for _ in 0..3 {
        closed(TcpStream::connect(node.address).await.unwrap()).await;
    }
    assert_eq!(node.bridge.snapshot().len(), MAX_PER_ADDRESS);
    let other_address = tokio::net::TcpSocket::new_v4().unwrap();
    other_address.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let mut stream = other_address.connect(node.address).await.unwrap();
    stream.read_u8().await.unwrap();
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_does_not_connect_to_itself() {
    let node = running(listening()).await;
    assert_eq!(node.bridge.connect(node.address.into()).await, Err(ConnectError::Own));
    assert!(!node.bridge.disconnect(&node.address.into()).await, "the address is not in the book any more");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_peer_is_reported() {
    let node = running(BridgeConfig::default()).await;
    let nobody = PeerAddress::from(other().await.local_addr().unwrap());
    let error = node.bridge.connect(nobody).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Unreachable(why) if why.contains("refused")), "{error}");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_fails_when_the_peer_is_disconnected_while_it_is_dialled() {
    // A listener whose queue is full answers no dial.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = timeout(std::time::Duration::from_millis(500), TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    let node = running(BridgeConfig::default()).await;
    let address = PeerAddress::from(address);
    let (connected, disconnected) =
        tokio::join!(biased; node.bridge.connect(address.clone()), node.bridge.disconnect(&address));
    assert_eq!(connected, Err(ConnectError::Disconnected));
    assert!(disconnected && !node.bridge.disconnect(&address).await);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_name_of_a_connected_peer_is_dialled_when_the_first_is_removed() {
    let peer = other().await;
    let first = PeerAddress::from(peer.local_addr().unwrap());
    let second: PeerAddress = format!("localhost:{}", first.port()).parse().unwrap();
    let node = running(BridgeConfig::default()).await;
    node.bridge.connect(first.clone()).await.unwrap();
    let (stream, _) = peer.accept().await.unwrap();
    node.bridge.connect(second.clone()).await.expect("the peer is connected already");
    node.bridge.connect(second.clone()).await.expect("without another dial");
    drop(peer.accept().await.unwrap());
    assert!(node.bridge.disconnect(&first).await);
    closed(stream).await;
    let _stream = peer.accept().await.unwrap();
    while node
        .bridge
        .snapshot()
        .first()
        .is_none_or(|open| open.link.direction != LinkDirection::Dialled(second.clone()))
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_may_dial_each_other() {
    let (one, two) = (running(listening()).await, running(listening()).await);
    one.bridge.connect(two.address.into()).await.unwrap();
    two.bridge.connect(one.address.into()).await.unwrap();
    while one.bridge.snapshot().len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    one.bridge.connect(two.address.into()).await.expect("the peer is connected already");
    one.end().await;
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_all_connections() {
    let node = running(listening()).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.read_u8().await.unwrap();
    let address = node.address;
    node.end().await;
    closed(stream).await;
    assert!(TcpStream::connect(address).await.is_err(), "no socket listens any more");
}
