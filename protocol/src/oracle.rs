//! Test oracles: the rules by their plain definition, over all objects at once.
//!
//! Nodes do not call these functions. They keep the same results up to date with each new object,
//! and tests compare what they keep with what these functions compute.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    EventId, Finding, Goal, HardwareClass, Measurement, NodeId, ObjectId, Record, RecordId, Reject, Status, Verdict,
    frame::{HEADER_BYTES, MAX_BODY_BYTES},
    frontier::{FrontierKind, FrontierRecord},
    measurement::rank,
    reputation::{DatedDeed, LIMITS},
    subject::Subject,
    trust::Counters,
};

/// One listing of a task, best record first, ties by (timestamp, id). It shares no code with
/// [`beats`](crate::frontier::beats), which it checks.
pub fn frontier(goal: Goal, kind: &FrontierKind, records: &[FrontierRecord]) -> Vec<FrontierRecord> {
    let on_list = |record: &FrontierRecord| match kind {
        FrontierKind::Reference => true,
        FrontierKind::Local(class) => record.comparable && record.class == *class && record.local.holds(),
        FrontierKind::Global(class) => record.comparable && record.class == *class && record.global.holds(),
        FrontierKind::Claims(class) => {
            record.comparable
                && record.class == *class
                && matches!(record.local, Verdict::Unverified | Verdict::Disputed)
        }
    };
    let keeps: Vec<_> = records.iter().filter(|record| record.status == Status::Keep && on_list(record)).collect();
    let mut best_child = HashMap::<RecordId, f64>::new();
    for record in &keeps {
        if let (Some(parent), false) = (record.parent, matches!(kind, FrontierKind::Claims(_))) {
            let best = best_child.entry(parent).or_insert(record.metric);
            if goal.better(record.metric, *best) {
                *best = record.metric;
            }
        }
    }
    let beaten =
        |record: &FrontierRecord| best_child.get(&record.id).is_some_and(|best| goal.better(*best, record.metric));
    let mut frontier: Vec<_> = keeps.into_iter().filter(|record| !beaten(record)).cloned().collect();
    frontier.sort_by(|a, b| goal.order(a.metric, b.metric).then_with(|| (a.timestamp, a.id).cmp(&(b.timestamp, b.id))));
    frontier
}

/// What each signer found about a record, by the plain definition: of its measurements that can count
/// the one with the lowest event id.
fn findings(subject: &Subject, measurements: &[(RecordId, Measurement)]) -> BTreeMap<NodeId, Finding> {
    let can_count = |m: &Measurement| {
        let dated = m.timestamp >= subject.timestamp;
        m.node != subject.publisher && subject.status != Status::Crash && m.class == subject.class && dated
    };
    let mut of: BTreeMap<NodeId, (EventId, Finding)> = BTreeMap::new();
    for (record, m) in measurements {
        if *record == subject.id && can_count(m) && of.get(&m.node).is_none_or(|(id, _)| m.event_id < *id) {
            of.insert(m.node, (m.event_id, m.finding));
        }
    }
    of.into_iter().map(|(node, (_, finding))| (node, finding)).collect()
}

/// Whether a record's value is the finding, but for the tolerance.
fn within(subject: &Subject, finding: Finding) -> bool {
    matches!(finding, Finding::Value(value) if (value - subject.metric).abs() <= subject.class.tolerance())
}

/// What the seeds found about the works of each signer that is no seed, in each class.
pub fn standings(
    subjects: &[Subject],
    measurements: &[(RecordId, Measurement)],
    seeds: &BTreeSet<NodeId>,
) -> BTreeMap<(NodeId, HardwareClass), Counters> {
    let mut standings: BTreeMap<(NodeId, HardwareClass), Counters> = BTreeMap::new();
    for subject in subjects.iter().filter(|subject| subject.status != Status::Crash) {
        let all = findings(subject, measurements);
        let mut of_seeds: Vec<Finding> = all.iter().filter(|(n, _)| seeds.contains(n)).map(|(_, f)| *f).collect();
        if seeds.contains(&subject.publisher) {
            of_seeds.push(Finding::Value(subject.metric));
        }
        let holds = of_seeds.iter().all(|finding| within(subject, *finding));
        let refuted = of_seeds.iter().all(|finding| !within(subject, *finding));
        if holds == refuted {
            continue; // No seed, or seeds that contradict each other.
        }
        let mut counters = |node: NodeId, add: fn(&mut Counters)| {
            if !seeds.contains(&node) {
                add(standings.entry((node, subject.class.clone())).or_default());
            }
        };
        counters(subject.publisher, if holds { |c| c.confirmed += 1 } else { |c| c.refuted += 1 });
        for (node, finding) in all {
            let near = |seed: &Finding| match (finding, *seed) {
                (Finding::Value(a), Finding::Value(b)) => (a - b).abs() <= subject.class.tolerance(),
                _ => false,
            };
            if within(subject, finding) != holds && !of_seeds.iter().any(near) {
                counters(node, |c| c.refuted += 1);
            }
        }
    }
    standings
}

/// The verdict of each record: the local one of a node with these seeds, or the global one without.
pub fn verdicts(
    subjects: &[Subject],
    measurements: &[(RecordId, Measurement)],
    seeds: Option<&BTreeSet<NodeId>>,
) -> BTreeMap<RecordId, Verdict> {
    let standings = seeds.map(|seeds| standings(subjects, measurements, seeds)).unwrap_or_default();
    let weight = |node: NodeId, class: &HardwareClass| match seeds {
        None => 2,
        Some(seeds) if seeds.contains(&node) => 256,
        Some(_) => {
            let Counters { confirmed, refuted } = standings.get(&(node, class.clone())).copied().unwrap_or_default();
            match i64::from(confirmed) - 6 * i64::from(refuted) {
                12.. => 2,
                3.. => 1,
                _ => 0,
            }
        }
    };
    let verdict = |subject: &Subject| {
        let all = findings(subject, measurements);
        let weighed = all.into_iter().map(|(node, finding)| (node, finding, weight(node, &subject.class)));
        (subject.id, verdict(subject, weighed.collect(), weight(subject.publisher, &subject.class)))
    };
    subjects.iter().map(verdict).collect()
}

/// The verdict of one record by the findings of its signers and their weights. Each value is written
/// down as many times as it weighs, and the middle of the list decides.
fn verdict(subject: &Subject, mut findings: Vec<(NodeId, Finding, usize)>, publisher: usize) -> Verdict {
    findings.retain(|(_, _, weight)| *weight > 0);
    findings.sort_by_key(|(node, _, weight)| (usize::MAX - weight, rank(subject.id, *node)));
    findings.truncate(64);
    let own = publisher == 256 && subject.status != Status::Crash;
    let total: usize = findings.iter().map(|(_, _, weight)| weight).sum();
    let outside: usize = findings.iter().filter(|(_, f, _)| !within(subject, *f)).map(|(_, _, weight)| weight).sum();
    if outside < 2 {
        return if own || total - outside >= 2 { Verdict::Verified } else { Verdict::Unverified };
    }
    let heaviest = findings.iter().map(|(_, _, weight)| *weight).max().unwrap_or_default();
    if !own && heaviest < 256 && total < 4 * heaviest {
        return Verdict::Disputed;
    }
    let worst = if subject.goal == Goal::Minimize { f64::INFINITY } else { f64::NEG_INFINITY };
    let claim = if own || heaviest == 256 { publisher } else { publisher.max(1) };
    let mut list = vec![subject.metric; claim];
    for (_, finding, weight) in findings {
        let value = if let Finding::Value(value) = finding { value } else { worst };
        list.extend(std::iter::repeat_n(value, weight));
    }
    list.sort_by(f64::total_cmp);
    let at = |place: usize| list.get(place).is_some_and(|value| within(subject, Finding::Value(*value)));
    match (at((list.len() - 1) / 2), at(list.len() / 2)) {
        (true, true) if !own && total - outside < 2 => Verdict::Disputed,
        (true, true) => Verdict::Upheld,
        (false, false) => Verdict::Rejected,
        _ => Verdict::Disputed,
    }
}

/// The reputation of each node: the deeds in their order, clamped to [`LIMITS`] after each one.
pub fn reputation(mut deeds: Vec<DatedDeed>) -> BTreeMap<NodeId, f64> {
    deeds.sort_by(|a, b| (a.at, a.node).cmp(&(b.at, b.node)).then(b.deed.delta().total_cmp(&a.deed.delta())));
    let mut reputation = BTreeMap::new();
    for deed in deeds {
        let value: &mut f64 = reputation.entry(deed.node).or_default();
        *value = (*value + deed.deed.delta()).clamp(LIMITS.0, LIMITS.1);
    }
    reputation
}

/// Position of a parentless record among those of its task. The lowest is the task's root, whatever
/// the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootRank {
    not_by_creator: bool,
    timestamp: u64,
    id: ObjectId,
}

impl RootRank {
    /// `creator` is the signer of the manifest, or of the record that founded a legacy task, or none
    /// while neither is known.
    pub fn of(id: RecordId, record: &Record, creator: Option<NodeId>) -> Self {
        Self { not_by_creator: creator != Some(record.node_id), timestamp: record.timestamp, id: id.into() }
    }

    pub fn id(&self) -> RecordId {
        self.id.into()
    }
}

/// Length in bytes of the body that follows the header of a legacy frame.
///
/// # Errors
/// [`Reject::TooLarge`] above [`MAX_BODY_BYTES`].
pub fn body_length(header: [u8; HEADER_BYTES]) -> Result<usize, Reject> {
    let size = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if size > MAX_BODY_BYTES { Err(Reject::TooLarge { size, limit: MAX_BODY_BYTES }) } else { Ok(size) }
}

#[cfg(test)]
mod tests;
