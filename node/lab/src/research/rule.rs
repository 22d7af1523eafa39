//! The rule for a keep: a result is progress only when it is better than its parent by more than the noise of their runs.
//!
//! One run of each script decides when the difference is larger than chance brings in one case of a hundred. A smaller
//! gain is repeated with other seeds, of both scripts, while the result is among the best. The runs with the seed of the
//! records do not count then: that seed chose the result, so its luck is in it. Pure: results in, the next step out.

use std::collections::BTreeMap;

use spore_protocol::{
    Goal,
    noise::{BELIEVABLE_P, Gain, Noise, improvement},
};

/// Pairs of repeats after which a gain may be believed early.
const EARLY: usize = 4;
/// The probability of chance below which it is: small, so that two looks together bring few false keeps.
const EARLY_P: f64 = 0.002;
/// Pairs of repeats after which a result without any gain is given up.
const GIVE_UP: usize = 2;
/// Most pairs of repeats of one result. They cost twice as many runs, of which the parent's serve its other children.
pub const REPEATS_MOST: u64 = 8;
/// Results that are better than a candidate for repeats, at most: the best few decide where research goes.
const BETTER_MOST: usize = 3;

/// The script that a run is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Child,
    Parent,
}

/// What is known about a result and about what it is compared with: metrics by what is added to the task's seed. Seed 0 of
/// both is the first run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    pub child: BTreeMap<u64, f64>,
    pub parent: BTreeMap<u64, f64>,
    /// The noise of single runs, where it is known.
    pub noise: Option<Noise>,
    /// The result may be repeated.
    pub among_best: bool,
}

/// Why a result is a keep or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("better than its parent by more than noise")]
    Believable,
    #[error("not better than its parent by more than the tolerance")]
    NotBetter,
    #[error("within noise, and not among the best results")]
    NotAmongBest,
    #[error("within noise after repeats with other seeds")]
    WithinNoise,
    #[error("better with its first seed only")]
    Lucky,
    #[error("a script fails with another seed")]
    Fails,
}

/// The decision about a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ruling {
    pub why: Why,
    /// The gain that decided. None where the noise is not known.
    pub gain: Option<Gain>,
}

impl Ruling {
    pub fn is_keep(&self) -> bool {
        self.why == Why::Believable
    }
}

/// The next step towards a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    Ruled(Ruling),
    /// Run this script with this number added to the task's seed.
    Run(Side, u64),
}

/// The next step. `tolerance`: as of the hardware class; a smaller gain could not be told from an honest re-run.
pub fn next(evidence: &Evidence, goal: Goal, tolerance: f64) -> Next {
    let ruled = |why, gain| Next::Ruled(Ruling { why, gain });
    let (Some(child), Some(parent)) = (evidence.child.get(&0), evidence.parent.get(&0)) else {
        return ruled(Why::Fails, None);
    };
    let single = evidence.noise.map(|noise| Gain::single(goal, *child, *parent, &noise));
    let enough = |gain: &Gain, p| gain.gain > tolerance && gain.is_believable(p);
    if improvement(goal, *child, *parent) <= tolerance || !child.is_finite() {
        return ruled(Why::NotBetter, single);
    }
    if single.is_some_and(|gain| enough(&gain, BELIEVABLE_P)) {
        return ruled(Why::Believable, single);
    }
    if !evidence.among_best {
        return ruled(Why::NotAmongBest, single);
    }
    let pairs = evidence.pairs();
    let paired = Gain::paired(goal, &pairs);
    let sum: f64 = pairs.iter().map(|(child, parent)| improvement(goal, *child, *parent)).sum();
    if pairs.len() >= GIVE_UP && sum <= 0.0 {
        return ruled(Why::Lucky, paired.or(single));
    }
    if pairs.len() == EARLY && paired.is_some_and(|gain| enough(&gain, EARLY_P)) {
        return ruled(Why::Believable, paired);
    }
    match evidence.wanted() {
        Some((side, seed)) => Next::Run(side, seed),
        None if paired.is_some_and(|gain| enough(&gain, BELIEVABLE_P)) => ruled(Why::Believable, paired),
        None => ruled(Why::WithinNoise, paired),
    }
}

impl Evidence {
    /// The results of both scripts with each seed but the first. A seed with which both have no result is left out.
    fn pairs(&self) -> Vec<(f64, f64)> {
        let fresh = self.child.range(1..=REPEATS_MOST);
        fresh.filter_map(|(seed, child)| Some((*child, *self.parent.get(seed)?))).collect()
    }

    /// The run that makes the next pair. The parent's comes second: the child's may end the matter.
    fn wanted(&self) -> Option<(Side, u64)> {
        (1..=REPEATS_MOST).find_map(|seed| {
            let side = match (self.child.contains_key(&seed), self.parent.contains_key(&seed)) {
                (false, _) => Side::Child,
                (true, false) => Side::Parent,
                (true, true) => return None,
            };
            Some((side, seed))
        })
    }

    /// The next step towards a decision where the author of the result chose the number of runs. The first one counts,
    /// too: no result chose this script.
    pub fn next_of(&self, runs: u64, goal: Goal, tolerance: f64) -> Next {
        let missing = |results: &BTreeMap<u64, f64>| (0..runs).find(|seed| !results.contains_key(seed));
        if let Some(seed) = missing(&self.child) {
            return Next::Run(Side::Child, seed);
        }
        if let Some(seed) = missing(&self.parent) {
            return Next::Run(Side::Parent, seed);
        }
        let pairs: Vec<_> =
            self.child.range(..runs).filter_map(|(seed, child)| Some((*child, *self.parent.get(seed)?))).collect();
        let single = || Some(Gain::single(goal, pairs.first()?.0, pairs.first()?.1, &self.noise?));
        let gain = Gain::paired(goal, &pairs).or_else(single);
        let why = match gain {
            Some(gain) if gain.gain <= tolerance => Why::NotBetter,
            Some(gain) if gain.is_believable(BELIEVABLE_P) => Why::Believable,
            _ => Why::WithinNoise,
        };
        Next::Ruled(Ruling { why, gain })
    }

    /// Takes the result of a run.
    pub fn add(&mut self, side: Side, seed: u64, result: f64) {
        let results = match side {
            Side::Child => &mut self.child,
            Side::Parent => &mut self.parent,
        };
        results.insert(seed, result);
    }
}

/// Whether a result is among the best of its class, of which `keeps` are the metrics.
pub fn is_among_best(goal: Goal, metric: f64, keeps: impl Iterator<Item = f64>) -> bool {
    keeps.filter(|keep| goal.better(*keep, metric)).take(BETTER_MOST + 1).count() <= BETTER_MOST
}

#[cfg(test)]
mod tests;
