//! The side of a session that reads: frames into messages, objects to `ingest`, a bounded number of
//! them at a time. While as many are undecided nothing is read, and TCP slows the peer down.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use spore_ingest::{Disposition, IngestClosed, IngestHandle, Origin, SessionId};
use spore_protocol::{
    Kind, ObjectId, Reject, SignedObject,
    frame::{Frame, MAX_BODY_BYTES},
    legacy::{self, LegacyMessage},
};
use tokio::{
    io::AsyncRead,
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot},
    task::spawn_blocking,
};

use super::blame;
use crate::{
    bans::Offence,
    codec::{FrameReader, Part},
    limits::{FRAME_DEADLINE, FRAME_STALL, LARGE_BYTES, LARGE_DEADLINE, WINDOW, WINDOW_BYTES},
    link::{self},
};

/// What a frame holds.
#[allow(clippy::large_enum_variant, reason = "most frames hold an object, and a box for each costs more")]
pub(super) enum Received {
    Message(LegacyMessage),
    /// A type that is not known here.
    Unknown,
    Unreadable {
        kind: Option<Kind>,
        offence: Offence,
        reject: Reject,
    },
}

/// Room for something large, given back when it is dropped ([`link::large`]).
pub(super) type Room = OwnedSemaphorePermit;

/// A frame that came.
pub(super) struct Came {
    pub received: Received,
    pub bytes: usize,
    /// Held for as long as its content is.
    pub room: Option<Room>,
}

/// An object that `ingest` has not decided yet.
#[derive(Debug)]
struct Undecided {
    id: ObjectId,
    size: usize,
    _room: Option<Room>,
    answer: oneshot::Receiver<Disposition>,
}

/// A frame that is not all here.
#[derive(Clone, Copy, Debug)]
struct Begun {
    since: Instant,
    bytes: usize,
    last_byte: Instant,
}

/// A place in the queue for [`Room`].
type Turn = Pin<Box<dyn Future<Output = Result<Room, AcquireError>> + Send>>;

/// Frames off the connection.
pub(super) struct Incoming<R> {
    reader: FrameReader<R>,
    large: Arc<Semaphore>,
    /// For the large frame that is coming in.
    room: Option<Room>,
    /// Its turn to have room; kept, or it would always be last.
    wait: Option<Turn>,
    paused: Option<Instant>,
    begun: Option<Begun>,
    /// Whether the reader may hold another whole frame.
    more: bool,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// `large`: the room for what is large, shared by all sessions.
    pub fn new(source: R, large: Arc<Semaphore>) -> Self {
        let reader = FrameReader::new(source);
        Self { reader, large, room: None, wait: None, paused: None, begun: None, more: false }
    }

    /// Whether a frame that is here already may be taken.
    pub fn more(&self) -> bool {
        self.more && self.paused.is_none()
    }

    /// Whether a large frame waits for room; nothing is read meanwhile.
    pub fn waits(&self) -> bool {
        self.wait.is_some()
    }

    /// Whether bytes are wanted, or room for them.
    pub fn hungry(&self) -> bool {
        !self.more && self.paused.is_none()
    }

    /// The next frame's content. One that is large is read on a blocking thread, and only once there is room.
    ///
    /// # Errors
    /// [`Reject::TooLarge`]; nothing can be read after it.
    pub async fn next(&mut self, now: Instant) -> Result<Option<Came>, Reject> {
        let announced = self.reader.announced().filter(|size| (LARGE_BYTES + 1..=MAX_BODY_BYTES).contains(size));
        if let Some(size) = announced.filter(|_| self.room.is_none()) {
            self.wait = Some(Box::pin(self.large.clone().acquire_many_owned(link::kib(size))));
            self.more = false;
            self.note_begun(now);
            return Ok(None);
        }
        let came = match self.reader.next()? {
            Some(Part::Body(body)) if announced.is_some() => {
                let (body, bytes) = (body.to_vec(), body.len());
                let received = spawn_blocking(move || read(&body)).await.unwrap_or(Received::Unknown);
                Some(Came { received, bytes, room: self.room.take() })
            }
            Some(Part::Body(body)) => Some(Came { received: read(body), bytes: body.len(), room: None }),
            Some(Part::Skipped(bytes)) => {
                let reject = Reject::TooLarge { size: bytes, limit: MAX_BODY_BYTES };
                let received = Received::Unreadable { kind: None, offence: Offence::Refused, reject };
                Some(Came { received, bytes, room: None })
            }
            None => None,
        };
        if came.is_some() {
            self.begun = None;
        }
        self.more = came.is_some();
        self.note_begun(now);
        Ok(came)
    }

    /// Waits for more bytes, or for room where that is awaited; false at the end of the stream. May be dropped while it waits.
    ///
    /// # Errors
    /// The stream's.
    pub async fn fill(&mut self) -> io::Result<bool> {
        if let Some(wait) = &mut self.wait {
            // It is never closed.
            self.room = wait.await.ok();
            self.wait = None;
            self.more = true;
            return Ok(true);
        }
        let came = self.reader.fill().await?;
        self.more = came > 0;
        Ok(came > 0)
    }

    /// Reads nothing for a while.
    pub fn pause(&mut self, now: Instant, time: Duration) {
        self.paused = Some(now + time);
    }

    /// Until when nothing is read, if that is so.
    pub fn paused(&self) -> Option<Instant> {
        self.paused
    }

    /// Reads on.
    pub fn resume(&mut self) {
        self.paused = None;
    }

    /// We did not read, so that the peer is not to blame for being late.
    pub fn excuse(&mut self, now: Instant) {
        if let Some(begun) = &mut self.begun {
            (begun.since, begun.last_byte) = (now, now);
        }
    }

    /// Whether a frame that has begun takes too long.
    pub fn is_late(&mut self, now: Instant) -> bool {
        self.note_begun(now);
        let deadline = if self.room.is_some() { LARGE_DEADLINE } else { FRAME_DEADLINE };
        self.begun.is_some_and(|begun| {
            now.saturating_duration_since(begun.last_byte) >= FRAME_STALL
                || now.saturating_duration_since(begun.since) >= deadline
        })
    }

    fn note_begun(&mut self, now: Instant) {
        let bytes = if self.more { 0 } else { self.reader.begun() };
        self.begun = match self.begun {
            _ if bytes == 0 => None,
            None => Some(Begun { since: now, bytes, last_byte: now }),
            Some(begun) if begun.bytes == bytes => Some(begun),
            Some(begun) => Some(Begun { bytes, last_byte: now, ..begun }),
        };
    }
}

/// Objects on their way through `ingest`, in order, a bounded number of them.
#[derive(Debug, Default)]
pub(super) struct Window {
    undecided: VecDeque<Undecided>,
    bytes: usize,
}

impl Window {
    /// Whether there is room for what a frame may bring.
    pub fn is_open(&self) -> bool {
        self.undecided.len() < WINDOW && self.bytes < WINDOW_BYTES
    }

    /// Hands an object to `ingest`.
    ///
    /// # Errors
    /// At shutdown.
    pub async fn submit(
        &mut self,
        ingest: &IngestHandle,
        session: SessionId,
        object: SignedObject,
        room: Option<Room>,
    ) -> Result<(), IngestClosed> {
        let (id, size) = (object.id(), object.canonical().len());
        let answer = ingest.send(Origin::Bridge(session), object).await?;
        self.bytes += size;
        self.undecided.push_back(Undecided { id, size, _room: room, answer });
        Ok(())
    }

    /// Waits until objects are decided, if any are not. May be dropped while it waits.
    pub async fn decided(&mut self) -> Vec<(ObjectId, Disposition)> {
        let mut decided = Vec::new();
        let Some(first) = self.undecided.front_mut() else { return std::future::pending().await };
        let mut next = Some((&mut first.answer).await.unwrap_or_else(|_| lost()));
        // They are decided in the order in which they were handed over, a batch at once.
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
    Disposition::Failed("the node is shutting down".into())
}

/// Reads a frame's body.
fn read(body: &[u8]) -> Received {
    let unreadable = |reject: Reject, kind| {
        let offence = blame::of_frame(&reject, kind, body);
        Received::Unreadable { kind, offence, reject }
    };
    let frame = match Frame::decode(body) {
        Ok(frame) => frame,
        Err(reject) => return unreadable(reject, None),
    };
    let kind = legacy::carried(&frame.kind);
    match LegacyMessage::decode(frame) {
        Ok(Some(message)) => Received::Message(message),
        Ok(None) => Received::Unknown,
        Err(reject) => unreadable(reject, kind),
    }
}
