//! The first stage of `ingest`: takes what lies in the inbox, drops what is known, and verifies the
//! rest on all cores, while the second stage inserts the batch before.
//!
//! So an object may be verified although a copy of it is about to be inserted: which of them is
//! new is for the store to say when it inserts. Never here: answers to senders, which the second
//! stage gives in the order in which the batches came.

use std::{collections::HashSet, num::NonZero, sync::Arc, thread::available_parallelism};

use spore_base::clock::Clock;
use spore_protocol::{Kind, ObjectId, Reject, VerifiedObject};
use spore_storage::{Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Disposition, Inbound, Origin,
    batch::{Answer, Checked, Entry, check_time, first_of_each, screen},
    service::{BATCH, MAX_AHEAD_SECONDS, blocking},
};

/// Verified batches that wait while the one before is inserted. With one, neither stage stands
/// still for the other; with more, senders would only wait longer for their answers.
pub(super) const BATCHES_AHEAD: usize = 1;

/// Objects that one verifying thread takes at least: below it a thread costs more than it saves.
const MIN_CHUNK: usize = 16;

/// A batch on its way from the inbox to the store.
pub(super) struct Batch {
    /// Where each object's sender waits for its fate, by the object's place.
    pub replies: Vec<oneshot::Sender<Disposition>>,
    /// What is decided without an insertion, and what is to be inserted; or why the store could not
    /// be asked what it knows.
    pub verified: Result<(Vec<Answer>, Vec<Checked>), Arc<StoreError>>,
    /// Unix seconds when it left the inbox.
    pub taken_at: u64,
}

/// The stage's own state.
pub(super) struct Verification {
    pub store: Store,
    pub clock: Clock,
}

impl Verification {
    /// Passes batches on until all handles are gone, or until `shutdown` is true and what was in
    /// the inbox then is passed on.
    pub async fn run(
        self,
        mut inbox: mpsc::Receiver<Inbound>,
        mut shutdown: watch::Receiver<bool>,
        ready: mpsc::Sender<Batch>,
    ) {
        let mut taken = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = inbox.recv_many(&mut taken, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    let batch = self.take_in(std::mem::take(&mut taken)).await;
                    // The other stage outlives this one, unless the whole service is dropped.
                    if ready.send(batch).await.is_err() {
                        return;
                    }
                }
                () = stopped(&mut shutdown), if !inbox.is_closed() => inbox.close(),
            }
        }
    }

    async fn take_in(&self, inbound: Vec<Inbound>) -> Batch {
        let mut replies = Vec::with_capacity(inbound.len());
        let mut entries = Vec::with_capacity(inbound.len());
        for (place, Inbound { origin, object, reply }) in inbound.into_iter().enumerate() {
            replies.push(reply);
            entries.push(Entry { place, origin, object });
        }
        let taken_at = (self.clock)();
        Batch { replies, verified: self.decide(entries, taken_at).await, taken_at }
    }

    async fn decide(&self, entries: Vec<Entry>, now: u64) -> Result<(Vec<Answer>, Vec<Checked>), Arc<StoreError>> {
        let store = self.store.clone();
        let screened = blocking(move || {
            let known = known(&store, &entries)?;
            Ok(screen(entries, &known))
        });
        let (entries, mut answers) = screened.await?;
        let (checked, refused) = verify(entries, now).await;
        answers.extend(refused);
        let (checked, copies) = first_of_each(checked);
        answers.extend(copies);
        Ok((answers, checked))
    }
}

/// Resolves when `shutdown` is true. Never when its sender is gone without saying so.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn known(store: &Store, entries: &[Entry]) -> Result<HashSet<(Kind, ObjectId)>, StoreError> {
    let mut known = HashSet::new();
    for entry in entries {
        let (kind, id) = (entry.object.kind(), entry.object.id());
        match store.contains(kind, &id) {
            Ok(true) => drop(known.insert((kind, id))),
            // Of what cannot be told here, insertion decides one by one.
            Ok(false) | Err(StoreError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(known)
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
        // A thread that ends early leaves its objects unanswered, which the second stage makes good.
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

#[cfg(test)]
mod tests {
    use spore_protocol::SignedObject;
    use tokio::sync::watch;

    use super::*;
    use crate::{
        service::Insertion,
        tests::{NOW, chain},
    };

    /// The first stage with its ends in the test's hands; each batch taken is told through `taken`.
    struct Stage {
        _folder: tempfile::TempDir,
        store: Store,
        inbox: mpsc::Sender<Inbound>,
        ready: mpsc::Receiver<Batch>,
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
        tokio::spawn(Verification { store: store.clone(), clock }.run(queue, stop, ready));
        Stage { _folder: folder, store, inbox, ready: batches, taken, _shutdown: shutdown }
    }

    async fn send(stage: &Stage, object: SignedObject) -> oneshot::Receiver<Disposition> {
        let (reply, answer) = oneshot::channel();
        stage.inbox.send(Inbound { origin: Origin::Import, object, reply }).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_next_batch_is_verified_before_the_last_is_taken_for_insertion() {
        let mut stage = start();
        let objects = chain(3);
        for (number, object) in objects.iter().enumerate().take(BATCHES_AHEAD + 1) {
            drop(send(&stage, object.clone()).await);
            stage.taken.wait_for(|taken| *taken > number).await.unwrap();
        }
        for object in objects.iter().take(BATCHES_AHEAD + 1) {
            let (answers, checked) = stage.ready.recv().await.unwrap().verified.unwrap();
            assert!(answers.is_empty());
            assert_eq!(checked.iter().map(|c| c.object.id()).collect::<Vec<_>>(), [object.id()]);
        }
    }

    #[tokio::test]
    async fn an_object_verified_twice_is_stored_once_and_known_the_second_time() {
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
            insertion.take_in(batch).await;
        }
        assert_eq!(answers.remove(0).await.unwrap(), Disposition::Accepted);
        assert_eq!(answers.remove(0).await.unwrap(), Disposition::Known);
        assert_eq!(events.try_recv().unwrap().object, object);
        assert!(events.try_recv().is_err(), "told once");
        assert_eq!(stage.store.sequence(), 1);
    }
}
