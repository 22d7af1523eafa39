//! Two honest legacy peers of one node, who measure how long it takes them: one pings and publishes,
//! the other waits for what was published.

use std::{
    io,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use spore_protocol::{
    SignedObject,
    frame::{Frame, HEADER_BYTES},
    json::{Map, Value},
    oracle::body_length,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::timeout,
};

use crate::legacy::{object_frame, object_id};

/// Bounds a hang; a node under attack on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two measurements: an honest peer does not flood.
const PAUSE: Duration = Duration::from_millis(20);

/// What one round of measurements took.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// From a ping to its pong.
    pub ping: Vec<Duration>,
    /// From sending a record to the node until another peer has it from there.
    pub spread: Vec<Duration>,
}

/// The two peers. Their connections must last as long as they do.
pub struct Probe {
    publisher: Line,
    reader: Line,
}

/// One connection, and the frames that came by it with the times at which they were whole.
struct Line {
    writer: OwnedWriteHalf,
    frames: mpsc::UnboundedReceiver<(Instant, Frame)>,
}

impl Probe {
    /// Connects both with the node that listens on this port of this machine.
    pub async fn connect(port: u16) -> Self {
        Self { publisher: Line::dial(port).await, reader: Line::dial(port).await }
    }

    /// Pings and publishes what `records` makes until the time is over, once at least.
    ///
    /// # Panics
    /// When a connection is lost, or an answer or a record does not come at all.
    pub async fn measure(&mut self, time: Duration, mut records: impl FnMut() -> SignedObject) -> Latencies {
        let (mut latencies, start) = (Latencies::default(), Instant::now());
        while latencies.ping.is_empty() || start.elapsed() < time {
            let sent = Instant::now();
            self.publisher.send(&ping()).await;
            let back = self.publisher.until(|frame| frame.kind == "pong").await;
            latencies.ping.push(back - sent);

            let record = records();
            let id = record.id().to_string();
            let sent = Instant::now();
            self.publisher.send(&object_frame(&record)).await;
            let there = self.reader.until(|frame| object_id(frame).as_deref() == Some(&id)).await;
            latencies.spread.push(there - sent);
            tokio::time::sleep(PAUSE).await;
        }
        latencies
    }
}

impl Line {
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

    /// When the next frame of this description came.
    async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Instant {
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
    while let Ok(frame) = read(&mut reader).await {
        if frames.send((Instant::now(), frame)).is_err() {
            return;
        }
    }
}

async fn read(reader: &mut OwnedReadHalf) -> io::Result<Frame> {
    let mut header = [0; HEADER_BYTES];
    reader.read_exact(&mut header).await?;
    let mut body = vec![0; body_length(header).map_err(io::Error::other)?];
    reader.read_exact(&mut body).await?;
    Frame::decode(&body).map_err(io::Error::other)
}

fn ping() -> Vec<u8> {
    Frame { kind: "ping".into(), payload: Value::Object(Map::new()) }.encode().expect("a small frame")
}

/// The value below which this share of the durations lies, in milliseconds.
pub fn quantile(durations: &[Duration], share: f64) -> f64 {
    let mut sorted = durations.to_vec();
    sorted.sort();
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at].as_secs_f64() * 1000.0
}
