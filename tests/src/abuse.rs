//! Attackers that use the legacy protocol at full speed. They reconnect whenever they are dropped, from another loopback
//! address each time, so that no ban stops them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use spore_protocol::{
    SignedObject,
    frame::{HEADER_BYTES, MAX_BODY_BYTES},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinSet,
};

use crate::legacy::object_frame;

/// Pause after the operating system refused a connection. Its limits are not tested.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);
/// Connections that hold half a frame at once: as many as one address may open.
const HALVES: usize = 8;
/// Pause between two further bytes of a half frame.
const TRICKLE: Duration = Duration::from_secs(1);
/// Niceness of the attackers: they use the processor time that the node and the honest peers leave. This is most of it
/// when the node handles the attack well.
const ATTACKERS_NICENESS: i32 = 10;
/// Bytes written at once in a flood.
const BURST: usize = 64 * 1024;

/// One kind of abuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// Bytes that are not frames, and frames that are not JSON.
    Garbage,
    /// Headers that announce more bytes than a frame may have.
    Oversize,
    /// Almost all of the largest frame, then a byte now and then.
    HalfFrames,
    /// Objects with a changed field, a changed id, the signature of another object, or a field too many.
    Tampered,
    /// Objects with a valid signature that break a rule.
    Misplaced,
    /// Valid objects that the node has, again and again.
    Duplicates,
}

impl Abuse {
    pub const ALL: [Self; 6] =
        [Self::Garbage, Self::Oversize, Self::HalfFrames, Self::Tampered, Self::Misplaced, Self::Duplicates];

    /// The second octet of the attackers' addresses: 127.x.0.1 and following.
    const fn network(self) -> u8 {
        2 + self as u8
    }
}

/// How much of one kind of abuse there was.
#[derive(Debug, Default)]
pub struct AbuseVolume {
    connections: AtomicU64,
    bytes: AtomicU64,
}

/// Running attackers, on a thread of their own, so that they do not delay the measurement. Dropping this ends them. No
/// attacker reads what the node sends, so each is a slow reader, too.
pub struct Attack {
    volumes: Vec<(Abuse, Arc<AbuseVolume>)>,
    /// Dropping the sender ends the thread.
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Attack {
    /// Attacks the node on this port in every way. The node has the objects `known` in its store. It refuses the object
    /// `misplaced` in spite of its valid signature.
    pub fn begin(port: u16, known: &[SignedObject], misplaced: &SignedObject) -> Self {
        let (mut volumes, mut attackers) = (Vec::new(), Vec::new());
        for abuse in Abuse::ALL {
            let ammunition = Arc::new(ammunition(abuse, known, misplaced));
            let volume = Arc::new(AbuseVolume::default());
            volumes.push((abuse, volume.clone()));
            let connections = if abuse == Abuse::HalfFrames { HALVES } else { 1 };
            for number in 0..connections {
                let attacker = Attacker { port, abuse, host: (number * 4096) as u32, volume: volume.clone() };
                attackers.push(attacker.run(ammunition.clone()));
            }
        }
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            // On Linux this applies to the thread alone. Real attackers compute on machines of their own: only the
            // node's share of the work is measured.
            let _ = rustix::process::nice(ATTACKERS_NICENESS);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut running: JoinSet<()> = attackers.into_iter().collect();
                tokio::select! {
                    _ = ended => {}
                    _ = running.join_next() => unreachable!("attackers do not give up"),
                }
            });
        });
        Self { volumes, end, thread }
    }

    /// Ends the attack. Returns how much abuse there was: one line for each kind.
    pub fn end(self) -> String {
        drop(self.end);
        self.thread.join().expect("attackers do not fail");
        let line = |(abuse, volume): &(Abuse, Arc<AbuseVolume>)| {
            let (connections, bytes) = (volume.connections.load(Relaxed), volume.bytes.load(Relaxed));
            assert!(connections > 0 && bytes > 0, "{abuse:?} never happened");
            format!("  {:<11} {connections:>7} connections, {:>9.1} MB", format!("{abuse:?}"), bytes as f64 / 1e6)
        };
        self.volumes.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The bytes that are sent again and again: whole frames, except for garbage and half frames.
fn ammunition(abuse: Abuse, known: &[SignedObject], misplaced: &SignedObject) -> Vec<Vec<u8>> {
    match abuse {
        Abuse::Garbage => garbage(),
        Abuse::Oversize => [MAX_BODY_BYTES as u32 + 1, u32::MAX, 0x4745_5420] // The last is `GET `.
            .map(|length| [&length.to_be_bytes()[..], &[b'{'; 4096]].concat())
            .to_vec(),
        Abuse::HalfFrames => {
            let head = br#"{"type":"experiment","payload":{"diff":""#;
            let body = [&head[..], &vec![b'x'; MAX_BODY_BYTES - 2 * head.len()]].concat();
            vec![[&(MAX_BODY_BYTES as u32).to_be_bytes()[..], &body].concat()]
        }
        Abuse::Tampered => known.iter().take(16).flat_map(tampered).collect(),
        Abuse::Misplaced => vec![object_frame(misplaced)],
        Abuse::Duplicates => known.iter().map(object_frame).collect(),
    }
}

fn garbage() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let nested = [&b"{\"type\":\"experiment\",\"payload\":"[..], &[b'['; 100_000]].concat();
    // Small objects that take much memory when they are parsed.
    let costly = [&b"{\"type\":\"experiment\",\"payload\":["[..], &br#"{"":0},"#.repeat(1_000_000), b"0]}"].concat();
    let frame = |body: &[u8]| [&(body.len() as u32).to_be_bytes()[..], body].concat();
    vec![frame(&noise), frame(b""), frame(b"null"), frame(br#"{"type":"ping"}"#), frame(&nested), frame(&costly)]
}

/// Frames with an object that was changed after it was signed.
fn tampered(object: &SignedObject) -> Vec<Vec<u8>> {
    let frame = object_frame(object);
    let body = String::from_utf8(frame[HEADER_BYTES..].to_vec()).expect("a frame is text");
    let id = object.id().to_string();
    let flip = |text: &str| if text.starts_with('0') { "1" } else { "0" };
    let swap = |from: &str, to: &str| body.replacen(from, to, 1);
    let signature = hex_of(object.signature());
    // Changed content with its correct new id and the old signature.
    let moved = {
        let canonical = std::str::from_utf8(object.canonical()).expect("canonical text is ASCII");
        let changed = canonical.replacen("\"num_steps\":", "\"num_steps\":1", 1);
        let new_id = spore_protocol::Cid::of(changed.as_bytes()).to_string();
        body.replacen("\"num_steps\":", "\"num_steps\":1", 1).replacen(&id, &new_id, 1)
    };
    let bodies = [
        swap("\"num_steps\":", "\"num_steps\":1"),
        swap(&id, &format!("{}{}", flip(&id), &id[1..])),
        swap(&signature, &format!("{}{}", flip(&signature), &signature[1..])),
        swap("\"num_steps\":", "\"num_stops\":7,\"num_steps\":"),
        moved,
    ];
    let framed = |body: &String| [&(body.len() as u32).to_be_bytes()[..], body.as_bytes()].concat();
    bodies.iter().filter(|changed| **changed != body).map(framed).collect()
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One attacker and its current address.
struct Attacker {
    port: u16,
    abuse: Abuse,
    host: u32,
    volume: Arc<AbuseVolume>,
}

impl Attacker {
    async fn run(mut self, ammunition: Arc<Vec<Vec<u8>>>) {
        loop {
            match self.dial().await {
                Ok(stream) => {
                    self.volume.connections.fetch_add(1, Relaxed);
                    // The attack on this connection ends when the node hangs up.
                    let _ = self.attack(stream, &ammunition).await;
                }
                Err(_) => tokio::time::sleep(REFUSED_PAUSE).await,
            }
        }
    }

    /// Dials from the next address: 127.network.0.1, .2 and so on.
    async fn dial(&mut self) -> io::Result<TcpStream> {
        self.host = self.host % 65_000 + 1;
        let [.., third, fourth] = self.host.to_be_bytes();
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, self.abuse.network(), third, fourth)), 0))?;
        socket.connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port)).await
    }

    async fn attack(&self, mut stream: TcpStream, ammunition: &[Vec<u8>]) -> io::Result<()> {
        if self.abuse == Abuse::HalfFrames {
            self.send(&mut stream, &ammunition[0]).await?;
            loop {
                tokio::time::sleep(TRICKLE).await;
                self.send(&mut stream, b"x").await?;
            }
        }
        let mut burst = Vec::new();
        for frame in ammunition.iter().cycle() {
            burst.extend_from_slice(frame);
            if burst.len() >= BURST {
                self.send(&mut stream, &burst).await?;
                burst.clear();
            }
        }
        Ok(())
    }

    async fn send(&self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(BURST) {
            stream.write_all(piece).await?;
            self.volume.bytes.fetch_add(piece.len() as u64, Relaxed);
        }
        Ok(())
    }
}
