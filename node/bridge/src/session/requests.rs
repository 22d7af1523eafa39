//! The requests for the peer's three histories, and whether all of each one came.
//!
//! Pure. The reference counts the objects that it sends and gives the count in a marker at the end. At least as many
//! objects must have come between the request and the marker. If fewer came, some were lost, and the history is asked
//! for once more.

use std::time::Instant;

use spore_protocol::{
    Kind,
    legacy::{History, LegacyMessage},
};

use crate::limits::{SYNC_ATTEMPTS, SYNC_PATIENCE, SYNC_PATIENCE_MOST};

/// What a marker says of the history that it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkerResult {
    /// Everything came.
    Complete,
    /// Fewer objects came than were sent: the history is asked for again.
    AskAgain,
    /// Fewer objects came than were sent, for the second time.
    Short { received: u64, count: u64 },
    /// The history was not asked for.
    Unasked,
}

/// The greatest timestamps of the objects that came, in Unix seconds.
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

/// The request for one history.
#[derive(Clone, Copy, Debug)]
struct HistoryRequest {
    since: u64,
    attempt: u32,
    received: u64,
}

/// One synchronisation from the peer: the requests for all three histories.
#[derive(Debug)]
pub(super) struct HistoryRequests {
    /// None for a history whose marker came, or that is no longer waited for.
    open: [Option<HistoryRequest>; 3],
    started: Instant,
    /// When something of the histories last came.
    progress: Instant,
    reached: Reached,
    /// Everything was asked for, from time 0 on.
    full: bool,
    /// A history had fewer objects than its count, twice.
    short: bool,
    /// The markers did not come in time.
    gave_up: bool,
    /// Records came in the order of their timestamps, except roots, which may be sent ahead.
    ordered: bool,
    /// Timestamp of the last record.
    last: u64,
}

impl HistoryRequests {
    /// Asks for all three histories from these times on. Returns the messages to send.
    pub fn start(since: Reached, now: Instant) -> (Self, Vec<LegacyMessage>) {
        let request = |history| Some(HistoryRequest { since: since.of(history), attempt: 1, received: 0 });
        let requests = Self {
            open: [request(History::Records), request(History::Controls), request(History::Tasks)],
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
        let order = [History::Tasks, History::Records, History::Controls];
        let message = |history| LegacyMessage::SyncRequest { history, since: since.of(history) };
        (requests, order.map(message).to_vec())
    }

    fn open(&mut self, history: History) -> &mut Option<HistoryRequest> {
        let [records, controls, tasks] = &mut self.open;
        match history {
            History::Records => records,
            History::Controls => controls,
            History::Tasks => tasks,
        }
    }

    /// Whether a history was asked for and its marker has not come.
    pub fn awaits(&self, history: History) -> bool {
        let [records, controls, tasks] = &self.open;
        let request = match history {
            History::Records => records,
            History::Controls => controls,
            History::Tasks => tasks,
        };
        request.is_some()
    }

    /// An object of this kind came, valid or not.
    pub fn object_came(&mut self, kind: Kind, now: Instant) {
        let Some(history) = History::ALL.into_iter().find(|history| history.kind() == kind) else { return };
        if let Some(request) = self.open(history) {
            request.received += 1;
            self.progress = now;
        }
    }

    /// A well-formed object with this timestamp came. `root`: it is a record without a parent.
    pub fn timestamp_came(&mut self, kind: Kind, timestamp: u64, root: bool) {
        let Some(history) = History::ALL.into_iter().find(|history| history.kind() == kind) else { return };
        let reached = self.reached.of_mut(history);
        *reached = timestamp.max(*reached);
        if history == History::Records && !root {
            self.ordered &= timestamp >= self.last;
            self.last = timestamp;
        }
    }

    /// The marker of a history came: the peer sent `count` objects. With [`MarkerResult::AskAgain`] comes the message
    /// to send.
    pub fn marker(&mut self, history: History, count: u64, now: Instant) -> (MarkerResult, Option<LegacyMessage>) {
        self.progress = now;
        let Some(request) = self.open(history) else { return (MarkerResult::Unasked, None) };
        if request.received >= count {
            *self.open(history) = None;
            return (MarkerResult::Complete, None);
        }
        if request.attempt < SYNC_ATTEMPTS {
            *request = HistoryRequest { attempt: request.attempt + 1, received: 0, ..*request };
            let since = request.since;
            return (MarkerResult::AskAgain, Some(LegacyMessage::SyncRequest { history, since }));
        }
        let received = request.received;
        *self.open(history) = None;
        self.short = true;
        (MarkerResult::Short { received, count }, None)
    }

    /// Stops waiting for markers when nothing has come for too long, or when the synchronisation takes too long in all:
    /// new objects cannot be told from a history that is still coming. True when it stopped now.
    pub fn give_up(&mut self, now: Instant) -> bool {
        let since = |then| now.saturating_duration_since(then);
        let over = !self.done() && (since(self.progress) >= SYNC_PATIENCE || since(self.started) >= SYNC_PATIENCE_MOST);
        if over {
            self.open = [None; 3];
            self.gave_up = true;
        }
        over
    }

    /// Whether no marker is waited for.
    pub fn done(&self) -> bool {
        self.open.iter().all(Option::is_none)
    }

    /// Whether everything that was asked for came.
    pub fn complete(&self) -> bool {
        self.done() && !self.short && !self.gave_up
    }

    /// Whether everything was asked for, from time 0 on.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Up to which times everything came. After a complete synchronisation these are the greatest timestamps. Before
    /// that, only records count, and only when they came in the order of their timestamps: the reference sends them
    /// by depth.
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
    fn received_objects_are_counted_against_the_marker() {
        let now = Instant::now();
        let (mut sync, requests) = HistoryRequests::start(Reached::default(), now);
        assert_eq!(requests, [asked(History::Tasks, 0), asked(History::Records, 0), asked(History::Controls, 0)]);
        for kind in [Kind::Experiment, Kind::Experiment, Kind::Control, Kind::Profile] {
            sync.object_came(kind, now);
        }
        // More objects than the count are complete: new objects come in between.
        assert_eq!(sync.marker(History::Records, 1, now), (MarkerResult::Complete, None));
        assert_eq!(sync.marker(History::Controls, 1, now), (MarkerResult::Complete, None));
        assert!(!sync.done());
        assert_eq!(sync.marker(History::Tasks, 0, now), (MarkerResult::Complete, None));
        assert!(sync.done() && sync.complete());
        assert_eq!(sync.marker(History::Tasks, 0, now), (MarkerResult::Unasked, None));
    }

    #[test]
    fn history_that_falls_short_is_asked_for_once_more() {
        let now = Instant::now();
        let since = Reached { records: 50, controls: 40, tasks: 30 };
        let (mut sync, requests) = HistoryRequests::start(since, now);
        assert_eq!(requests, [asked(History::Tasks, 30), asked(History::Records, 50), asked(History::Controls, 40)]);
        sync.object_came(Kind::Experiment, now);
        let again = (MarkerResult::AskAgain, Some(asked(History::Records, 50)));
        assert_eq!(sync.marker(History::Records, 2, now), again);
        sync.object_came(Kind::Experiment, now);
        assert_eq!(sync.marker(History::Records, 2, now), (MarkerResult::Short { received: 1, count: 2 }, None));
        sync.marker(History::Controls, 0, now);
        sync.marker(History::Tasks, 0, now);
        assert!(sync.done() && !sync.complete() && !sync.is_full());
    }

    #[test]
    fn progress_keeps_the_wait_going_and_silence_ends_it() {
        let start = Instant::now();
        let (mut sync, _) = HistoryRequests::start(Reached::default(), start);
        let almost = SYNC_PATIENCE - Duration::from_millis(1);
        sync.object_came(Kind::Experiment, start + almost);
        assert!(!sync.give_up(start + almost + almost));
        assert!(sync.give_up(start + almost + SYNC_PATIENCE));
        assert!(sync.done() && !sync.complete());
        assert!(!sync.give_up(start + 9 * SYNC_PATIENCE));
    }

    #[test]
    fn new_objects_do_not_prolong_the_wait_for_ever() {
        let start = Instant::now();
        let (mut sync, _) = HistoryRequests::start(Reached::default(), start);
        let mut now = start;
        while now + SYNC_PATIENCE / 2 < start + SYNC_PATIENCE_MOST {
            now += SYNC_PATIENCE / 2;
            sync.object_came(Kind::Experiment, now);
            assert!(!sync.give_up(now));
        }
        sync.object_came(Kind::Experiment, start + SYNC_PATIENCE_MOST);
        assert!(sync.give_up(start + SYNC_PATIENCE_MOST));
    }

    #[test]
    fn interrupted_sync_resumes_only_where_records_came_in_order() {
        let now = Instant::now();
        let (mut sync, _) = HistoryRequests::start(Reached::default(), now);
        assert_eq!(sync.reached(), None);
        for (timestamp, root) in [(10, true), (20, false), (5, true), (30, false)] {
            sync.timestamp_came(Kind::Experiment, timestamp, root);
        }
        sync.timestamp_came(Kind::Control, 99, false);
        assert_eq!(sync.reached(), Some(Reached { records: 30, controls: 0, tasks: 0 }));
        sync.timestamp_came(Kind::Experiment, 25, false);
        assert_eq!(sync.reached(), None);
        for history in History::ALL {
            sync.marker(history, 0, now);
        }
        assert_eq!(sync.reached(), Some(Reached { records: 30, controls: 99, tasks: 0 }));
    }
}
