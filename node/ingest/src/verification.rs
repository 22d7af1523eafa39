//! The first stage of the ingest service: takes objects out of the inbox, drops the known ones, and verifies the others
//! on all cores, while the second stage inserts the batch before.
//!
//! So an object may be verified although a copy of it is about to be inserted. The store decides which of the two is
//! new when it inserts them. Never here: answers to senders. The second stage gives them, in the order of the batches.

use std::{collections::HashSet, num::NonZero, thread::available_parallelism};

use spore_base::clock::Clock;
use spore_protocol::{Kind, ObjectId, Reject, SignedObject, VerifiedObject};
use spore_storage::{Store, StoreError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use super::{
    Deferral, Disposition, Inbound, Origin,
    admission::{self, introducers::Source},
    batch::{CheckedObject, Decision, QueuedObject, check_time, first_of_each, screen},
    blocking::blocking,
    early::EarlyObjects,
    gate::Gate,
    limits::{BATCH, FUTURE_SECONDS, HELD_AHEAD_SECONDS, LOOK_FOR_DUE, MAX_AHEAD_SECONDS, MIN_CHUNK},
};

/// A batch on its way from the inbox to the store.
pub(super) struct VerifiedBatch {
    /// The sender of each object waits at the other end, by the object's index.
    pub replies: Vec<oneshot::Sender<Disposition>>,
    /// What was decided without an insertion, and the objects to insert. Or why the store could not say which objects
    /// it knows.
    pub verified: Result<(Vec<Decision>, Vec<CheckedObject>), StoreError>,
    /// When the batch left the inbox, in Unix seconds.
    pub taken_at: u64,
}

/// The state of the stage.
pub(super) struct Verification {
    pub store: Store,
    pub clock: Clock,
    pub gate: Gate,
    pub early: EarlyObjects,
}

impl Verification {
    /// Passes batches on until all handles are gone, or until `shutdown` is true. Every object that is in the inbox
    /// then is still passed on.
    pub async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Inbound>,
        mut shutdown: watch::Receiver<bool>,
        ready: mpsc::Sender<VerifiedBatch>,
    ) {
        let mut taken = Vec::with_capacity(BATCH);
        let mut look = interval(LOOK_FOR_DUE);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                count = inbox.recv_many(&mut taken, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    let batch = self.process(std::mem::take(&mut taken)).await;
                    // The second stage outlives this one, unless the whole service is dropped.
                    if ready.send(batch).await.is_err() {
                        return;
                    }
                }
                _ = look.tick(), if !self.early.is_empty() => {
                    let due = self.early.due((self.clock)(), BATCH);
                    if !due.is_empty() {
                        let batch = self.process(due.into_iter().map(unanswered).collect()).await;
                        if ready.send(batch).await.is_err() {
                            return;
                        }
                    }
                }
                () = stopped(&mut shutdown), if !inbox.is_closed() => inbox.close(),
            }
        }
    }

    async fn process(&mut self, inbound: Vec<Inbound>) -> VerifiedBatch {
        let mut replies = Vec::with_capacity(inbound.len());
        let mut queued = Vec::with_capacity(inbound.len());
        for (index, Inbound { origin, object, reply }) in inbound.into_iter().enumerate() {
            replies.push(reply);
            queued.push(QueuedObject { index, origin, object });
        }
        let taken_at = (self.clock)();
        VerifiedBatch { replies, verified: self.decide(queued, taken_at).await, taken_at }
    }

    async fn decide(
        &mut self,
        queued: Vec<QueuedObject>,
        now: u64,
    ) -> Result<(Vec<Decision>, Vec<CheckedObject>), StoreError> {
        let (store, unasked) = (self.store.clone(), self.gate.unasked(&queued, now));
        let screened = blocking(move || {
            let known = known(&store, &queued)?;
            Ok((screen(queued, &known), admission::confirmed_signers(&store, unasked)?))
        });
        let ((queued, mut decisions), confirmed) = screened.await?;
        self.gate.remember(confirmed, now);
        let (queued, tickets) = self.gate.introduce(queued, &mut decisions);
        let (checked, rejected) = verify(queued, now).await;
        decisions.extend(rejected);
        let (checked, copies) = first_of_each(checked);
        decisions.extend(copies);
        let mut checked = self.gate.admit(checked, &tickets, &mut decisions);
        for CheckedObject { index, origin, object } in checked.extract_if(.., |c| is_early(c, now)) {
            let object = object.into_signed();
            let seconds = object.timestamp().saturating_sub(now.saturating_add(HELD_AHEAD_SECONDS));
            let key = (object.kind(), object.id());
            self.gate.refuse((index, origin), key, Deferral::Early { seconds }, &mut decisions);
            self.early.hold(origin, object);
        }
        Ok((decisions, checked))
    }
}

/// Whether an object of another node is kept until it is due.
fn is_early(checked: &CheckedObject, now: u64) -> bool {
    let timestamp = checked.object.timestamp();
    Source::of(checked.origin).is_some() && timestamp.saturating_sub(now) > HELD_AHEAD_SECONDS
}

/// How far ahead an object may be without being rejected. Those of other nodes are kept until they are due.
fn slack(origin: Origin) -> u64 {
    if Source::of(origin).is_some() { FUTURE_SECONDS } else { MAX_AHEAD_SECONDS }
}

/// An object whose sender has its answer already.
fn unanswered((origin, object): (Origin, SignedObject)) -> Inbound {
    Inbound { origin, object, reply: oneshot::channel().0 }
}

/// Resolves when `shutdown` is true. Never resolves when the sender of `shutdown` is gone before that.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn known(store: &Store, queued: &[QueuedObject]) -> Result<HashSet<(Kind, ObjectId)>, StoreError> {
    let mut known = HashSet::new();
    for QueuedObject { object, .. } in queued {
        let (kind, id) = (object.kind(), object.id());
        // What was dropped is as good as known: it is not taken again.
        match store.contains(kind, &id).and_then(|known| Ok(known || store.is_turned_away(kind, &id)?)) {
            Ok(true) => drop(known.insert((kind, id))),
            // A damaged index entry: treat the object as unknown. The insertion isolates it.
            Ok(false) | Err(StoreError::Corrupt(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}

/// Checks times and signatures, on all cores.
async fn verify(queued: Vec<QueuedObject>, now: u64) -> (Vec<CheckedObject>, Vec<Decision>) {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let chunk = queued.len().div_ceil(cores).max(MIN_CHUNK);
    let mut queued = queued.into_iter();
    let mut tasks = Vec::new();
    loop {
        let part: Vec<QueuedObject> = queued.by_ref().take(chunk).collect();
        if part.is_empty() {
            break;
        }
        tasks.push(tokio::task::spawn_blocking(move || {
            part.into_iter().map(|object| check(object, now)).collect::<Vec<_>>()
        }));
    }
    let (mut checked, mut rejected) = (Vec::new(), Vec::new());
    for task in tasks {
        // The objects of a thread that ended early have no decision. The second stage reports them as failed.
        for (index, origin, result) in task.await.unwrap_or_default() {
            match result {
                Ok(object) => checked.push(CheckedObject { index, origin, object }),
                Err(reject) => rejected.push((index, Disposition::Rejected(reject))),
            }
        }
    }
    (checked, rejected)
}

fn check(queued: QueuedObject, now: u64) -> (usize, Origin, Result<VerifiedObject, Reject>) {
    let QueuedObject { index, origin, object } = queued;
    let result = check_time(object.timestamp(), now, slack(origin)).and_then(|()| object.verify());
    (index, origin, result)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::{
        limits::BATCHES_AHEAD,
        service::Insertion,
        tests::{NOW, chain},
    };

    /// The first stage alone. `taken` counts the batches that it took out of the inbox.
    struct Stage {
        _folder: tempfile::TempDir,
        store: Store,
        inbox: mpsc::Sender<Inbound>,
        ready: mpsc::Receiver<VerifiedBatch>,
        taken: watch::Receiver<usize>,
        _shutdown: watch::Sender<bool>,
    }

    fn start() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (inbox, queue) = mpsc::channel(4 * BATCH);
        let (ready, batches) = mpsc::channel(BATCHES_AHEAD);
        let (shutdown, stop) = watch::channel(false);
        let (count, taken) = watch::channel(0);
        let clock: Clock = Arc::new(move || {
            count.send_modify(|count| *count += 1);
            NOW
        });
        tokio::spawn(
            Verification { store: store.clone(), clock, gate: Gate::open(&store), early: EarlyObjects::default() }
                .run(queue, stop, ready),
        );
        Stage { _folder: folder, store, inbox, ready: batches, taken, _shutdown: shutdown }
    }

    async fn send(stage: &Stage, object: SignedObject) -> oneshot::Receiver<Disposition> {
        let (reply, answer) = oneshot::channel();
        stage.inbox.send(Inbound { origin: Origin::Import, object, reply }).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn next_batch_is_verified_before_the_last_is_taken_for_insertion() {
        let mut stage = start();
        let objects = chain(3);
        for (number, object) in objects.iter().enumerate().take(BATCHES_AHEAD + 1) {
            drop(send(&stage, object.clone()).await);
            stage.taken.wait_for(|taken| *taken > number).await.unwrap();
        }
        for object in objects.iter().take(BATCHES_AHEAD + 1) {
            let (decisions, checked) = stage.ready.recv().await.unwrap().verified.unwrap();
            assert!(decisions.is_empty());
            assert_eq!(checked.iter().map(|c| c.object.id()).collect::<Vec<_>>(), [object.id()]);
        }
    }

    #[tokio::test]
    async fn object_verified_twice_is_stored_once_and_known_the_second_time() {
        let mut stage = start();
        let object = chain(1).remove(0);
        let mut answers = Vec::new();
        let mut batches = Vec::new();
        for _ in 0..2 {
            answers.push(send(&stage, object.clone()).await);
            let batch = stage.ready.recv().await.unwrap();
            assert_eq!(batch.verified.as_ref().unwrap().1.len(), 1, "nothing is stored yet, so it is verified");
            batches.push(batch);
        }
        let (mut insertion, mut events, _wants) = Insertion::for_test(stage.store.clone());
        for batch in batches {
            insertion.process(batch).await;
        }
        assert_eq!(answers.remove(0).await.unwrap(), Disposition::Accepted);
        assert_eq!(answers.remove(0).await.unwrap(), Disposition::Known);
        assert_eq!(events.try_recv().unwrap().object, object);
        assert!(events.try_recv().is_err(), "one event");
        assert_eq!(stage.store.sequence(), 1);
    }
}
