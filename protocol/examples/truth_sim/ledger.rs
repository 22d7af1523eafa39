//! All records and measurements, and what the rules make of them in one view.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use spore_protocol::{
    EventId, Finding, Goal, HardwareClass, Measurement, NodeId, RecordId, Status, Verdict,
    measurement::MeasurementKind,
    trust::{self, Contribution, Counters, Standing, Work},
    verdict::{Subject, assess},
};

/// A record, with what only the simulator knows about it.
pub struct Published {
    pub subject: Subject,
    /// What an honest run of the script measures, but for noise.
    pub truth: f64,
    pub nature: Nature,
    pub measurements: Vec<Measurement>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Of an honest publisher.
    Honest,
    /// A liar's true copy of somebody's result.
    Copy,
    False,
}

#[derive(Default)]
pub struct Ledger {
    pub records: Vec<Published>,
    /// The numbers of each publisher's records.
    pub of: BTreeMap<NodeId, Vec<usize>>,
    pub publishers: Vec<NodeId>,
}

impl Ledger {
    pub fn publish(&mut self, id: RecordId, publisher: NodeId, metric: f64, truth: f64, nature: Nature) -> usize {
        let number = self.records.len();
        let class = HardwareClass::of("CPU");
        let (status, goal) = (Status::Keep, Goal::Minimize);
        let subject = Subject { id, publisher, class, status, metric, timestamp: 0, goal };
        self.records.push(Published { subject, truth, nature, measurements: Vec::new() });
        let numbers = self.of.entry(publisher).or_default();
        if numbers.is_empty() {
            self.publishers.push(publisher);
        }
        numbers.push(number);
        number
    }
}

/// A record's verdict in one view.
#[derive(Clone, Copy)]
pub struct Judged {
    pub verdict: Verdict,
    /// The round in which it became so.
    since: u64,
    /// Whether the record held at some time.
    held: bool,
    /// Rounds for which [`Judged::is_wrong`] was true before `since`.
    wrong: u64,
}

/// One view: the global one, or that of a node with seeds.
pub struct View {
    pub name: &'static str,
    /// None in the global view.
    pub seeds: Option<BTreeSet<NodeId>>,
    pub counters: HashMap<NodeId, Counters>,
    /// Publishers with a confirmed record, in the order in which they got it.
    pub confirmed: Vec<NodeId>,
    pub judged: Vec<Judged>,
    /// Records that a signer measured, for signers whose weight may change.
    measured: HashMap<NodeId, Vec<usize>>,
    /// Records to judge at the end of the round.
    dirty: BTreeSet<usize>,
    /// Rounds at whose end the best record that holds was a false one.
    pub false_best: u64,
    /// Records that hold, by claim.
    pub holding: BTreeSet<(u64, usize)>,
    pub most_liars: usize,
    pub disputed: BTreeSet<usize>,
}

impl View {
    pub fn new(name: &'static str, seeds: Option<BTreeSet<NodeId>>) -> Self {
        Self {
            name,
            seeds,
            counters: HashMap::new(),
            confirmed: Vec::new(),
            judged: Vec::new(),
            measured: HashMap::new(),
            dirty: BTreeSet::new(),
            false_best: 0,
            holding: BTreeSet::new(),
            most_liars: 0,
            disputed: BTreeSet::new(),
        }
    }

    pub fn weight(&self, node: &NodeId) -> u32 {
        match &self.seeds {
            None => trust::alike(node),
            Some(seeds) => Standing::of(seeds.contains(node), self.of(node)).weight,
        }
    }

    pub fn of(&self, node: &NodeId) -> Counters {
        self.counters.get(node).copied().unwrap_or_default()
    }

    /// Takes in a record's new state. Call before a measurement is added without `added`, and after with it.
    pub fn count(&mut self, number: usize, record: &Published, added: Option<NodeId>) {
        if let Some(node) = added {
            self.dirty.insert(number);
            if self.seeds.is_some() {
                self.measured.entry(node).or_default().push(number);
            }
        }
        let Some(seeds) = &self.seeds else { return };
        let subject = &record.subject;
        let mut findings: Vec<Finding> =
            record.measurements.iter().filter(|m| seeds.contains(&m.node)).map(|m| m.finding).collect();
        if seeds.contains(&subject.publisher) {
            findings.push(Finding::Value(subject.metric));
        }
        if findings.is_empty() {
            return;
        }
        let works = std::iter::once((subject.publisher, Work::Published))
            .chain(record.measurements.iter().map(|m| (m.node, Work::Measured(m.finding))));
        let works: Vec<_> = works.filter(|(node, _)| !seeds.contains(node)).collect();
        for (node, work) in works {
            let Some(contribution) = trust::contribution(subject, work, &findings) else { continue };
            let before = self.weight(&node);
            let counters = self.counters.entry(node).or_default();
            if added.is_some() {
                counters.add(contribution);
                if contribution == Contribution::Confirmed && counters.confirmed == 1 {
                    self.confirmed.push(node);
                }
            } else {
                counters.remove(contribution);
            }
            if self.weight(&node) != before {
                self.dirty.extend(self.measured.get(&node).into_iter().flatten());
            }
        }
    }

    /// Judges the records that may have changed, at the end of a round.
    pub fn judge(&mut self, round: u64, records: &[Published]) {
        let new = Judged { verdict: Verdict::Unverified, since: round, held: false, wrong: 0 };
        self.judged.resize(records.len(), new);
        for number in std::mem::take(&mut self.dirty) {
            let (Some(record), Some(judged)) = (records.get(number), self.judged.get(number)) else { continue };
            let made = assess(&record.subject, record.measurements.iter().cloned(), |node| self.weight(node));
            if made.verdict != judged.verdict {
                let wrong = judged.wrong_until(round, record.nature);
                let key = (record.subject.metric.to_bits(), number);
                if made.verdict.holds() {
                    self.holding.insert(key)
                } else {
                    self.holding.remove(&key)
                };
                if let Some(judged) = self.judged.get_mut(number) {
                    let held = judged.held || made.verdict.holds();
                    *judged = Judged { verdict: made.verdict, since: round, held, wrong };
                }
            }
        }
        let best = self.holding.first().and_then(|(_, number)| records.get(*number));
        self.false_best += u64::from(best.is_some_and(|record| record.nature == Nature::False));
    }
}

impl Judged {
    /// Rounds for which [`Judged::is_wrong`] was true.
    pub fn wrong_until(&self, round: u64, nature: Nature) -> u64 {
        self.wrong + if self.is_wrong(nature) { round - self.since } else { 0 }
    }

    /// Whether a false record holds, or another one is rejected or held once and no longer does.
    pub fn is_wrong(&self, nature: Nature) -> bool {
        match nature {
            Nature::False => self.verdict.holds(),
            _ => self.verdict == Verdict::Rejected || self.held && !self.verdict.holds(),
        }
    }
}

pub fn measurement(event_id: EventId, node: NodeId, value: f64) -> Measurement {
    Measurement {
        event_id,
        node,
        class: HardwareClass::of("CPU"),
        finding: Finding::Value(value),
        kind: MeasurementKind::Verification,
        timestamp: 1,
        weight: 0,
        ignored: None,
    }
}
