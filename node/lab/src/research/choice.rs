//! Chooses the record to build on: mostly one of the best, sometimes another, and another more often when progress
//! stalls.
//!
//! Pure: takes the task's records and a seed, returns a parent.

use spore_base::random::{pick, seeded, unit};
use spore_protocol::{Goal, HardwareClass, RecordId, Status, Verdict};
use spore_storage::RecordSummary;

/// Share of experiments that explore while there is progress: 70 % exploit, 30 % explore.
const EXPLORE: f64 = 0.3;
/// The share that explores when there is no progress for a long time.
const EXPLORE_MOST: f64 = 0.7;
/// Experiments without a new best after which the share is half-way between the two.
const STALL_HALF: f64 = 20.0;
/// The probability of each frontier record, relative to the next better one.
const RANK_DECAY: f64 = 0.5;

/// A record that may be built on.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub id: RecordId,
    pub metric: f64,
    pub timestamp: u64,
    /// Records of the class that were built on it, whatever their status.
    pub children: usize,
    pub on_frontier: bool,
}

/// The parent for the next experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    pub parent: RecordId,
    /// The parent was chosen to explore, not because it is the best.
    pub explore: bool,
}

/// The records of a class that may be built on: kept records of the task's own tree whose verdict is not rejected.
pub fn candidates(class: &HardwareClass, records: &[RecordSummary]) -> Vec<Candidate> {
    let mut children = std::collections::HashMap::<RecordId, usize>::new();
    for parent in of_class(class, records).filter_map(|r| r.parent) {
        *children.entry(parent).or_default() += 1;
    }
    of_class(class, records)
        .filter(|r| r.status == Status::Keep && r.verdict != Verdict::Rejected)
        .map(|r| Candidate {
            id: r.id,
            metric: r.metric,
            timestamp: r.timestamp,
            children: children.get(&r.id).copied().unwrap_or_default(),
            on_frontier: r.on_frontier,
        })
        .collect()
}

/// The number of experiments of the class since the last new best, in the order of `records`.
pub fn stalled(goal: Goal, class: &HardwareClass, records: &[RecordSummary]) -> usize {
    let (mut best, mut since) = (None, 0);
    for record in of_class(class, records) {
        let better = record.status == Status::Keep && best.is_none_or(|best| goal.better(record.metric, best));
        since = if better { 0 } else { since + 1 };
        if better {
            best = Some(record.metric);
        }
    }
    since
}

/// The share of experiments that explore after `stalled` experiments without a new best.
pub fn explore_share(stalled: usize) -> f64 {
    let stalled = stalled as f64;
    EXPLORE + (EXPLORE_MOST - EXPLORE) * stalled / (stalled + STALL_HALF)
}

/// Chooses a parent. None when there is no candidate.
///
/// Exploiting takes a frontier record; each one is half as likely as the next better one. Exploring takes any candidate;
/// newer ones and ones with fewer children are more likely.
pub fn choose(goal: Goal, candidates: &[Candidate], stalled: usize, seed: u64) -> Option<Pick> {
    let mut rng = seeded(seed);
    let mut frontier: Vec<_> = candidates.iter().filter(|c| c.on_frontier).collect();
    frontier.sort_by(|a, b| goal.order(a.metric, b.metric).then(a.id.cmp(&b.id)));
    let explore = unit(&mut rng) < explore_share(stalled) || frontier.is_empty();
    let mut ranked: Vec<_> = if explore { candidates.iter().collect() } else { frontier };
    if explore {
        ranked.sort_by_key(|c| (std::cmp::Reverse(c.timestamp), c.id));
    }
    let ranked: Vec<_> = ranked.into_iter().enumerate().collect();
    let weight = |(rank, candidate): &(usize, &Candidate)| {
        if explore {
            1.0 / ((1 + rank) as f64).sqrt() / (1 + candidate.children) as f64
        } else {
            RANK_DECAY.powi(i32::try_from(*rank).unwrap_or(i32::MAX))
        }
    };
    let chosen = pick(&ranked, weight, &mut rng).map(|(_, candidate)| candidate);
    chosen.map(|candidate| Pick { parent: candidate.id, explore })
}

fn of_class<'a>(class: &'a HardwareClass, records: &'a [RecordSummary]) -> impl Iterator<Item = &'a RecordSummary> {
    records.iter().filter(move |r| r.class == *class && !r.stray)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: u8, metric: f64, children: usize, on_frontier: bool) -> Candidate {
        Candidate { id: RecordId([id; 32]), metric, timestamp: id.into(), children, on_frontier }
    }

    /// How often each id is chosen in 2000 draws, and how often to explore.
    fn draw(candidates: &[Candidate], stalled: usize) -> ([usize; 256], usize) {
        let (mut counts, mut explored) = ([0; 256], 0);
        for seed in 0..2000 {
            let pick = choose(Goal::Minimize, candidates, stalled, seed).unwrap();
            counts[usize::from(pick.parent.0[0])] += 1;
            explored += usize::from(pick.explore);
        }
        (counts, explored)
    }

    #[test]
    fn best_of_the_frontier_is_chosen_most() {
        let candidates = [candidate(1, 3.0, 5, false), candidate(2, 2.0, 0, true), candidate(3, 2.5, 0, true)];
        let (counts, explored) = draw(&candidates, 0);
        assert!((500..700).contains(&explored), "{explored} of 2000 explore");
        assert!(counts[2] > counts[3] && counts[3] > counts[1] && counts[1] > 0, "{:?}", &counts[..4]);
        let maximize =
            (0..500).filter(|s| choose(Goal::Maximize, &candidates, 0, *s).unwrap().parent.0[0] == 3).count();
        assert!(maximize > 250, "{maximize}");
    }

    #[test]
    fn exploration_grows_while_progress_stalls_and_never_takes_all() {
        assert!((explore_share(0) - 0.3).abs() < 1e-9);
        assert!((explore_share(20) - 0.5).abs() < 1e-9);
        assert!(explore_share(1_000_000) < 0.7 + 1e-9);
        let candidates = [candidate(1, 3.0, 0, false), candidate(2, 2.0, 0, true)];
        assert!(draw(&candidates, 200).1 > draw(&candidates, 0).1 + 400);
    }

    #[test]
    fn exploring_prefers_records_with_few_children() {
        let candidates = [candidate(1, 3.0, 0, false), candidate(2, 3.0, 40, false)];
        let (counts, _) = draw(&candidates, 0);
        assert!(counts[1] > 5 * counts[2], "{:?}", &counts[..3]);
    }

    #[test]
    fn same_seed_makes_the_same_choice_and_no_candidates_make_none() {
        let candidates = [candidate(1, 3.0, 0, true), candidate(2, 2.0, 0, true)];
        for seed in 0..50 {
            assert_eq!(choose(Goal::Minimize, &candidates, 3, seed), choose(Goal::Minimize, &candidates, 3, seed));
        }
        assert_eq!(choose(Goal::Minimize, &[], 0, 1), None);
    }
}
