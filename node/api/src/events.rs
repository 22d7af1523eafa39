//! The live half of the API: a stream of server-sent events for each client.
//!
//! The store's change log is the only source of `activity` events: a broadcast only says that there is something to
//! read. So a client that was away resumes by `Last-Event-ID`, and a slow client misses nothing: each stream keeps its
//! own sequence number.

use std::{convert::Infallible, time::Duration};

use spore_base::progress::RunProgress;
use spore_protocol::TaskId;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use warp::sse::Event;

use super::{
    dto,
    live::{self, LiveNode},
    problem::ApiError,
    shares::{Bounds, Client, Shares},
    view::StoreView,
};

/// Streams at once. Each costs a task and a queue. A page holds one stream; a host is several people behind one address.
pub const STREAMS: Bounds = Bounds { all: 64, others: 56, subnet: 16, host: 8 };
/// Events queued for one client. A slow client delays its own stream only.
const QUEUE: usize = 64;
/// Changes read from the store in one step.
const PAGE: usize = 256;
/// Most changes that a resumed stream sends again. A client that was away longer starts at the newest change, and
/// `ready` says so.
const MAX_RESUMED: u64 = 10_000;
/// Time between `status` events while nothing happens. It also keeps proxies from closing the stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Least time between two `status` events, and between two `progress` events.
const PACE: Duration = Duration::from_millis(500);

/// What a stream sends.
pub struct Subscription {
    pub view: StoreView,
    /// None in an explorer without a node, whose store never changes.
    pub node: Option<LiveNode>,
    /// None for the events of all tasks.
    pub task: Option<TaskId>,
    /// Sequence number of the newest change that the client has seen.
    pub last_seen: Option<u64>,
    pub shutdown: watch::Receiver<bool>,
}

/// The events of one stream.
pub type EventStream = ReceiverStream<Result<Event, Infallible>>;

/// Opens a stream, which holds one of `shares` until it ends.
///
/// # Errors
/// 503 when as many as [`STREAMS`] allows are open.
pub fn open(subscription: Subscription, shares: &Shares, client: Client) -> Result<EventStream, ApiError> {
    let share = shares.take(client, 1).ok_or_else(|| {
        ApiError::unavailable("too many event streams are open already: from this address, its network, or in all")
            .hint("close another page of this explorer")
    })?;
    let (events, queue) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut shutdown = subscription.shutdown.clone();
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = events.closed() => {}
            () = serve(subscription, &events) => {}
        }
        drop(share);
    });
    Ok(ReceiverStream::new(queue))
}

type EventQueue = mpsc::Sender<Result<Event, Infallible>>;

/// The client has disconnected, or the store cannot be read any more.
struct StreamEnded;

async fn serve(subscription: Subscription, queue: &EventQueue) {
    // Subscribe before the first read, so that no change is missed between the two.
    let changes = subscription.node.as_ref().map(|node| node.events.subscribe());
    let progress = subscription.node.as_ref().map(|node| node.progress.clone());
    let newest = subscription.view.store().sequence();
    let resumes = subscription.last_seen.filter(|seen| *seen <= newest && newest - seen <= MAX_RESUMED);
    let mut feed = EventFeed { at: resumes.unwrap_or(newest), subscription, queue };
    let started = feed.start(resumes.is_some()).await;
    if started.is_err() {
        return;
    }
    match (changes, progress) {
        (Some(changes), Some(progress)) => feed.follow(changes, progress).await,
        _ => queue.closed().await,
    }
}

/// The task behind one stream.
struct EventFeed<'a> {
    subscription: Subscription,
    queue: &'a EventQueue,
    /// Sequence number of the newest change that was sent or skipped.
    at: u64,
}

impl EventFeed<'_> {
    async fn start(&mut self, resumed: bool) -> Result<(), StreamEnded> {
        let ready = serde_json::json!({ "sequence": self.at, "resumed": resumed });
        self.send(Event::default().event("ready").retry(Duration::from_secs(2)).data(ready.to_string())).await?;
        self.activities().await?;
        self.status().await
    }

    async fn follow(
        &mut self,
        mut changes: tokio::sync::broadcast::Receiver<spore_ingest::StoreEvent>,
        mut progress: watch::Receiver<Option<RunProgress>>,
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

    /// Sends the changes after [`EventFeed::at`].
    async fn activities(&mut self) -> Result<(), StreamEnded> {
        loop {
            let (view, after, task) = (self.subscription.view.clone(), self.at, self.subscription.task);
            let read = tokio::task::spawn_blocking(move || read(&view, after, task)).await;
            let (events, newest) = read.map_err(|_| StreamEnded)?.map_err(|error| {
                tracing::warn!(%error, "an event stream ends: the store cannot be read");
                StreamEnded
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

    async fn status(&self) -> Result<(), StreamEnded> {
        let live = match &self.subscription.node {
            Some(node) => node.now().await,
            None => live::Live::offline(self.subscription.task),
        };
        let view = self.subscription.view.clone();
        let status = tokio::task::spawn_blocking(move || view.status(&live)).await.map_err(|_| StreamEnded)?;
        match status {
            Ok(status) => self.send(event("status", &status)).await,
            Err(_) => Err(StreamEnded),
        }
    }

    async fn send(&self, event: Event) -> Result<(), StreamEnded> {
        self.queue.send(Ok(event)).await.map_err(|_| StreamEnded)
    }
}

fn event<T: serde::Serialize>(name: &'static str, data: &T) -> Event {
    // Only map keys that are no text make serialisation fail, and the shapes of the API have none.
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}

/// The events after a sequence number, and the sequence number of the last one.
fn read(view: &StoreView, after: u64, task: Option<TaskId>) -> Result<(Vec<Event>, u64), ApiError> {
    let changes = view.store().changes_since(after, PAGE)?;
    let newest = changes.last().map_or(after, |change| change.sequence);
    let wanted: Vec<_> = changes.into_iter().filter(|change| task.is_none() || change.task_id == task).collect();
    let activities = view.activities_of(&wanted)?;
    let of = |activity: &dto::Activity| event("activity", activity).id(activity.sequence.to_string());
    Ok((activities.iter().map(of).collect(), newest))
}
