//! One connection with a legacy peer: objects that the peer sends go to the ingest service, and objects that it lacks
//! go out.
//!
//! One task drives the connection. Reading and writing never wait for each other, because the reference does not read
//! while it writes. [`state`] decides and knows no socket; [`incoming`] and [`outgoing`] are the two sides of the
//! connection, each with its bounds; [`feed`] reads pages from the store.
//!
//! | file | holds |
//! |---|---|
//! | `state`, `requests` | decisions: what to ask for, answer and offer; when a peer is gone |
//! | `rate` | how much a peer may send that is nothing new |
//! | `incoming`, `offence` | frames to messages; what a refused frame or object costs |
//! | `window` | objects that the ingest service has not decided yet |
//! | `outgoing`, `feed` | answers, histories, new objects |
//! | `known` | which objects the peer has, within bounds |
//! | `legible` | which objects the reference can read |
//! | `artifacts` | artifacts that were asked for |
//!
//! Never here: who is connected with whom (`hub`), what is valid (`ingest`).

mod artifacts;
mod feed;
mod incoming;
mod known;
mod legible;
mod offence;
mod outgoing;
mod rate;
mod requests;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use spore_base::{
    shutdown::{Shutdown, stopped},
    standing::Offence,
};
use spore_ingest::{Deferral, Disposition, Source, StoreEvent};
use spore_protocol::{ObjectId, SignedObject, legacy::LegacyMessage};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{broadcast, mpsc},
    task::yield_now,
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};

use self::{
    artifacts::ArtifactRequests,
    feed::ObjectFeed,
    incoming::{FrameContent, Incoming, ReceivedFrame},
    known::{KnownIds, SharedIds, lock},
    outgoing::Outgoing,
    state::{ObjectFate, ResumePoint, SessionEffect, SessionEvent, SessionMachine},
    window::IngestWindow,
};
use super::{
    hub::SyncMark,
    limits::{FRAMES_AT_ONCE, HEARD, HELD_UP, SESSION_TICK, SYNC_AHEAD},
    link::{Link, LinkDirection, SessionCommand, SessionEnd, SessionStats},
    shared::{LargePermit, SharedRef},
};

/// Talks to a peer until the connection ends. Returns why it ended.
pub async fn run(
    stream: TcpStream,
    link: Link,
    shared: SharedRef,
    commands: mpsc::Receiver<SessionCommand>,
    shutdown: Shutdown,
) -> SessionEnd {
    // Small messages must not wait for large ones. An error here only makes them slower.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    // Subscribe before the session reads the store's sequence number, so that no change is missed in between.
    let events = shared.events.subscribe();
    let (ingest, source) = (shared.ingest.clone(), Source::Session(link.id));
    ingest.connected(source, Some(link.remote.ip()), shared.hub.is_named(&link));
    let (mut session, effects) = Session::open(read, write, link, shared);
    if let Err(end) = session.apply(effects) {
        ingest.disconnected(source);
        return end;
    }
    let mut ticks = interval(SESSION_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut inputs = SessionInputs { commands, events, ticks, shutdown };
    let end = loop {
        if let Err(end) = session.step(&mut inputs).await {
            break end;
        }
    };
    session.remember();
    session.report();
    // The objects that are still under way are few, and count against the session alone.
    ingest.disconnected(source);
    end
}

/// A connection, with everything that is known of it.
struct Session<R, W> {
    link: Link,
    shared: SharedRef,
    machine: SessionMachine,
    ids: SharedIds,
    incoming: Incoming<R>,
    window: IngestWindow,
    outgoing: Outgoing<W>,
    artifacts: ArtifactRequests,
    ticked: Instant,
    received: u64,
    /// See [`SessionStats::answered`].
    answered: bool,
    effects: Vec<SessionEffect>,
}

/// What a session waits for besides its connection.
struct SessionInputs {
    commands: mpsc::Receiver<SessionCommand>,
    events: broadcast::Receiver<StoreEvent>,
    ticks: Interval,
    shutdown: Shutdown,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<R, W> {
    fn open(read: R, write: W, link: Link, shared: SharedRef) -> (Self, Vec<SessionEffect>) {
        let (now, sequence) = (Instant::now(), shared.store.sequence());
        let mark = match &link.direction {
            LinkDirection::Dialled(address) => shared.hub.sync_mark(address),
            LinkDirection::Accepted => None,
        };
        let resume = mark.and_then(|mark| ResumePoint::from(mark, sequence, now));
        let ids = Arc::new(Mutex::new(KnownIds::new()));
        let feed = ObjectFeed::new(ids.clone(), resume.and_then(|resume| resume.log).unwrap_or(sequence));
        let (machine, effects) = SessionMachine::open(resume, now);
        let session = Self {
            machine,
            ids,
            incoming: Incoming::new(read, shared.large.clone()),
            window: IngestWindow::default(),
            outgoing: Outgoing::new(write, shared.clone(), link.remote.ip(), feed, now),
            artifacts: ArtifactRequests::default(),
            ticked: now,
            received: 0,
            answered: false,
            effects: Vec::new(),
            link,
            shared,
        };
        (session, effects)
    }

    /// Waits for the next thing to happen and handles it.
    async fn step(&mut self, inputs: &mut SessionInputs) -> Result<(), SessionEnd> {
        let paused = self.incoming.paused().map(tokio::time::Instant::from_std);
        let open = self.window.is_open();
        tokio::select! {
            () = stopped(&mut inputs.shutdown) => Err(SessionEnd::Shutdown),
            () = std::future::ready(()), if open && self.incoming.may_have_frame() => self.frames().await,
            came = self.incoming.fill(), if open && self.incoming.wants_bytes() => match came {
                Ok(true) => {
                    self.machine.bytes_came(Instant::now());
                    Ok(())
                }
                Ok(false) => Err(SessionEnd::Closed),
                Err(error) => Err(SessionEnd::Io(error.kind())),
            },
            decided = self.window.decided() => self.decided(decided),
            step = self.outgoing.step() => {
                step?;
                self.outgoing.drained().map_or(Ok(()), |through| self.handle(SessionEvent::Drained { through }))
            }
            // Read at any time: otherwise the channel would hold every object in memory for a peer that reads nothing.
            event = inputs.events.recv() => self.store_changed(event, inputs),
            () = sleep_until(paused.unwrap_or_else(tokio::time::Instant::now)), if paused.is_some() => {
                self.incoming.resume();
                Ok(())
            }
            command = inputs.commands.recv() => self.command(command),
            _ = inputs.ticks.tick() => self.tick(),
        }
    }

    fn store_changed(
        &mut self,
        event: Result<StoreEvent, broadcast::error::RecvError>,
        inputs: &mut SessionInputs,
    ) -> Result<(), SessionEnd> {
        if matches!(event, Err(broadcast::error::RecvError::Closed)) {
            return Err(SessionEnd::Shutdown);
        }
        // One read of the change log covers all other events in the channel.
        inputs.events = inputs.events.resubscribe();
        self.machine.more_to_send();
        self.outgoing.wake();
        Ok(())
    }

    fn command(&mut self, command: Option<SessionCommand>) -> Result<(), SessionEnd> {
        let Some(SessionCommand::FetchArtifact { cid, reply }) = command else { return Err(SessionEnd::Dismissed) };
        let now = Instant::now();
        if !self.artifacts.want(cid, reply, now) {
            return Ok(());
        }
        let mut effects = Vec::new();
        self.machine.ask_artifact(cid, now, &mut effects);
        self.apply(effects)
    }

    /// Handles some frames. The next step handles more.
    async fn frames(&mut self) -> Result<(), SessionEnd> {
        for _ in 0..FRAMES_AT_ONCE {
            if !self.window.is_open() || !self.incoming.may_have_frame() {
                break;
            }
            let ReceivedFrame { content, bytes, permit } = match self.incoming.next(Instant::now()).await {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => {
                    self.penalise(Offence::Oversize)?;
                    return Err(SessionEnd::Misbehaved);
                }
            };
            if !self.content(content, permit).await? {
                self.handle(SessionEvent::Idle { bytes })?;
            }
        }
        // Known objects pass without a wait, and during a flood the next bytes are always there. Without this yield,
        // one peer would keep a thread of the runtime, and everything else on that thread, for seconds.
        yield_now().await;
        Ok(())
    }

    /// Handles the content of a frame. False when it brought no new object.
    async fn content(&mut self, content: FrameContent, permit: Option<LargePermit>) -> Result<bool, SessionEnd> {
        if !self.answered && matches!(content, FrameContent::Message(_)) {
            self.answered = true;
            self.report();
        }
        match content {
            FrameContent::Message(LegacyMessage::Object(object)) => return self.object(object, permit).await,
            FrameContent::Message(LegacyMessage::CodeResponse { cid, code }) => {
                if let Some(offence) = self.artifacts.received(cid, &code) {
                    self.penalise(offence)?;
                }
            }
            FrameContent::Message(message) => self.handle(SessionEvent::Message(Box::new(message)))?,
            FrameContent::Unknown => {}
            FrameContent::Unreadable { kind, offence, reject } => {
                tracing::debug!(session = %self.link.id, %reject, "a frame cannot be read");
                let misspelt = offence::may_be_misspelt(&reject, kind);
                self.handle(SessionEvent::Unreadable { kind, offence, misspelt })?;
            }
        }
        Ok(false)
    }

    /// Hands an object to the ingest service. False when the peer had sent the object before.
    async fn object(&mut self, object: SignedObject, permit: Option<LargePermit>) -> Result<bool, SessionEnd> {
        self.received += 1;
        let latest = (self.shared.clock)().saturating_add(SYNC_AHEAD);
        self.handle(SessionEvent::Object {
            kind: object.kind(),
            timestamp: Some(object.timestamp()).filter(|timestamp| *timestamp <= latest),
            root: matches!(&object, SignedObject::Experiment(record) if record.parent.is_none()),
        })?;
        let new = lock(&self.ids).add_received(&object.id());
        if !new {
            return Ok(false);
        }
        self.window
            .submit(&self.shared.ingest, self.link.id, object, permit)
            .await
            .map_err(|_| SessionEnd::Shutdown)?;
        Ok(true)
    }

    fn decided(&mut self, decided: Vec<(ObjectId, Disposition)>) -> Result<(), SessionEnd> {
        for (id, disposition) in decided {
            let fate = match disposition {
                Disposition::Accepted => ObjectFate::New,
                Disposition::Known => ObjectFate::Known,
                Disposition::Pending => ObjectFate::Pending,
                Disposition::Rejected(reject) => {
                    tracing::debug!(session = %self.link.id, id = %id.short(), %reject, "an object is refused");
                    lock(&self.ids).forget_received(&id);
                    ObjectFate::Refused(offence::of_object(&reject))
                }
                // Nothing to ask for again: only the operator can change this.
                Disposition::Later(Deferral::Blocked) => ObjectFate::Known,
                Disposition::Later(_) => {
                    lock(&self.ids).forget_received(&id);
                    ObjectFate::Later
                }
                Disposition::Failed(_) => {
                    lock(&self.ids).forget_received(&id);
                    ObjectFate::Lost
                }
            };
            self.handle(SessionEvent::Decided(fate))?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), SessionEnd> {
        let now = Instant::now();
        let since_last = now.saturating_duration_since(std::mem::replace(&mut self.ticked, now));
        self.artifacts.expire(now);
        self.report();
        let reading = self.window.is_open() && self.incoming.wants_bytes() && !self.incoming.awaits_permit();
        if !reading || since_last > HELD_UP {
            self.incoming.restart_deadlines(now);
        } else if self.incoming.is_late(now) {
            self.penalise(Offence::Late)?;
            return Err(SessionEnd::TimedOut);
        }
        if self.outgoing.is_stalled(self.machine.heard(), now) {
            return Err(SessionEnd::Stalled);
        }
        self.handle(SessionEvent::Tick)
    }

    fn handle(&mut self, event: SessionEvent) -> Result<(), SessionEnd> {
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.handle(event, Instant::now(), &mut effects);
        self.apply(effects)
    }

    fn apply(&mut self, mut effects: Vec<SessionEffect>) -> Result<(), SessionEnd> {
        for effect in effects.drain(..) {
            match effect {
                SessionEffect::Answer(answer) => self.outgoing.answer(answer)?,
                SessionEffect::Deliver(delivery) => {
                    self.machine.more_to_send();
                    self.outgoing.deliver(delivery);
                }
                SessionEffect::Penalise(offence) => self.penalise(offence)?,
                SessionEffect::Pause(time) => self.incoming.pause(Instant::now(), time),
                SessionEffect::PeersNamed(peers) => {
                    let peers = peers.iter().take(HEARD).filter_map(|peer| peer.parse().ok()).collect();
                    self.shared.hub.heard_of(self.link.remote.ip(), peers);
                }
                SessionEffect::ArtifactAbsent(cid) => self.artifacts.absent(&cid),
                SessionEffect::Remember(mark) => self.set_mark(mark),
                SessionEffect::ForgetReceived => lock(&self.ids).forget_all_received(),
                SessionEffect::End(end) => return Err(end),
            }
        }
        // The next event reuses the allocation.
        self.effects = effects;
        Ok(())
    }

    fn penalise(&self, offence: Offence) -> Result<(), SessionEnd> {
        if self.shared.hub.penalise(&self.link, offence) { Err(SessionEnd::Misbehaved) } else { Ok(()) }
    }

    fn remember(&self) {
        if let Some(mark) = self.machine.mark(Instant::now()) {
            self.set_mark(mark);
        }
    }

    fn set_mark(&self, mark: SyncMark) {
        if let LinkDirection::Dialled(address) = &self.link.direction {
            self.shared.hub.set_sync_mark(address, mark);
        }
    }

    fn report(&self) {
        let stats = SessionStats {
            received: self.received,
            sent: self.outgoing.sent(),
            answered: self.answered,
            phase: self.machine.phase(),
        };
        self.shared.hub.report(self.link.id, stats);
    }
}
