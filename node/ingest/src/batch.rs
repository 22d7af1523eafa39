//! The decisions of the ingest service, without I/O: which objects of a batch go on to the next stage, and what the
//! store's report means for senders, listeners and the network.
//!
//! Never here: the store, clocks, threads. The caller passes in what they say.

use std::collections::{HashMap, HashSet, VecDeque};

use libp2p_identity::PeerId;
use spore_protocol::{Kind, ObjectId, Reject, SignedObject, VerifiedObject};
use spore_storage::{Change, InsertOutcome, InsertReport};

use super::{Disposition, IngestFailure, Origin, Want, limits::PENDING_ORIGINS};

/// An object of a batch, with its index there.
#[derive(Clone, Debug)]
pub(super) struct QueuedObject {
    pub index: usize,
    pub origin: Origin,
    pub object: SignedObject,
}

/// An object that passed verification, with its index in the batch.
#[derive(Clone, Debug)]
pub(super) struct CheckedObject {
    pub index: usize,
    pub origin: Origin,
    pub object: VerifiedObject,
}

/// What was decided about the object at an index.
pub(super) type Decision = (usize, Disposition);

/// Removes the objects that need no verification: those that the store knows, and exact copies within the batch.
///
/// Two objects with one id but different signatures both stay, for the first may be forged.
pub(super) fn screen(
    objects: Vec<QueuedObject>,
    known: &HashSet<(Kind, ObjectId)>,
) -> (Vec<QueuedObject>, Vec<Decision>) {
    let mut seen = HashSet::new();
    let mut decisions = Vec::new();
    let mut rest = Vec::new();
    for queued in objects {
        let key = (queued.object.kind(), queued.object.id());
        if known.contains(&key) || !seen.insert((key, *queued.object.signature())) {
            decisions.push((queued.index, Disposition::Known));
        } else {
            rest.push(queued);
        }
    }
    (rest, decisions)
}

/// Rejects a timestamp more than `slack` seconds after `now`.
pub(super) fn check_time(timestamp: u64, now: u64, slack: u64) -> Result<(), Reject> {
    let ahead = timestamp.saturating_sub(now);
    if ahead > slack { Err(Reject::FromTheFuture { ahead }) } else { Ok(()) }
}

/// Of several valid objects with one id, the first goes on. The others are known by then.
pub(super) fn first_of_each(checked: Vec<CheckedObject>) -> (Vec<CheckedObject>, Vec<Decision>) {
    let mut seen = HashSet::new();
    let (first, copies): (Vec<_>, Vec<_>) =
        checked.into_iter().partition(|c| seen.insert((c.object.kind(), c.object.id())));
    (first, copies.into_iter().map(|copy| (copy.index, Disposition::Known)).collect())
}

/// What follows from an insertion.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub decisions: Vec<Decision>,
    /// Changes to broadcast, in order, and where each object came from.
    pub events: Vec<(Change, Origin)>,
    pub wants: Vec<Want>,
}

/// Remembers where pending objects came from, for the events of their release.
#[derive(Debug, Default)]
pub(super) struct PendingOrigins {
    origins: HashMap<ObjectId, Origin>,
    order: VecDeque<ObjectId>,
}

impl PendingOrigins {
    fn remember(&mut self, id: ObjectId, origin: Origin) {
        if self.origins.insert(id, origin).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > PENDING_ORIGINS {
            if let Some(oldest) = self.order.pop_front() {
                self.origins.remove(&oldest);
            }
        }
    }

    /// Forgets an id. The id stays in the queue, and is skipped when it reaches the front.
    fn take(&mut self, id: &ObjectId) -> Option<Origin> {
        self.origins.remove(id)
    }

    /// Reads the store's report on a batch. `inserted` has the index and the origin of each object, in the order in
    /// which the store was given them.
    pub(super) fn settle(&mut self, inserted: &[(usize, Origin, ObjectId)], report: &InsertReport) -> Settled {
        let mut settled = Settled::default();
        let mut origins = HashMap::new();
        for ((index, origin, id), (_, outcome)) in inserted.iter().zip(&report.outcomes) {
            origins.insert(*id, *origin);
            let disposition = match outcome {
                InsertOutcome::New => Disposition::Accepted,
                InsertOutcome::Known => Disposition::Known,
                InsertOutcome::Pending { missing } => {
                    self.remember(*id, *origin);
                    let want = Want { kind: Kind::Experiment, id: (*missing).into(), from: peer_of(*origin) };
                    // Siblings share a parent: ask for it once.
                    if !settled.wants.contains(&want) {
                        settled.wants.push(want);
                    }
                    Disposition::Pending
                }
                InsertOutcome::Rejected(reject) => Disposition::Rejected(reject.clone()),
                InsertOutcome::Failed(failure) => Disposition::Failed(IngestFailure::Store(failure.clone())),
            };
            settled.decisions.push((*index, disposition));
        }
        // A parent that arrived in the same batch is not missing any more.
        settled.wants.retain(|want| !report.changes.iter().any(|change| change.id == want.id));
        for (id, _) in &report.late_rejects {
            self.take(id);
        }
        for change in &report.changes {
            let pending = self.take(&change.id);
            let origin = origins.get(&change.id).copied().or(pending).unwrap_or(Origin::Import);
            settled.events.push((*change, origin));
        }
        settled
    }
}

const fn peer_of(origin: Origin) -> Option<PeerId> {
    match origin {
        Origin::Gossip(peer) | Origin::Sync(peer) => Some(peer),
        Origin::Local | Origin::Import | Origin::Bridge(_) => None,
    }
}
