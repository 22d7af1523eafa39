//! What this node runs and has run, shared by research and verification.
//!
//! Kept in memory: after a restart a copy may be run once more. Never here: what was measured, which the store knows.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use spore_protocol::{Cid, RecordId, TaskId};

/// Meanings of scripts that are remembered, of some 150 bytes each. A node that runs one a minute fills this in five days.
const GRAPHS: usize = 8192;
/// Missing scripts that are remembered, of some 60 bytes each. An untrusted peer can name more.
const MISSING: usize = 1024;
/// Seconds for which a script must be missing before that is published.
const MISSING_FOR: u64 = 86_400;
/// Peers that must have been asked each time.
const PEERS_ASKED: usize = 3;
/// Least times that they were asked. With the cooldown between two times it is far more often.
const TIMES_ASKED: u32 = 24;

/// What this node runs and has run. Cheap to lock: nothing waits while it is locked.
#[derive(Debug, Default)]
pub struct Works(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: HashSet<RecordId>,
    runs: HashMap<Meaning, Ran>,
    /// The keys of `runs`, the oldest first.
    order: VecDeque<Meaning>,
    missing: HashMap<Cid, Missing>,
}

/// What a run computes: a script's graph, in a task, for a number of steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Meaning {
    pub task: TaskId,
    pub graph_hash: String,
    pub steps: u64,
}

/// A record whose claim a run on this device confirmed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ran {
    /// The store's sequence number of the record: the order of arrival, which no publisher can date back.
    pub sequence: u64,
    pub metric: f64,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    /// Unix seconds.
    since: u64,
    times: u32,
}

/// A record that this node re-runs. Dropping it says that the re-run is over.
#[derive(Debug)]
pub struct Work<'a> {
    works: &'a Works,
    record: RecordId,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.works.state().running.remove(&self.record);
    }
}

impl Works {
    /// Begins to re-run a record. None while it is re-run already.
    pub fn begin(&self, record: RecordId) -> Option<Work<'_>> {
        let begins = self.state().running.insert(record);
        // Made only then, because a `Work` that is dropped ends the re-run of another.
        begins.then(|| Work { works: self, record })
    }

    /// Notes that a run on this device confirmed a record of this meaning. Of several records the first to arrive is
    /// remembered: the others may be copies of it.
    pub fn ran(&self, meaning: Meaning, ran: Ran) {
        let mut state = self.state();
        if let Some(known) = state.runs.get_mut(&meaning) {
            if ran.sequence < known.sequence {
                *known = ran;
            }
            return;
        }
        state.runs.insert(meaning.clone(), ran);
        state.order.push_back(meaning);
        while state.order.len() > GRAPHS {
            let Some(oldest) = state.order.pop_front() else { break };
            state.runs.remove(&oldest);
        }
    }

    /// Whether a record adds nothing to one that was confirmed here: it means the same, arrived later, and claims the
    /// same within `tolerance`. An original that arrives before its copies, or claims something else, is no copy.
    pub fn is_copy(&self, meaning: &Meaning, record: Ran, tolerance: f64) -> bool {
        let state = self.state();
        let copies = |ran: &Ran| record.sequence > ran.sequence && (record.metric - ran.metric).abs() <= tolerance;
        state.runs.get(meaning).is_some_and(copies)
    }

    /// Notes that a script could not be had from `peers` peers at `now` (Unix seconds). Returns whether it has been
    /// missing for so long, and from so many peers, that anybody would miss it.
    pub fn is_lost(&self, script: Cid, peers: usize, now: u64) -> bool {
        let mut state = self.state();
        if peers < PEERS_ASKED {
            return false;
        }
        if state.missing.len() >= MISSING && !state.missing.contains_key(&script) {
            // The oldest goes: a full map of scripts that nobody asks for again would keep new ones out for ever.
            let oldest = state.missing.iter().min_by_key(|(_, missing)| missing.since).map(|(cid, _)| *cid);
            oldest.map(|cid| state.missing.remove(&cid));
        }
        let missing = state.missing.entry(script).or_insert(Missing { since: now, times: 0 });
        missing.times = missing.times.saturating_add(1);
        let lost = missing.times >= TIMES_ASKED && now.saturating_sub(missing.since) >= MISSING_FOR;
        if lost {
            state.missing.remove(&script);
        }
        lost
    }

    /// Notes that a script is here.
    pub fn found(&self, script: &Cid) {
        self.state().missing.remove(script);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_rerun_once_at_a_time() {
        let works = Works::default();
        let first = works.begin(RecordId([1; 32]));
        assert!(first.is_some() && works.begin(RecordId([1; 32])).is_none());
        assert!(works.begin(RecordId([2; 32])).is_some());
        drop(first);
        assert!(works.begin(RecordId([1; 32])).is_some());
    }

    fn meaning(number: usize) -> Meaning {
        Meaning { task: TaskId([1; 32]), graph_hash: number.to_string(), steps: 50 }
    }

    #[test]
    fn oldest_meanings_are_forgotten_and_a_task_knows_only_its_own() {
        let (works, ran) = (Works::default(), Ran { sequence: 1, metric: 2.0 });
        for number in 0..=GRAPHS {
            works.ran(meaning(number), ran);
            works.ran(meaning(number), ran);
        }
        let knows = |meaning: &Meaning| works.is_copy(meaning, Ran { sequence: 2, metric: 2.0 }, 0.003);
        assert!(!knows(&meaning(0)) && knows(&meaning(1)) && knows(&meaning(GRAPHS)));
        assert!(!knows(&Meaning { task: TaskId([2; 32]), ..meaning(1) }));
        assert!(!knows(&Meaning { steps: 51, ..meaning(1) }), "fewer or more steps are another run");
    }

    #[test]
    fn copy_arrives_later_and_claims_the_same() {
        let works = Works::default();
        let copies = |sequence, metric| works.is_copy(&meaning(1), Ran { sequence, metric }, 0.003);
        works.ran(meaning(1), Ran { sequence: 10, metric: 2.0 });
        assert!(copies(11, 2.0) && copies(11, 2.002));
        assert!(!copies(9, 2.0), "an original that arrived earlier");
        assert!(!copies(10, 2.0), "the record itself");
        assert!(!copies(11, 1.9), "another claim");
        works.ran(meaning(1), Ran { sequence: 5, metric: 2.001 });
        works.ran(meaning(1), Ran { sequence: 20, metric: 2.001 });
        assert!(copies(6, 2.0) && !copies(4, 2.0), "the first to arrive is remembered");
    }

    #[test]
    fn script_is_lost_after_a_day_of_asking_three_peers() {
        let (works, script) = (Works::default(), Cid([1; 32]));
        let ask = |peers, hour: u64| works.is_lost(script, peers, 1000 + hour * 3600);
        assert!((0..30).all(|hour| !ask(2, hour)), "too few peers");
        assert!((30..54).all(|hour| !ask(3, hour)));
        assert!(ask(3, 54));
        works.found(&script);
        assert!(!ask(3, 55), "it came back, and the day begins again");
        let hasty = Cid([2; 32]);
        assert!((0..100).all(|second| !works.is_lost(hasty, 9, second)));
        assert!((0..3 * MISSING as u64).all(|n| !works.is_lost(Cid::of(&n.to_be_bytes()), 3, n)));
    }

    #[test]
    fn full_map_of_missing_scripts_forgets_the_oldest_and_those_judged_lost() {
        let works = Works::default();
        let script = |number: u64| Cid::of(&number.to_be_bytes());
        assert!((0..=MISSING as u64).all(|n| !works.is_lost(script(n), 3, n)));
        let knows = |number| works.state().missing.contains_key(&script(number));
        assert!(!knows(0) && knows(1) && knows(MISSING as u64));
        assert!((1..=24).any(|hour| works.is_lost(script(1), 3, 1 + hour * 3600)));
        assert!(!knows(1), "judged lost");
    }
}
