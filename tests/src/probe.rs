//! Two honest legacy peers of one node, which measure how fast the node serves them: one pings and publishes, the other
//! waits for the published records.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use spore_protocol::{
    SignedObject,
    frame::Frame,
    json::{Map, Value},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::timeout,
};

use crate::legacy::{object_frame, object_id, read_frame};

/// Bounds a hang. A node under attack on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(60);
/// Pause between two measurements, because an honest peer does not flood.
const PAUSE: Duration = Duration::from_millis(20);

/// The times of one round of measurements.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// From sending a ping to receiving its pong.
    pub ping: Vec<Duration>,
    /// From sending a record to the node until the other peer receives it from there.
    pub spread: Vec<Duration>,
}

/// The two peers. Their connections must stay open until this is dropped.
pub struct HonestPeers {
    publisher: ProbeConnection,
    reader: ProbeConnection,
}

/// One connection, and the frames received over it, each with the time at which it was complete.
struct ProbeConnection {
    writer: OwnedWriteHalf,
    frames: mpsc::UnboundedReceiver<(Instant, Frame)>,
}

impl HonestPeers {
    /// Connects both peers with the node that listens on this port of this machine.
    pub async fn connect(port: u16) -> Self {
        Self { publisher: ProbeConnection::dial(port).await, reader: ProbeConnection::dial(port).await }
    }

    /// Pings, and publishes the records that `records` makes, until the time is over. At least once.
    ///
    /// # Panics
    /// When a connection is lost, or when an answer or a record does not come at all.
    pub async fn measure(&mut self, time: Duration, mut records: impl FnMut() -> SignedObject) -> Latencies {
        let (mut latencies, start) = (Latencies::default(), Instant::now());
        while latencies.ping.is_empty() || start.elapsed() < time {
            let sent = Instant::now();
            self.publisher.send(&ping()).await;
            let back = self.publisher.next_of(|frame| frame.kind == "pong").await;
            latencies.ping.push(back - sent);

            let record = records();
            let id = record.id().to_string();
            let sent = Instant::now();
            self.publisher.send(&object_frame(&record)).await;
            let there = self.reader.next_of(|frame| object_id(frame).as_deref() == Some(&id)).await;
            latencies.spread.push(there - sent);
            tokio::time::sleep(PAUSE).await;
        }
        latencies
    }
}

impl ProbeConnection {
    async fn dial(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the node listens");
        stream.set_nodelay(true).expect("a TCP option");
        let (reader, writer) = stream.into_split();
        let (sender, frames) = mpsc::unbounded_channel();
        tokio::spawn(listen(reader, sender));
        Self { writer, frames }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.expect("an honest peer's connection lasts");
    }

    /// Waits for the next frame that `wanted` accepts. Returns when it was complete.
    async fn next_of(&mut self, wanted: impl Fn(&Frame) -> bool) -> Instant {
        let search = async {
            loop {
                let (at, frame) = self.frames.recv().await.expect("an honest peer's connection lasts");
                if wanted(&frame) {
                    return at;
                }
            }
        };
        timeout(LIMIT, search).await.expect("an honest peer is served")
    }
}

async fn listen(mut reader: OwnedReadHalf, frames: mpsc::UnboundedSender<(Instant, Frame)>) {
    while let Ok(frame) = read_frame(&mut reader).await {
        if frames.send((Instant::now(), frame)).is_err() {
            return;
        }
    }
}

fn ping() -> Vec<u8> {
    Frame { kind: "ping".into(), payload: Value::Object(Map::new()) }.encode().expect("a small frame")
}

/// The duration below which this share of the durations lies, in milliseconds.
pub fn quantile(durations: &[Duration], share: f64) -> f64 {
    let mut sorted = durations.to_vec();
    sorted.sort();
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at].as_secs_f64() * 1000.0
}
