//! Trust: how much the measurements of a signer weigh in one hardware class, in one node's view.
//!
//! Trust starts at *seeds*, the keys that the operator of a node trusts. A seed's re-run of a record
//! that somebody else published confirms or refutes the publisher, and refutes those whose
//! measurement contradicts it. Only seeds do that, so that each unit of trust costs a seed's run, and
//! so that levels follow directly from the set of objects and the seeds, whatever the order of
//! arrival. docs/verification.md says what this does not protect from.
//!
//! Nobody earns by measuring: the claim is public, so a measurement that repeats it proves no work.

use crate::{NodeId, Status, finding::Finding, subject::Subject};

/// Weight of a seed. It is more than everybody else who counts in one verdict together: 64 proven
/// signers and the claim, at 2 each.
pub const SEED_WEIGHT: u32 = 256;
/// Most seeds of a node. They must leave room for others in the
/// [window](crate::verdict::WINDOW) of a verdict.
pub const MAX_SEEDS: usize = 32;
/// Weight of a signer of level 1.
pub const PROVEN_WEIGHT: u32 = 2;
/// Weight of a signer of level 2.
pub const KNOWN_WEIGHT: u32 = 1;
/// Confirmed records, less the penalty for refuted ones, from which on a signer has level 1.
pub const PROVEN_AT: u32 = 12;
/// Confirmed records, less the penalty for refuted ones, from which on a signer has level 2. One or two
/// confirmed records may be copies or luck.
pub const KNOWN_AT: u32 = 3;
/// Confirmed records that one refuted record takes back. An honest signer stays below one refuted
/// record in ten: two honest runs of a script seldom differ by more than the tolerance.
pub const REFUTED_COSTS: u32 = 6;

/// How near a signer is to the operator's trust. Lower numbers are nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// A key that the operator trusts, and the node's own key.
    Seed,
    /// Seeds confirmed at least [`PROVEN_AT`] of its records.
    Proven,
    /// Seeds confirmed at least [`KNOWN_AT`] of its records.
    Known,
}

impl Level {
    /// 0 to 2.
    pub const fn number(self) -> u8 {
        match self {
            Self::Seed => 0,
            Self::Proven => 1,
            Self::Known => 2,
        }
    }

    pub const fn weight(self) -> u32 {
        match self {
            Self::Seed => SEED_WEIGHT,
            Self::Proven => PROVEN_WEIGHT,
            Self::Known => KNOWN_WEIGHT,
        }
    }
}

/// What seeds found about a signer's works in one class. Each record counts at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records that the signer published and seeds confirmed.
    pub confirmed: u32,
    /// Records about which the signer's claim or measurement contradicts the seeds.
    pub refuted: u32,
}

impl Counters {
    pub const fn add(&mut self, contribution: Contribution) {
        let counter = self.counter(contribution);
        *counter = counter.saturating_add(1);
    }

    /// Takes back what [`Counters::add`] did.
    pub const fn remove(&mut self, contribution: Contribution) {
        let counter = self.counter(contribution);
        *counter = counter.saturating_sub(1);
    }

    const fn counter(&mut self, contribution: Contribution) -> &mut u32 {
        match contribution {
            Contribution::Confirmed => &mut self.confirmed,
            Contribution::Refuted => &mut self.refuted,
        }
    }
}

/// A signer's place in one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// None: the signer is unknown here.
    pub level: Option<Level>,
    /// 0 without a level.
    pub weight: u32,
    pub confirmed: u32,
    pub refuted: u32,
}

impl Standing {
    pub const fn of(is_seed: bool, counters: Counters) -> Self {
        let earned = counters.confirmed.saturating_sub(counters.refuted.saturating_mul(REFUTED_COSTS));
        let level = if is_seed {
            Some(Level::Seed)
        } else if earned >= PROVEN_AT {
            Some(Level::Proven)
        } else if earned >= KNOWN_AT {
            Some(Level::Known)
        } else {
            None
        };
        let weight = match level {
            Some(level) => level.weight(),
            None => 0,
        };
        Self { level, weight, confirmed: counters.confirmed, refuted: counters.refuted }
    }
}

/// What a signer did with a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    Published,
    /// The signer's measurement, which counts by the rules of [`verdict`](crate::verdict).
    Measured(Finding),
}

/// What one record adds to the counters of one signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contribution {
    Confirmed,
    Refuted,
}

/// What a record adds to the counters of a signer that is no seed, in the record's class.
///
/// `seeds` are the findings of all seeds about the record: their measurements that count, and the
/// claim itself if a seed published it. Seeds that contradict each other judge nobody.
pub fn contribution(subject: &Subject, work: Work, seeds: &[Finding]) -> Option<Contribution> {
    if subject.status == Status::Crash {
        return None;
    }
    let holds = subject.confirms(*seeds.first()?);
    if seeds.iter().any(|seed| subject.confirms(*seed) != holds) {
        return None;
    }
    match work {
        Work::Published if holds => Some(Contribution::Confirmed),
        Work::Published => Some(Contribution::Refuted),
        Work::Measured(finding) => {
            seeds.iter().all(|seed| contradicts(subject, finding, *seed)).then_some(Contribution::Refuted)
        }
    }
}

/// Whether two findings are on different sides of the tolerance and also apart by more than the
/// tolerance. Otherwise a claim at the very edge of the tolerance would refute honest signers.
fn contradicts(subject: &Subject, a: Finding, b: Finding) -> bool {
    let apart = match (a, b) {
        (Finding::Value(a), Finding::Value(b)) => (a - b).abs() > subject.class.tolerance(),
        _ => true,
    };
    apart && subject.confirms(a) != subject.confirms(b)
}

/// The weights of the global verdict: everybody weighs as much as a proven signer.
pub const fn alike(_: &NodeId) -> u32 {
    PROVEN_WEIGHT
}

#[cfg(test)]
mod tests;
