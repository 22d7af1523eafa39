//! A session's decisions: what to ask the peer for and when, what to answer, when to offer it what it
//! did not ask for, and when it is gone. Pure: events and times come in, effects go out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use spore_protocol::{
    Cid, Kind,
    legacy::{History, LegacyMessage},
};

use super::{
    asking::{Answered, Asking, Reached},
    feed::Order,
    known::TokenBucket,
};
use crate::{
    bans::Offence,
    hub::SyncMark,
    limits::{
        CONFIRM_INTERVAL, FULL_SYNC_AFTER, IDLE_BYTES, LOG_RESUME, OFFER_GRACE, PING_AFTER, PINGS, REFUSED_FRAMES,
        SILENCE, SYNC_AGAIN_AFTER, SYNC_OVERLAP,
    },
    link::{Ended, SessionState},
};

/// Something small to say, in its turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Message(Box<LegacyMessage>),
    /// The peers that we dialled, as of when it is sent.
    Peers,
    /// An artifact, which is read when it is sent.
    Code(Cid),
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    New,
    Known,
    /// Its parent is not here.
    Waiting,
    Refused(Offence),
    /// The store could not take it.
    Lost,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// A well-formed object came.
    Object {
        kind: Kind,
        /// Unix seconds; none where it is too far in the future to mean anything.
        timestamp: Option<u64>,
        /// A record without a parent.
        root: bool,
    },
    /// A frame of so many bytes brought no new object.
    Idle {
        bytes: usize,
    },
    /// A frame came that cannot be read.
    Unreadable {
        /// Of the object that was to be in it.
        kind: Option<Kind>,
        offence: Offence,
        /// It may have been sound before it lay in a reference's database (`blame`).
        misspelt: bool,
    },
    /// Any other message.
    Message(Box<LegacyMessage>),
    Decided(Fate),
    /// Everything there was to send is sent, up to this change of the log.
    Drained {
        through: u64,
    },
    Tick,
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    Say(Answer),
    Send(Order),
    Penalise(Offence),
    /// Read nothing for so long.
    Pause(Duration),
    /// The peer told of these addresses.
    Heard(Vec<String>),
    /// The peer does not have the artifact.
    Without(Cid),
    Remember(SyncMark),
    /// What the peer sent before may not have stayed here: take it as if it had not been sent.
    Unhear,
    End(Ended),
}

impl Effect {
    pub fn say(message: LegacyMessage) -> Self {
        Self::Say(Answer::Message(Box::new(message)))
    }
}

/// What a ping was for. They are answered in the order in which they were sent, after everything that
/// was sent before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    Alive,
    /// The peer has dealt with the log up to here.
    Through(u64),
    /// Whoever has the artifact has sent it by now.
    Code(Cid),
}

/// Where a session with a peer that was connected before goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resume {
    mark: SyncMark,
    /// The peer has everything up to this change.
    pub log: Option<u64>,
}

impl Resume {
    /// None when the mark is too old to rely on. `sequence`: the store's last change.
    pub fn from(mark: SyncMark, sequence: u64, now: Instant) -> Option<Self> {
        if now.saturating_duration_since(mark.full) >= FULL_SYNC_AFTER {
            return None;
        }
        let near = mark.through > 0 && sequence.checked_sub(mark.through).is_some_and(|since| since <= LOG_RESUME);
        Some(Self { mark, log: near.then_some(mark.through) })
    }

    fn reached(&self) -> Reached {
        Reached { records: self.mark.records, controls: self.mark.controls, tasks: self.mark.tasks }
    }
}

/// A session's state.
#[derive(Debug)]
pub(super) struct State {
    asking: Asking,
    asked_at: Instant,
    /// Reached by earlier connections.
    base: Reached,
    /// When all of the peer's history was last asked for and came.
    full: Option<Instant>,
    wants_all: bool,
    opened: Instant,
    heard: Instant,
    pinged: Instant,
    pings: VecDeque<Ping>,
    bucket: TokenBucket,
    peer_asked: bool,
    told_profiles: bool,
    /// The peer has, or is being sent, all that we have.
    informing: bool,
    /// All was sent up to this change.
    drained: Option<u64>,
    /// The peer has dealt with everything up to this change.
    confirmed: u64,
    confirming: Option<Instant>,
}

impl State {
    /// A session that begins, and what it says first.
    pub fn open(resume: Option<Resume>, now: Instant) -> (Self, Vec<Effect>) {
        let base = resume.map(|resume| resume.reached()).unwrap_or_default();
        let (asking, requests) = Asking::start(overlapping(base), now);
        let log = resume.and_then(|resume| resume.log);
        let state = Self {
            asking,
            asked_at: now,
            base,
            full: resume.map(|resume| resume.mark.full),
            wants_all: false,
            opened: now,
            heard: now,
            pinged: now,
            pings: VecDeque::new(),
            bucket: TokenBucket::new(now),
            peer_asked: false,
            told_profiles: false,
            informing: log.is_some(),
            drained: None,
            confirmed: log.unwrap_or(0),
            confirming: None,
        };
        let first = std::iter::once(LegacyMessage::PexRequest).chain(requests);
        (state, first.map(Effect::say).collect())
    }

    /// Takes an event in.
    pub fn handle(&mut self, event: Event, now: Instant, effects: &mut Vec<Effect>) {
        match event {
            Event::Object { kind, timestamp, root } => {
                self.asking.came(kind, now);
                if let Some(timestamp) = timestamp {
                    self.asking.saw(kind, timestamp, root);
                }
            }
            Event::Idle { bytes } => {
                let tokens = 1.0 + bytes as f64 / IDLE_BYTES;
                effects.extend(self.bucket.take(tokens, now).map(Effect::Pause));
            }
            Event::Unreadable { kind, offence, misspelt } => {
                kind.into_iter().for_each(|kind| self.asking.came(kind, now));
                if misspelt && self.asking.awaits(History::Records) {
                    self.decided(Fate::Refused(Offence::Refused), now, effects);
                } else {
                    effects.push(Effect::Penalise(offence));
                }
            }
            Event::Message(message) => {
                self.message(*message, now, effects);
            }
            Event::Decided(fate) => self.decided(fate, now, effects),
            Event::Drained { through } => self.drained = Some(through),
            Event::Tick => self.tick(now, effects),
        }
    }

    /// Bytes came from the peer.
    pub fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When bytes last came.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Asks for an artifact. The ping behind it is answered when the peer has dealt with the request.
    pub fn ask_code(&mut self, cid: Cid, now: Instant, effects: &mut Vec<Effect>) {
        effects.push(Effect::say(LegacyMessage::CodeRequest(Some(cid))));
        self.ping(Ping::Code(cid), now, effects);
    }

    /// For people.
    pub fn shown(&self) -> SessionState {
        if self.asking.done() && self.drained.is_some() { SessionState::Live } else { SessionState::Syncing }
    }

    /// More is to be sent.
    pub fn busy(&mut self) {
        self.drained = None;
    }

    /// What to remember of the peer for the next connection.
    pub fn mark(&self, now: Instant) -> Option<SyncMark> {
        // Something is missing that was counted as having come.
        if self.wants_all {
            return None;
        }
        let reached = self.asking.reached()?;
        let cut_short = self.asking.is_full() && !self.asking.complete();
        let full = if cut_short { now } else { self.full? };
        Some(SyncMark {
            records: reached.records.max(self.base.records),
            controls: reached.controls.max(self.base.controls),
            tasks: reached.tasks.max(self.base.tasks),
            at: now,
            full,
            through: self.confirmed,
        })
    }

    fn message(&mut self, message: LegacyMessage, now: Instant, effects: &mut Vec<Effect>) {
        match message {
            LegacyMessage::SyncRequest { history, since } => {
                self.peer_asked |= history == History::Records;
                self.informing |= history == History::Records;
                effects.push(Effect::Send(Order::Answer { history, since }));
                if history == History::Tasks && !std::mem::replace(&mut self.told_profiles, true) {
                    effects.push(Effect::Send(Order::Profiles));
                }
            }
            LegacyMessage::SyncResponse { history, count, .. } => self.marker(history, count, now, effects),
            LegacyMessage::PexRequest => effects.push(Effect::Say(Answer::Peers)),
            LegacyMessage::PexResponse(peers) => effects.push(Effect::Heard(peers)),
            LegacyMessage::CodeRequest(cid) => effects.extend(cid.map(|cid| Effect::Say(Answer::Code(cid)))),
            LegacyMessage::Ping => effects.push(Effect::say(LegacyMessage::Pong)),
            LegacyMessage::Pong => self.pong(now, effects),
            LegacyMessage::Object(_) | LegacyMessage::CodeResponse { .. } => {}
        }
    }

    fn marker(&mut self, history: History, count: u64, now: Instant, effects: &mut Vec<Effect>) {
        let (answered, again) = self.asking.marker(history, count, now);
        effects.extend(again.map(Effect::say));
        if let Answered::Short { received, count } = answered {
            tracing::info!(?history, received, count, "a peer sent less of its history than it counted, twice");
        }
        if self.asking.complete() && answered == Answered::Complete {
            if self.asking.is_full() {
                self.full = Some(now);
            }
            effects.extend(self.mark(now).map(Effect::Remember));
        }
    }

    fn pong(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.pings.pop_front() {
            Some(Ping::Through(through)) => {
                self.confirmed = through.max(self.confirmed);
                effects.extend(self.mark(now).map(Effect::Remember));
            }
            Some(Ping::Code(cid)) => effects.push(Effect::Without(cid)),
            Some(Ping::Alive) | None => {}
        }
    }

    fn decided(&mut self, fate: Fate, now: Instant, effects: &mut Vec<Effect>) {
        match fate {
            Fate::New => {}
            Fate::Known => effects.extend(self.bucket.take(1.0, now).map(Effect::Pause)),
            // While everything is on its way, the parent is too.
            Fate::Waiting => self.wants_all |= self.asking.done() || !self.asking.is_full(),
            Fate::Refused(offence) => {
                effects.push(Effect::Penalise(offence));
                effects.extend(self.bucket.take(REFUSED_FRAMES, now).map(Effect::Pause));
            }
            Fate::Lost => {
                self.wants_all = true;
                // No mark goes past what is lost, an earlier one neither: the next connection asks for all.
                let nothing = SyncMark { records: 0, controls: 0, tasks: 0, at: now, full: now, through: 0 };
                effects.push(Effect::Remember(nothing));
                self.base = Reached::default();
            }
        }
    }

    fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let since = |then: Instant| now.saturating_duration_since(then);
        if since(self.heard) >= SILENCE {
            effects.push(Effect::End(Ended::TimedOut));
            return;
        }
        if self.asking.give_up(now) {
            tracing::debug!("a peer does not send its history to the end");
        }
        if self.wants_all && self.asking.done() && since(self.asked_at) >= SYNC_AGAIN_AFTER {
            self.ask_for_all(now, effects);
        }
        let in_turn = self.asking.done() && since(self.opened) >= OFFER_GRACE;
        if in_turn && !self.peer_asked && !std::mem::replace(&mut self.informing, true) {
            self.told_profiles = true;
            effects.extend([Effect::Send(Order::Offer), Effect::Send(Order::Profiles)]);
        }
        if since(self.heard) >= PING_AFTER && since(self.pinged) >= PING_AFTER {
            self.ping(Ping::Alive, now, effects);
        }
        if let Some(through) = self.drained.filter(|through| self.informing && *through > self.confirmed)
            && self.confirming.is_none_or(|at| since(at) >= CONFIRM_INTERVAL)
            && self.asking.done()
        {
            self.confirming = Some(now);
            self.ping(Ping::Through(through), now, effects);
        }
    }

    fn ask_for_all(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let (asking, requests) = Asking::start(Reached::default(), now);
        (self.asking, self.asked_at, self.wants_all) = (asking, now, false);
        effects.push(Effect::Unhear);
        effects.extend(requests.into_iter().map(Effect::say));
    }

    fn ping(&mut self, ping: Ping, now: Instant, effects: &mut Vec<Effect>) {
        // A peer that answers no ping is silent, and closed for that; so no more are sent.
        if self.pings.len() < PINGS {
            self.pinged = now;
            self.pings.push_back(ping);
            effects.push(Effect::say(LegacyMessage::Ping));
        }
    }
}

/// A day before what was reached.
fn overlapping(reached: Reached) -> Reached {
    let before = |timestamp: u64| timestamp.saturating_sub(SYNC_OVERLAP);
    Reached { records: before(reached.records), controls: before(reached.controls), tasks: before(reached.tasks) }
}

#[cfg(test)]
mod tests;
