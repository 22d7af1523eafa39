//! What we ask a peer for: its three histories, and whether all of each came.
//!
//! Pure. The reference counts what it sends and tells it in a marker; whatever came between request
//! and marker is at least as much, or something was lost, and is asked for once more.

use std::time::Instant;

use spore_protocol::{
    Kind,
    legacy::{History, LegacyMessage},
};

use crate::limits::{SYNC_ATTEMPTS, SYNC_PATIENCE, SYNC_PATIENCE_MOST};

/// How a history's request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// Everything came.
    Complete,
    /// Less came than was sent: ask again.
    Again,
    /// Less came than was sent, again.
    Short { received: u64, count: u64 },
    /// Nobody had asked.
    Unasked,
}

/// The greatest timestamps of what came, in Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    pub records: u64,
    pub controls: u64,
    pub tasks: u64,
}

impl Reached {
    pub fn of(&self, history: History) -> u64 {
        match history {
            History::Records => self.records,
            History::Controls => self.controls,
            History::Tasks => self.tasks,
        }
    }

    fn of_mut(&mut self, history: History) -> &mut u64 {
        match history {
            History::Records => &mut self.records,
            History::Controls => &mut self.controls,
            History::Tasks => &mut self.tasks,
        }
    }
}

/// One history under way.
#[derive(Clone, Copy, Debug)]
struct Ask {
    since: u64,
    attempt: u32,
    received: u64,
}

/// The synchronisation from a peer.
#[derive(Debug)]
pub(super) struct Asking {
    asks: [Option<Ask>; 3],
    started: Instant,
    /// When something of it last came.
    progress: Instant,
    reached: Reached,
    /// Whether all of it was asked for, from time 0 on.
    full: bool,
    /// A history came short of its count, twice.
    short: bool,
    /// The wait for markers was ended.
    gave_up: bool,
    /// Whether records came in the order of their timestamps, roots aside, which may be sent ahead.
    ordered: bool,
    last: u64,
}

impl Asking {
    /// Begins, from these times on.
    pub fn start(since: Reached, now: Instant) -> (Self, Vec<LegacyMessage>) {
        let ask = |history| Some(Ask { since: since.of(history), attempt: 1, received: 0 });
        let asking = Self {
            asks: [ask(History::Records), ask(History::Controls), ask(History::Tasks)],
            started: now,
            progress: now,
            reached: Reached::default(),
            full: since == Reached::default(),
            short: false,
            gave_up: false,
            ordered: true,
            last: 0,
        };
        // Tasks first: a root is judged by its task's manifest.
        let requests = [History::Tasks, History::Records, History::Controls];
        let request = |history| LegacyMessage::SyncRequest { history, since: since.of(history) };
        (asking, requests.map(request).to_vec())
    }

    fn ask(&mut self, history: History) -> &mut Option<Ask> {
        let [records, controls, tasks] = &mut self.asks;
        match history {
            History::Records => records,
            History::Controls => controls,
            History::Tasks => tasks,
        }
    }

    /// Whether a history was asked for and has not come to its end.
    pub fn awaits(&self, history: History) -> bool {
        let [records, controls, tasks] = &self.asks;
        let ask = match history {
            History::Records => records,
            History::Controls => controls,
            History::Tasks => tasks,
        };
        ask.is_some()
    }

    /// Something of a kind came, good or bad.
    pub fn came(&mut self, kind: Kind, now: Instant) {
        let Some(history) = History::ALL.into_iter().find(|history| history.kind() == kind) else { return };
        if let Some(ask) = self.ask(history) {
            ask.received += 1;
            self.progress = now;
        }
    }

    /// A sound object came. `root`: it is a record without a parent.
    pub fn saw(&mut self, kind: Kind, timestamp: u64, root: bool) {
        let Some(history) = History::ALL.into_iter().find(|history| history.kind() == kind) else { return };
        let reached = self.reached.of_mut(history);
        *reached = timestamp.max(*reached);
        if history == History::Records && !root {
            self.ordered &= timestamp >= self.last;
            self.last = timestamp;
        }
    }

    /// The peer says that it has sent all of a history. With [`Answered::Again`] comes the request.
    pub fn marker(&mut self, history: History, count: u64, now: Instant) -> (Answered, Option<LegacyMessage>) {
        self.progress = now;
        let Some(ask) = self.ask(history) else { return (Answered::Unasked, None) };
        if ask.received >= count {
            *self.ask(history) = None;
            return (Answered::Complete, None);
        }
        if ask.attempt < SYNC_ATTEMPTS {
            *ask = Ask { attempt: ask.attempt + 1, received: 0, ..*ask };
            let since = ask.since;
            return (Answered::Again, Some(LegacyMessage::SyncRequest { history, since }));
        }
        let received = ask.received;
        *self.ask(history) = None;
        self.short = true;
        (Answered::Short { received, count }, None)
    }

    /// Ends the wait for markers when nothing has come for too long, or when it took too long in all (what
    /// is live looks like history that comes): true if it did.
    pub fn give_up(&mut self, now: Instant) -> bool {
        let since = |then| now.saturating_duration_since(then);
        let over = !self.done() && (since(self.progress) >= SYNC_PATIENCE || since(self.started) >= SYNC_PATIENCE_MOST);
        if over {
            self.asks = [None; 3];
            self.gave_up = true;
        }
        over
    }

    /// Whether nothing is awaited any more.
    pub fn done(&self) -> bool {
        self.asks.iter().all(Option::is_none)
    }

    /// Whether all that was asked for came.
    pub fn complete(&self) -> bool {
        self.done() && !self.short && !self.gave_up
    }

    pub fn is_full(&self) -> bool {
        self.full
    }

    /// How far what came reaches without a gap: all of it once complete, and before that where the
    /// records came in order (the reference sends them by depth first).
    pub fn reached(&self) -> Option<Reached> {
        if self.complete() {
            return Some(self.reached);
        }
        (self.ordered && self.last > 0 && !self.short).then_some(Reached { records: self.last, ..Reached::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asked(history: History, since: u64) -> LegacyMessage {
        LegacyMessage::SyncRequest { history, since }
    }

    #[test]
    fn what_came_is_counted_against_the_marker() {
        let now = Instant::now();
        let (mut asking, requests) = Asking::start(Reached::default(), now);
        assert_eq!(requests, [asked(History::Tasks, 0), asked(History::Records, 0), asked(History::Controls, 0)]);
        for kind in [Kind::Experiment, Kind::Experiment, Kind::Control, Kind::Profile] {
            asking.came(kind, now);
        }
        // More than was counted is complete: live objects come in between.
        assert_eq!(asking.marker(History::Records, 1, now), (Answered::Complete, None));
        assert_eq!(asking.marker(History::Controls, 1, now), (Answered::Complete, None));
        assert!(!asking.done());
        assert_eq!(asking.marker(History::Tasks, 0, now), (Answered::Complete, None));
        assert!(asking.done() && asking.complete());
        assert_eq!(asking.marker(History::Tasks, 0, now), (Answered::Unasked, None));
    }

    #[test]
    fn what_falls_short_is_asked_for_once_more() {
        let now = Instant::now();
        let since = Reached { records: 50, controls: 40, tasks: 30 };
        let (mut asking, requests) = Asking::start(since, now);
        assert_eq!(requests, [asked(History::Tasks, 30), asked(History::Records, 50), asked(History::Controls, 40)]);
        asking.came(Kind::Experiment, now);
        let again = (Answered::Again, Some(asked(History::Records, 50)));
        assert_eq!(asking.marker(History::Records, 2, now), again);
        asking.came(Kind::Experiment, now);
        assert_eq!(asking.marker(History::Records, 2, now), (Answered::Short { received: 1, count: 2 }, None));
        asking.marker(History::Controls, 0, now);
        asking.marker(History::Tasks, 0, now);
        assert!(asking.done() && !asking.complete() && !asking.is_full());
    }

    #[test]
    fn progress_keeps_the_wait_going_and_silence_ends_it() {
        let start = Instant::now();
        let (mut asking, _) = Asking::start(Reached::default(), start);
        let almost = SYNC_PATIENCE - Duration::from_millis(1);
        asking.came(Kind::Experiment, start + almost);
        assert!(!asking.give_up(start + almost + almost));
        assert!(asking.give_up(start + almost + SYNC_PATIENCE));
        assert!(asking.done() && !asking.complete());
        assert!(!asking.give_up(start + 9 * SYNC_PATIENCE));
    }

    #[test]
    fn live_objects_do_not_put_the_end_of_the_wait_off_for_ever() {
        let start = Instant::now();
        let (mut asking, _) = Asking::start(Reached::default(), start);
        let mut now = start;
        while now + SYNC_PATIENCE / 2 < start + SYNC_PATIENCE_MOST {
            now += SYNC_PATIENCE / 2;
            asking.came(Kind::Experiment, now);
            assert!(!asking.give_up(now));
        }
        asking.came(Kind::Experiment, start + SYNC_PATIENCE_MOST);
        assert!(asking.give_up(start + SYNC_PATIENCE_MOST));
    }

    #[test]
    fn an_interrupted_sync_resumes_only_where_records_came_in_order() {
        let now = Instant::now();
        let (mut asking, _) = Asking::start(Reached::default(), now);
        assert_eq!(asking.reached(), None);
        for (timestamp, root) in [(10, true), (20, false), (5, true), (30, false)] {
            asking.saw(Kind::Experiment, timestamp, root);
        }
        asking.saw(Kind::Control, 99, false);
        assert_eq!(asking.reached(), Some(Reached { records: 30, controls: 0, tasks: 0 }));
        asking.saw(Kind::Experiment, 25, false);
        assert_eq!(asking.reached(), None);
        for history in History::ALL {
            asking.marker(history, 0, now);
        }
        assert_eq!(asking.reached(), Some(Reached { records: 30, controls: 99, tasks: 0 }));
    }
}
