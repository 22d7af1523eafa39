//! The live half of the API: a stream of events (SSE) for each reader.
//!
//! The store's sequence of changes is the only source of `activity` events: a broadcast merely
//! says that there is something to read. So a reader that was away resumes by `Last-Event-ID`, and
//! one that is slow misses nothing: its own place in the sequence waits.

use std::{convert::Infallible, sync::Arc, time::Duration};

use spore_protocol::TaskId;
use tokio::{
    sync::{Semaphore, broadcast::error::RecvError, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use warp::sse::Event;

use super::{
    live::{self, LiveNode},
    problem::ApiError,
    view::View,
};

/// Readers at once; each costs a task and a queue.
pub const MAX_READERS: usize = 64;
/// Events on their way to one reader. A slow reader makes its own task wait, nobody else.
const QUEUE: usize = 64;
/// Changes read from the store at once.
const PAGE: usize = 256;
/// Changes that a resuming reader is given at most; one that was away longer starts anew, told so
/// by `ready`.
const MAX_RESUMED: u64 = 10_000;
/// Time between `status` events while nothing happens; also keeps proxies from closing the stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Least time between two `status` events, and between two `progress` events.
const PACE: Duration = Duration::from_millis(500);

/// One reader's stream, and what it may see.
pub struct Reader {
    pub view: View,
    /// None in an explorer without a node: its store never changes.
    pub node: Option<LiveNode>,
    /// None: the events of all tasks.
    pub task: Option<TaskId>,
    /// The newest change that the reader has seen.
    pub last_seen: Option<u64>,
    pub shutdown: watch::Receiver<bool>,
}

/// What a reader's connection gives out.
pub type Events = ReceiverStream<Result<Event, Infallible>>;

/// Opens a stream.
///
/// # Errors
/// 503 when [`MAX_READERS`] are open.
pub fn open(reader: Reader, places: &Arc<Semaphore>) -> Result<Events, ApiError> {
    let place = places.clone().try_acquire_owned().map_err(|_| {
        ApiError::unavailable(format!("{MAX_READERS} event streams are open already"))
            .hint("close another page of this explorer")
    })?;
    let (events, queue) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut shutdown = reader.shutdown.clone();
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = events.closed() => {}
            () = serve(reader, &events) => {}
        }
        drop(place);
    });
    Ok(ReceiverStream::new(queue))
}

type Queue = mpsc::Sender<Result<Event, Infallible>>;

/// The reader has gone, or the store cannot be read any more.
struct Ended;

async fn serve(reader: Reader, queue: &Queue) {
    // Subscribed before the first read, so that nothing falls between.
    let changes = reader.node.as_ref().map(|node| node.events.subscribe());
    let progress = reader.node.as_ref().map(|node| node.progress.clone());
    let newest = reader.view.store().sequence();
    let resumes = reader.last_seen.filter(|seen| *seen <= newest && newest - seen <= MAX_RESUMED);
    let mut stream = Stream { at: resumes.unwrap_or(newest), reader, queue };
    let outcome = stream.start(resumes.is_some()).await;
    if outcome.is_err() {
        return;
    }
    match (changes, progress) {
        (Some(changes), Some(progress)) => stream.follow(changes, progress).await,
        _ => queue.closed().await,
    }
}

struct Stream<'a> {
    reader: Reader,
    queue: &'a Queue,
    /// The newest change dealt with.
    at: u64,
}

impl Stream<'_> {
    async fn start(&mut self, resumed: bool) -> Result<(), Ended> {
        let ready = serde_json::json!({ "sequence": self.at, "resumed": resumed });
        self.send(Event::default().event("ready").retry(Duration::from_secs(2)).data(ready.to_string())).await?;
        self.activities().await?;
        self.status().await
    }

    async fn follow(
        &mut self,
        mut changes: tokio::sync::broadcast::Receiver<spore_ingest::StoreEvent>,
        mut progress: watch::Receiver<Option<spore_base::progress::RunProgress>>,
    ) {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let mut status_due: Option<Instant> = None;
        let mut progress_after = Instant::now();
        loop {
            let sent = tokio::select! {
                change = changes.recv() => match change {
                    Err(RecvError::Closed) => return,
                    _ => {
                        status_due.get_or_insert_with(|| Instant::now() + PACE);
                        self.activities().await
                    }
                },
                Ok(()) = async { tokio::time::sleep_until(progress_after).await; progress.changed().await } => {
                    progress_after = Instant::now() + PACE;
                    let now = progress.borrow_and_update().clone();
                    match now {
                        Some(now) => self.send(event("progress", &live::progress(&now))).await,
                        None => self.status().await,
                    }
                }
                () = tokio::time::sleep_until(status_due.unwrap_or_else(Instant::now)), if status_due.is_some() => {
                    status_due = None;
                    self.status().await
                }
                _ = heartbeat.tick() => self.status().await,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    /// Sends what the store has beyond [`Stream::at`].
    async fn activities(&mut self) -> Result<(), Ended> {
        loop {
            let (view, after, task) = (self.reader.view.clone(), self.at, self.reader.task);
            let read = tokio::task::spawn_blocking(move || read(&view, after, task)).await;
            let (events, newest) = read.map_err(|_| Ended)?.map_err(|error| {
                tracing::warn!(%error, "an event stream ends: the store cannot be read");
                Ended
            })?;
            for event in events {
                self.send(event).await?;
            }
            if newest == self.at {
                return Ok(());
            }
            self.at = newest;
        }
    }

    async fn status(&self) -> Result<(), Ended> {
        let live = match &self.reader.node {
            Some(node) => node.now().await,
            None => live::Live::offline(self.reader.task),
        };
        let view = self.reader.view.clone();
        let status = tokio::task::spawn_blocking(move || view.status(&live)).await.map_err(|_| Ended)?;
        match status {
            Ok(status) => self.send(event("status", &status)).await,
            Err(_) => Err(Ended),
        }
    }

    async fn send(&self, event: Event) -> Result<(), Ended> {
        self.queue.send(Ok(event)).await.map_err(|_| Ended)
    }
}

fn event<T: serde::Serialize>(name: &'static str, data: &T) -> Event {
    // The shapes of the API have no map keys but text, so this cannot fail.
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}

/// The events after a place in the sequence, and the place after them.
fn read(view: &View, after: u64, task: Option<TaskId>) -> Result<(Vec<Event>, u64), ApiError> {
    let changes = view.store().changes_since(after, PAGE)?;
    let newest = changes.last().map_or(after, |change| change.sequence);
    let mut events = Vec::new();
    for change in changes.iter().filter(|change| task.is_none() || change.task_id == task) {
        if let Some(activity) = view.tell(change)? {
            events.push(event("activity", &activity).id(change.sequence.to_string()));
        }
    }
    Ok((events, newest))
}
