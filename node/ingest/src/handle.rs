//! What the rest of the node holds of the ingest service: the handle, its answers, and the events.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use libp2p_identity::PeerId;
use spore_base::clock::ClockOffset;
use spore_protocol::{Kind, ObjectId, Reject, SignedObject};
use spore_storage::{Change, StoreError};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::{
    admission::{
        introducers::{Introducers, Source},
        refused::Refused,
    },
    blocks::Blocks,
    deferral::Deferral,
    origin::Origin,
    space::Space,
    trouble::{Trouble, TroubleState},
};

/// An object on its way in.
#[derive(Debug)]
pub struct Inbound {
    pub origin: Origin,
    pub object: SignedObject,
    /// Receives the disposition of the object, once.
    pub reply: oneshot::Sender<Disposition>,
}

/// What the service did with an object. Gossip derives its answer about the message from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Disposition {
    /// The object is new, valid and stored. Pass it on.
    Accepted,
    /// The object was known already.
    Known,
    /// The object is valid so far, and kept until its parent (or subject) arrives. Neither pass it on nor punish its
    /// sender.
    Pending,
    /// There is no room for the object now, or the operator does not want it. Its sender is not at fault, and may send
    /// the object again later. Do not pass it on.
    Later(Deferral),
    /// The object is not valid. Each network decides what the reason costs the sender (`spore_base::standing`).
    Rejected(Reject),
    /// The object was not decided. Its sender is not at fault.
    Failed(IngestFailure),
}

/// Why the service could not decide about an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestFailure {
    /// The store could not be read or written for this object.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The service shuts down.
    #[error(transparent)]
    Closed(#[from] IngestClosed),
    /// This machine's clock is wrong, so the time in an object of this node would be.
    #[error("{0}: nothing is signed until the clock is right")]
    Clock(ClockOffset),
    /// A thread that worked on the object ended early.
    #[error("the object was not decided")]
    Undecided,
}

/// A change of the store and its object. Broadcast after the change is durable, but not for a large object while some
/// listener is far behind: the change log has it.
#[derive(Clone, Debug)]
pub struct StoreEvent {
    pub change: Change,
    pub object: SignedObject,
    /// Where the object came from. For an object that was pending: where it had come from.
    pub origin: Origin,
}

/// A request for a missing object. The network asks `from` first, if there is one, then other peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Want {
    pub kind: Kind,
    pub id: ObjectId,
    pub from: Option<PeerId>,
}

/// The service has shut down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is shutting down")]
pub struct IngestClosed;

/// Rejected objects since the start, counted by [`Reject::code`]. There are as many codes as `Reject` has variants.
#[derive(Clone, Debug, Default)]
pub(super) struct Rejections(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Rejections {
    pub(super) fn count(&self, reject: &Reject) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(reject.code()).or_default() += 1;
    }
}

/// What the clocks of peers say about this machine's clock. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct ClockState(Arc<Mutex<Option<ClockOffset>>>);

impl ClockState {
    fn lock(&self) -> MutexGuard<'_, Option<ClockOffset>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handle to the ingest service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IngestHandle {
    pub(super) inbox: mpsc::Sender<Inbound>,
    pub(super) rejections: Rejections,
    pub(super) trouble: TroubleState,
    pub(super) clock: ClockState,
    pub(super) introducers: Introducers,
    pub(super) refused: Refused,
    pub(super) blocks: Blocks,
    pub(super) space: Space,
}

impl IngestHandle {
    /// Submits an object and waits for its disposition. Waits, too, while the inbox is full.
    ///
    /// # Errors
    /// [`IngestClosed`] at shutdown.
    pub async fn submit(&self, origin: Origin, object: SignedObject) -> Result<Disposition, IngestClosed> {
        self.send(origin, object).await?.await.map_err(|_| IngestClosed)
    }

    /// Notes what the clocks of peers say. While they say that this machine's clock is wrong, objects of this node are
    /// not taken: other nodes would refuse them, or they would stand at a wrong time for ever.
    pub fn compare_clock(&self, offset: Option<ClockOffset>) {
        let before = std::mem::replace(&mut *self.clock.lock(), offset);
        let wrong = |offset: Option<ClockOffset>| offset.is_some_and(|offset| offset.is_wrong());
        match offset {
            Some(now) if now.is_wrong() && !wrong(before) => warn!("{now}: nothing is signed until the clock is right"),
            _ if wrong(before) && !wrong(offset) => {
                info!("this machine's clock is no longer wrong: objects are signed again")
            }
            _ => {}
        }
    }

    /// What the clocks of peers say about this machine's clock. None while no clock was read.
    pub fn clock(&self) -> Option<ClockOffset> {
        *self.clock.lock()
    }

    /// Submits an object. The disposition comes by the channel that this returns, so that a caller can have many
    /// objects under way; the caller bounds how many. Waits while the inbox is full.
    ///
    /// # Errors
    /// [`IngestClosed`] at shutdown.
    pub async fn send(
        &self,
        origin: Origin,
        object: SignedObject,
    ) -> Result<oneshot::Receiver<Disposition>, IngestClosed> {
        let (reply, answer) = oneshot::channel();
        if let Some(offset) = self.clock().filter(|offset| origin == Origin::Local && offset.is_wrong()) {
            // The other end is in this function, so sending cannot fail.
            let _ = reply.send(Disposition::Failed(IngestFailure::Clock(offset)));
            return Ok(answer);
        }
        self.inbox.send(Inbound { origin, object, reply }).await.map_err(|_| IngestClosed)?;
        Ok(answer)
    }

    /// Notes where the objects of a source come from, until [`IngestHandle::disconnected`]. `named`: the operator named
    /// the peer, and this node dialled it.
    pub fn connected(&self, source: Source, address: Option<IpAddr>, named: bool) {
        self.introducers.connected(source, address, named);
    }

    /// Forgets a source.
    pub fn disconnected(&self, source: Source) {
        self.introducers.disconnected(source);
    }

    /// Whether an object was refused a moment ago, so that fetching it from `source` now is of no use.
    pub fn was_refused(&self, kind: Kind, id: ObjectId, source: Source) -> bool {
        self.refused.contains(kind, id, self.introducers.facts(source).introducer, Instant::now())
    }

    /// What the operator blocks.
    pub const fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Says whether there is disk space for objects of other nodes. While there is none, they are refused for now, and
    /// this node's own and imported ones are taken.
    pub fn set_space_short(&self, short: bool) {
        self.space.set_short(short);
    }

    /// Why the store does not take every object now. None while it does. A full disk ends by itself, even when no
    /// object arrives. Damage stays until the node stops.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.now()
    }

    /// Objects rejected since the start, counted by [`Reject::code`].
    pub fn rejected(&self) -> BTreeMap<&'static str, u64> {
        self.rejections.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
