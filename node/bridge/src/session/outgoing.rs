//! The writing side of a session: answers first, then the next page of objects that the peer lacks.
//!
//! The session holds the page that is being written, the next page, and a queue of answers. A queued answer is small:
//! what it names is read only when it is next.

use std::{collections::VecDeque, net::IpAddr, time::Instant};

use spore_protocol::{Cid, legacy::LegacyMessage};
use spore_storage::{Store, StoreError};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    task::{JoinHandle, JoinSet, spawn_blocking},
};

use super::{
    artifacts,
    feed::{Delivery, FeedPage, ObjectFeed},
    state::PeerAnswer,
};
use crate::{
    limits::{
        ANSWER_BYTES, ANSWERS, ARTIFACT_BYTES, BUFFER_KEPT, LARGE_BYTES, LARGE_DEADLINE, READ_AHEAD, WALKS,
        WRITE_STALL, WRITE_STALL_MOST,
    },
    link::SessionEnd,
    shared::{LargeMemory, LargePermit, SharedRef},
};

/// A queued answer, as small as it can be, because a peer may have many.
#[derive(Debug)]
enum QueuedAnswer {
    Frame(Vec<u8>),
    Peers,
    Artifact(Cid),
}

/// A feed that reads its next page on a blocking thread.
type PageTask = JoinHandle<(ObjectFeed, Result<FeedPage, StoreError>)>;

/// The writing side.
pub(super) struct Outgoing<W> {
    writer: W,
    shared: SharedRef,
    remote: IpAddr,
    answers: VecDeque<QueuedAnswer>,
    deliveries: VecDeque<Delivery>,
    /// None while it reads a page.
    feed: Option<ObjectFeed>,
    page_task: Option<PageTask>,
    next_page: Option<FeedPage>,
    /// The artifact that is being read for an answer. The answers behind it wait.
    artifact: JoinSet<Option<(Vec<u8>, Option<LargePermit>)>>,
    /// The permit of a large artifact that is being written, and since when it is held.
    permit: Option<(LargePermit, Instant)>,
    out: Vec<u8>,
    written: usize,
    /// When the socket last accepted bytes, or there were none to write.
    progress: Instant,
    /// The change log had nothing more when it was last read.
    idle: bool,
    log: u64,
    sent: u64,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    pub fn new(writer: W, shared: SharedRef, remote: IpAddr, feed: ObjectFeed, now: Instant) -> Self {
        Self {
            writer,
            shared,
            remote,
            answers: VecDeque::new(),
            deliveries: VecDeque::new(),
            log: feed.log(),
            feed: Some(feed),
            page_task: None,
            next_page: None,
            artifact: JoinSet::new(),
            permit: None,
            out: Vec::new(),
            written: 0,
            progress: now,
            idle: false,
            sent: 0,
        }
    }

    /// Queues an answer.
    ///
    /// # Errors
    /// [`SessionEnd::Overloaded`] when the queue is full, because the peer does not read what it asked for.
    pub fn answer(&mut self, answer: PeerAnswer) -> Result<(), SessionEnd> {
        if self.answers.len() >= ANSWERS {
            return Err(SessionEnd::Overloaded);
        }
        self.answers.push_back(match answer {
            // The session's own messages are small and always fit a frame.
            PeerAnswer::Message(message) => QueuedAnswer::Frame(message.encode().unwrap_or_default()),
            PeerAnswer::Peers => QueuedAnswer::Peers,
            PeerAnswer::Artifact(cid) => QueuedAnswer::Artifact(cid),
        });
        Ok(())
    }

    /// Sends something besides new objects. More requests than an honest peer makes are ignored.
    pub fn deliver(&mut self, delivery: Delivery) {
        if self.deliveries.len() < WALKS {
            self.deliveries.push_back(delivery);
        }
    }

    /// The change log has new entries.
    pub fn wake(&mut self) {
        self.idle = false;
    }

    /// Whether there is nothing to read from the store until [`Outgoing::wake`].
    fn is_idle(&self) -> bool {
        self.idle && self.deliveries.is_empty() && self.page_task.is_none()
    }

    /// The sequence number up to which everything was written. None while something is left to write.
    pub fn drained(&self) -> Option<u64> {
        let nothing = self.is_idle() && self.next_page.is_none() && self.written >= self.out.len();
        nothing.then_some(self.log)
    }

    /// Objects written.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes that are held in memory for the peer.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.out.capacity() + self.next_page.as_ref().map_or(0, |page| page.bytes.capacity())
    }

    /// Whether the socket has accepted nothing for too long. `heard`: when the peer last sent something.
    pub fn is_stalled(&mut self, heard: Instant, now: Instant) -> bool {
        if self.written >= self.out.len() {
            self.progress = now;
            return false;
        }
        if self.permit.as_ref().is_some_and(|(_, since)| now.saturating_duration_since(*since) >= LARGE_DEADLINE) {
            return true;
        }
        let stalled = now.saturating_duration_since(self.progress);
        stalled >= WRITE_STALL_MOST || (stalled >= WRITE_STALL && now.saturating_duration_since(heard) >= WRITE_STALL)
    }

    /// Does one thing: writes bytes, or receives a page or an artifact that was read. The future may be dropped at any
    /// time.
    ///
    /// # Errors
    /// When the connection or the store fails.
    pub async fn step(&mut self) -> Result<(), SessionEnd> {
        self.prepare();
        let Self { writer, out, written, page_task, artifact, .. } = self;
        let rest = out.get(*written..).unwrap_or_default();
        tokio::select! {
            took = writer.write(rest), if !rest.is_empty() => match took {
                Ok(0) => Err(SessionEnd::Closed),
                Ok(took) => {
                    self.written += took;
                    self.progress = Instant::now();
                    Ok(())
                }
                Err(error) => Err(SessionEnd::Io(error.kind())),
            },
            read = async { page_task.as_mut()?.await.ok() }, if page_task.is_some() => self.page_read(read),
            Some(read) = artifact.join_next(), if !artifact.is_empty() => {
                if let Ok(Some((frame, permit))) = read {
                    self.begin_writing();
                    self.out.extend(frame);
                    self.permit = permit.map(|permit| (permit, Instant::now()));
                }
                Ok(())
            }
            else => std::future::pending().await,
        }
    }

    fn page_read(&mut self, read: Option<(ObjectFeed, Result<FeedPage, StoreError>)>) -> Result<(), SessionEnd> {
        self.page_task = None;
        // None: the runtime has ended, or the thread panicked.
        let (feed, page) = read.ok_or(SessionEnd::Shutdown)?;
        let page = page.map_err(|error| {
            tracing::warn!(%error, "could not read the objects that a legacy peer lacks");
            SessionEnd::Io(std::io::ErrorKind::Other)
        })?;
        self.log = feed.log();
        self.feed = Some(feed);
        self.idle = page.idle;
        if !page.bytes.is_empty() {
            self.next_page = Some(page);
        }
        Ok(())
    }

    /// Does everything that needs no waiting: puts together the next bytes to write, and starts reading ahead.
    fn prepare(&mut self) {
        if self.written >= self.out.len() {
            self.out.clear();
            self.written = 0;
            self.out.shrink_to(BUFFER_KEPT);
            self.permit = None;
            self.write_answers();
            if self.out.is_empty()
                && let Some(page) = self.next_page.take()
            {
                self.sent += page.objects;
                self.begin_writing();
                self.out = page.bytes;
            }
        }
        let near_the_end = self.out.len() - self.written <= READ_AHEAD;
        if near_the_end
            && self.next_page.is_none()
            && !self.is_idle()
            && let Some(mut feed) = self.feed.take()
        {
            self.deliveries.drain(..).for_each(|delivery| feed.add(delivery));
            let store = self.shared.store.clone();
            self.page_task = Some(spawn_blocking(move || {
                let page = feed.next(&store);
                (feed, page)
            }));
        }
    }

    /// Puts queued answers together, up to the next artifact.
    fn write_answers(&mut self) {
        while self.artifact.is_empty() && self.out.len() < ANSWER_BYTES {
            let Some(answer) = self.answers.pop_front() else { break };
            let frame = match answer {
                QueuedAnswer::Frame(frame) => frame,
                QueuedAnswer::Peers => {
                    let peers = self.shared.hub.dialled_peers(self.remote);
                    let message = LegacyMessage::PexResponse(peers.iter().map(ToString::to_string).collect());
                    message.encode().unwrap_or_default()
                }
                QueuedAnswer::Artifact(cid) => {
                    self.artifact.spawn(read_artifact(self.shared.store.clone(), self.shared.large.clone(), cid));
                    break;
                }
            };
            self.begin_writing();
            self.out.extend(frame);
        }
    }

    /// Restarts the measurement of a stall when there was nothing to write: the socket waited for this side.
    fn begin_writing(&mut self) {
        if self.written >= self.out.len() {
            self.progress = Instant::now();
        }
    }
}

/// The answer to a request for an artifact, with the permit of a large one. None when the artifact is not here or too
/// large: like the reference, this node then sends no answer.
async fn read_artifact(store: Store, large: LargeMemory, cid: Cid) -> Option<(Vec<u8>, Option<LargePermit>)> {
    let failed = |error: StoreError| {
        tracing::warn!(%cid, %error, "could not read an artifact that a legacy peer asked for");
    };
    let sizes = store.clone();
    let size = spawn_blocking(move || sizes.artifact_size(&cid)).await.ok()?.map_err(failed).ok()??;
    let size = usize::try_from(size).ok().filter(|_| size <= ARTIFACT_BYTES)?;
    // In base64, four bytes stand for three.
    let permit = if size > LARGE_BYTES { Some(large.acquire(size / 3 * 4).await?) } else { None };
    let read = spawn_blocking(move || {
        let bytes = store.artifact(&cid)?;
        Ok(bytes.and_then(|bytes| {
            LegacyMessage::CodeResponse { cid: Some(cid), code: artifacts::encode(&bytes) }.encode().ok()
        }))
    });
    let frame = read.await.ok()?.map_err(failed).ok()??;
    Some((frame, permit))
}
