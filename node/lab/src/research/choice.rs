//! Chooses the record to build on: mostly one of the best, sometimes another, and another more often when progress
//! stalls. Now and then a claim, which is measured before anything is built on it.
//!
//! Pure: takes candidates and a seed, returns a parent.

use std::collections::{HashMap, HashSet};

use spore_base::random::{Rng, pick, seeded, unit};
use spore_protocol::{Goal, NodeId, RecordId, Status, Verdict};
use spore_storage::RecordSummary;

/// Share of experiments that explore while there is progress: 70 % exploit, 30 % explore.
const EXPLORE: f64 = 0.3;
/// The share that explores when there is no progress for a long time.
const EXPLORE_MOST: f64 = 0.7;
/// Experiments without a new best after which the share is half-way between the two.
const STALL_HALF: f64 = 20.0;
/// Experiments without a new best after which another task is worked on, and after which research rests. With the widest
/// search, as many experiments have tried most of what the built-in proposer can change.
const SWITCH_AFTER: usize = 100;
const REST_AFTER: usize = 200;
/// The probability of each frontier record, relative to the next better one.
const RANK_DECAY: f64 = 0.5;
/// Share of picks that are claims. Each costs a re-run, which a false claim wastes.
const CLAIMS: f64 = 0.1;
/// Share of these that are of publishers with weight, where there are such. However many new keys claim something, the
/// claims of known publishers are looked at.
const CLAIMS_OF_WEIGHTY: f64 = 0.5;
/// A claim is implausible when it is better than the best result that holds by more than this share of it. Known
/// single steps, such as from 64 to 128 units or to a good optimiser, gain 5 to 15 % at these budgets. A greater step
/// is left to verification, which looks at all claims.
const PLAUSIBLE_GAIN: f64 = 0.2;

/// A record that may be built on: this node's own, or one that holds here.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub id: RecordId,
    pub metric: f64,
    /// The order of arrival here. Dates are the publishers'.
    pub sequence: u64,
    /// Candidates and other believed records of the class that were built on it.
    pub children: usize,
    pub on_frontier: bool,
    /// This node ran the script itself.
    pub measured: bool,
}

/// A record that neither holds nor is rejected here, and that this node has not measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub id: RecordId,
    /// The publisher has weight in the class.
    pub weighty: bool,
}

/// The parent for the next experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    pub parent: RecordId,
    /// The parent was chosen to explore, not because it is the best.
    pub explore: bool,
}

/// Whether this node takes a record's result for true: its own, unless rejected, and what holds here.
pub fn is_believed(record: &RecordSummary, us: NodeId) -> bool {
    !record.stray
        && record.flaw.is_none()
        && record.verdict != Verdict::Rejected
        && (record.node_id == us || record.verdict.holds())
}

/// The believed records that may be built on: the keeps. Of each publisher one of `unmeasured` is among them, its best:
/// each costs a re-run before anything is built on it, and however many hold, one publisher takes one such re-run.
pub fn candidates(goal: Goal, believed: &[RecordSummary], unmeasured: &HashSet<RecordId>) -> Vec<Candidate> {
    let mut children = HashMap::<RecordId, usize>::new();
    for parent in believed.iter().filter_map(|r| r.parent) {
        *children.entry(parent).or_default() += 1;
    }
    let mut foremost = HashMap::<NodeId, &RecordSummary>::new();
    for record in believed.iter().filter(|r| r.status == Status::Keep && unmeasured.contains(&r.id)) {
        let best = foremost.entry(record.node_id).or_insert(record);
        if goal.order(record.metric, best.metric).is_lt() {
            *best = record;
        }
    }
    let fit = |r: &RecordSummary| {
        !unmeasured.contains(&r.id) || foremost.get(&r.node_id).is_some_and(|foremost| foremost.id == r.id)
    };
    let keeps = believed.iter().filter(|r| r.status == Status::Keep && fit(r));
    let candidate = |r: &RecordSummary| Candidate {
        id: r.id,
        metric: r.metric,
        sequence: r.sequence,
        children: children.get(&r.id).copied().unwrap_or_default(),
        on_frontier: r.on_frontier,
        measured: !unmeasured.contains(&r.id),
    };
    keeps.map(candidate).collect()
}

/// One claim of each publisher: the first in the order of `records` that is plausible. `best`: the best result that
/// holds. `weighty`: publishers with weight in the class.
pub fn claims(goal: Goal, best: f64, records: &[RecordSummary], weighty: &HashSet<NodeId>) -> Vec<Claim> {
    let mut seen = HashSet::new();
    let plausible = records.iter().filter(|r| is_plausible(goal, r.metric, best));
    let first = plausible.filter(|r| seen.insert(r.node_id));
    first.map(|r| Claim { id: r.id, weighty: weighty.contains(&r.node_id) }).collect()
}

/// Whether a claim is not much better than the best result that holds.
fn is_plausible(goal: Goal, claim: f64, best: f64) -> bool {
    let gain = match goal {
        Goal::Minimize => best - claim,
        Goal::Maximize => claim - best,
    };
    gain <= PLAUSIBLE_GAIN * best.abs()
}

/// The number of believed experiments since the best result arrived. All of them, if it arrived before them.
pub fn stalled(best: Option<&RecordSummary>, believed: &[RecordSummary]) -> usize {
    believed.iter().filter(|r| best.is_none_or(|best| r.sequence > best.sequence)).count()
}

/// The share of experiments that explore after `stalled` experiments without a new best.
pub fn explore_share(stalled: usize) -> f64 {
    let stalled = stalled as f64;
    EXPLORE + (EXPLORE_MOST - EXPLORE) * stalled / (stalled + STALL_HALF)
}

/// Whether there is progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plateau {
    Progress,
    /// Another task is better, where there is one.
    Switch,
    /// The device is better left idle most of the time, if there is no other task.
    Rest,
}

/// What follows from `stalled` experiments without a new best.
pub const fn plateau(stalled: usize) -> Plateau {
    match stalled {
        0..SWITCH_AFTER => Plateau::Progress,
        SWITCH_AFTER..REST_AFTER => Plateau::Switch,
        _ => Plateau::Rest,
    }
}

/// Chooses a parent. None when there is no candidate.
///
/// Exploiting takes a frontier record; each one is half as likely as the next better one. Exploring takes any candidate;
/// newer ones and ones with fewer children are more likely. A tenth of the picks are claims, each as likely as another.
/// Before all that, the best of the frontier is chosen while this node has not measured it, because its re-run tells
/// whether anything is worth building on the others: a lucky or false result costs one run, and no child.
pub fn choose(goal: Goal, candidates: &[Candidate], claims: &[Claim], stalled: usize, seed: u64) -> Option<Pick> {
    let mut rng = seeded(seed);
    if candidates.is_empty() {
        return None;
    }
    let mut frontier: Vec<_> = candidates.iter().filter(|c| c.on_frontier).collect();
    frontier.sort_by(|a, b| goal.order(a.metric, b.metric).then(a.id.cmp(&b.id)));
    if let Some(best) = frontier.first().filter(|best| !best.measured) {
        return Some(Pick { parent: best.id, explore: false });
    }
    if unit(&mut rng) < CLAIMS
        && let Some(claim) = claimed(claims, &mut rng)
    {
        return Some(Pick { parent: claim, explore: true });
    }
    let explore = unit(&mut rng) < explore_share(stalled) || frontier.is_empty();
    let mut ranked: Vec<_> = if explore { candidates.iter().collect() } else { frontier };
    if explore {
        ranked.sort_by_key(|c| (std::cmp::Reverse(c.sequence), c.id));
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

fn claimed(claims: &[Claim], rng: &mut impl Rng) -> Option<RecordId> {
    let (weighty, others): (Vec<_>, Vec<_>) = claims.iter().partition(|claim| claim.weighty);
    let from_weighty = unit(rng) < CLAIMS_OF_WEIGHTY;
    let preferred = if (from_weighty && !weighty.is_empty()) || others.is_empty() { weighty } else { others };
    pick(&preferred, |_| 1.0, rng).map(|claim| claim.id)
}

#[cfg(test)]
mod tests;
