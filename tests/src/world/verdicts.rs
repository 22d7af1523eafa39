//! The verdicts that a test expects: computed from the signed objects by the protocol's definitions, with one trusted
//! key, and never read from a node.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use spore_protocol::{
    ControlEvent, EventId, Finding, Goal, HardwareClass, Identity, Measurement, NodeId, Record, RecordId, Verdict,
    Verified,
    trust::{Counters, Standing, Work, alike, contribution},
    verdict::{Subject, assess},
};

/// The records that somebody measured again.
pub struct Verdicts {
    /// The node that the tested node trusts.
    trusted: NodeId,
    judged: BTreeMap<RecordId, (Subject, Vec<Measurement>)>,
}

impl Verdicts {
    pub fn new(trusted: &Identity) -> Self {
        Self { trusted: trusted.node_id(), judged: BTreeMap::new() }
    }

    /// The trusted keys, for opening a store.
    pub fn seeds(&self) -> BTreeSet<NodeId> {
        BTreeSet::from([self.trusted])
    }

    /// Adds the events about a record.
    pub fn add(&mut self, record: &Verified<Record>, goal: Goal, events: &[Verified<ControlEvent>]) {
        let subject = Subject {
            id: record.id().into(),
            publisher: record.node_id,
            class: record.class(),
            status: record.status,
            metric: record.val_bpb,
            timestamp: record.timestamp,
            goal,
        };
        let measured = events.iter().filter_map(|event| Measurement::of(EventId::from(event.id()), event));
        self.judged.insert(subject.id, (subject, measured.collect()));
    }

    /// The standings of all signers: what the trusted node confirmed and refuted.
    pub fn standings(&self) -> Standings {
        let mut counters: HashMap<(NodeId, HardwareClass), Counters> = HashMap::new();
        for (subject, measured) in self.judged.values() {
            let counting = || measured.iter().filter(|m| subject.ignores(m).is_none());
            let seeds: Vec<Finding> =
                counting().filter(|m| m.node == self.trusted).map(|m| m.finding).take(1).collect();
            let published = [(subject.publisher, Work::Published)].into_iter();
            for (node, work) in published.chain(counting().map(|m| (m.node, Work::Measured(m.finding)))) {
                if node != self.trusted
                    && let Some(contribution) = contribution(subject, work, &seeds)
                {
                    counters.entry((node, subject.class.clone())).or_default().add(contribution);
                }
            }
        }
        Standings { trusted: self.trusted, counters }
    }

    /// The local and the global verdict of a record.
    pub fn of(&self, id: &RecordId, standings: &Standings) -> (Verdict, Verdict) {
        let Some((subject, measured)) = self.judged.get(id) else {
            return (Verdict::Unverified, Verdict::Unverified);
        };
        let local = assess(subject, measured.clone(), |node| standings.weight(*node, &subject.class));
        (local.verdict, assess(subject, measured.clone(), alike).verdict)
    }
}

/// How much each signer weighs.
pub struct Standings {
    trusted: NodeId,
    counters: HashMap<(NodeId, HardwareClass), Counters>,
}

impl Standings {
    fn weight(&self, node: NodeId, class: &HardwareClass) -> u32 {
        let counters = self.counters.get(&(node, class.clone())).copied().unwrap_or_default();
        Standing::of(node == self.trusted, counters).weight
    }
}
