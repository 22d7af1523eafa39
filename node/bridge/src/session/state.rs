//! The decisions of a session: what to ask the peer for and when, what to answer, when to offer it objects that it did
//! not ask for, and when it is gone.
//!
//! Pure: events and times come in, effects go out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use spore_base::standing::Offence;
use spore_protocol::{
    Cid, Kind,
    legacy::{History, LegacyMessage},
};

use super::{
    feed::Delivery,
    rate::TokenBucket,
    requests::{HistoryRequests, MarkerResult, Reached},
};
use crate::{
    hub::SyncMark,
    limits::{
        CONFIRM_INTERVAL, FULL_SYNC_AFTER, IDLE_BYTES, LOG_RESUME, OFFER_GRACE, PING_AFTER, PINGS, REFUSED_FRAMES,
        SILENCE, SYNC_AGAIN_AFTER, SYNC_OVERLAP,
    },
    link::{SessionEnd, SyncPhase},
};

/// A small message to the peer, sent in the order of the queue.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PeerAnswer {
    Message(Box<LegacyMessage>),
    /// The peers that this node dialled, as of when the answer is sent.
    Peers,
    /// An artifact, read when the answer is sent.
    Artifact(Cid),
}

/// What became of an object that the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectFate {
    New,
    Known,
    /// Its parent is not known here.
    Pending,
    Refused(Offence),
    /// There was no room for it. No offence, but the peer is read more slowly.
    Later,
    /// The store could not take it.
    Lost,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SessionEvent {
    /// A well-formed object came.
    Object {
        kind: Kind,
        /// Unix seconds. None for a timestamp that is too far in the future to mean anything.
        timestamp: Option<u64>,
        /// The object is a record without a parent.
        root: bool,
    },
    /// A frame of this many bytes brought no new object.
    Idle {
        bytes: usize,
    },
    /// A frame came that cannot be read.
    Unreadable {
        /// Kind of the object that the frame should carry.
        kind: Option<Kind>,
        offence: Offence,
        /// The database of a reference may have changed a valid object into this one (`offence`).
        misspelt: bool,
    },
    /// Any other message came.
    Message(Box<LegacyMessage>),
    /// The ingest service decided an object.
    Decided(ObjectFate),
    /// Everything was sent, up to this sequence number of the change log.
    Drained {
        through: u64,
    },
    Tick,
}

/// What the session is to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SessionEffect {
    Answer(PeerAnswer),
    Deliver(Delivery),
    Penalise(Offence),
    /// Read nothing for this long.
    Pause(Duration),
    /// The peer named these addresses.
    PeersNamed(Vec<String>),
    /// The peer does not have the artifact.
    ArtifactAbsent(Cid),
    Remember(SyncMark),
    /// Objects that the peer sent before may not have been stored: treat all of them as not sent.
    ForgetReceived,
    End(SessionEnd),
}

impl SessionEffect {
    pub fn say(message: LegacyMessage) -> Self {
        Self::Answer(PeerAnswer::Message(Box::new(message)))
    }
}

/// Why a ping was sent. The peer answers pings in their order, and each one after everything that was sent before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PingPurpose {
    /// To find out whether the peer is alive.
    Silence,
    /// The answer confirms that the peer has handled the change log up to this sequence number.
    Confirm(u64),
    /// The answer shows that the peer does not have the artifact, if it has not sent the artifact before.
    Artifact(Cid),
}

/// Where a session resumes with a peer that was connected before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResumePoint {
    mark: SyncMark,
    /// The peer has every change up to this sequence number. None when that is not known or too far back.
    pub log: Option<u64>,
}

impl ResumePoint {
    /// None when the mark is too old to rely on. `sequence`: sequence number of the store's last change.
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

/// The state of a session.
#[derive(Debug)]
pub(super) struct SessionMachine {
    sync: HistoryRequests,
    sync_started: Instant,
    /// How far earlier connections came.
    reached_before: Reached,
    /// When all of the peer's history was last asked for and came.
    full: Option<Instant>,
    /// An object is missing that counted as received: ask for everything again.
    needs_all: bool,
    opened: Instant,
    /// When bytes last came.
    heard: Instant,
    pinged: Instant,
    pings: VecDeque<PingPurpose>,
    bucket: TokenBucket,
    /// The peer asked for the records.
    peer_asked: bool,
    profiles_sent: bool,
    /// The peer has, or is being sent, all objects that this node has.
    informed: bool,
    /// Everything was sent up to this sequence number.
    drained: Option<u64>,
    /// The peer has handled everything up to this sequence number.
    confirmed: u64,
    /// When the last ping for [`PingPurpose::Confirm`] was sent.
    confirming: Option<Instant>,
}

impl SessionMachine {
    /// A session that begins, and the effects with which it begins.
    pub fn open(resume: Option<ResumePoint>, now: Instant) -> (Self, Vec<SessionEffect>) {
        let reached_before = resume.map(|resume| resume.reached()).unwrap_or_default();
        let (sync, requests) = HistoryRequests::start(overlapping(reached_before), now);
        let log = resume.and_then(|resume| resume.log);
        let machine = Self {
            sync,
            sync_started: now,
            reached_before,
            full: resume.map(|resume| resume.mark.full),
            needs_all: false,
            opened: now,
            heard: now,
            pinged: now,
            pings: VecDeque::new(),
            bucket: TokenBucket::new(now),
            peer_asked: false,
            profiles_sent: false,
            informed: log.is_some(),
            drained: None,
            confirmed: log.unwrap_or(0),
            confirming: None,
        };
        let first = std::iter::once(LegacyMessage::PexRequest).chain(requests);
        (machine, first.map(SessionEffect::say).collect())
    }

    /// Handles an event. Adds what is to be done to `effects`.
    pub fn handle(&mut self, event: SessionEvent, now: Instant, effects: &mut Vec<SessionEffect>) {
        match event {
            SessionEvent::Object { kind, timestamp, root } => {
                self.sync.object_came(kind, now);
                if let Some(timestamp) = timestamp {
                    self.sync.timestamp_came(kind, timestamp, root);
                }
            }
            SessionEvent::Idle { bytes } => {
                let tokens = 1.0 + bytes as f64 / IDLE_BYTES;
                effects.extend(self.bucket.take(tokens, now).map(SessionEffect::Pause));
            }
            SessionEvent::Unreadable { kind, offence, misspelt } => {
                kind.into_iter().for_each(|kind| self.sync.object_came(kind, now));
                if misspelt && self.sync.awaits(History::Records) {
                    self.decided(ObjectFate::Refused(Offence::Refused), now, effects);
                } else {
                    effects.push(SessionEffect::Penalise(offence));
                }
            }
            SessionEvent::Message(message) => self.message(*message, now, effects),
            SessionEvent::Decided(fate) => self.decided(fate, now, effects),
            SessionEvent::Drained { through } => self.drained = Some(through),
            SessionEvent::Tick => self.tick(now, effects),
        }
    }

    /// Bytes came from the peer.
    pub fn bytes_came(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When bytes last came.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Asks the peer for an artifact, and pings it: the peer answers the ping when it has handled the request.
    pub fn ask_artifact(&mut self, cid: Cid, now: Instant, effects: &mut Vec<SessionEffect>) {
        effects.push(SessionEffect::say(LegacyMessage::CodeRequest(Some(cid))));
        self.ping(PingPurpose::Artifact(cid), now, effects);
    }

    /// How far the exchange of histories is.
    pub fn phase(&self) -> SyncPhase {
        if self.sync.done() && self.drained.is_some() { SyncPhase::Live } else { SyncPhase::Syncing }
    }

    /// There is more to send.
    pub fn more_to_send(&mut self) {
        self.drained = None;
    }

    /// What to remember of the peer for the next connection. None when nothing can be relied on.
    pub fn mark(&self, now: Instant) -> Option<SyncMark> {
        if self.needs_all {
            return None;
        }
        let reached = self.sync.reached()?;
        let cut_short = self.sync.is_full() && !self.sync.complete();
        let full = if cut_short { now } else { self.full? };
        Some(SyncMark {
            records: reached.records.max(self.reached_before.records),
            controls: reached.controls.max(self.reached_before.controls),
            tasks: reached.tasks.max(self.reached_before.tasks),
            at: now,
            full,
            through: self.confirmed,
        })
    }

    fn message(&mut self, message: LegacyMessage, now: Instant, effects: &mut Vec<SessionEffect>) {
        match message {
            LegacyMessage::SyncRequest { history, since } => {
                self.peer_asked |= history == History::Records;
                self.informed |= history == History::Records;
                effects.push(SessionEffect::Deliver(Delivery::History { history, since }));
                if history == History::Tasks && !std::mem::replace(&mut self.profiles_sent, true) {
                    effects.push(SessionEffect::Deliver(Delivery::Profiles));
                }
            }
            LegacyMessage::SyncResponse { history, count, .. } => self.marker(history, count, now, effects),
            LegacyMessage::PexRequest => effects.push(SessionEffect::Answer(PeerAnswer::Peers)),
            LegacyMessage::PexResponse(peers) => effects.push(SessionEffect::PeersNamed(peers)),
            LegacyMessage::CodeRequest(cid) => {
                effects.extend(cid.map(|cid| SessionEffect::Answer(PeerAnswer::Artifact(cid))));
            }
            LegacyMessage::Ping => effects.push(SessionEffect::say(LegacyMessage::Pong)),
            LegacyMessage::Pong => self.pong(now, effects),
            LegacyMessage::Object(_) | LegacyMessage::CodeResponse { .. } => {}
        }
    }

    fn marker(&mut self, history: History, count: u64, now: Instant, effects: &mut Vec<SessionEffect>) {
        let (result, request) = self.sync.marker(history, count, now);
        effects.extend(request.map(SessionEffect::say));
        if let MarkerResult::Short { received, count } = result {
            tracing::info!(
                ?history,
                received,
                count,
                "a legacy peer sent fewer objects than it announced, in two attempts"
            );
        }
        if self.sync.complete() && result == MarkerResult::Complete {
            if self.sync.is_full() {
                self.full = Some(now);
            }
            effects.extend(self.mark(now).map(SessionEffect::Remember));
        }
    }

    fn pong(&mut self, now: Instant, effects: &mut Vec<SessionEffect>) {
        match self.pings.pop_front() {
            Some(PingPurpose::Confirm(through)) => {
                self.confirmed = through.max(self.confirmed);
                effects.extend(self.mark(now).map(SessionEffect::Remember));
            }
            Some(PingPurpose::Artifact(cid)) => effects.push(SessionEffect::ArtifactAbsent(cid)),
            Some(PingPurpose::Silence) | None => {}
        }
    }

    fn decided(&mut self, fate: ObjectFate, now: Instant, effects: &mut Vec<SessionEffect>) {
        match fate {
            ObjectFate::New => {}
            ObjectFate::Known => effects.extend(self.bucket.take(1.0, now).map(SessionEffect::Pause)),
            // While the whole history is coming, the parent is coming too.
            ObjectFate::Pending => self.needs_all |= self.sync.done() || !self.sync.is_full(),
            ObjectFate::Refused(offence) => {
                effects.push(SessionEffect::Penalise(offence));
                effects.extend(self.bucket.take(REFUSED_FRAMES, now).map(SessionEffect::Pause));
            }
            ObjectFate::Later | ObjectFate::Lost => {
                if fate == ObjectFate::Later {
                    effects.extend(self.bucket.take(REFUSED_FRAMES, now).map(SessionEffect::Pause));
                }
                self.needs_all = true;
                // No mark may lie beyond the lost object, not even an earlier one: the next connection asks for
                // everything.
                let nothing = SyncMark { records: 0, controls: 0, tasks: 0, at: now, full: now, through: 0 };
                effects.push(SessionEffect::Remember(nothing));
                self.reached_before = Reached::default();
            }
        }
    }

    fn tick(&mut self, now: Instant, effects: &mut Vec<SessionEffect>) {
        let since = |then: Instant| now.saturating_duration_since(then);
        if since(self.heard) >= SILENCE {
            effects.push(SessionEffect::End(SessionEnd::TimedOut));
            return;
        }
        if self.sync.give_up(now) {
            tracing::debug!("a legacy peer did not send its history to the end in time");
        }
        if self.needs_all && self.sync.done() && since(self.sync_started) >= SYNC_AGAIN_AFTER {
            self.ask_for_all(now, effects);
        }
        let may_offer = self.sync.done() && since(self.opened) >= OFFER_GRACE;
        if may_offer && !self.peer_asked && !std::mem::replace(&mut self.informed, true) {
            self.profiles_sent = true;
            effects.extend([Delivery::Offer, Delivery::Profiles].map(SessionEffect::Deliver));
        }
        if since(self.heard) >= PING_AFTER && since(self.pinged) >= PING_AFTER {
            self.ping(PingPurpose::Silence, now, effects);
        }
        if let Some(through) = self.drained.filter(|through| self.informed && *through > self.confirmed)
            && self.confirming.is_none_or(|at| since(at) >= CONFIRM_INTERVAL)
            && self.sync.done()
        {
            self.confirming = Some(now);
            self.ping(PingPurpose::Confirm(through), now, effects);
        }
    }

    fn ask_for_all(&mut self, now: Instant, effects: &mut Vec<SessionEffect>) {
        let (sync, requests) = HistoryRequests::start(Reached::default(), now);
        (self.sync, self.sync_started, self.needs_all) = (sync, now, false);
        effects.push(SessionEffect::ForgetReceived);
        effects.extend(requests.into_iter().map(SessionEffect::say));
    }

    fn ping(&mut self, purpose: PingPurpose, now: Instant, effects: &mut Vec<SessionEffect>) {
        // A peer that answers no ping gets no more of them. It is closed when it stays silent.
        if self.pings.len() < PINGS {
            self.pinged = now;
            self.pings.push_back(purpose);
            effects.push(SessionEffect::say(LegacyMessage::Ping));
        }
    }
}

/// The times from which to ask: [`SYNC_OVERLAP`] before what was reached.
fn overlapping(reached: Reached) -> Reached {
    let before = |timestamp: u64| timestamp.saturating_sub(SYNC_OVERLAP);
    Reached { records: before(reached.records), controls: before(reached.controls), tasks: before(reached.tasks) }
}

#[cfg(test)]
mod tests;
