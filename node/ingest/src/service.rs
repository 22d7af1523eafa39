//! The task that runs `ingest`, and its second stage: inserts what [`super::verification`] lets
//! through, answers the senders, and tells everybody. All decisions are [`super::batch`]'s.

use std::{collections::HashMap, sync::Arc, time::Duration};

use spore_base::clock::Clock;
use spore_protocol::{Kind, ObjectId, VerifiedObject};
use spore_storage::{Store, StoreError};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tracing::{debug, error, info, warn};

use super::{
    Disposition, INBOX, IngestHandle, StoreEvent, WANTS, Want,
    batch::{Answer, Checked, Waiting},
    handle::Rejections,
    insertion::{self, Inserted},
    trouble::Trouble,
    verification::{BATCHES_AHEAD, Batch, Verification},
};
use crate::missed::Missed;

/// Most objects in one insertion: enough to spread the cost of a synced write, few enough that a
/// sender waits milliseconds.
pub const BATCH: usize = 512;

/// Store events that a slow listener may lag behind; past it the listener is told so and reads
/// the store's sequence instead.
pub const EVENTS: usize = 4096;

/// How far ahead of our clock an object's timestamp may be, in seconds.
pub const MAX_AHEAD_SECONDS: u64 = 3600;

/// How often parents that are still missed are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// How often a store that refused a batch is tried: RocksDB looks for free space as often.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Missed parents asked for at once, a fraction of the queue of wants.
const ASKED_AT_ONCE: usize = WANTS / 4;

/// What [`Ingest::spawn`] gives: the way in, what changes, what is missed, and the task's end.
pub type Parts = (IngestHandle, broadcast::Sender<StoreEvent>, mpsc::Receiver<Want>, JoinHandle<()>);

/// The service, as it is started.
#[derive(Clone, Copy, Debug)]
pub struct Ingest;

impl Ingest {
    /// Starts the service. It ends, after it has dealt with what is in the inbox, when `shutdown`
    /// becomes true or its sender and all handles are gone.
    pub fn spawn(store: Store, clock: Clock, shutdown: watch::Receiver<bool>) -> Parts {
        let (inbox, queue) = mpsc::channel(INBOX);
        let (wants, wanted) = mpsc::channel(WANTS);
        let (events, _) = broadcast::channel(EVENTS);
        let (ready, batches) = mpsc::channel(BATCHES_AHEAD);
        let rejections = Rejections::default();
        let trouble = Trouble::default();
        let handle = IngestHandle { inbox, rejections: rejections.clone(), trouble: trouble.clone() };
        let verification = Verification { store: store.clone(), clock };
        let insertion = Insertion {
            store,
            waiting: Waiting::default(),
            rejections,
            events: events.clone(),
            wants,
            missed: Missed::default(),
            trouble,
        };
        let task = tokio::spawn(async move {
            tokio::join!(verification.run(queue, shutdown, ready), insertion.run(batches));
        });
        (handle, events, wanted, task)
    }
}

/// The second stage's own state.
pub(super) struct Insertion {
    store: Store,
    waiting: Waiting,
    rejections: Rejections,
    events: broadcast::Sender<StoreEvent>,
    wants: mpsc::Sender<Want>,
    missed: Missed,
    /// Shared with the handles, which tell it to people.
    pub(super) trouble: Trouble,
}

impl Insertion {
    /// Ends when the first stage has ended and its batches are dealt with.
    async fn run(mut self, mut batches: mpsc::Receiver<Batch>) {
        let mut ask_again = interval_at(Instant::now(), ASK_AGAIN);
        let mut try_again = interval_at(Instant::now(), TRY_AGAIN);
        for ticks in [&mut ask_again, &mut try_again] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => self.take_in(batch).await,
                    None => return,
                },
                _ = ask_again.tick() => self.ask_for_missed().await,
                _ = try_again.tick(), if self.trouble.may_pass() => self.try_store().await,
            }
        }
    }

    /// One batch, from its verification to the answers.
    pub(super) async fn take_in(&mut self, batch: Batch) {
        let mut replies: Vec<_> = batch.replies.into_iter().map(Some).collect();
        let answers = match batch.verified {
            Ok((mut answers, checked)) => {
                answers.extend(self.insert(checked, batch.taken_at).await);
                answers
            }
            Err(reason) => {
                let reason = self.note(&reason);
                (0..replies.len()).map(|place| (place, Disposition::Failed(reason.clone()))).collect()
            }
        };
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

    async fn insert(&mut self, checked: Vec<Checked>, now: u64) -> Vec<Answer> {
        if checked.is_empty() {
            return Vec::new();
        }
        let given: Vec<_> = checked.iter().map(|c| (c.place, c.origin, c.object.id())).collect();
        let objects: Vec<VerifiedObject> = checked.into_iter().map(|c| c.object).collect();
        let store = self.store.clone();
        let inserted = match blocking(move || Ok(insertion::insert(&store, objects, now))).await {
            Ok(inserted) => inserted,
            Err(ended) => {
                let failed = given.iter().map(|(_, _, id)| (*id, ended.clone())).collect();
                Inserted { failed, ..Inserted::default() }
            }
        };
        let Inserted { report, failed, objects: mut by_id } = inserted;
        let mut reasons: HashMap<ObjectId, Arc<str>> = HashMap::new();
        for (id, failure) in &failed {
            reasons.insert(*id, self.note(failure));
        }
        let (lost, taken): (Vec<_>, Vec<_>) = given.into_iter().partition(|(_, _, id)| reasons.contains_key(id));
        let lost =
            lost.into_iter().filter_map(|(place, _, id)| Some((place, Disposition::Failed(reasons.remove(&id)?))));
        if taken.is_empty() {
            return lost.collect();
        }
        self.recovered();
        for (id, reject) in &report.late_rejects {
            self.rejections.count(reject);
            debug!(id = %id.short(), %reject, "refused an object that had waited for its parent");
        }
        if report.dropped_pending > 0 {
            warn!(dropped = report.dropped_pending, "too many records wait for their parents: the oldest were dropped");
        }
        let settled = self.waiting.settle(&taken, &report);
        for (change, origin) in settled.events {
            if let Some(object) = by_id.remove(&change.id) {
                // An error means only that nobody listens.
                let _ = self.events.send(StoreEvent { change, object, origin });
            }
        }
        settled.wants.into_iter().for_each(|want| self.want(want));
        settled.answers.into_iter().chain(lost).collect()
    }

    /// Takes down why the store failed, and gives what senders are told.
    fn note(&self, failure: &StoreError) -> Arc<str> {
        if self.trouble.note(failure) {
            error!(%failure, "the store failed; reading goes on");
        }
        failure.to_string().into()
    }

    /// Finds out whether a store that refused a batch takes objects again: on a quiet node none may come
    /// for hours. Objects that were refused are their senders' to give again, and catch-up's to bring.
    pub(super) async fn try_store(&self) {
        let store = self.store.clone();
        match blocking(move || store.try_write()).await {
            Ok(()) => self.recovered(),
            Err(reason) => debug!(%reason, "the store still refuses writes"),
        }
    }

    fn recovered(&self) {
        if self.trouble.recovered() {
            info!("the store takes objects again");
        }
    }

    fn want(&self, want: Want) {
        if self.wants.try_send(want).is_err() {
            debug!("the queue of missed objects is full; catch-up brings them");
        }
    }

    /// Asks for parents that are still missed: a want may have been dropped, or no peer had it then.
    async fn ask_for_missed(&self) {
        let (store, missed) = (self.store.clone(), self.missed.clone());
        match blocking(move || missed.next(&store, ASKED_AT_ONCE)).await {
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

/// Runs on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Arc<StoreError>> {
    let ended = |_| Err(StoreError::Rocks("the store's thread ended early".into()));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(ended).map_err(Arc::new)
}

#[cfg(test)]
impl Insertion {
    /// The second stage on its own, with what it tells.
    pub(super) fn for_test(store: Store) -> (Self, broadcast::Receiver<StoreEvent>, mpsc::Receiver<Want>) {
        let (wants, wanted) = mpsc::channel(WANTS);
        let (events, heard) = broadcast::channel(EVENTS);
        let insertion = Self {
            store,
            waiting: Waiting::default(),
            rejections: Rejections::default(),
            events,
            wants,
            missed: Missed::default(),
            trouble: Trouble::default(),
        };
        (insertion, heard, wanted)
    }
}
