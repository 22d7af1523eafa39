//! What others hold of `ingest`: the way in, what comes back, and what is broadcast.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p_identity::PeerId;
use spore_protocol::{Kind, ObjectId, Reject, SignedObject};
use spore_storage::Change;
use tokio::sync::{mpsc, oneshot};

use super::{origin::Origin, trouble::Trouble};

/// Objects waiting for verification. A full inbox makes senders wait, which slows their peers
/// down. At 2 KB an object it holds about 8 MB; large ones are bounded by their senders, each in its own
/// way (`bridge::limits::LARGE_KIB`).
pub const INBOX: usize = 4096;

/// Wants not yet taken by the network; more are dropped, for catch-up brings them too.
pub const WANTS: usize = 1024;

/// An object on its way in.
#[derive(Debug)]
pub struct Inbound {
    pub origin: Origin,
    pub object: SignedObject,
    /// Told once, when it is decided.
    pub reply: oneshot::Sender<Disposition>,
}

/// What became of an object: gossip's verdict follows from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Disposition {
    /// New, valid and stored: pass it on.
    Accepted,
    /// Known already.
    Known,
    /// Valid so far, held until its parent (or subject) comes. Neither passed on nor punished.
    Pending,
    /// Refused, with the reason; [`Reject::penalty`] says what that costs the sender.
    Rejected(Reject),
    /// The store could not take it now (a full disk, a shutdown). Nobody's fault.
    Failed(Arc<str>),
}

/// The store changed. Broadcast after the change is durable.
#[derive(Clone, Debug)]
pub struct StoreEvent {
    pub change: Change,
    pub object: SignedObject,
    /// How the object came; for one released from waiting, how it had come then.
    pub origin: Origin,
}

/// An object that is missed: the network asks `from` first, where given, then other peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Want {
    pub kind: Kind,
    pub id: ObjectId,
    pub from: Option<PeerId>,
}

/// `ingest` has shut down.
#[derive(Debug, thiserror::Error)]
#[error("the node is shutting down")]
pub struct IngestClosed;

/// Refusals since the start, by [`Reject::code`]. There are as many codes as `Reject` has variants.
#[derive(Clone, Debug, Default)]
pub(super) struct Rejections(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Rejections {
    pub(super) fn count(&self, reject: &Reject) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(reject.code()).or_default() += 1;
    }
}

/// The way in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IngestHandle {
    pub(super) inbox: mpsc::Sender<Inbound>,
    pub(super) rejections: Rejections,
    pub(super) trouble: Trouble,
}

impl IngestHandle {
    /// Hands an object over and waits for its fate. Waits, too, while the inbox is full.
    ///
    /// # Errors
    /// [`IngestClosed`] at shutdown.
    pub async fn submit(&self, origin: Origin, object: SignedObject) -> Result<Disposition, IngestClosed> {
        self.send(origin, object).await?.await.map_err(|_| IngestClosed)
    }

    /// Hands an object over; its fate comes later, by what this gives. For who has many under way, and
    /// bounds how many. Waits while the inbox is full.
    ///
    /// # Errors
    /// [`IngestClosed`] at shutdown.
    pub async fn send(
        &self,
        origin: Origin,
        object: SignedObject,
    ) -> Result<oneshot::Receiver<Disposition>, IngestClosed> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Inbound { origin, object, reply }).await.map_err(|_| IngestClosed)?;
        Ok(answer)
    }

    /// What to show a person while the store does not take everything. A full disk ends by itself, also
    /// when no object comes; damage stays until the node ends.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.told()
    }

    /// Objects refused since the start, by [`Reject::code`].
    pub fn rejected(&self) -> BTreeMap<&'static str, u64> {
        self.rejections.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
