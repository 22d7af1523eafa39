//! The reading side of a session: frames from the connection, read into messages.
//!
//! It reads nothing while the session says so: while too many objects are undecided, or while the peer sends too much
//! that is nothing new. TCP then slows the peer down.

use std::{
    future::Future,
    io,
    pin::Pin,
    time::{Duration, Instant},
};

use spore_base::standing::Offence;
use spore_protocol::{
    Kind, Reject,
    frame::{Frame, MAX_BODY_BYTES},
    legacy::{self, LegacyMessage},
};
use tokio::{io::AsyncRead, task::spawn_blocking};

use super::offence;
use crate::{
    codec::{FrameBody, FrameReader},
    limits::{FRAME_DEADLINE, FRAME_STALL, LARGE_BYTES, LARGE_DEADLINE},
    shared::{LargeMemory, LargePermit},
};

/// The content of a frame.
#[allow(clippy::large_enum_variant, reason = "most frames hold an object, and a box for each costs more")]
pub(super) enum FrameContent {
    Message(LegacyMessage),
    /// A message of a type that is not known here.
    Unknown,
    Unreadable {
        kind: Option<Kind>,
        offence: Offence,
        reject: Reject,
    },
}

/// A frame that came.
pub(super) struct ReceivedFrame {
    pub content: FrameContent,
    /// Length of the body.
    pub bytes: usize,
    /// Held for as long as the content of a large frame is.
    pub permit: Option<LargePermit>,
}

/// A frame of which only a part is here.
#[derive(Clone, Copy, Debug)]
struct PartialFrame {
    since: Instant,
    bytes: usize,
    last_byte: Instant,
}

/// A pending [`LargeMemory::acquire`].
type PermitRequest = Pin<Box<dyn Future<Output = Option<LargePermit>> + Send>>;

/// Reads the frames of a connection.
pub(super) struct Incoming<R> {
    reader: FrameReader<R>,
    large: LargeMemory,
    /// For the large frame that is coming in.
    permit: Option<LargePermit>,
    /// Kept across polls, so that the session does not lose its place in the queue.
    permit_request: Option<PermitRequest>,
    paused: Option<Instant>,
    partial: Option<PartialFrame>,
    /// Whether the reader may hold another whole frame.
    more: bool,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub fn new(source: R, large: LargeMemory) -> Self {
        let reader = FrameReader::new(source);
        Self { reader, large, permit: None, permit_request: None, paused: None, partial: None, more: false }
    }

    /// Whether to take a frame that may be here already.
    pub fn may_have_frame(&self) -> bool {
        self.more && self.paused.is_none()
    }

    /// Whether a large frame waits for a permit. Nothing is read meanwhile.
    pub fn awaits_permit(&self) -> bool {
        self.permit_request.is_some()
    }

    /// Whether to call [`Incoming::fill`], for bytes or for a permit.
    pub fn wants_bytes(&self) -> bool {
        !self.more && self.paused.is_none()
    }

    /// The next frame. None while not all of it is here. A large frame is read on a blocking thread, and only once it
    /// has a permit.
    ///
    /// # Errors
    /// [`Reject::TooLarge`]. Nothing can be read after it.
    pub async fn next(&mut self, now: Instant) -> Result<Option<ReceivedFrame>, Reject> {
        let announced = self.reader.announced().filter(|size| (LARGE_BYTES + 1..=MAX_BODY_BYTES).contains(size));
        if let Some(size) = announced.filter(|_| self.permit.is_none()) {
            self.permit_request = Some(Box::pin(self.large.clone().acquire(size)));
            self.more = false;
            self.note_partial(now);
            return Ok(None);
        }
        let frame = match self.reader.next()? {
            Some(FrameBody::Whole(body)) if announced.is_some() => {
                let (body, bytes) = (body.to_vec(), body.len());
                let content = spawn_blocking(move || read(&body)).await.unwrap_or(FrameContent::Unknown);
                Some(ReceivedFrame { content, bytes, permit: self.permit.take() })
            }
            Some(FrameBody::Whole(body)) => {
                Some(ReceivedFrame { content: read(body), bytes: body.len(), permit: None })
            }
            Some(FrameBody::Skipped(bytes)) => {
                let reject = Reject::TooLarge { size: bytes, limit: MAX_BODY_BYTES };
                let content = FrameContent::Unreadable { kind: None, offence: Offence::Refused, reject };
                Some(ReceivedFrame { content, bytes, permit: None })
            }
            None => None,
        };
        if frame.is_some() {
            self.partial = None;
        }
        self.more = frame.is_some();
        self.note_partial(now);
        Ok(frame)
    }

    /// Waits for more bytes, or for the permit of a large frame. False at the end of the stream. The future may be
    /// dropped at any time.
    ///
    /// # Errors
    /// An error of the stream.
    pub async fn fill(&mut self) -> io::Result<bool> {
        if let Some(request) = &mut self.permit_request {
            self.permit = request.await;
            self.permit_request = None;
            self.more = true;
            return Ok(true);
        }
        let came = self.reader.fill().await?;
        self.more = came > 0;
        Ok(came > 0)
    }

    /// Reads nothing for this long.
    pub fn pause(&mut self, now: Instant, time: Duration) {
        self.paused = Some(now + time);
    }

    /// The end of the pause, if reading is paused.
    pub fn paused(&self) -> Option<Instant> {
        self.paused
    }

    /// Ends the pause.
    pub fn resume(&mut self) {
        self.paused = None;
    }

    /// This side did not read, so the deadlines of a partial frame begin again: the peer is not to blame.
    pub fn restart_deadlines(&mut self, now: Instant) {
        if let Some(partial) = &mut self.partial {
            (partial.since, partial.last_byte) = (now, now);
        }
    }

    /// Whether a partial frame takes too long.
    pub fn is_late(&mut self, now: Instant) -> bool {
        self.note_partial(now);
        let deadline = if self.permit.is_some() { LARGE_DEADLINE } else { FRAME_DEADLINE };
        self.partial.is_some_and(|partial| {
            now.saturating_duration_since(partial.last_byte) >= FRAME_STALL
                || now.saturating_duration_since(partial.since) >= deadline
        })
    }

    fn note_partial(&mut self, now: Instant) {
        let bytes = if self.more { 0 } else { self.reader.begun() };
        self.partial = match self.partial {
            _ if bytes == 0 => None,
            None => Some(PartialFrame { since: now, bytes, last_byte: now }),
            Some(partial) if partial.bytes == bytes => Some(partial),
            Some(partial) => Some(PartialFrame { bytes, last_byte: now, ..partial }),
        };
    }
}

/// Reads the body of a frame.
fn read(body: &[u8]) -> FrameContent {
    let unreadable = |reject: Reject, kind| {
        let offence = offence::of_frame(&reject, kind, body);
        FrameContent::Unreadable { kind, offence, reject }
    };
    let frame = match Frame::decode(body) {
        Ok(frame) => frame,
        Err(reject) => return unreadable(reject, None),
    };
    let kind = legacy::carried(&frame.kind);
    match LegacyMessage::decode(frame) {
        Ok(Some(message)) => FrameContent::Message(message),
        Ok(None) => FrameContent::Unknown,
        Err(reject) => unreadable(reject, kind),
    }
}
