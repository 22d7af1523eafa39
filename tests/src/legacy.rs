//! A bare legacy peer: it sends exactly what a test tells it to and keeps every frame that it receives.
//!
//! The reference believes, forwards and hides what it receives. This peer only collects it. So a test sees here what a
//! node sends to legacy peers, what it answers and when it hangs up, and can send what no honest peer would.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use spore_protocol::{
    Kind, SignedObject,
    frame::{Frame, HEADER_BYTES},
    json::{Map, Value},
    oracle::body_length,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

use crate::wait_for;

/// How long a message may take between two processes of one busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The requests for the three histories, each with the marker that ends its answer.
const SYNCS: [(&str, &str); 3] = [
    ("sync_request", "sync_response"),
    ("control_sync_request", "control_sync_response"),
    ("task_sync_request", "task_sync_response"),
];

/// One connection. Dropping it closes the connection.
pub struct LegacyPeer {
    writer: OwnedWriteHalf,
    received: Arc<Mutex<ReceivedFrames>>,
    reader: JoinHandle<()>,
}

/// The frames received so far.
#[derive(Default)]
struct ReceivedFrames {
    frames: Vec<Frame>,
    /// The reason why no more frames can come.
    ended: Option<String>,
}

impl LegacyPeer {
    /// Dials a node on this machine.
    ///
    /// # Errors
    /// When no node listens there.
    pub async fn dial(port: u16) -> io::Result<Self> {
        Ok(Self::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?))
    }

    /// As [`LegacyPeer::dial`], from this loopback address. For a node that counts by address, 127.0.0.2 is another
    /// machine.
    ///
    /// # Errors
    /// As [`LegacyPeer::dial`], or when the address is not one of this machine.
    pub async fn dial_from(address: Ipv4Addr, port: u16) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(address), 0))?;
        Ok(Self::over(socket.connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).await?))
    }

    /// Uses a connection that exists, and begins to collect its frames.
    pub fn over(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        let received = Arc::new(Mutex::new(ReceivedFrames::default()));
        let reader = tokio::spawn(listen(reader, received.clone()));
        Self { writer, received, reader }
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn send(&mut self, kind: &str, payload: Value) -> io::Result<()> {
        let frame = Frame { kind: kind.to_owned(), payload };
        self.write(&frame.encode().expect("a test's frames are small")).await
    }

    /// Sends a signed object, as its publisher would.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn send_object(&mut self, object: &SignedObject) -> io::Result<()> {
        self.write(&object_frame(object)).await
    }

    /// Sends these bytes unchanged, whole frames or not.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await
    }

    /// Asks for everything that the node has and waits for the three markers. Returns the count of each marker, in the
    /// order records, control events, manifests.
    pub async fn sync_all(&mut self) -> [u64; 3] {
        let before = SYNCS.map(|(_, response)| self.frames_of(response).len());
        for (request, _) in SYNCS {
            let payload = Value::Object(Map::from([("since".to_owned(), Value::Int(0))]));
            self.send(request, payload).await.expect("the node reads a sync request");
        }
        wait_for("the markers that end three syncs", ANSWER_LIMIT, async || {
            let markers = SYNCS.map(|(_, response)| self.frames_of(response));
            let complete = markers.iter().zip(before).all(|(now, before)| now.len() > before);
            if complete {
                Ok(markers.map(|frames| frames.last().map_or(0, |frame| unsigned(&frame.payload, "count"))))
            } else {
                Err(self.summary())
            }
        })
        .await
    }

    /// Answers the three requests of a node: this peer has no objects.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn has_nothing(&mut self) -> io::Result<()> {
        for (_, response) in SYNCS {
            let zero = |field: &str| (field.to_owned(), Value::Int(0));
            self.send(response, Value::Object(Map::from([zero("since"), zero("count")]))).await?;
        }
        Ok(())
    }

    /// All frames so far, in order.
    pub fn frames(&self) -> Vec<Frame> {
        self.lock().frames.clone()
    }

    /// The frames of this type so far, in order.
    pub fn frames_of(&self, kind: &str) -> Vec<Frame> {
        self.lock().frames.iter().filter(|frame| frame.kind == kind).cloned().collect()
    }

    /// Ids of the signed objects so far, in order. An object that came twice is named twice.
    pub fn ids(&self) -> Vec<String> {
        self.lock().frames.iter().filter_map(object_id).collect()
    }

    /// As [`LegacyPeer::ids`], each id once.
    pub fn id_set(&self) -> BTreeSet<String> {
        self.ids().into_iter().collect()
    }

    /// Why no more frames can come. None while the connection is open.
    pub fn ended(&self) -> Option<String> {
        self.lock().ended.clone()
    }

    /// What came so far, for the message of a failed test: each type with its number.
    pub fn summary(&self) -> String {
        let received = self.lock();
        let mut kinds: Vec<(String, usize)> = Vec::new();
        for frame in &received.frames {
            match kinds.iter_mut().find(|(kind, _)| *kind == frame.kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((frame.kind.clone(), 1)),
            }
        }
        format!("{kinds:?}, {}", received.ended.as_deref().unwrap_or("still open"))
    }

    fn lock(&self) -> MutexGuard<'_, ReceivedFrames> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LegacyPeer {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A listening port for nodes to dial.
pub struct LegacyListener {
    listener: TcpListener,
    pub port: u16,
}

impl LegacyListener {
    /// Listens on a free port of this machine.
    pub async fn bind() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        Self { listener, port }
    }

    /// Waits for the next node that dials.
    pub async fn accept(&self) -> LegacyPeer {
        let accepted = tokio::time::timeout(ANSWER_LIMIT, self.listener.accept()).await;
        let (stream, _) = accepted.expect("a node dials in time").expect("a listening socket accepts");
        LegacyPeer::over(stream)
    }
}

/// The frame that carries a signed object.
pub fn object_frame(object: &SignedObject) -> Vec<u8> {
    let kind = match object {
        SignedObject::Control(event) => event.kind.name().to_owned(),
        other => other.kind().name().to_owned(),
    };
    let payload = Value::parse(object.to_json().as_bytes()).expect("an object is JSON");
    Frame { kind, payload }.encode().expect("objects fit a frame")
}

/// The id of the signed object in a frame. None for a frame that carries no object.
pub fn object_id(frame: &Frame) -> Option<String> {
    let Value::Object(payload) = &frame.payload else { return None };
    let field = if frame.kind == Kind::Task.name() { "task_id" } else { "id" };
    match (payload.get("signature"), payload.get(field)) {
        (Some(_), Some(Value::String(id))) => Some(id.clone()),
        _ => None,
    }
}

fn unsigned(payload: &Value, field: &str) -> u64 {
    match payload {
        Value::Object(map) => match map.get(field) {
            Some(Value::Int(number)) => u64::try_from(*number).unwrap_or_default(),
            _ => 0,
        },
        _ => 0,
    }
}

async fn listen(mut stream: OwnedReadHalf, received: Arc<Mutex<ReceivedFrames>>) {
    let lock = || received.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match read_frame(&mut stream).await {
            Ok(frame) => lock().frames.push(frame),
            Err(reason) => {
                lock().ended = Some(reason);
                return;
            }
        }
    }
}

/// Reads one frame.
///
/// # Errors
/// The reason why no frame can be read any more.
pub(crate) async fn read_frame(stream: &mut OwnedReadHalf) -> Result<Frame, String> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(|e| format!("closed: {e}"))?;
    let length = body_length(header).map_err(|e| e.to_string())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(|e| format!("closed within a frame: {e}"))?;
    Frame::decode(&body).map_err(|e| format!("not a frame: {e}"))
}
