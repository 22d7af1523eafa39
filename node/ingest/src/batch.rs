//! The decisions of `ingest`, without I/O: which objects of a batch go on to the next stage, and
//! what the store's report means for senders, listeners and the network.
//!
//! Never here: the store, clocks, threads. The caller passes in what they say.

use std::collections::{HashMap, HashSet, VecDeque};

use libp2p_identity::PeerId;
use spore_protocol::{Kind, ObjectId, Reject, SignedObject, VerifiedObject};
use spore_storage::{Change, Outcome, Report};

use super::{Disposition, Origin, Want};

/// Objects whose origin is remembered while they wait for a parent; more fall back to
/// [`Origin::Import`], which only costs a needless forwarding decision. About 100 bytes each.
const WAITING_ORIGINS: usize = 16_384;

/// An object of a batch, by its place in it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub place: usize,
    pub origin: Origin,
    pub object: SignedObject,
}

/// An object that passed verification.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub place: usize,
    pub origin: Origin,
    pub object: VerifiedObject,
}

/// What is decided of the object at a place.
pub(super) type Answer = (usize, Disposition);

/// Removes what need not be verified: what the store knows, and exact copies within the batch.
///
/// Two objects with one id but different signatures both stay, for the first may be the forged one.
pub(super) fn screen(entries: Vec<Entry>, known: &HashSet<(Kind, ObjectId)>) -> (Vec<Entry>, Vec<Answer>) {
    let mut seen = HashSet::new();
    let mut answers = Vec::new();
    let mut rest = Vec::new();
    for entry in entries {
        let key = (entry.object.kind(), entry.object.id());
        if known.contains(&key) || !seen.insert((key, *entry.object.signature())) {
            answers.push((entry.place, Disposition::Known));
        } else {
            rest.push(entry);
        }
    }
    (rest, answers)
}

/// Refuses what claims to come from the future: more than `slack` seconds after `now`.
pub(super) fn check_time(timestamp: u64, now: u64, slack: u64) -> Result<(), Reject> {
    let ahead = timestamp.saturating_sub(now);
    if ahead > slack { Err(Reject::FromTheFuture { ahead }) } else { Ok(()) }
}

/// Of several valid objects with one id, the first goes on; the others are known by then.
pub(super) fn first_of_each(checked: Vec<Checked>) -> (Vec<Checked>, Vec<Answer>) {
    let mut seen = HashSet::new();
    let (first, copies): (Vec<_>, Vec<_>) =
        checked.into_iter().partition(|c| seen.insert((c.object.kind(), c.object.id())));
    (first, copies.into_iter().map(|copy| (copy.place, Disposition::Known)).collect())
}

/// What follows from an insertion.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub answers: Vec<Answer>,
    /// Changes to broadcast, in order, and how each object had come.
    pub events: Vec<(Change, Origin)>,
    pub wants: Vec<Want>,
}

/// Remembers how waiting objects came, so that their release can be told with their origin.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    origins: HashMap<ObjectId, Origin>,
    order: VecDeque<ObjectId>,
}

impl Waiting {
    fn remember(&mut self, id: ObjectId, origin: Origin) {
        if self.origins.insert(id, origin).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > WAITING_ORIGINS {
            if let Some(oldest) = self.order.pop_front() {
                self.origins.remove(&oldest);
            }
        }
    }

    /// Removes the id; its place in the queue is passed over when it comes to the front.
    fn take(&mut self, id: &ObjectId) -> Option<Origin> {
        self.origins.remove(id)
    }

    /// Reads the store's report on a batch. `inserted` are the batch's objects in the order given
    /// to the store, each with place and origin.
    pub(super) fn settle(&mut self, inserted: &[(usize, Origin, ObjectId)], report: &Report) -> Settled {
        let mut settled = Settled::default();
        let mut origins = HashMap::new();
        for ((place, origin, id), (_, outcome)) in inserted.iter().zip(&report.outcomes) {
            origins.insert(*id, *origin);
            let disposition = match outcome {
                Outcome::New => Disposition::Accepted,
                Outcome::Known => Disposition::Known,
                Outcome::Pending { missing } => {
                    self.remember(*id, *origin);
                    let want = Want { kind: Kind::Experiment, id: (*missing).into(), from: peer_of(*origin) };
                    // A chain of records that came child first names each parent once.
                    if !settled.wants.contains(&want) {
                        settled.wants.push(want);
                    }
                    Disposition::Pending
                }
                Outcome::Rejected(reject) => Disposition::Rejected(reject.clone()),
            };
            settled.answers.push((*place, disposition));
        }
        // A parent that came with the same batch is not missed any more.
        settled.wants.retain(|want| !report.changes.iter().any(|change| change.id == want.id));
        for (id, _) in &report.late_rejects {
            self.take(id);
        }
        for change in &report.changes {
            let waited = self.take(&change.id);
            let origin = origins.get(&change.id).copied().or(waited).unwrap_or(Origin::Import);
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
