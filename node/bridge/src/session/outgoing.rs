//! The side of a session that writes: answers first, then the next page of what the peer lacks. Held
//! are the page being written, the one after it, and answers as the few bytes that they were asked by.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Instant};

use spore_protocol::{Cid, legacy::LegacyMessage};
use spore_storage::{Store, StoreError};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
    task::{JoinHandle, JoinSet, spawn_blocking},
};

use super::{
    codes,
    feed::{Feed, Order, Page},
    incoming::Room,
    state::Answer,
};
use crate::{
    limits::{
        ANSWER_BYTES, ANSWERS, BUFFER_KEPT, CODE_BYTES, LARGE_BYTES, LARGE_DEADLINE, READ_AHEAD, WALKS, WRITE_STALL,
        WRITE_STALL_MOST,
    },
    link::{Ended, SharedRef, kib},
};

/// An answer that waits, as small as it can be: many may.
#[derive(Debug)]
enum Waiting {
    Frame(Vec<u8>),
    Peers,
    Code(Cid),
}

/// A feed at work on a blocking thread.
type Reading = JoinHandle<(Feed, Result<Page, StoreError>)>;

/// The writing side.
#[derive(Debug)]
pub(super) struct Outgoing<W> {
    writer: W,
    shared: SharedRef,
    remote: IpAddr,
    answers: VecDeque<Waiting>,
    orders: VecDeque<Order>,
    /// None while it reads.
    feed: Option<Feed>,
    reading: Option<Reading>,
    ready: Option<Page>,
    /// An artifact being read for an answer; the answers behind it wait.
    code: JoinSet<Option<(Vec<u8>, Option<Room>)>>,
    /// For a large artifact that is being written, and since when.
    room: Option<(Room, Instant)>,
    out: Vec<u8>,
    written: usize,
    /// When the socket last took something, or had nothing to take.
    progress: Instant,
    /// The log held nothing more when it was last looked at.
    idle: bool,
    log: u64,
    sent: u64,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    pub fn new(writer: W, shared: SharedRef, remote: IpAddr, feed: Feed, now: Instant) -> Self {
        Self {
            writer,
            shared,
            remote,
            answers: VecDeque::new(),
            orders: VecDeque::new(),
            log: feed.log(),
            feed: Some(feed),
            reading: None,
            ready: None,
            code: JoinSet::new(),
            room: None,
            out: Vec::new(),
            written: 0,
            progress: now,
            idle: false,
            sent: 0,
        }
    }

    /// Says something in its turn.
    ///
    /// # Errors
    /// [`Ended::Overloaded`] when the peer takes none of what it asked for.
    pub fn say(&mut self, answer: Answer) -> Result<(), Ended> {
        if self.answers.len() >= ANSWERS {
            return Err(Ended::Overloaded);
        }
        self.answers.push_back(match answer {
            // Small messages of our own making always fit.
            Answer::Message(message) => Waiting::Frame(message.encode().unwrap_or_default()),
            Answer::Peers => Waiting::Peers,
            Answer::Code(cid) => Waiting::Code(cid),
        });
        Ok(())
    }

    /// Sends something beside what is new. Requests beyond what an honest peer makes are passed over.
    pub fn send(&mut self, order: Order) {
        if self.orders.len() < WALKS {
            self.orders.push_back(order);
        }
    }

    /// Looks into the log again.
    pub fn wake(&mut self) {
        self.idle = false;
    }

    /// Whether news must wake it.
    pub fn is_idle(&self) -> bool {
        self.idle && self.orders.is_empty() && self.reading.is_none()
    }

    /// Up to which change everything was written, where there is nothing left to write.
    pub fn drained(&self) -> Option<u64> {
        let nothing = self.is_idle() && self.ready.is_none() && self.written >= self.out.len();
        nothing.then_some(self.log)
    }

    /// Objects written.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes in memory for the peer.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.out.capacity() + self.ready.as_ref().map_or(0, |page| page.bytes.capacity())
    }

    /// Whether the socket takes nothing, given when the peer last said something.
    pub fn is_stalled(&mut self, heard: Instant, now: Instant) -> bool {
        if self.written >= self.out.len() {
            self.progress = now;
            return false;
        }
        if self.room.as_ref().is_some_and(|(_, since)| now.saturating_duration_since(*since) >= LARGE_DEADLINE) {
            return true;
        }
        let taken = now.saturating_duration_since(self.progress);
        taken >= WRITE_STALL_MOST || (taken >= WRITE_STALL && now.saturating_duration_since(heard) >= WRITE_STALL)
    }

    /// Makes one step: writes some, or takes in what was read. May be dropped while it waits.
    ///
    /// # Errors
    /// When the connection or the store fails.
    pub async fn step(&mut self) -> Result<(), Ended> {
        self.prepare();
        let Self { writer, out, written, reading, code, .. } = self;
        let rest = out.get(*written..).unwrap_or_default();
        tokio::select! {
            took = writer.write(rest), if !rest.is_empty() => match took {
                Ok(0) => Err(Ended::Closed),
                Ok(took) => {
                    self.written += took;
                    self.progress = Instant::now();
                    Ok(())
                }
                Err(error) => Err(Ended::Io(error.kind())),
            },
            read = async { reading.as_mut()?.await.ok() }, if reading.is_some() => self.take_in(read),
            Some(read) = code.join_next(), if !code.is_empty() => {
                if let Ok(Some((frame, room))) = read {
                    self.begin_writing();
                    self.out.extend(frame);
                    self.room = room.map(|room| (room, Instant::now()));
                }
                Ok(())
            }
            else => std::future::pending().await,
        }
    }

    fn take_in(&mut self, read: Option<(Feed, Result<Page, StoreError>)>) -> Result<(), Ended> {
        self.reading = None;
        // Only a panic or the runtime's end loses it.
        let (feed, page) = read.ok_or(Ended::Shutdown)?;
        let page = page.map_err(|error| {
            tracing::warn!(%error, "cannot read what a legacy peer lacks");
            Ended::Io(std::io::ErrorKind::Other)
        })?;
        self.log = feed.log();
        self.feed = Some(feed);
        self.idle = page.idle;
        if !page.bytes.is_empty() {
            self.ready = Some(page);
        }
        Ok(())
    }

    /// Everything that can be done without waiting.
    fn prepare(&mut self) {
        if self.written >= self.out.len() {
            self.out.clear();
            self.written = 0;
            self.out.shrink_to(BUFFER_KEPT);
            self.room = None;
            self.answer();
            if self.out.is_empty()
                && let Some(page) = self.ready.take()
            {
                self.sent += page.objects;
                self.begin_writing();
                self.out = page.bytes;
            }
        }
        let near_the_end = self.out.len() - self.written <= READ_AHEAD;
        if near_the_end
            && self.ready.is_none()
            && !self.is_idle()
            && let Some(mut feed) = self.feed.take()
        {
            self.orders.drain(..).for_each(|order| feed.order(order));
            let store = self.shared.store.clone();
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let page = feed.next(&store);
                (feed, page)
            }));
        }
    }

    /// Puts answers together, up to the next artifact.
    fn answer(&mut self) {
        while self.code.is_empty() && self.out.len() < ANSWER_BYTES {
            let Some(answer) = self.answers.pop_front() else { break };
            let frame = match answer {
                Waiting::Frame(frame) => frame,
                Waiting::Peers => {
                    let peers = self.shared.hub.dialled_peers(self.remote);
                    let message = LegacyMessage::PexResponse(peers.iter().map(ToString::to_string).collect());
                    message.encode().unwrap_or_default()
                }
                Waiting::Code(cid) => {
                    self.code.spawn(code(self.shared.store.clone(), self.shared.large.clone(), cid));
                    break;
                }
            };
            self.begin_writing();
            self.out.extend(frame);
        }
    }

    /// The socket has been waiting for us, and not we for it.
    fn begin_writing(&mut self) {
        if self.written >= self.out.len() {
            self.progress = Instant::now();
        }
    }
}

/// An artifact's answer, and the room for it where it is large; none where it is not here or too large,
/// which is no answer, as in the reference.
async fn code(store: Store, large: Arc<Semaphore>, cid: Cid) -> Option<(Vec<u8>, Option<Room>)> {
    let failed = |error: StoreError| {
        tracing::warn!(%cid, %error, "cannot read an artifact that a legacy peer asked for");
    };
    let sizes = store.clone();
    let size = spawn_blocking(move || sizes.artifact_size(&cid)).await.ok()?.map_err(failed).ok()??;
    let size = usize::try_from(size).ok().filter(|_| size <= CODE_BYTES)?;
    // In base64 four bytes stand for three.
    let room = if size > LARGE_BYTES { Some(large.acquire_many_owned(kib(size / 3 * 4)).await.ok()?) } else { None };
    let read = spawn_blocking(move || {
        let bytes = store.artifact(&cid)?;
        Ok(bytes.and_then(|bytes| {
            LegacyMessage::CodeResponse { cid: Some(cid), code: codes::encode(&bytes) }.encode().ok()
        }))
    });
    let frame = read.await.ok()?.map_err(failed).ok()??;
    Some((frame, room))
}
