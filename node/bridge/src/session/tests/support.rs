//! Real sessions for tests: over TCP on this machine, with a real store and the real ingest service. And a peer that
//! sends exactly what a test tells it to.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use spore_base::peer_address::PeerAddress;
use spore_ingest::{Disposition, Ingest, Origin, SessionId, Want};
use spore_protocol::{
    ControlEvent, Kind, NodeProfile, Object, Record, Signed, SignedObject, TaskId, TaskManifest, VerifiedObject,
    control::Rerun,
    fixtures,
    frame::{Frame, HEADER_BYTES},
    legacy::{History, LegacyMessage},
    oracle::body_length,
};
use spore_storage::Store;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    book::AddressBook,
    hub::HubHandle,
    link::{Link, LinkDirection, SessionCommand, SessionEnd},
    session,
    shared::{LargeMemory, SharedRef, SharedState},
};

pub use spore_protocol::fixtures::identity;

/// The time in the tests. It lies in the past, so that no object is from the future.
pub const NOW: u64 = 1_700_000_000;

/// How long a test waits before it fails as hung. No test measures time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a future that must end.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// Waits until `holds` returns true.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

pub fn sign<T: Object>(n: u8, object: &T) -> Signed<T> {
    fixtures::sign(&identity(n), object).into_signed()
}

pub fn manifest(creator: u8) -> Signed<TaskManifest> {
    sign(creator, &TaskManifest { timestamp: NOW - 10_000, ..fixtures::manifest(&identity(creator)) })
}

/// A record on `parent`, or a root. A record without a task has version 1.
pub fn record(signer: u8, task: Option<TaskId>, parent: Option<&Signed<Record>>, timestamp: u64) -> Signed<Record> {
    let record = Record {
        diff: "-a\n+b\n".repeat(100),
        val_bpb: 3.0,
        num_steps: timestamp,
        timestamp,
        ..fixtures::record(&identity(signer), task, parent)
    };
    sign(signer, &record)
}

pub fn profile(n: u8) -> SignedObject {
    let profile = NodeProfile { timestamp: NOW, ..fixtures::profile(&identity(n), &format!("node {n}")) };
    SignedObject::Profile(sign(n, &profile))
}

/// A task with its root and `children` records below it, each object after its parent.
pub fn task(creator: u8, children: u64) -> Vec<SignedObject> {
    let manifest = manifest(creator);
    let id = Some(TaskId::from(manifest.id()));
    let root = record(creator, id, None, NOW - 5000);
    let below = (0..children).map(|i| SignedObject::Experiment(record(creator, id, Some(&root), NOW - 4000 + i)));
    let below: Vec<_> = below.collect();
    [SignedObject::Task(manifest), SignedObject::Experiment(root)].into_iter().chain(below).collect()
}

pub fn verified(object: &SignedObject) -> VerifiedObject {
    object.clone().verify().unwrap()
}

/// A store with its ingest service, as sessions use them.
pub struct TestNode {
    pub store: Store,
    pub shared: SharedRef,
    sessions: AtomicU64,
    stop: watch::Sender<bool>,
    _wants: mpsc::Receiver<Want>,
    _dir: TempDir,
}

/// One end of a connection.
pub struct RunningSession {
    pub task: JoinHandle<SessionEnd>,
    pub commands: mpsc::Sender<SessionCommand>,
}

impl RunningSession {
    pub async fn ended(self) -> SessionEnd {
        within("a session's end", self.task).await.unwrap()
    }

    pub async fn close(self) {
        self.commands.send(SessionCommand::Close).await.unwrap();
        assert_eq!(self.ended().await, SessionEnd::Dismissed);
    }
}

impl TestNode {
    pub fn start(objects: &[SignedObject]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for chunk in objects.chunks(512) {
            store.insert(&chunk.iter().map(verified).collect::<Vec<_>>(), NOW).unwrap();
        }
        let (stop, stopped) = watch::channel(false);
        let (ingest, events, wants, _task) = Ingest::spawn(store.clone(), Arc::new(|| NOW), stopped);
        let hub = HubHandle::new(AddressBook::default());
        let shared = Arc::new(SharedState {
            store: store.clone(),
            ingest,
            events,
            hub,
            large: LargeMemory::default(),
            clock: Arc::new(|| NOW),
        });
        Self { store, shared, sessions: AtomicU64::new(0), stop, _wants: wants, _dir: dir }
    }

    pub fn session(&self, stream: TcpStream, direction: LinkDirection) -> RunningSession {
        let id = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed));
        let link = Link { id, direction, remote: stream.peer_addr().unwrap() };
        let (commands, queue) = mpsc::channel(4);
        let task = tokio::spawn(session::run(stream, link, self.shared.clone(), queue, self.stop.subscribe()));
        RunningSession { task, commands }
    }

    /// A session that the other side opened, with a peer that the test controls.
    pub async fn peer(&self) -> (TestPeer, RunningSession) {
        let (ours, theirs) = streams().await;
        (TestPeer(theirs), self.session(ours, LinkDirection::Accepted))
    }

    /// As [`TestNode::peer`], with a peer that this node dialled, always under the same address.
    pub async fn dialled(&self) -> (TestPeer, RunningSession) {
        let (ours, theirs) = streams().await;
        (TestPeer(theirs), self.session(ours, LinkDirection::Dialled(ADDRESS.parse().unwrap())))
    }

    pub async fn publish(&self, object: SignedObject) {
        assert_eq!(self.shared.ingest.submit(Origin::Local, object).await.unwrap(), Disposition::Accepted);
    }

    pub fn has(&self, object: &SignedObject) -> bool {
        self.store.contains(object.kind(), &object.id()).unwrap()
    }

    pub fn has_all(&self, objects: &[SignedObject]) -> bool {
        objects.iter().all(|object| self.has(object))
    }
}

const ADDRESS: &str = "192.0.2.1:7470";

pub fn address() -> PeerAddress {
    ADDRESS.parse().unwrap()
}

async fn streams() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let dialling = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dialling, listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// Connects two nodes.
pub async fn connect(a: &TestNode, b: &TestNode) -> (RunningSession, RunningSession) {
    let (ours, theirs) = streams().await;
    (a.session(ours, LinkDirection::Dialled(address())), b.session(theirs, LinkDirection::Accepted))
}

/// A peer that a test controls.
pub struct TestPeer(pub TcpStream);

impl TestPeer {
    pub async fn say(&mut self, message: &LegacyMessage) {
        self.0.write_all(&message.encode().unwrap()).await.unwrap();
    }

    pub async fn say_object(&mut self, object: &SignedObject) {
        self.say(&LegacyMessage::Object(object.clone())).await;
    }

    pub async fn say_body(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        self.0.write_all(&[&length, body].concat()).await.unwrap();
    }

    /// The body of the next frame. None at the end of the stream.
    async fn body(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; HEADER_BYTES];
        within("a frame", self.0.read_exact(&mut header)).await.ok()?;
        let mut body = vec![0; body_length(header).unwrap()];
        self.0.read_exact(&mut body).await.ok()?;
        Some(body)
    }

    pub async fn hear(&mut self) -> LegacyMessage {
        let body = self.body().await.expect("the session ended");
        LegacyMessage::decode(Frame::decode(&body).unwrap()).unwrap().expect("a type of the reference's")
    }

    /// The next object's frame as JSON.
    pub async fn hear_json(&mut self) -> serde_json::Value {
        loop {
            let body = self.body().await.expect("the session ended");
            let frame: serde_json::Value = serde_json::from_slice(&body).unwrap();
            if frame["payload"].get("signature").is_some() {
                return frame;
            }
        }
    }

    /// Reads what a session sends first. Returns the times from which it asks for tasks, records and control events.
    pub async fn hear_requests(&mut self) -> [u64; 3] {
        assert_eq!(self.hear().await, LegacyMessage::PexRequest);
        let mut times = Vec::new();
        for expected in [History::Tasks, History::Records, History::Controls] {
            match self.hear().await {
                LegacyMessage::SyncRequest { history, since } if history == expected => times.push(since),
                other => panic!("{other:?}"),
            }
        }
        times.try_into().unwrap()
    }

    pub async fn marker(&mut self, history: History, count: u64) {
        self.say(&LegacyMessage::SyncResponse { history, since: 0, count }).await;
    }

    /// Answers the requests for its three histories: it has no objects.
    pub async fn has_nothing(&mut self) {
        for history in [History::Tasks, History::Records, History::Controls] {
            self.marker(history, 0).await;
        }
    }

    /// Reads objects until there are `count`. Answers pings.
    pub async fn hear_objects(&mut self, count: usize) -> Vec<SignedObject> {
        let mut objects = Vec::new();
        while objects.len() < count {
            match self.hear().await {
                LegacyMessage::Object(object) => objects.push(object),
                LegacyMessage::Ping => self.say(&LegacyMessage::Pong).await,
                other => panic!("{other:?}"),
            }
        }
        objects
    }

    /// Reads objects up to the marker of a history. Returns them with the marker's count.
    pub async fn hear_history(&mut self, expected: History) -> (Vec<SignedObject>, u64) {
        let mut objects = Vec::new();
        loop {
            match self.hear().await {
                LegacyMessage::Object(object) => objects.push(object),
                LegacyMessage::Ping => self.say(&LegacyMessage::Pong).await,
                LegacyMessage::SyncResponse { history, count, .. } if history == expected => return (objects, count),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the session has handled everything sent so far. Returns the objects that came meanwhile.
    pub async fn settle(&mut self) -> Vec<SignedObject> {
        self.say(&LegacyMessage::Ping).await;
        let mut objects = Vec::new();
        loop {
            match self.hear().await {
                LegacyMessage::Pong => return objects,
                LegacyMessage::Object(object) => objects.push(object),
                LegacyMessage::Ping => self.say(&LegacyMessage::Pong).await,
                _ => {}
            }
        }
    }
}

pub fn ids(objects: &[SignedObject], kind: Kind) -> Vec<spore_protocol::ObjectId> {
    objects.iter().filter(|object| object.kind() == kind).map(SignedObject::id).collect()
}

/// A control event about a record, of the type `kind`.
pub fn control(signer: u8, record: &SignedObject, kind: &str) -> SignedObject {
    let rerun = Rerun {
        experiment_id: record.id().into(),
        task_id: None,
        node_id: identity(signer).node_id(),
        gpu: "CPU".into(),
        value: 3.0,
    };
    let event = ControlEvent::verification(rerun, record.signer(), false, NOW - 3000);
    SignedObject::Control(sign(signer, &ControlEvent { kind: kind.into(), ..event }))
}
