//! Real sessions for tests: over TCP on this machine, with a real store and the real `ingest`. And a
//! peer that says exactly what a test has it say.

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
    Cid, Goal, Identity, Kind, NodeProfile, Object, Record, Signed, SignedObject, Status, TaskId, TaskManifest,
    Verified, VerifiedObject,
    frame::{Frame, HEADER_BYTES, body_length},
    legacy::{History, LegacyMessage},
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
    book::Book,
    hub::HubHandle,
    link::{self, Direction, Ended, Link, SessionCommand, Shared, SharedRef},
    session,
};

/// The tests' time: in the past, so that nothing is from the future.
pub const NOW: u64 = 1_700_000_000;

/// How long a test waits for what must happen before it is called hung. No test measures time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a future that must end.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

pub fn identity(n: u8) -> Identity {
    Identity::from_seed(&[n; 32])
}

pub fn sign<T: Object>(n: u8, object: &T) -> Signed<T> {
    identity(n).sign(object).unwrap().into_signed()
}

pub fn manifest(creator: u8) -> Signed<TaskManifest> {
    let manifest = TaskManifest {
        name: "task".into(),
        description: String::new(),
        task_type: "ml_train".into(),
        artifact_type: "starlark_train_script".into(),
        metric: "val_bpb".into(),
        goal: Goal::Minimize,
        base_code_cid: Some(Cid::of(b"base")),
        prepare_cid: String::new(),
        dataset_cid: String::new(),
        time_budget: 20,
        created_by: identity(creator).node_id(),
        timestamp: NOW - 10_000,
        version: 1,
    };
    sign(creator, &manifest)
}

/// A record on `parent`, or a root; of version 1 where there is no task.
pub fn record(signer: u8, task: Option<TaskId>, parent: Option<&Signed<Record>>, timestamp: u64) -> Signed<Record> {
    let record = Record {
        parent: parent.map(|parent| parent.id().into()),
        depth: parent.map_or(0, |parent| parent.depth + 1),
        code_cid: Some(Cid::of(b"script")),
        diff: "-a\n+b\n".repeat(100),
        dataset_cid: String::new(),
        prepare_cid: String::new(),
        time_budget: 20,
        val_bpb: 3.0,
        peak_vram_mb: 1.0,
        num_steps: timestamp,
        num_params: 10,
        status: Status::Keep,
        description: "a wider layer".into(),
        hypothesis: String::new(),
        agent_model: String::new(),
        gpu_model: "CPU".into(),
        cuda_version: String::new(),
        torch_version: String::new(),
        node_id: identity(signer).node_id(),
        task_id: task,
        timestamp,
        version: if task.is_some() { 2 } else { 1 },
    };
    sign(signer, &record)
}

pub fn profile(n: u8) -> SignedObject {
    let profile = NodeProfile {
        node_id: identity(n).node_id(),
        display_name: format!("node {n}"),
        bio: String::new(),
        website: String::new(),
        avatar_url: String::new(),
        donation_address: String::new(),
        timestamp: NOW,
        schema_version: 1,
    };
    SignedObject::Profile(sign(n, &profile))
}

/// A task with its root and `children` records below it, in an order that a store takes as it is.
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

/// A store with its door, as sessions use it.
pub struct Node {
    pub store: Store,
    pub shared: SharedRef,
    sessions: AtomicU64,
    stop: watch::Sender<bool>,
    _wants: mpsc::Receiver<Want>,
    _dir: TempDir,
}

/// One end of a connection.
pub struct Running {
    pub task: JoinHandle<Ended>,
    pub commands: mpsc::Sender<SessionCommand>,
}

impl Running {
    pub async fn ended(self) -> Ended {
        within("a session's end", self.task).await.unwrap()
    }

    pub async fn close(self) {
        self.commands.send(SessionCommand::Close).await.unwrap();
        assert_eq!(self.ended().await, Ended::Dismissed);
    }
}

impl Node {
    pub fn start(objects: &[SignedObject]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for chunk in objects.chunks(512) {
            store.insert(&chunk.iter().map(verified).collect::<Vec<_>>(), NOW).unwrap();
        }
        let (stop, stopped) = watch::channel(false);
        let (ingest, events, wants, _door) = Ingest::spawn(store.clone(), Arc::new(|| NOW), stopped);
        let hub = HubHandle::new(Book::new(None));
        let shared = Arc::new(Shared { store: store.clone(), ingest, events, hub, large: link::large() });
        Self { store, shared, sessions: AtomicU64::new(0), stop, _wants: wants, _dir: dir }
    }

    pub fn session(&self, stream: TcpStream, direction: Direction) -> Running {
        let id = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed));
        let link = Link { id, direction, remote: stream.peer_addr().unwrap() };
        let (commands, queue) = mpsc::channel(4);
        let task = tokio::spawn(session::run(stream, link, self.shared.clone(), queue, self.stop.subscribe()));
        Running { task, commands }
    }

    /// A session that the other side opened, with a peer that the test plays.
    pub async fn peer(&self) -> (Peer, Running) {
        let (ours, theirs) = streams().await;
        (Peer(theirs), self.session(ours, Direction::Accepted))
    }

    /// The same with a peer that was dialled under an address that stays the same.
    pub async fn dialled(&self) -> (Peer, Running) {
        let (ours, theirs) = streams().await;
        (Peer(theirs), self.session(ours, Direction::Dialled(ADDRESS.parse().unwrap())))
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
pub async fn connect(a: &Node, b: &Node) -> (Running, Running) {
    let (ours, theirs) = streams().await;
    (a.session(ours, Direction::Dialled(address())), b.session(theirs, Direction::Accepted))
}

/// A peer played by the test.
pub struct Peer(pub TcpStream);

impl Peer {
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

    /// A frame as JSON; none at the end.
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

    /// Hears what a session says first: it asks for everything, or since a time.
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

    /// Says that it has nothing.
    pub async fn has_nothing(&mut self) {
        for history in [History::Tasks, History::Records, History::Controls] {
            self.marker(history, 0).await;
        }
    }

    /// Hears objects until there are `count`, answering pings.
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

    /// Hears objects up to a history's marker, with its count.
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

    /// Waits until everything said so far is dealt with.
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

/// An object of ours as others would see it verified.
pub fn control(signer: u8, record: &SignedObject, kind: &str) -> SignedObject {
    let rerun = spore_protocol::control::Rerun {
        experiment_id: record.id().into(),
        task_id: None,
        node_id: identity(signer).node_id(),
        gpu: "CPU".into(),
        value: 3.0,
    };
    let mut event = spore_protocol::ControlEvent::verification(rerun, record.signer(), false, NOW - 3000);
    event.kind = kind.into();
    let signed: Verified<_> = identity(signer).sign(&event).unwrap();
    SignedObject::Control(signed.into_signed())
}
