//! Floods: valid objects of any number of keys, at full speed, and what honest people notice meanwhile.
//!
//! [`Siege`] is a relay with a neighbour and a task; [`Flood`] sends it objects; [`Siege::newcomer_gets_in`] is somebody
//! with a new key and one record, who must get in nevertheless; [`crowd`] opens connections that do nothing.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use spore_protocol::{
    ControlEvent, Identity, Record, SignedObject, TaskManifest, Verified, VerifiedObject, control::Rerun, fixtures,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::{
    Node, TestNet,
    legacy::{LegacyPeer, object_frame},
    process::MemoryWatch,
    tree::RecordTree,
    wait_for,
};

/// How long a flood lasts, in seconds, unless `SPORE_FLOOD_SECONDS` says otherwise.
const SHORT: u64 = 8;
/// Objects that a flood sends for each second that it lasts: more than a laptop signs on one core.
const OBJECTS_A_SECOND: u64 = 2_000;
/// Longest time that an honest newcomer may wait: the goal.
const NEWCOMER_LIMIT: Duration = Duration::from_secs(60);
/// A node that restarts catch-up on a busy machine still finishes within this.
const SYNC_LIMIT: Duration = Duration::from_secs(120);
/// Pause after a refused connection.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// Niceness of the attackers, who compute on machines of their own in reality.
const ATTACKERS_NICENESS: i32 = 10;
/// Keys of attackers begin here, those of newcomers at zero.
const ATTACKERS: u64 = 1 << 32;
/// The number of the honest task's tree of records.
const TREE: u8 = 11;

/// How long floods last.
pub fn duration() -> Duration {
    let seconds = std::env::var("SPORE_FLOOD_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(SHORT))
}

/// The time now, in Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Prints a figure beside its limit, and fails when it is larger.
pub fn hold(what: &str, unit: &str, measured: u64, limit: u64) {
    println!("  {what:<48} {measured:>9} of at most {limit:>9} {unit}");
    assert!(measured <= limit, "{what}: {measured} {unit}, more than {limit}");
}

/// Bytes of all files in a folder.
pub fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => disk_bytes(&entry.path()),
        _ => entry.metadata().map_or(0, |metadata| metadata.len()),
    };
    entries.flatten().map(size).sum()
}

/// The key with this number.
pub fn key(number: u64) -> Identity {
    let mut seed = [0x5e; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    Identity::from_seed(&seed)
}

/// The attackers' key with this number.
pub fn attackers_key(number: u64) -> Identity {
    key(ATTACKERS + number)
}

/// A relay, a neighbour that has only the relay as peer, and an honest task that both have.
pub struct Siege {
    pub net: TestNet,
    pub relay: usize,
    pub neighbour: usize,
    pub tree: RecordTree,
    /// The root of the honest task.
    pub root: Verified<Record>,
    pub memory: MemoryWatch,
    /// Most bytes of memory before the flood.
    pub quiet_memory: u64,
    /// Bytes of the relay's data directory before the flood.
    pub quiet_disk: u64,
    newcomers: AtomicU64,
}

impl Siege {
    /// Starts both nodes and waits until the neighbour has the task. The task has `known` records. The relay may open
    /// this many files.
    pub async fn lay(known: usize, files: Option<u32>) -> Self {
        let mut net = TestNet::new();
        let (tree, _) = RecordTree::plant(TREE, known, &net.dir_of("relay"));
        net.limit_files(files);
        let relay = net.start("relay", None, &["--no-train"]).await;
        net.limit_files(None);
        let neighbour = net.start("neighbour", Some(relay), &["--no-train"]).await;
        let root = RecordTree::new(TREE).grow();
        let memory = MemoryWatch::start(net.node(relay).pid());
        let mut siege = Self {
            net,
            relay,
            neighbour,
            tree,
            root,
            memory,
            quiet_memory: 0,
            quiet_disk: 0,
            newcomers: AtomicU64::new(0),
        };
        let root = siege.root.id().to_string();
        wait_for("the neighbour to have the task", SYNC_LIMIT, async || siege.has(siege.neighbour, &root).await).await;
        siege.newcomer_gets_in().await;
        siege.quiet_memory = siege.memory.most();
        siege.quiet_disk = disk_bytes(siege.relay().dir());
        siege
    }

    pub fn relay(&self) -> &Node {
        self.net.node(self.relay)
    }

    /// Whether a node has this record.
    async fn has(&self, node: usize, record: &str) -> Result<(), String> {
        self.net.node(node).api(&format!("/experiments/{record}")).await.map(drop)
    }

    /// A child of the honest root by this key, signed now.
    pub fn child(&self, by: &Identity, change: impl FnOnce(&mut Record)) -> SignedObject {
        child(&self.root, by, change)
    }

    /// Somebody with a new key and one record connects with the relay. Returns how long it takes until the neighbour,
    /// too, has the record. Whoever is turned away tries again, as every peer does.
    ///
    /// # Panics
    /// When the record does not arrive.
    pub async fn newcomer_gets_in(&self) -> Duration {
        let number = self.newcomers.fetch_add(1, Relaxed);
        let record = self.child(&key(number), |record| record.description = format!("a newcomer's idea {number}"));
        let id = record.id().to_string();
        let address = Ipv4Addr::new(127, 200, (number >> 8) as u8, number as u8 | 1);
        let (port, start) = (self.relay().port, Instant::now());
        let mut peer: Option<LegacyPeer> = None;
        wait_for("a newcomer's record to reach the neighbour", NEWCOMER_LIMIT, async || {
            if peer.as_ref().is_none_or(|peer| peer.ended().is_some()) {
                peer = None;
                let mut dialled = LegacyPeer::dial_from(address, port).await.map_err(|e| format!("dial: {e}"))?;
                let _ = dialled.has_nothing().await;
                peer = Some(dialled);
            }
            if self.has(self.relay, &id).await.is_err()
                && let Some(peer) = &mut peer
            {
                peer.send_object(&record).await.map_err(|e| format!("send: {e}"))?;
            }
            let state = peer.as_ref().map(LegacyPeer::summary);
            self.has(self.neighbour, &id).await.map_err(|e| format!("{e}; {state:?}"))
        })
        .await;
        start.elapsed()
    }

    /// Newcomers come one after the other while the flood goes on, one at least. Returns the longest wait.
    pub async fn newcomers_during(&self, flood: &Flood) -> Duration {
        let mut longest = Duration::ZERO;
        loop {
            longest = longest.max(self.newcomer_gets_in().await);
            if flood.is_over() {
                return longest;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// A child of a record by this key, signed now.
pub fn signed_child(parent: &Verified<Record>, by: &Identity, change: impl FnOnce(&mut Record)) -> Verified<Record> {
    let mut record = fixtures::record(by, parent.task_id, Some(parent));
    record.timestamp = now();
    change(&mut record);
    fixtures::sign(by, &record)
}

/// The same, as it goes over the wire.
pub fn child(parent: &Verified<Record>, by: &Identity, change: impl FnOnce(&mut Record)) -> SignedObject {
    VerifiedObject::from(signed_child(parent, by, change)).into_signed()
}

/// A manifest by this key.
pub fn manifest(by: &Identity, number: u64) -> SignedObject {
    let manifest = TaskManifest { name: format!("flood-{number}"), timestamp: now(), ..fixtures::manifest(by) };
    VerifiedObject::from(fixtures::sign(by, &manifest)).into_signed()
}

/// An event by this key that repeats the record's metric.
pub fn event(by: &Identity, record: &Verified<Record>, timestamp: u64) -> SignedObject {
    let rerun: Rerun = fixtures::rerun(by, record, record.val_bpb);
    let event = ControlEvent::verification(rerun, record.node_id, false, timestamp);
    VerifiedObject::from(fixtures::sign(by, &event)).into_signed()
}

/// Text that compresses badly, as large as wanted, another one for each number.
pub fn noise(number: u64, bytes: usize) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state % 75) as u8)
    };
    (0..bytes).map(letter).map(|c| if c == '\\' { '~' } else { c }).collect()
}

/// A running flood, on a thread of its own. It ends after its time or its objects.
pub struct Flood {
    thread: std::thread::JoinHandle<()>,
    sent: Arc<AtomicU64>,
}

impl Flood {
    /// Sends the objects that `make` makes of 0, 1, 2, .. to a legacy port, over this many connections at once, until
    /// the flood's time is over or `most` of them for each second have been sent. Whoever is hung up on comes back from
    /// another address.
    pub fn begin(
        port: u16,
        connections: u8,
        most: u64,
        make: impl Fn(u64) -> SignedObject + Send + Sync + 'static,
    ) -> Self {
        let sent = Arc::new(AtomicU64::new(0));
        let (counter, make) = (sent.clone(), Arc::new(make));
        let count = most.min(OBJECTS_A_SECOND) * duration().as_secs();
        let thread = std::thread::spawn(move || {
            let _ = rustix::process::nice(ATTACKERS_NICENESS);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let attackers =
                    (0..connections).map(|network| attack(port, network, counter.clone(), count, make.clone()));
                let mut running: JoinSet<()> = attackers.collect();
                let all = async { while running.join_next().await.is_some() {} };
                let _ = timeout(duration(), all).await;
            });
        });
        Self { thread, sent }
    }

    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end. Returns how many objects were written to connections.
    pub fn end(self) -> u64 {
        self.thread.join().expect("attackers do not fail");
        let sent = self.sent.load(Relaxed);
        assert!(sent > 0, "the flood never began");
        sent
    }
}

async fn attack(
    port: u16,
    network: u8,
    sent: Arc<AtomicU64>,
    count: u64,
    make: Arc<impl Fn(u64) -> SignedObject + Send + Sync>,
) {
    let mut host = 0_u32;
    loop {
        host = host % 65_000 + 1;
        let [.., third, fourth] = host.to_be_bytes();
        let from = Ipv4Addr::new(127, 100 + network, third, fourth);
        let Ok(mut stream) = dial(from, port).await else {
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        loop {
            let number = sent.fetch_add(1, Relaxed);
            if number >= count {
                sent.fetch_sub(1, Relaxed);
                return;
            }
            if stream.write_all(&object_frame(&make(number))).await.is_err() {
                break;
            }
        }
    }
}

async fn dial(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Whoever does not read keeps nothing in the system's buffers either.
    socket.set_recv_buffer_size(4096)?;
    socket.bind(SocketAddr::new(from.into(), 0))?;
    socket.connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).await
}

/// Opens this many connections, each of which sends `first` and then neither sends nor reads. The refused ones are left
/// out. Dropping them closes them.
pub async fn crowd(port: u16, count: u16, first: &[u8]) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for number in 0..count {
        let [third, fourth] = number.to_be_bytes();
        let dialled = timeout(Duration::from_secs(2), dial(Ipv4Addr::new(127, 60, third, fourth | 1), port)).await;
        if let Ok(Ok(mut stream)) = dialled
            && stream.write_all(first).await.is_ok()
        {
            crowd.push(stream);
        }
    }
    crowd
}

/// Raises this process's limit of open files as far as it may, for crowds.
pub fn raise_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
