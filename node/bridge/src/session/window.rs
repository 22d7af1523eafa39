//! The objects of one session that the ingest service has not decided yet: a bounded number of them, in order.

use std::collections::VecDeque;

use spore_ingest::{Disposition, IngestClosed, IngestHandle, Origin, SessionId};
use spore_protocol::{ObjectId, SignedObject};
use tokio::sync::oneshot;

use crate::{
    limits::{WINDOW, WINDOW_BYTES},
    shared::LargePermit,
};

/// Objects handed to the ingest service, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct IngestWindow {
    undecided: VecDeque<Undecided>,
    bytes: usize,
}

/// An object that the ingest service has not decided yet.
#[derive(Debug)]
struct Undecided {
    id: ObjectId,
    size: usize,
    _permit: Option<LargePermit>,
    answer: oneshot::Receiver<Disposition>,
}

impl IngestWindow {
    /// Whether there is room for the objects of another frame.
    pub fn is_open(&self) -> bool {
        self.undecided.len() < WINDOW && self.bytes < WINDOW_BYTES
    }

    /// Hands an object to the ingest service. `permit` is held until the object is decided.
    ///
    /// # Errors
    /// When the node is shutting down.
    pub async fn submit(
        &mut self,
        ingest: &IngestHandle,
        session: SessionId,
        object: SignedObject,
        permit: Option<LargePermit>,
    ) -> Result<(), IngestClosed> {
        let (id, size) = (object.id(), object.canonical().len());
        let answer = ingest.send(Origin::Bridge(session), object).await?;
        self.bytes += size;
        self.undecided.push_back(Undecided { id, size, _permit: permit, answer });
        Ok(())
    }

    /// Waits until objects are decided; for ever when none is undecided. The future may be dropped at any time.
    pub async fn decided(&mut self) -> Vec<(ObjectId, Disposition)> {
        let mut decided = Vec::new();
        let Some(first) = self.undecided.front_mut() else { return std::future::pending().await };
        let mut next = Some((&mut first.answer).await.unwrap_or_else(|_| lost()));
        // The service decides objects in the order in which they were handed over, a batch at once.
        while let Some(disposition) = next {
            if let Some(undecided) = self.undecided.pop_front() {
                self.bytes = self.bytes.saturating_sub(undecided.size);
                decided.push((undecided.id, disposition));
            }
            next = self.undecided.front_mut().and_then(|undecided| match undecided.answer.try_recv() {
                Ok(disposition) => Some(disposition),
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => Some(lost()),
            });
        }
        decided
    }
}

fn lost() -> Disposition {
    Disposition::Failed(IngestClosed.into())
}
