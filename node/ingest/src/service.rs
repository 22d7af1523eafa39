//! The task that runs the ingest service, and its second stage: inserts the batches that [`super::verification`] lets
//! through, answers the senders, and announces the changes. [`super::batch`] decides.

use spore_base::clock::Clock;
use spore_protocol::{Kind, VerifiedObject};
use spore_storage::{InsertOutcome, Store, StoreError};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tracing::{debug, error, info, warn};

use super::{
    Disposition, IngestFailure, IngestHandle, StoreEvent, Want,
    admission::{Admission, introducers::Introducers, refused::Refused},
    announce::Announcer,
    batch::{CheckedObject, Decision, PendingOrigins},
    blocking::blocking,
    blocks::Blocks,
    early::EarlyObjects,
    gate::Gate,
    handle::{ClockState, Rejections},
    insertion::{self, Inserted},
    limits::{ASK_AGAIN, ASKED_AT_ONCE, BATCHES_AHEAD, EVENTS, INBOX, TRY_AGAIN, WANTS},
    missing_parents::MissingParents,
    space::Space,
    trouble::TroubleState,
    verification::{Verification, VerifiedBatch},
};

/// What [`Ingest::spawn`] returns: the handle, the events, the requests for missing objects, and the task.
pub type IngestParts = (IngestHandle, broadcast::Sender<StoreEvent>, mpsc::Receiver<Want>, JoinHandle<()>);

/// The ingest service.
#[derive(Clone, Copy, Debug)]
pub struct Ingest;

impl Ingest {
    /// Starts the service. The service ends when `shutdown` becomes true, or when all handles are gone. Before that it
    /// decides every object that is in the inbox.
    pub fn spawn(store: Store, clock: Clock, shutdown: watch::Receiver<bool>) -> IngestParts {
        let (inbox, queue) = mpsc::channel(INBOX);
        let (wants, wanted) = mpsc::channel(WANTS);
        let (events, _) = broadcast::channel(EVENTS);
        let (ready, batches) = mpsc::channel(BATCHES_AHEAD);
        let rejections = Rejections::default();
        let trouble = TroubleState::default();
        let handle = IngestHandle {
            inbox,
            rejections: rejections.clone(),
            trouble: trouble.clone(),
            clock: ClockState::default(),
            introducers: Introducers::default(),
            refused: Refused::default(),
            blocks: Blocks::default(),
            space: Space::default(),
        };
        let gate = Gate {
            admission: Admission::new(&store, handle.introducers.clone()),
            refused: handle.refused.clone(),
            blocks: handle.blocks.clone(),
            space: handle.space.clone(),
        };
        let verification = Verification { store: store.clone(), clock, gate, early: EarlyObjects::default() };
        let insertion = Insertion {
            store,
            pending: PendingOrigins::default(),
            rejections,
            announcer: Announcer::new(events.clone()),
            wants,
            missing: MissingParents::default(),
            refused_for_now: 0,
            trouble,
        };
        let task = tokio::spawn(async move {
            tokio::join!(verification.run(queue, shutdown, ready), insertion.run(batches));
        });
        (handle, events, wanted, task)
    }
}

/// The state of the second stage.
pub(super) struct Insertion {
    store: Store,
    pending: PendingOrigins,
    rejections: Rejections,
    announcer: Announcer,
    wants: mpsc::Sender<Want>,
    missing: MissingParents,
    /// Objects since the last log line about them. One line for each would let a flood fill the log.
    refused_for_now: u64,
    /// Shared with the handles.
    pub(super) trouble: TroubleState,
}

impl Insertion {
    /// Ends when the first stage has ended and its batches are decided.
    async fn run(mut self, mut batches: mpsc::Receiver<VerifiedBatch>) {
        let mut ask_again = interval_at(Instant::now(), ASK_AGAIN);
        let mut try_again = interval_at(Instant::now(), TRY_AGAIN);
        for ticks in [&mut ask_again, &mut try_again] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => self.process(batch).await,
                    None => return,
                },
                _ = ask_again.tick() => {
                    self.report_refused();
                    self.ask_for_missing().await;
                }
                _ = try_again.tick(), if self.trouble.may_pass() => self.try_store().await,
            }
        }
    }

    /// Inserts a batch and answers its senders.
    pub(super) async fn process(&mut self, batch: VerifiedBatch) {
        let mut replies: Vec<_> = batch.replies.into_iter().map(Some).collect();
        let decisions = match batch.verified {
            Ok((mut decisions, checked)) => {
                decisions.extend(self.insert(checked, batch.taken_at).await);
                decisions
            }
            Err(failure) => self.all_failed(0..replies.len(), &failure),
        };
        for (index, disposition) in decisions {
            match &disposition {
                Disposition::Rejected(reject) => {
                    self.rejections.count(reject);
                    debug!(%reject, "rejected an object");
                }
                Disposition::Later(_) => self.refused_for_now += 1,
                _ => {}
            }
            answer(&mut replies, index, disposition);
        }
        // A sender without an answer would take it for a shutdown.
        for index in 0..replies.len() {
            answer(&mut replies, index, Disposition::Failed(IngestFailure::Undecided));
        }
    }

    async fn insert(&mut self, checked: Vec<CheckedObject>, now: u64) -> Vec<Decision> {
        if checked.is_empty() {
            return Vec::new();
        }
        let given: Vec<_> = checked.iter().map(|c| (c.index, c.origin, c.object.id())).collect();
        let objects: Vec<VerifiedObject> = checked.into_iter().map(|c| c.object).collect();
        let store = self.store.clone();
        let inserted = blocking(move || insertion::insert(&store, objects, now)).await;
        let Inserted { report, objects: mut by_id } = match inserted {
            Ok(inserted) => inserted,
            Err(failure) => return self.all_failed(given.into_iter().map(|(index, ..)| index), &failure),
        };
        let mut any_decided = false;
        for (_, outcome) in &report.outcomes {
            match outcome {
                InsertOutcome::Failed(failure) => self.record(failure),
                _ => any_decided = true,
            }
        }
        if any_decided {
            self.recovered();
        }
        for (id, reject) in &report.late_rejects {
            self.rejections.count(reject);
            debug!(id = %id.short(), %reject, "rejected an object that was pending");
        }
        if report.dropped_pending > 0 {
            warn!(dropped = report.dropped_pending, "too many pending records: the oldest were dropped");
        }
        let settled = self.pending.settle(&given, &report);
        for (change, origin) in settled.events {
            if let Some(object) = by_id.remove(&change.id)
                && !self.announcer.announce(StoreEvent { change, object, origin })
            {
                debug!(id = %change.id.short(), "listeners are far behind: a large object is not announced");
            }
        }
        settled.wants.into_iter().for_each(|want| self.want(want));
        settled.decisions
    }

    /// The decisions about objects that the store could not take, all for one reason.
    fn all_failed(&self, indices: impl Iterator<Item = usize>, failure: &StoreError) -> Vec<Decision> {
        self.record(failure);
        indices.map(|index| (index, Disposition::Failed(IngestFailure::Store(failure.clone())))).collect()
    }

    fn record(&self, failure: &StoreError) {
        if self.trouble.record(failure) {
            error!(%failure, "the store failed; reading goes on");
        }
    }

    /// Finds out whether a store that refused a batch takes objects again: on a quiet node no object may arrive for
    /// hours. The refused objects are not kept. Their senders submit them again, or catch-up brings them.
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
            debug!("the queue of missing objects is full; catch-up brings them");
        }
    }

    fn report_refused(&mut self) {
        let objects = std::mem::take(&mut self.refused_for_now);
        if objects > 0 {
            info!(objects, "refused for now: no room or no disk space for them, blocked, or ahead of this clock");
        }
    }

    /// Asks for parents that are still missing: a request may have been dropped, or no peer had the parent then.
    async fn ask_for_missing(&self) {
        let (store, missing) = (self.store.clone(), self.missing.clone());
        match blocking(move || missing.next(&store, ASKED_AT_ONCE)).await {
            Ok(parents) => {
                for id in parents {
                    self.want(Want { kind: Kind::Experiment, id: id.into(), from: None });
                }
            }
            Err(reason) => warn!(%reason, "could not list missing parents"),
        }
    }
}

fn answer(replies: &mut [Option<oneshot::Sender<Disposition>>], index: usize, disposition: Disposition) {
    if let Some(reply) = replies.get_mut(index).and_then(Option::take) {
        // The sender may be gone. The object is decided all the same.
        let _ = reply.send(disposition);
    }
}

#[cfg(test)]
impl Insertion {
    /// The second stage alone, with its events and its requests for missing objects.
    pub(super) fn for_test(store: Store) -> (Self, broadcast::Receiver<StoreEvent>, mpsc::Receiver<Want>) {
        let (wants, wanted) = mpsc::channel(WANTS);
        let (events, listener) = broadcast::channel(EVENTS);
        let insertion = Self {
            store,
            pending: PendingOrigins::default(),
            rejections: Rejections::default(),
            announcer: Announcer::new(events),
            wants,
            missing: MissingParents::default(),
            refused_for_now: 0,
            trouble: TroubleState::default(),
        };
        (insertion, listener, wanted)
    }
}
