//! The decisions, event by event, with the tests' own clock.

use super::*;
use crate::limits::{DUPLICATE_BURST, REFUSED_FRAMES, SYNC_PATIENCE};

/// A state with its clock, and what followed.
struct Played {
    state: State,
    now: Instant,
}

const SECOND: Duration = Duration::from_secs(1);

fn request(history: History, since: u64) -> Effect {
    Effect::say(LegacyMessage::SyncRequest { history, since })
}

fn ping() -> Effect {
    Effect::say(LegacyMessage::Ping)
}

fn mark(records: u64, through: u64, now: Instant) -> SyncMark {
    SyncMark { records, controls: 0, tasks: 0, at: now, full: now, through }
}

impl Played {
    fn open() -> Self {
        let now = Instant::now();
        Self { state: State::open(None, now).0, now }
    }

    fn play(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.state.handle(event, self.now, &mut effects);
        effects
    }

    fn hear(&mut self, message: LegacyMessage) -> Vec<Effect> {
        self.state.hear(self.now);
        self.play(Event::Message(Box::new(message)))
    }

    fn object(&mut self, kind: Kind, timestamp: u64) -> Vec<Effect> {
        self.play(Event::Object { kind, timestamp: Some(timestamp), root: false })
    }

    /// The peer ends its three histories.
    fn markers(&mut self, records: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (history, count) in [(History::Tasks, 0), (History::Records, records), (History::Controls, 0)] {
            effects.extend(self.hear(LegacyMessage::SyncResponse { history, since: 0, count }));
        }
        effects
    }

    /// Seconds pass, with a tick in each.
    fn pass(&mut self, seconds: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..seconds {
            self.now += SECOND;
            effects.extend(self.play(Event::Tick));
        }
        effects
    }
}

#[test]
fn a_first_connection_asks_for_peers_and_for_everything() {
    let (_, effects) = State::open(None, Instant::now());
    let pex = Effect::say(LegacyMessage::PexRequest);
    let all = [request(History::Tasks, 0), request(History::Records, 0), request(History::Controls, 0)];
    assert_eq!(effects, [vec![pex], all.to_vec()].concat());
}

#[test]
fn a_later_connection_asks_from_a_day_before_and_follows_the_log() {
    let now = Instant::now();
    let resume = Resume::from(mark(SYNC_OVERLAP + 70, 500, now), 600, now).unwrap();
    assert_eq!(resume.log, Some(500));
    let (state, effects) = State::open(Some(resume), now);
    assert!(effects.contains(&request(History::Records, 70)));
    let mut played = Played { state, now };
    played.markers(0);
    let effects = played.pass(60);
    assert!(!effects.contains(&Effect::Send(Order::Offer)), "the log tells what it lacks");
}

#[test]
fn old_marks_and_far_logs_are_not_gone_on_from() {
    let now = Instant::now();
    assert_eq!(Resume::from(mark(9, 5, now), 5, now + FULL_SYNC_AFTER), None);
    let log = |through, sequence| Resume::from(mark(9, through, now), sequence, now).unwrap().log;
    assert_eq!(log(5, 5 + LOG_RESUME), Some(5));
    assert_eq!(log(5, 6 + LOG_RESUME), None);
    assert_eq!(log(0, 3), None, "nothing was confirmed");
    assert_eq!(log(7, 6), None, "the mark of another store");
}

#[test]
fn a_peer_that_asks_is_answered_and_not_offered_anything() {
    let mut played = Played::open();
    let answer = |history| Effect::Send(Order::Answer { history, since: 3 });
    assert_eq!(
        played.hear(LegacyMessage::SyncRequest { history: History::Records, since: 3 }),
        [answer(History::Records)]
    );
    let tasks = LegacyMessage::SyncRequest { history: History::Tasks, since: 3 };
    assert_eq!(played.hear(tasks.clone()), [answer(History::Tasks), Effect::Send(Order::Profiles)]);
    assert_eq!(played.hear(tasks), [answer(History::Tasks)], "profiles go once");
    played.markers(0);
    assert!(!played.pass(30).contains(&Effect::Send(Order::Offer)));
}

#[test]
fn a_peer_that_does_not_ask_is_offered_once_its_own_history_is_here() {
    let mut played = Played::open();
    assert_eq!(played.pass(20), [], "its history is still coming");
    played.object(Kind::Experiment, 7);
    played.markers(1);
    assert_eq!(played.pass(20), [Effect::Send(Order::Offer), Effect::Send(Order::Profiles)]);
    // One that asks late is answered all the same.
    let late = LegacyMessage::SyncRequest { history: History::Records, since: 0 };
    assert_eq!(played.hear(late).len(), 1);
}

#[test]
fn a_peer_that_sends_no_history_is_offered_ours_in_the_end() {
    let mut played = Played::open();
    for _ in 0..SYNC_PATIENCE.as_secs() / 10 {
        played.state.hear(played.now);
        assert!(!played.pass(10).contains(&Effect::Send(Order::Offer)) || played.state.asking.done());
    }
    assert!(played.state.informing);
}

#[test]
fn the_next_connection_goes_on_from_the_last_answered_ping() {
    let mut played = Played::open();
    played.object(Kind::Experiment, 7);
    let remembered = played.markers(1);
    assert!(matches!(remembered.last(), Some(Effect::Remember(mark)) if mark.records == 7 && mark.through == 0));
    played.pass(4);
    played.play(Event::Drained { through: 12 });
    assert_eq!(played.pass(1), [ping()]);
    played.play(Event::Drained { through: 15 });
    let effects = played.hear(LegacyMessage::Pong);
    assert!(matches!(effects[..], [Effect::Remember(mark)] if mark.through == 12), "what came after is not confirmed");
    assert_eq!(played.pass(CONFIRM_INTERVAL.as_secs()), [ping()]);
    let effects = played.hear(LegacyMessage::Pong);
    assert!(matches!(effects[..], [Effect::Remember(mark)] if mark.through == 15));
    assert_eq!(played.pass(20), [], "all is confirmed");
}

#[test]
fn what_is_missing_is_asked_for_again_after_a_while() {
    let mut played = Played::open();
    played.play(Event::Decided(Fate::Waiting));
    played.markers(0);
    let requests = |effects: &[Effect]| effects.iter().filter(|e| **e == request(History::Records, 0)).count();
    let quietly = |played: &mut Played| {
        let mut effects = Vec::new();
        for _ in 0..SYNC_AGAIN_AFTER.as_secs() / 10 + 1 {
            played.state.hear(played.now);
            effects.extend(played.pass(10));
        }
        effects
    };
    assert_eq!(requests(&quietly(&mut played)), 0, "a parent that came with everything else is not missing");
    played.play(Event::Decided(Fate::Waiting));
    assert_eq!(requests(&quietly(&mut played)), 1);
    played.markers(0);
    played.play(Event::Decided(Fate::Lost));
    assert_eq!(requests(&quietly(&mut played)), 1);
}

#[test]
fn a_silent_peer_is_pinged_and_then_dropped() {
    let mut played = Played::open();
    played.markers(0);
    played.play(Event::Drained { through: 0 });
    let effects = played.pass(PING_AFTER.as_secs());
    assert!(effects.contains(&ping()));
    let effects = played.pass(SILENCE.as_secs());
    assert!(effects.contains(&Effect::End(Ended::TimedOut)));
    assert!(effects.iter().filter(|effect| **effect == ping()).count() < PINGS);
}

#[test]
fn a_ping_behind_a_request_tells_that_the_peer_has_no_such_artifact() {
    let mut played = Played::open();
    let cid = Cid::of(b"x");
    let mut effects = Vec::new();
    played.state.ask_code(cid, played.now, &mut effects);
    let asked = Effect::say(LegacyMessage::CodeRequest(Some(cid)));
    assert_eq!(effects, [asked, ping()]);
    assert_eq!(played.hear(LegacyMessage::Pong), [Effect::Without(cid)]);
    assert_eq!(played.hear(LegacyMessage::Pong), [], "a pong that nobody asked for");
}

#[test]
fn what_is_nothing_new_slows_a_peer_down_and_costs_nothing_else() {
    let mut played = Played::open();
    let free = (0..).take_while(|_| played.play(Event::Idle { bytes: 0 }).is_empty()).count();
    assert_eq!(free as f64, DUPLICATE_BURST);
    assert!(matches!(played.play(Event::Decided(Fate::Known))[..], [Effect::Pause(_)]));
    assert_eq!(played.play(Event::Decided(Fate::New)), []);
    let mut played = Played::open();
    let large = (0..).take_while(|_| played.play(Event::Idle { bytes: 10 << 20 }).is_empty()).count();
    assert!(large < 100, "large frames count for more: {large}");
    let mut played = Played::open();
    let refused = || Event::Decided(Fate::Refused(Offence::Refused));
    let verified = (0..).take_while(|_| played.play(refused()).len() == 1).count();
    assert_eq!(verified as f64, DUPLICATE_BURST / REFUSED_FRAMES, "what had to be verified counts for more");
}

#[test]
fn offences_are_passed_on_and_still_count_as_having_come() {
    let mut played = Played::open();
    let offence = Offence::Refused;
    let unreadable = Event::Unreadable { kind: Some(Kind::Experiment), offence, misspelt: false };
    assert_eq!(played.play(unreadable), [Effect::Penalise(offence)]);
    played.markers(1);
    assert!(played.state.asking.complete());
    assert_eq!(played.play(Event::Decided(Fate::Refused(Offence::Forged))), [Effect::Penalise(Offence::Forged)]);
}

#[test]
fn what_a_database_misspelt_is_no_forgery_in_the_history_that_was_asked_for() {
    let mut played = Played::open();
    let misspelt = || Event::Unreadable { kind: Some(Kind::Experiment), offence: Offence::Forged, misspelt: true };
    let free = (0..).take_while(|_| played.play(misspelt()) == [Effect::Penalise(Offence::Refused)]).count();
    assert_eq!(free as f64, DUPLICATE_BURST / REFUSED_FRAMES, "it is hashed in every spelling");
    played.markers(1);
    assert_eq!(played.play(misspelt()), [Effect::Penalise(Offence::Forged)], "live objects are checked before");
}

#[test]
fn a_synchronisation_that_lost_something_is_not_remembered_as_complete() {
    let mut played = Played::open();
    played.object(Kind::Experiment, 7);
    let remembered = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|effect| if let Effect::Remember(mark) = effect { Some(mark) } else { None })
    };
    let forgotten = remembered(played.play(Event::Decided(Fate::Lost))).unwrap();
    assert_eq!((forgotten.records, forgotten.through), (0, 0));
    assert_eq!(remembered(played.markers(1)), None);
    assert_eq!(played.state.mark(played.now), None, "nor when the connection ends");
    let mut effects = Vec::new();
    for _ in 0..SYNC_AGAIN_AFTER.as_secs() / 10 + 1 {
        played.state.hear(played.now);
        effects.extend(played.pass(10));
    }
    let unheard = effects.iter().position(|effect| *effect == Effect::Unhear);
    let asked = effects.iter().position(|effect| *effect == request(History::Records, 0));
    assert!(unheard.is_some() && unheard < asked, "or what comes again would be passed over as known");
    assert_eq!(remembered(played.markers(0)).map(|mark| mark.records), Some(0));
}
