//! One connection with a legacy peer: what it sends goes to `ingest`, what it lacks goes out.
//!
//! One task drives it. Reading and writing never wait for each other, because the reference reads
//! nothing while it writes. [`state`] decides, and knows no socket; [`incoming`] and [`outgoing`] are
//! the two halves of the connection, each with its bounds; [`feed`] reads pages of the store.
//!
//! | file | holds |
//! |---|---|
//! | `state`, `asking` | decisions: what to ask for, answer, offer; when a peer is gone |
//! | `incoming`, `blame` | frames to messages; objects to `ingest`; what a refusal costs |
//! | `outgoing`, `feed` | answers, histories, what is new |
//! | `known` | what the peer has, within bounds |
//! | `legible` | what the reference can read |
//! | `codes` | artifacts asked for |
//!
//! Never here: who is connected with whom (`hub`), what is valid (`ingest`).

mod asking;
mod blame;
mod codes;
mod feed;
mod incoming;
mod known;
mod legible;
mod outgoing;
mod state;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use spore_base::{
    clock::unix_now,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::{Disposition, StoreEvent};
use spore_protocol::{ObjectId, SignedObject, legacy::LegacyMessage};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{broadcast, mpsc},
    task::yield_now,
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};

use self::{
    codes::Codes,
    feed::{Feed, SharedKnown, lock},
    incoming::{Came, Incoming, Received, Room, Window},
    known::Known,
    outgoing::Outgoing,
    state::{Effect, Event, Fate, Resume, State},
};
use super::{
    bans::{Consequence, Offence},
    hub::SyncMark,
    limits::{BUSY, HEARD, SESSION_TICK, SYNC_AHEAD, TURN_FRAMES},
    link::{Direction, Ended, Link, SessionCommand, SessionStats, SharedRef},
};

/// Speaks with a peer until the connection ends, and says why it did.
pub async fn run(
    stream: TcpStream,
    link: Link,
    shared: SharedRef,
    commands: mpsc::Receiver<SessionCommand>,
    shutdown: Shutdown,
) -> Ended {
    // Small messages must not wait for large ones; an error only makes them slower.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    speak(read, write, link, shared, commands, shutdown).await
}

/// As [`run`], over any two halves of a stream.
async fn speak<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    read: R,
    write: W,
    link: Link,
    shared: SharedRef,
    commands: mpsc::Receiver<SessionCommand>,
    shutdown: Shutdown,
) -> Ended {
    // Before the store's sequence is read, so that no change falls in between.
    let events = shared.events.subscribe();
    let (mut session, effects) = Session::open(read, write, link, shared);
    if let Err(ended) = session.apply(effects) {
        return ended;
    }
    let mut ticks = interval(SESSION_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut inputs = Inputs { commands, events, ticks, shutdown };
    let ended = loop {
        if let Err(ended) = session.turn(&mut inputs).await {
            break ended;
        }
    };
    session.remember();
    session.report();
    ended
}

/// A connection, with everything that it knows.
struct Session<R, W> {
    link: Link,
    shared: SharedRef,
    state: State,
    known: SharedKnown,
    incoming: Incoming<R>,
    window: Window,
    outgoing: Outgoing<W>,
    codes: Codes,
    ticked: Instant,
    received: u64,
    effects: Vec<Effect>,
}

/// What a session waits for besides its connection.
struct Inputs {
    commands: mpsc::Receiver<SessionCommand>,
    events: broadcast::Receiver<StoreEvent>,
    ticks: Interval,
    shutdown: Shutdown,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<R, W> {
    fn open(read: R, write: W, link: Link, shared: SharedRef) -> (Self, Vec<Effect>) {
        let (now, sequence) = (Instant::now(), shared.store.sequence());
        let mark = match &link.direction {
            Direction::Dialled(address) => shared.hub.sync_mark(address),
            Direction::Accepted => None,
        };
        let resume = mark.and_then(|mark| Resume::from(mark, sequence, now));
        let known = Arc::new(Mutex::new(Known::new()));
        let feed = Feed::new(known.clone(), resume.and_then(|resume| resume.log).unwrap_or(sequence));
        let (state, effects) = State::open(resume, now);
        let session = Self {
            state,
            known,
            incoming: Incoming::new(read, shared.large.clone()),
            window: Window::default(),
            outgoing: Outgoing::new(write, shared.clone(), link.remote.ip(), feed, now),
            codes: Codes::default(),
            ticked: now,
            received: 0,
            effects: Vec::new(),
            link,
            shared,
        };
        (session, effects)
    }

    /// Waits for the next thing to happen and deals with it.
    async fn turn(&mut self, inputs: &mut Inputs) -> Result<(), Ended> {
        let paused = self.incoming.paused().map(tokio::time::Instant::from_std);
        let open = self.window.is_open();
        tokio::select! {
            () = stopped(&mut inputs.shutdown) => Err(Ended::Shutdown),
            () = std::future::ready(()), if open && self.incoming.more() => self.frames().await,
            came = self.incoming.fill(), if open && self.incoming.hungry() => match came {
                Ok(true) => {
                    self.state.hear(Instant::now());
                    Ok(())
                }
                Ok(false) => Err(Ended::Closed),
                Err(error) => Err(Ended::Io(error.kind())),
            },
            decided = self.window.decided() => self.decided(decided),
            step = self.outgoing.step() => {
                step?;
                self.outgoing.drained().map_or(Ok(()), |through| self.handle(Event::Drained { through }))
            }
            // Always, or a peer that takes nothing would keep every object since in the channel's memory.
            event = inputs.events.recv() => self.news(event, inputs),
            () = sleep_until(paused.unwrap_or_else(tokio::time::Instant::now)), if paused.is_some() => {
                self.incoming.resume();
                Ok(())
            }
            command = inputs.commands.recv() => self.command(command),
            _ = inputs.ticks.tick() => self.tick(),
        }
    }

    fn news(
        &mut self,
        event: Result<StoreEvent, broadcast::error::RecvError>,
        inputs: &mut Inputs,
    ) -> Result<(), Ended> {
        if matches!(event, Err(broadcast::error::RecvError::Closed)) {
            return Err(Ended::Shutdown);
        }
        // What else is in there is seen by the one look that follows.
        inputs.events = inputs.events.resubscribe();
        self.state.busy();
        self.outgoing.wake();
        Ok(())
    }

    fn command(&mut self, command: Option<SessionCommand>) -> Result<(), Ended> {
        let Some(SessionCommand::FetchArtifact { cid, reply }) = command else { return Err(Ended::Dismissed) };
        let now = Instant::now();
        if !self.codes.want(cid, reply, now) {
            return Ok(());
        }
        let mut effects = Vec::new();
        self.state.ask_code(cid, now, &mut effects);
        self.apply(effects)
    }

    /// Deals with some frames; the others come in the next turn.
    async fn frames(&mut self) -> Result<(), Ended> {
        for _ in 0..TURN_FRAMES {
            if !self.window.is_open() || !self.incoming.more() {
                break;
            }
            let Came { received, bytes, room } = match self.incoming.next(Instant::now()).await {
                Ok(Some(came)) => came,
                Ok(None) => break,
                Err(_) => {
                    self.penalise(Offence::Oversize)?;
                    return Err(Ended::Misbehaved);
                }
            };
            if !self.received(received, room).await? {
                self.handle(Event::Idle { bytes })?;
            }
        }
        // What is known already passes without a wait, and the next bytes of a flood are always there:
        // without this one peer would keep a thread of the runtime, and whoever is on it, for seconds.
        yield_now().await;
        Ok(())
    }

    /// Deals with a frame's content. False when there was no new object in it.
    async fn received(&mut self, received: Received, room: Option<Room>) -> Result<bool, Ended> {
        match received {
            Received::Message(LegacyMessage::Object(object)) => return self.object(object, room).await,
            Received::Message(LegacyMessage::CodeResponse { cid, code }) => {
                if let Some(offence) = self.codes.came(cid, &code) {
                    self.penalise(offence)?;
                }
            }
            Received::Message(message) => self.handle(Event::Message(Box::new(message)))?,
            Received::Unknown => {}
            Received::Unreadable { kind, offence, reject } => {
                tracing::debug!(session = %self.link.id, %reject, "a frame that cannot be read");
                let misspelt = blame::may_be_misspelt(&reject, kind);
                self.handle(Event::Unreadable { kind, offence, misspelt })?;
            }
        }
        Ok(false)
    }

    /// Hands an object to `ingest`. False when the peer had sent it before.
    async fn object(&mut self, object: SignedObject, room: Option<Room>) -> Result<bool, Ended> {
        self.received += 1;
        self.handle(Event::Object {
            kind: object.kind(),
            timestamp: Some(object.timestamp()).filter(|at| *at <= unix_now().saturating_add(SYNC_AHEAD)),
            root: matches!(&object, SignedObject::Experiment(record) if record.parent.is_none()),
        })?;
        let new = lock(&self.known).hear(&object.id());
        if !new {
            return Ok(false);
        }
        self.window.submit(&self.shared.ingest, self.link.id, object, room).await.map_err(|_| Ended::Shutdown)?;
        Ok(true)
    }

    fn decided(&mut self, decided: Vec<(ObjectId, Disposition)>) -> Result<(), Ended> {
        for (id, disposition) in decided {
            let fate = match disposition {
                Disposition::Accepted => Fate::New,
                Disposition::Known => Fate::Known,
                Disposition::Pending => Fate::Waiting,
                Disposition::Rejected(reject) => {
                    tracing::debug!(session = %self.link.id, id = %id.short(), %reject, "an object is refused");
                    lock(&self.known).unhear(&id);
                    Fate::Refused(blame::of_object(&reject))
                }
                Disposition::Failed(_) => {
                    lock(&self.known).unhear(&id);
                    Fate::Lost
                }
            };
            self.handle(Event::Decided(fate))?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        let since_last = now.saturating_duration_since(std::mem::replace(&mut self.ticked, now));
        self.codes.expire(now);
        self.report();
        if !self.window.is_open() || !self.incoming.hungry() || self.incoming.waits() || since_last > BUSY {
            self.incoming.excuse(now);
        } else if self.incoming.is_late(now) {
            self.penalise(Offence::Late)?;
            return Err(Ended::TimedOut);
        }
        if self.outgoing.is_stalled(self.state.heard(), now) {
            return Err(Ended::Stalled);
        }
        self.handle(Event::Tick)
    }

    fn handle(&mut self, event: Event) -> Result<(), Ended> {
        let mut effects = std::mem::take(&mut self.effects);
        self.state.handle(event, Instant::now(), &mut effects);
        self.apply(effects)
    }

    fn apply(&mut self, mut effects: Vec<Effect>) -> Result<(), Ended> {
        for effect in effects.drain(..) {
            match effect {
                Effect::Say(answer) => self.outgoing.say(answer)?,
                Effect::Send(order) => {
                    self.state.busy();
                    self.outgoing.send(order);
                }
                Effect::Penalise(offence) => self.penalise(offence)?,
                Effect::Pause(time) => self.incoming.pause(Instant::now(), time),
                Effect::Heard(peers) => {
                    let peers = peers.iter().take(HEARD).filter_map(|peer| peer.parse().ok()).collect();
                    self.shared.hub.heard_of(self.link.remote.ip(), peers);
                }
                Effect::Without(cid) => self.codes.absent(&cid),
                Effect::Remember(mark) => self.set_mark(mark),
                Effect::Unhear => lock(&self.known).unhear_all(),
                Effect::End(ended) => return Err(ended),
            }
        }
        // The same allocation serves the next event.
        self.effects = effects;
        Ok(())
    }

    fn penalise(&self, offence: Offence) -> Result<(), Ended> {
        match self.shared.hub.penalise(&self.link, offence) {
            Consequence::Keep => Ok(()),
            Consequence::Drop => Err(Ended::Misbehaved),
        }
    }

    fn remember(&self) {
        if let Some(mark) = self.state.mark(Instant::now()) {
            self.set_mark(mark);
        }
    }

    fn set_mark(&self, mark: SyncMark) {
        if let Direction::Dialled(address) = &self.link.direction {
            self.shared.hub.set_sync_mark(address, mark);
        }
    }

    fn report(&self) {
        let stats = SessionStats { received: self.received, sent: self.outgoing.sent(), state: self.state.shown() };
        self.shared.hub.report(self.link.id, stats);
    }
}
