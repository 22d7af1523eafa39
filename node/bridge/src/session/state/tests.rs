//! The decisions of a session, event by event. Each test has its own clock.

use super::*;
use crate::limits::{IDLE_BURST, REFUSED_FRAMES, SYNC_PATIENCE};

/// A session's state with its clock.
struct Scenario {
    machine: SessionMachine,
    now: Instant,
}

const SECOND: Duration = Duration::from_secs(1);

fn request(history: History, since: u64) -> SessionEffect {
    SessionEffect::say(LegacyMessage::SyncRequest { history, since })
}

fn ping() -> SessionEffect {
    SessionEffect::say(LegacyMessage::Ping)
}

fn mark(records: u64, through: u64, now: Instant) -> SyncMark {
    SyncMark { records, controls: 0, tasks: 0, at: now, full: now, through }
}

impl Scenario {
    fn open() -> Self {
        let now = Instant::now();
        Self { machine: SessionMachine::open(None, now).0, now }
    }

    fn handle(&mut self, event: SessionEvent) -> Vec<SessionEffect> {
        let mut effects = Vec::new();
        self.machine.handle(event, self.now, &mut effects);
        effects
    }

    fn hear(&mut self, message: LegacyMessage) -> Vec<SessionEffect> {
        self.machine.bytes_came(self.now);
        self.handle(SessionEvent::Message(Box::new(message)))
    }

    fn object(&mut self, kind: Kind, timestamp: u64) -> Vec<SessionEffect> {
        self.handle(SessionEvent::Object { kind, timestamp: Some(timestamp), root: false })
    }

    /// The peer sends the markers of its three histories.
    fn markers(&mut self, records: u64) -> Vec<SessionEffect> {
        let mut effects = Vec::new();
        for (history, count) in [(History::Tasks, 0), (History::Records, records), (History::Controls, 0)] {
            effects.extend(self.hear(LegacyMessage::SyncResponse { history, since: 0, count }));
        }
        effects
    }

    /// Lets seconds pass, with a tick in each.
    fn pass(&mut self, seconds: u64) -> Vec<SessionEffect> {
        let mut effects = Vec::new();
        for _ in 0..seconds {
            self.now += SECOND;
            effects.extend(self.handle(SessionEvent::Tick));
        }
        effects
    }
}

#[test]
fn first_connection_asks_for_peers_and_for_everything() {
    let (_, effects) = SessionMachine::open(None, Instant::now());
    let pex = SessionEffect::say(LegacyMessage::PexRequest);
    let all = [request(History::Tasks, 0), request(History::Records, 0), request(History::Controls, 0)];
    assert_eq!(effects, [vec![pex], all.to_vec()].concat());
}

#[test]
fn later_connection_asks_from_a_day_before_and_follows_the_log() {
    let now = Instant::now();
    let resume = ResumePoint::from(mark(SYNC_OVERLAP + 70, 500, now), 600, now).unwrap();
    assert_eq!(resume.log, Some(500));
    let (machine, effects) = SessionMachine::open(Some(resume), now);
    assert!(effects.contains(&request(History::Records, 70)));
    let mut scenario = Scenario { machine, now };
    scenario.markers(0);
    let effects = scenario.pass(60);
    assert!(!effects.contains(&SessionEffect::Deliver(Delivery::Offer)), "the change log holds what the peer lacks");
}

#[test]
fn old_mark_and_distant_log_are_no_points_to_resume_from() {
    let now = Instant::now();
    assert_eq!(ResumePoint::from(mark(9, 5, now), 5, now + FULL_SYNC_AFTER), None);
    let log = |through, sequence| ResumePoint::from(mark(9, through, now), sequence, now).unwrap().log;
    assert_eq!(log(5, 5 + LOG_RESUME), Some(5));
    assert_eq!(log(5, 6 + LOG_RESUME), None);
    assert_eq!(log(0, 3), None, "nothing was confirmed");
    assert_eq!(log(7, 6), None, "the mark is of another store");
}

#[test]
fn peer_that_asks_is_answered_and_offered_nothing() {
    let mut scenario = Scenario::open();
    let answer = |history| SessionEffect::Deliver(Delivery::History { history, since: 3 });
    assert_eq!(
        scenario.hear(LegacyMessage::SyncRequest { history: History::Records, since: 3 }),
        [answer(History::Records)]
    );
    let tasks = LegacyMessage::SyncRequest { history: History::Tasks, since: 3 };
    assert_eq!(scenario.hear(tasks.clone()), [answer(History::Tasks), SessionEffect::Deliver(Delivery::Profiles)]);
    assert_eq!(scenario.hear(tasks), [answer(History::Tasks)], "profiles are sent once");
    scenario.markers(0);
    assert!(!scenario.pass(30).contains(&SessionEffect::Deliver(Delivery::Offer)));
}

#[test]
fn peer_that_does_not_ask_is_offered_once_its_own_history_is_here() {
    let mut scenario = Scenario::open();
    assert_eq!(scenario.pass(20), [], "its history is still coming");
    scenario.object(Kind::Experiment, 7);
    scenario.markers(1);
    assert_eq!(
        scenario.pass(20),
        [SessionEffect::Deliver(Delivery::Offer), SessionEffect::Deliver(Delivery::Profiles)]
    );
    // A peer that asks late is answered all the same.
    let late = LegacyMessage::SyncRequest { history: History::Records, since: 0 };
    assert_eq!(scenario.hear(late).len(), 1);
}

#[test]
fn peer_that_sends_no_history_is_offered_ours_in_the_end() {
    let mut scenario = Scenario::open();
    for _ in 0..SYNC_PATIENCE.as_secs() / 10 {
        scenario.machine.bytes_came(scenario.now);
        assert!(!scenario.pass(10).contains(&SessionEffect::Deliver(Delivery::Offer)) || scenario.machine.sync.done());
    }
    assert!(scenario.machine.informed);
}

#[test]
fn next_connection_resumes_from_the_last_answered_ping() {
    let mut scenario = Scenario::open();
    scenario.object(Kind::Experiment, 7);
    let remembered = scenario.markers(1);
    assert!(matches!(remembered.last(), Some(SessionEffect::Remember(mark)) if mark.records == 7 && mark.through == 0));
    scenario.pass(4);
    scenario.handle(SessionEvent::Drained { through: 12 });
    assert_eq!(scenario.pass(1), [ping()]);
    scenario.handle(SessionEvent::Drained { through: 15 });
    let effects = scenario.hear(LegacyMessage::Pong);
    assert!(
        matches!(effects[..], [SessionEffect::Remember(mark)] if mark.through == 12),
        "changes after the ping are not confirmed"
    );
    assert_eq!(scenario.pass(CONFIRM_INTERVAL.as_secs()), [ping()]);
    let effects = scenario.hear(LegacyMessage::Pong);
    assert!(matches!(effects[..], [SessionEffect::Remember(mark)] if mark.through == 15));
    assert_eq!(scenario.pass(20), [], "everything is confirmed");
}

#[test]
fn missing_parent_makes_the_session_ask_for_everything_again() {
    let mut scenario = Scenario::open();
    scenario.handle(SessionEvent::Decided(ObjectFate::Pending));
    scenario.markers(0);
    let requests = |effects: &[SessionEffect]| effects.iter().filter(|e| **e == request(History::Records, 0)).count();
    let quietly = |scenario: &mut Scenario| {
        let mut effects = Vec::new();
        for _ in 0..SYNC_AGAIN_AFTER.as_secs() / 10 + 1 {
            scenario.machine.bytes_came(scenario.now);
            effects.extend(scenario.pass(10));
        }
        effects
    };
    assert_eq!(requests(&quietly(&mut scenario)), 0, "a parent that comes with the history is not missing");
    scenario.handle(SessionEvent::Decided(ObjectFate::Pending));
    assert_eq!(requests(&quietly(&mut scenario)), 1);
    scenario.markers(0);
    scenario.handle(SessionEvent::Decided(ObjectFate::Lost));
    assert_eq!(requests(&quietly(&mut scenario)), 1);
}

#[test]
fn silent_peer_is_pinged_and_then_dropped() {
    let mut scenario = Scenario::open();
    scenario.markers(0);
    scenario.handle(SessionEvent::Drained { through: 0 });
    let effects = scenario.pass(PING_AFTER.as_secs());
    assert!(effects.contains(&ping()));
    let effects = scenario.pass(SILENCE.as_secs());
    assert!(effects.contains(&SessionEffect::End(SessionEnd::TimedOut)));
    assert!(effects.iter().filter(|effect| **effect == ping()).count() < PINGS);
}

#[test]
fn answered_ping_after_a_request_means_that_the_artifact_is_absent() {
    let mut scenario = Scenario::open();
    let cid = Cid::of(b"x");
    let mut effects = Vec::new();
    scenario.machine.ask_artifact(cid, scenario.now, &mut effects);
    let asked = SessionEffect::say(LegacyMessage::CodeRequest(Some(cid)));
    assert_eq!(effects, [asked, ping()]);
    assert_eq!(scenario.hear(LegacyMessage::Pong), [SessionEffect::ArtifactAbsent(cid)]);
    assert_eq!(scenario.hear(LegacyMessage::Pong), [], "the peer sent a pong unasked");
}

#[test]
fn peer_that_sends_nothing_new_is_read_more_slowly_and_not_penalised() {
    let mut scenario = Scenario::open();
    let free = (0..).take_while(|_| scenario.handle(SessionEvent::Idle { bytes: 0 }).is_empty()).count();
    assert_eq!(free as f64, IDLE_BURST);
    assert!(matches!(scenario.handle(SessionEvent::Decided(ObjectFate::Known))[..], [SessionEffect::Pause(_)]));
    assert_eq!(scenario.handle(SessionEvent::Decided(ObjectFate::New)), []);
    let mut scenario = Scenario::open();
    let large = (0..).take_while(|_| scenario.handle(SessionEvent::Idle { bytes: 10 << 20 }).is_empty()).count();
    assert!(large < 100, "large frames count for more: {large}");
    let mut scenario = Scenario::open();
    let refused = || SessionEvent::Decided(ObjectFate::Refused(Offence::Refused));
    let verified = (0..).take_while(|_| scenario.handle(refused()).len() == 1).count();
    assert_eq!(verified as f64, IDLE_BURST / REFUSED_FRAMES, "an object that had to be verified counts for more");
}

#[test]
fn unreadable_objects_are_penalised_and_count_as_received() {
    let mut scenario = Scenario::open();
    let offence = Offence::Refused;
    let unreadable = SessionEvent::Unreadable { kind: Some(Kind::Experiment), offence, misspelt: false };
    assert_eq!(scenario.handle(unreadable), [SessionEffect::Penalise(offence)]);
    scenario.markers(1);
    assert!(scenario.machine.sync.complete());
    assert_eq!(
        scenario.handle(SessionEvent::Decided(ObjectFate::Refused(Offence::Forged))),
        [SessionEffect::Penalise(Offence::Forged)]
    );
}

#[test]
fn record_misspelt_by_a_database_is_no_forgery_in_a_requested_history() {
    let mut scenario = Scenario::open();
    let misspelt =
        || SessionEvent::Unreadable { kind: Some(Kind::Experiment), offence: Offence::Forged, misspelt: true };
    let free = (0..).take_while(|_| scenario.handle(misspelt()) == [SessionEffect::Penalise(Offence::Refused)]).count();
    assert_eq!(free as f64, IDLE_BURST / REFUSED_FRAMES, "each one is hashed in every spelling");
    scenario.markers(1);
    assert_eq!(
        scenario.handle(misspelt()),
        [SessionEffect::Penalise(Offence::Forged)],
        "a reference checks new objects before it relays them"
    );
}

#[test]
fn peer_of_objects_without_room_is_read_more_slowly_and_not_penalised() {
    let mut scenario = Scenario::open();
    scenario.object(Kind::Experiment, 7);
    let mut effects = Vec::new();
    for _ in 0..10_000 {
        effects.extend(scenario.handle(SessionEvent::Decided(ObjectFate::Later)));
    }
    assert!(effects.iter().any(|effect| matches!(effect, SessionEffect::Pause(_))));
    assert!(!effects.iter().any(|effect| matches!(effect, SessionEffect::Penalise(_) | SessionEffect::End(_))));
    assert_eq!(scenario.machine.mark(scenario.now), None, "the objects are asked for again");
}

#[test]
fn synchronisation_that_lost_an_object_is_not_remembered_as_complete() {
    let mut scenario = Scenario::open();
    scenario.object(Kind::Experiment, 7);
    let remembered = |effects: Vec<SessionEffect>| {
        effects
            .into_iter()
            .find_map(|effect| if let SessionEffect::Remember(mark) = effect { Some(mark) } else { None })
    };
    let forgotten = remembered(scenario.handle(SessionEvent::Decided(ObjectFate::Lost))).unwrap();
    assert_eq!((forgotten.records, forgotten.through), (0, 0));
    assert_eq!(remembered(scenario.markers(1)), None);
    assert_eq!(scenario.machine.mark(scenario.now), None, "nor when the connection ends");
    let mut effects = Vec::new();
    for _ in 0..SYNC_AGAIN_AFTER.as_secs() / 10 + 1 {
        scenario.machine.bytes_came(scenario.now);
        effects.extend(scenario.pass(10));
    }
    let forgotten_at = effects.iter().position(|effect| *effect == SessionEffect::ForgetReceived);
    let asked = effects.iter().position(|effect| *effect == request(History::Records, 0));
    assert!(
        forgotten_at.is_some() && forgotten_at < asked,
        "otherwise objects that come again would be ignored as known"
    );
    assert_eq!(remembered(scenario.markers(0)).map(|mark| mark.records), Some(0));
}
