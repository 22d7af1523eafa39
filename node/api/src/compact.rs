//! A task's graph in its compact form ([`spore_storage::TaskGraph`] describes it): whole and sent in bounded chunks, or the
//! changes since an earlier answer, which are small.
//!
//! Few whole graphs are sent at once, one to a client, none for longer than [`LONGEST`] and none slower than
//! [`LEAST_RATE`], so that slow readers neither make the node hold many of them nor keep others waiting. `Content-Length` comes before the bytes, so that a reader notices an answer that was cut off.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    sync::{Arc, LazyLock},
    time::Duration,
};

use spore_storage::{StoreError, TaskGraph};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use warp::{
    http::{HeaderMap, HeaderValue, header},
    reply::{Reply, Response},
};

use super::{
    etag,
    problem::ApiError,
    shares::{Bounds, Client, Share, Shares},
    view::StoreView,
};

/// Media type of the compact form.
pub const BINARY: &str = "application/octet-stream";
/// Whole graphs sent at once: one of a million records takes some 60 MB.
pub const GRAPHS: Bounds = Bounds { all: 4, others: 3, subnet: 1, host: 1 };
/// How long a reader waits for a share.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a reader waits before it asks for a share again.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes a second that a reader must take once [`PATIENCE`] is over: others wait no longer than that.
const LEAST_RATE: u32 = 64 << 10;
/// How long one graph is sent at most: at a million records, 200 kB a second.
const LONGEST: Duration = Duration::from_secs(300);
/// Bytes of a chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks queued for one reader.
const CHUNKS: usize = 4;
/// Version of the format, part of each cursor: a browser asks again when it changes.
const FORMAT: u8 = 3;
/// Names this process, part of each cursor: a store that was repaired or restored since the last process may have the
/// same sequence numbers and another graph.
static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(FORMAT));

/// The state that a graph shows, as readers hand it back: opaque to them. `drops`: see [`spore_storage::Store::drops`].
fn cursor(sequence: u64, drops: u64) -> String {
    // Rows that went are in no list of changes, and sequence numbers do not tell of them.
    format!("{FORMAT}-{:x}-{sequence}", RUN.wrapping_add(drops))
}

/// The task's sequence number in a cursor; none where it is not of this process, or from before objects were dropped.
fn sequence_of(text: &str, drops: u64) -> Option<u64> {
    let sequence = text.rsplit('-').next()?.parse().ok()?;
    (text == cursor(sequence, drops)).then_some(sequence)
}

/// Whether a request for a graph accepts this form.
pub fn is_accepted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|kind| kind.split(';').next().is_some_and(|name| name.trim() == BINARY))
}

/// Bounds on the requests that are answered at once.
#[derive(Clone, Copy)]
pub struct Permits<'a> {
    /// For reading the store.
    pub reads: &'a Arc<Semaphore>,
    /// For sending a whole graph, [`GRAPHS`] of them.
    pub graphs: &'a Shares,
    pub client: Client,
}

/// Answers with the changes since the cursor `since`, with the whole graph where there is none or it cannot be served,
/// or with 304 where the reader has the whole graph already.
///
/// # Errors
/// As [`StoreView::task`]; 503 when too many graphs are being sent.
pub async fn answer(
    view: StoreView,
    permits: Permits<'_>,
    task: String,
    since: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let drops = view.store().drops()?;
    if let Some(since) = since.and_then(|since| sequence_of(since, drops))
        && let Some(changes) = changes(&view, permits.reads, &task, since).await?
    {
        return Ok(changes);
    }
    // A browser would keep each answer with changes under an address of its own, for nothing.
    let cache = if since.is_some() { "no-store" } else { "no-cache" };
    let known = headers.get(header::IF_NONE_MATCH).cloned();
    let (tag, mut response) = match unchanged(&view, permits.reads, &task, known).await? {
        Some(tag) => (tag, etag::not_modified()),
        None => whole(view, permits, task).await?,
    };
    etag::set(&mut response, &tag, cache);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// The ETag of a task's graph if the reader has that graph. It is told so without a share of the graphs.
async fn unchanged(
    view: &StoreView,
    reads: &Arc<Semaphore>,
    task: &str,
    known: Option<HeaderValue>,
) -> Result<Option<String>, ApiError> {
    let Some(known) = known else { return Ok(None) };
    let permit = reads.clone().acquire_owned().await;
    let permit = permit.map_err(|_| ApiError::unavailable("the node is shutting down"))?;
    let (view, task) = (view.clone(), task.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let now = tag(view.store().task_sequence(&view.known_task(&task)?)?, view.store().drops()?);
        Ok::<_, ApiError>(etag::is_known(&now, Some(&known)).then_some(now))
    });
    read.await.map_err(|_| ApiError::thread_ended())?
}

/// The whole graph, with its ETag.
async fn whole(view: StoreView, permits: Permits<'_>, task: String) -> Result<(String, Response), ApiError> {
    let share = async {
        loop {
            if let Some(share) = permits.graphs.take(permits.client, 1) {
                break share;
            }
            sleep(PAUSE).await;
        }
    };
    let share = timeout(PATIENCE, share).await.map_err(|_| {
        ApiError::unavailable("too many graphs are being sent already: to this address, its network, or in all")
            .hint("try again in a minute")
    })?;
    // Hold the share until the blocking read ends: it goes on when the reader disconnects.
    let read = tokio::task::spawn_blocking(move || (read(&view, &task), share)).await;
    let (read, share) = read.map_err(|_| ApiError::thread_ended())?;
    let (graph, length, drops) = read?;
    let tag = tag(graph.sequence, drops);
    let mut response = warp::reply::stream(send(graph, drops, share)).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(BINARY));
    Ok((tag, response))
}

fn tag(sequence: u64, drops: u64) -> String {
    format!("\"graph-{}\"", cursor(sequence, drops))
}

/// An answer with the changes since a sequence number; none where only the whole graph shows them.
async fn changes(
    view: &StoreView,
    reads: &Arc<Semaphore>,
    task: &str,
    since: u64,
) -> Result<Option<Response>, ApiError> {
    let permit = reads.clone().acquire_owned().await;
    let permit = permit.map_err(|_| ApiError::unavailable("the node is shutting down"))?;
    let (view, task) = (view.clone(), task.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let drops = view.store().drops()?;
        let changes = match view.store().graph_changes(&view.known_task(&task)?, since) {
            // The whole graph needs less of the store, and may be readable.
            Err(StoreError::Corrupt(_)) => None,
            changes => changes?,
        };
        Ok::<_, ApiError>(changes.map(|changes| changes.to_bytes(&cursor(changes.sequence, drops))))
    });
    let bytes = read.await.map_err(|_| ApiError::thread_ended())??;
    Ok(bytes.map(|bytes| {
        let mut response = Response::new(bytes.into());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(BINARY));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }))
}

/// A task's graph, its length in bytes, and what was dropped before it was read.
fn read(view: &StoreView, task: &str) -> Result<(TaskGraph, u64, u64), ApiError> {
    let drops = view.store().drops()?;
    let graph = view.store().graph(&view.known_task(task)?)?;
    let mut length = Counter(0);
    graph.write(&cursor(graph.sequence, drops), &mut length).map_err(|e| ApiError::internal(e.to_string()))?;
    Ok((graph, length.0, drops))
}

type Chunks = ReceiverStream<Result<Vec<u8>, Infallible>>;

/// Sends a graph in chunks, and holds the share until the last chunk is queued.
fn send(graph: TaskGraph, drops: u64, share: Share) -> Chunks {
    let (queue, chunks) = mpsc::channel(CHUNKS);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let _share = share;
        let mut outlet =
            Outlet { queue, runtime, begun: Instant::now(), sent: 0, chunk: Vec::with_capacity(CHUNK_BYTES) };
        if graph.write(&cursor(graph.sequence, drops), &mut outlet).and_then(|()| outlet.flush()).is_err() {
            tracing::debug!("the reader of a graph disconnected, or was too slow");
        }
    });
    ReceiverStream::new(chunks)
}

/// A writer that queues what is written in chunks, and waits while the queue is full.
struct Outlet {
    queue: mpsc::Sender<Result<Vec<u8>, Infallible>>,
    runtime: Handle,
    begun: Instant,
    /// Bytes queued so far.
    sent: usize,
    chunk: Vec<u8>,
}

/// How long after the first byte a reader may take until `sent` bytes are queued.
fn allowed(sent: usize) -> Duration {
    (PATIENCE + Duration::from_secs(sent as u64) / LEAST_RATE).min(LONGEST)
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.sent += chunk.len();
        let deadline = self.begun + allowed(self.sent);
        let sent = self.runtime.block_on(timeout_at(deadline, self.queue.send(Ok(chunk))));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Counts the bytes that are written.
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
    fn cursor_is_read_back_by_the_process_that_made_it_alone() {
        assert_eq!(sequence_of(&cursor(77, 5), 5), Some(77));
        for foreign in [
            "",
            "77",
            "3-0-77",
            &format!("1-{:x}-77", *RUN),
            &format!("{}x", cursor(7, 5)),
            &format!("{}-", cursor(7, 5)),
        ] {
            assert_eq!(sequence_of(foreign, 5), None, "{foreign}");
        }
    }

    #[test]
    fn cursor_from_before_a_drop_is_not_taken() {
        assert_eq!(sequence_of(&cursor(77, 5), 6), None);
    }

    #[test]
    fn a_reader_gets_time_by_the_bytes_that_it_took() {
        assert_eq!(allowed(0), PATIENCE);
        assert_eq!(allowed(640 << 10), PATIENCE + Duration::from_secs(10));
        assert_eq!(allowed(1 << 40), LONGEST);
    }

    #[test]
    fn compact_form_is_accepted_when_the_request_lists_it() {
        let accept = |value| HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]);
        assert!(!is_accepted(&HeaderMap::new()));
        assert!(!is_accepted(&accept("application/json, */*")));
        assert!(is_accepted(&accept("application/octet-stream;q=0.9, application/json")));
    }
}
