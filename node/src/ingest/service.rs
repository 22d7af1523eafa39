//! The task that runs `ingest`: takes batches, calls verification and the store on blocking
//! threads, and tells everybody. All decisions are [`super::batch`]'s.

use std::{
    collections::{HashMap, HashSet},
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::available_parallelism,
    time::Duration,
};

use spore_protocol::{Kind, ObjectId, Reject, SignedObject, VerifiedObject};
use spore_storage::{Report, Store, StoreError};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tracing::{debug, error, info, warn};

use super::{
    Disposition, INBOX, Inbound, IngestHandle, Origin, StoreEvent, WANTS, Want,
    batch::{Answer, Checked, Entry, Waiting, check_time, first_of_each, screen},
    handle::{Rejections, STORE_REFUSES},
};

/// Unix seconds, now. Passed in, so that tests own the clock.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Most objects in one insertion: enough to spread the cost of a synced write, few enough that a
/// sender waits milliseconds.
pub const BATCH: usize = 512;

/// Store events that a slow listener may lag behind; past it the listener is told so and reads
/// the store's sequence instead.
pub const EVENTS: usize = 4096;

/// How far ahead of our clock an object's timestamp may be, in seconds.
pub const MAX_AHEAD_SECONDS: u64 = 3600;

/// Objects that one verifying thread takes at least: below it a thread costs more than it saves.
const MIN_CHUNK: usize = 16;

/// How often parents that are still missed are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Missed parents asked for at once, a fraction of the queue of wants.
const ASKED_AT_ONCE: usize = WANTS / 4;

/// What [`Ingest::spawn`] gives: the way in, what changes, what is missed, and the task's end.
pub type Parts = (IngestHandle, broadcast::Sender<StoreEvent>, mpsc::Receiver<Want>, JoinHandle<()>);

/// The service's own state.
pub struct Ingest {
    store: Store,
    clock: Clock,
    waiting: Waiting,
    rejections: Rejections,
    events: broadcast::Sender<StoreEvent>,
    wants: mpsc::Sender<Want>,
    /// Whether the last insertion failed, so that a full disk is logged once and not for each batch.
    /// Shared with the handles, which tell it to people.
    failing: Arc<AtomicBool>,
}

impl Ingest {
    /// Starts the service. It ends, after it has dealt with what is in the inbox, when `shutdown`
    /// becomes true or its sender and all handles are gone.
    pub fn spawn(store: Store, clock: Clock, shutdown: watch::Receiver<bool>) -> Parts {
        let (inbox, queue) = mpsc::channel(INBOX);
        let (wants, wanted) = mpsc::channel(WANTS);
        let (events, _) = broadcast::channel(EVENTS);
        let rejections = Rejections::default();
        let failing = Arc::new(AtomicBool::new(false));
        let handle = IngestHandle { inbox, rejections: rejections.clone(), failing: failing.clone() };
        let service =
            Self { store, clock, waiting: Waiting::default(), rejections, events: events.clone(), wants, failing };
        (handle, events, wanted, tokio::spawn(service.run(queue, shutdown)))
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Inbound>, mut shutdown: watch::Receiver<bool>) {
        let mut ask_again = interval_at(Instant::now(), ASK_AGAIN);
        ask_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                taken = queue.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    self.take_in(std::mem::take(&mut batch)).await;
                }
                _ = ask_again.tick() => self.ask_for_missed().await,
                () = stopped(&mut shutdown), if !queue.is_closed() => queue.close(),
            }
        }
    }

    /// One batch, from the inbox to the answers.
    async fn take_in(&mut self, batch: Vec<Inbound>) {
        let mut replies = Vec::with_capacity(batch.len());
        let mut entries = Vec::with_capacity(batch.len());
        for (place, Inbound { origin, object, reply }) in batch.into_iter().enumerate() {
            replies.push(Some(reply));
            entries.push(Entry { place, origin, object });
        }
        let now = (self.clock)();
        let answers = self.decide(entries, now).await;
        for (place, disposition) in answers {
            if let Disposition::Rejected(reject) = &disposition {
                self.rejections.count(reject);
                debug!(%reject, "refused an object");
            }
            answer(&mut replies, place, disposition);
        }
        // An object without an answer would make its sender believe in a shutdown.
        let failed: Arc<str> = "the object was not decided".into();
        (0..replies.len()).for_each(|place| answer(&mut replies, place, Disposition::Failed(failed.clone())));
    }

    async fn decide(&mut self, entries: Vec<Entry>, now: u64) -> Vec<Answer> {
        let places: Vec<usize> = entries.iter().map(|entry| entry.place).collect();
        let store = self.store.clone();
        let screened = blocking(move || {
            let known = known(&store, &entries)?;
            Ok(screen(entries, &known))
        });
        let (entries, mut answers) = match screened.await {
            Ok(screened) => screened,
            Err(reason) => return self.failed(&places, &reason),
        };
        let (checked, refused) = verify(entries, now).await;
        answers.extend(refused);
        let (checked, copies) = first_of_each(checked);
        answers.extend(copies);
        answers.extend(self.insert(checked, now).await);
        answers
    }

    async fn insert(&mut self, checked: Vec<Checked>, now: u64) -> Vec<Answer> {
        if checked.is_empty() {
            return Vec::new();
        }
        let inserted: Vec<_> = checked.iter().map(|c| (c.place, c.origin, c.object.id())).collect();
        let objects: Vec<VerifiedObject> = checked.into_iter().map(|c| c.object).collect();
        let store = self.store.clone();
        let result = blocking(move || {
            let report = store.insert(&objects, now)?;
            let by_id = changed_objects(&store, &objects, &report)?;
            Ok((report, by_id))
        });
        let (report, mut by_id) = match result.await {
            Ok(done) => done,
            Err(reason) => {
                let places: Vec<usize> = inserted.iter().map(|(place, ..)| *place).collect();
                return self.failed(&places, &reason);
            }
        };
        if self.failing.swap(false, Ordering::Relaxed) {
            info!("the store takes objects again");
        }
        for (id, reject) in &report.late_rejects {
            self.rejections.count(reject);
            debug!(id = %id.short(), %reject, "refused an object that had waited for its parent");
        }
        if report.dropped_pending > 0 {
            warn!(dropped = report.dropped_pending, "too many records wait for their parents: the oldest were dropped");
        }
        let settled = self.waiting.settle(&inserted, &report);
        for (change, origin) in settled.events {
            if let Some(object) = by_id.remove(&change.id) {
                // An error means only that nobody listens.
                let _ = self.events.send(StoreEvent { change, object, origin });
            }
        }
        settled.wants.into_iter().for_each(|want| self.want(want));
        settled.answers
    }

    fn failed(&mut self, places: &[usize], reason: &Arc<str>) -> Vec<Answer> {
        if !self.failing.swap(true, Ordering::Relaxed) {
            error!(%reason, "{STORE_REFUSES}; reading goes on");
        }
        places.iter().map(|place| (*place, Disposition::Failed(reason.clone()))).collect()
    }

    fn want(&self, want: Want) {
        if self.wants.try_send(want).is_err() {
            debug!("the queue of missed objects is full; catch-up brings them");
        }
    }

    /// Asks for parents that are still missed: a want may have been dropped, or no peer had it then.
    async fn ask_for_missed(&self) {
        let store = self.store.clone();
        match blocking(move || store.missing_parents(ASKED_AT_ONCE)).await {
            Ok(missing) => {
                missing
                    .into_iter()
                    .for_each(|id| self.want(Want { kind: Kind::Experiment, id: id.into(), from: None }));
            }
            Err(reason) => warn!(%reason, "could not list missed parents"),
        }
    }
}

fn answer(replies: &mut [Option<oneshot::Sender<Disposition>>], place: usize, disposition: Disposition) {
    if let Some(reply) = replies.get_mut(place).and_then(Option::take) {
        // The sender may have gone away; the object is decided all the same.
        let _ = reply.send(disposition);
    }
}

/// Resolves when `shutdown` is true. Never when its sender is gone without saying so.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Runs on a blocking thread; errors become the text that senders are told.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Arc<str>> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.to_string().into()),
        Err(_) => Err("the store's thread ended early".into()),
    }
}

fn known(store: &Store, entries: &[Entry]) -> Result<HashSet<(Kind, ObjectId)>, StoreError> {
    let mut known = HashSet::new();
    for entry in entries {
        let (kind, id) = (entry.object.kind(), entry.object.id());
        if store.contains(kind, &id)? {
            known.insert((kind, id));
        }
    }
    Ok(known)
}

/// The objects behind a report's changes: most are in the batch, released ones in the store.
fn changed_objects(
    store: &Store,
    batch: &[VerifiedObject],
    report: &Report,
) -> Result<HashMap<ObjectId, SignedObject>, StoreError> {
    let in_batch: HashMap<ObjectId, &VerifiedObject> = batch.iter().map(|object| (object.id(), object)).collect();
    let mut objects = HashMap::with_capacity(report.changes.len());
    for change in &report.changes {
        let object = match in_batch.get(&change.id) {
            Some(object) => Some(object.to_signed()),
            None => store.object(change.kind, &change.id)?,
        };
        if let Some(object) = object {
            objects.insert(change.id, object);
        }
    }
    Ok(objects)
}

/// Checks times and signatures, on all cores.
async fn verify(entries: Vec<Entry>, now: u64) -> (Vec<Checked>, Vec<Answer>) {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let chunk = entries.len().div_ceil(cores).max(MIN_CHUNK);
    let mut entries = entries.into_iter();
    let mut tasks = Vec::new();
    loop {
        let part: Vec<Entry> = entries.by_ref().take(chunk).collect();
        if part.is_empty() {
            break;
        }
        tasks.push(tokio::task::spawn_blocking(move || {
            part.into_iter().map(|entry| check(entry, now)).collect::<Vec<_>>()
        }));
    }
    let (mut checked, mut refused) = (Vec::new(), Vec::new());
    for task in tasks {
        // A thread that ends early leaves its objects unanswered, which the caller makes good.
        for (place, origin, result) in task.await.unwrap_or_default() {
            match result {
                Ok(object) => checked.push(Checked { place, origin, object }),
                Err(reject) => refused.push((place, Disposition::Rejected(reject))),
            }
        }
    }
    (checked, refused)
}

fn check(entry: Entry, now: u64) -> (usize, Origin, Result<VerifiedObject, Reject>) {
    let Entry { place, origin, object } = entry;
    let result = check_time(object.timestamp(), now, MAX_AHEAD_SECONDS).and_then(|()| object.verify());
    (place, origin, result)
}
