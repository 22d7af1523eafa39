//! A task's graph in its compact form ([`spore_storage::TaskGraph`] describes it): whole, or the changes since an earlier
//! answer, which are small.
//!
//! A whole graph of up to [`KEPT_RECORDS`] is made once for a state of its task and shared by its readers, plain and in
//! gzip. A larger one is sent in bounded chunks, plain: few are sent at once, one to a client, none for longer than [`LONGEST`] and none slower than
//! [`LEAST_RATE`], so that slow readers neither make the node hold many of them nor keep others waiting. `Content-Length` comes before the bytes, so that a reader notices an answer that was cut off.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    sync::{Arc, LazyLock},
    time::Duration,
};

use spore_protocol::Kind;
use spore_storage::{GraphChanges, SHORT_ID, StoreError, TaskGraph, WHOLE_ID};
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
    encoding, etag,
    problem::ApiError,
    sent::BodyBudget,
    shares::{Bounds, Client, Share, Shares},
    view::{Form, Kept, StoreView},
};

/// Media type of the compact form.
pub const BINARY: &str = "application/octet-stream";
/// Records of the largest graph that is kept for its readers: about 4 MB, and as much in gzip.
const KEPT_RECORDS: u64 = 200_000;
/// Large graphs sent at once: one of a million records takes some 60 MB.
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
const FORMAT: u8 = 4;
/// Names this process, part of each cursor: a store that was repaired or restored since the last process may have the
/// same sequence numbers and another graph.
static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(FORMAT));

/// The state that a graph shows, as readers hand it back: opaque to them. `drops`: see [`spore_storage::Store::drops`].
fn state(sequence: u64, drops: u64) -> String {
    // Rows that went are in no list of changes, and sequence numbers do not tell of them.
    format!("{FORMAT}-{:x}-{sequence}", RUN.wrapping_add(drops))
}

/// A state with the length of the ids that its reader has: changes must have the same.
fn cursor(sequence: u64, drops: u64, id_length: u8) -> String {
    format!("{}-{id_length}", state(sequence, drops))
}

/// The task's sequence number and the length of ids in a cursor; none where it is not of this process, or from before
/// objects were dropped.
fn cursor_of(text: &str, drops: u64) -> Option<(u64, u8)> {
    let mut parts = text.rsplit('-');
    let length = parts.next()?.parse().ok().filter(|length| [SHORT_ID, WHOLE_ID].contains(length))?;
    let sequence = parts.next()?.parse().ok()?;
    (text == cursor(sequence, drops, length)).then_some((sequence, length))
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
    /// For sending a large graph, [`GRAPHS`] of them.
    pub graphs: &'a Shares,
    /// For the bytes of kept graphs.
    pub bodies: &'a BodyBudget,
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
    let gzip = encoding::is_accepted(headers);
    if let Some((since, length)) = since.and_then(|since| cursor_of(since, drops))
        && let Some(changes) = changes(&view, permits.reads, &task, (since, length), gzip).await?
    {
        return Ok(changes);
    }
    // A browser would keep each answer with changes under an address of its own, for nothing.
    let cache = if since.is_some() { "no-store" } else { "no-cache" };
    let known = headers.get(header::IF_NONE_MATCH).cloned();
    let (tag, mut response) = match unchanged(&view, permits.reads, &task, known).await? {
        Some(tag) => (tag, etag::not_modified()),
        None => match kept(&view, permits.reads, &task).await? {
            Some(kept) => sent(kept, permits, gzip)?,
            None => whole(view, permits, task).await?,
        },
    };
    etag::set(&mut response, &tag, cache);
    encoding::vary(response.headers_mut());
    Ok(response)
}

/// Runs work that reads the store on a blocking thread, with a permit that it holds until it ends.
async fn reading<T: Send + 'static>(
    reads: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = reads.clone().acquire_owned().await;
    let permit = permit.map_err(|_| ApiError::unavailable("the node is shutting down"))?;
    let read = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    read.await.map_err(|_| ApiError::thread_ended())?
}

/// The ETag of a task's graph if the reader has that graph. It is told so without a share of the graphs.
async fn unchanged(
    view: &StoreView,
    reads: &Arc<Semaphore>,
    task: &str,
    known: Option<HeaderValue>,
) -> Result<Option<String>, ApiError> {
    let Some(known) = known else { return Ok(None) };
    let (view, task) = (view.clone(), task.to_owned());
    reading(reads, move || {
        let now = tag(view.store().task_sequence(&view.known_task(&task)?)?, view.store().drops()?);
        Ok([etag::in_gzip(&now), now].into_iter().find(|tag| etag::is_known(tag, Some(&known))))
    })
    .await
}

/// The graph that readers share. None for a large one.
async fn kept(view: &StoreView, reads: &Arc<Semaphore>, task: &str) -> Result<Option<Kept>, ApiError> {
    let (view, task) = (view.clone(), task.to_owned());
    reading(reads, move || {
        let known = view.task_view(&task)?;
        if known.experiment_count + known.stray_count > KEPT_RECORDS {
            return Ok(None);
        }
        let (task, store) = (known.task_id, view.store());
        let state = (store.drops()?, store.task_sequence(&task)?);
        let kept = view.graphs.get_or_make(task, Form::Compact, state, || {
            let graph = store.graph(&task)?;
            let length = graph.id_length();
            Ok((graph.sequence, graph.to_bytes(&cursor(graph.sequence, state.0, length), length)))
        })?;
        Ok(Some(kept))
    })
    .await
}

/// An answer with a kept graph, and its ETag.
fn sent(kept: Kept, permits: Permits<'_>, gzip: bool) -> Result<(String, Response), ApiError> {
    let plain = tag(kept.sequence, kept.drops);
    let (tag, body, packed) = match kept.gzip.filter(|_| gzip) {
        Some(body) => (etag::in_gzip(&plain), body, true),
        None => (plain, kept.body, false),
    };
    let mut response = Response::new(permits.bodies.send(permits.client, body)?.into());
    if packed {
        encoding::mark(response.headers_mut());
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(BINARY));
    Ok((tag, response))
}

/// A large graph, with its ETag.
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
    let (graph, cursor, length) = read?;
    let tag = tag(graph.0.sequence, graph.1);
    let mut response = warp::reply::stream(send(graph.0, cursor, share)).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(BINARY));
    Ok((tag, response))
}

fn tag(sequence: u64, drops: u64) -> String {
    format!("\"graph-{}\"", state(sequence, drops))
}

/// An answer with the changes since a sequence number; none where only the whole graph shows them. `gzip`: whether the
/// reader takes that.
async fn changes(
    view: &StoreView,
    reads: &Arc<Semaphore>,
    task: &str,
    (since, length): (u64, u8),
    gzip: bool,
) -> Result<Option<Response>, ApiError> {
    let (view, task) = (view.clone(), task.to_owned());
    let read = reading(reads, move || {
        let drops = view.store().drops()?;
        let changes = match view.store().graph_changes(&view.known_task(&task)?, since) {
            // The whole graph needs less of the store, and may be readable.
            Err(StoreError::Corrupt(_)) => None,
            changes => changes?,
        };
        let Some(changes) = changes else { return Ok(None) };
        if length == SHORT_ID && !are_told_apart(&view, &changes)? {
            return Ok(None);
        }
        let bytes = changes.to_bytes(&cursor(changes.sequence, drops, length), length);
        let packed = if gzip { encoding::gzip(&bytes) } else { None };
        Ok(Some((bytes, packed)))
    });
    let Some((bytes, packed)) = read.await? else { return Ok(None) };
    let is_packed = packed.is_some();
    let mut response = Response::new(packed.map_or(bytes, Arc::unwrap_or_clone).into());
    if is_packed {
        encoding::mark(response.headers_mut());
    }
    encoding::vary(response.headers_mut());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(BINARY));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(Some(response))
}

/// Whether the first [`SHORT_ID`] bytes of each changed record belong to it alone.
fn are_told_apart(view: &StoreView, changes: &GraphChanges) -> Result<bool, ApiError> {
    for id in &changes.ids {
        let head: String = id.to_string().chars().take(2 * usize::from(SHORT_ID)).collect();
        let same = view.store().resolve(&head, 2)?;
        if same.iter().filter(|(kind, _)| *kind == Kind::Experiment).count() > 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A task's graph with what was dropped before it was read, its cursor with the length of its ids, and its length in bytes.
type ReadGraph = ((TaskGraph, u64), (String, u8), u64);

fn read(view: &StoreView, task: &str) -> Result<ReadGraph, ApiError> {
    let drops = view.store().drops()?;
    let graph = view.store().graph(&view.known_task(task)?)?;
    let ids = graph.id_length();
    let cursor = cursor(graph.sequence, drops, ids);
    let mut length = Counter(0);
    graph.write(&cursor, ids, &mut length).map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(((graph, drops), (cursor, ids), length.0))
}

type Chunks = ReceiverStream<Result<Vec<u8>, Infallible>>;

/// Sends a graph in chunks, and holds the share until the last chunk is queued.
fn send(graph: TaskGraph, (cursor, ids): (String, u8), share: Share) -> Chunks {
    let (queue, chunks) = mpsc::channel(CHUNKS);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let _share = share;
        let mut outlet =
            Outlet { queue, runtime, begun: Instant::now(), sent: 0, chunk: Vec::with_capacity(CHUNK_BYTES) };
        if graph.write(&cursor, ids, &mut outlet).and_then(|()| outlet.flush()).is_err() {
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
        for length in [SHORT_ID, WHOLE_ID] {
            assert_eq!(cursor_of(&cursor(77, 5, length), 5), Some((77, length)));
        }
        for foreign in [
            "",
            "77",
            "4-0-77-8",
            &format!("1-{:x}-77-8", *RUN),
            &format!("{}x", cursor(7, 5, SHORT_ID)),
            &format!("{}-", cursor(7, 5, SHORT_ID)),
            &state(7, 5),
            &cursor(7, 5, 9),
        ] {
            assert_eq!(cursor_of(foreign, 5), None, "{foreign}");
        }
    }

    #[test]
    fn cursor_from_before_a_drop_is_not_taken() {
        assert_eq!(cursor_of(&cursor(77, 5, SHORT_ID), 6), None);
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
