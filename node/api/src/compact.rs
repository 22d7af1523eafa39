//! A task's graph in its compact form ([`spore_storage::Graph`] describes it), sent in bounded pieces.
//!
//! Few graphs are sent at once, and none for longer than [`LONGEST`], so that slow readers cannot make
//! the node hold many of them. Its length is told first: a reader notices an answer that was cut off.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    sync::{Arc, LazyLock},
    time::Duration,
};

use spore_storage::Graph;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use warp::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::{Reply, Response},
};

use super::{
    problem::ApiError,
    read::{ROOT, decode},
    view::View,
};

/// What it is sent as.
pub const BINARY: &str = "application/octet-stream";
/// Graphs sent at once: one of a million records takes some 60 MB.
pub const MAX_SENT: usize = 4;
/// How long a reader waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one graph is sent at most: at a million records, 150 kB a second.
const LONGEST: Duration = Duration::from_secs(300);
/// Bytes handed over at once.
const PIECE: usize = 64 << 10;
/// Pieces on their way to one reader.
const PIECES: usize = 4;
/// Of the format, so that a browser asks anew when it changes.
const FORMAT: u8 = 1;
/// Of this process: a store that was repaired or restored since the last one may have the same sequence and
/// another graph.
static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(FORMAT));

/// The task whose graph is asked for in this form, by its address or by what the reader takes.
pub fn wanted(path: &str, headers: &HeaderMap) -> Option<String> {
    let rest = path.strip_prefix(ROOT)?.strip_prefix("/tasks/")?;
    let binary = || {
        let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        accepted.split(',').any(|kind| kind.split(';').next().is_some_and(|name| name.trim() == BINARY))
    };
    let task = match rest.strip_suffix("/graph.bin") {
        Some(task) => task,
        None => rest.strip_suffix("/graph").filter(|_| binary())?,
    };
    (!task.contains('/')).then(|| decode(task))
}

/// Answers with the graph, or with 304 where the reader has it already.
///
/// # Errors
/// As [`View::task`]; 503 when too many graphs are being sent.
pub async fn answer(
    view: View,
    turns: &Arc<Semaphore>,
    task: String,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let turn = timeout(PATIENCE, turns.clone().acquire_owned()).await;
    let turn = turn.ok().and_then(Result::ok).ok_or_else(|| {
        ApiError::unavailable(format!("{MAX_SENT} graphs are being sent already")).hint("try again in a minute")
    })?;
    let known = headers.get(header::IF_NONE_MATCH).cloned();
    // The turn goes with the work, which does not end when the reader goes away.
    let read = tokio::task::spawn_blocking(move || (read(&view, &task, known.as_ref()), turn)).await;
    let (read, turn) = read.map_err(|_| ApiError::internal("the store's thread ended early"))?;
    let (tag, graph) = read?;
    let mut response = match graph {
        None => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        Some((graph, length)) => {
            let mut response = warp::reply::stream(send(graph, turn)).into_response();
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(BINARY));
            response
        }
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// The tag of a task's graph; where the reader's is another one, the graph and its length in bytes.
fn read(view: &View, task: &str, known: Option<&HeaderValue>) -> Result<(String, Option<(Graph, u64)>), ApiError> {
    let task = view.known_task(task)?;
    let tag = |sequence: u64| format!("\"graph-{FORMAT}-{:x}-{sequence}\"", *RUN);
    let now = tag(view.store().task_sequence(&task)?);
    if known.is_some_and(|known| known.as_bytes() == now.as_bytes()) {
        return Ok((now, None));
    }
    let graph = view.store().graph(&task)?;
    let mut length = Counter(0);
    graph.write(&mut length).map_err(|e| ApiError::internal(e.to_string()))?;
    Ok((tag(graph.sequence), Some((graph, length.0))))
}

type Pieces = ReceiverStream<Result<Vec<u8>, Infallible>>;

fn send(graph: Graph, turn: OwnedSemaphorePermit) -> Pieces {
    let (queue, pieces) = mpsc::channel(PIECES);
    let runtime = Handle::current();
    let deadline = Instant::now() + LONGEST;
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut outlet = Outlet { queue, runtime, deadline, piece: Vec::with_capacity(PIECE) };
        if graph.write(&mut outlet).and_then(|()| outlet.flush()).is_err() {
            tracing::debug!("the reader of a graph went away, or was too slow");
        }
    });
    ReceiverStream::new(pieces)
}

/// Hands over what is written, piece by piece, and waits while the reader is busy.
struct Outlet {
    queue: mpsc::Sender<Result<Vec<u8>, Infallible>>,
    runtime: Handle,
    deadline: Instant,
    piece: Vec<u8>,
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sent = self.runtime.block_on(timeout_at(self.deadline, self.queue.send(Ok(piece))));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Counts what would be written.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compact_form_is_asked_for_by_address_or_by_what_is_accepted() {
        let accept = |value| HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]);
        let none = HeaderMap::new();
        assert_eq!(wanted("/api/v1/tasks/a%20b/graph.bin", &none).as_deref(), Some("a b"));
        assert_eq!(wanted("/api/v1/tasks/ab/graph", &none), None);
        assert_eq!(wanted("/api/v1/tasks/ab/graph", &accept("application/json, */*")), None);
        let both = accept("application/octet-stream;q=0.9, application/json");
        assert_eq!(wanted("/api/v1/tasks/ab/graph", &both).as_deref(), Some("ab"));
        assert_eq!(wanted("/api/v1/tasks/ab/nodes", &both), None);
        assert_eq!(wanted("/api/v1/tasks/a/b/graph.bin", &none), None);
    }
}
