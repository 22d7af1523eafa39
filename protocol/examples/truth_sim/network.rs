//! The players: honest nodes that research and verify, and liars that sign whatever pays.

use spore_protocol::{EventId, NodeId, RecordId};

use crate::{
    dice::Dice,
    ledger::{Ledger, Nature, View, measurement},
};

/// Difference of two honest runs of one script, as a standard deviation of the metric. The tolerance is four times this.
const NOISE: f64 = 0.0005;
/// Share of honest runs that re-run somebody's record.
const VERIFYING: f64 = 0.3;
/// Operators that the third view trusts. Their nodes only verify.
const TRUSTED: usize = 10;
/// A false claim is better than the truth by 0.1 to 1.1 times this.
const LIE: f64 = 0.1;
/// Liars that sign each false record, and each honest record that they attack. More do not help: they only risk more.
const HELPERS: usize = 8;
/// Share of the honest records of each round that the liars attack.
const ATTACKED: f64 = 0.2;
/// Records that hold in the view with seeds, and that the liars attack in each round.
const ATTACKED_THAT_HOLD: usize = 20;
/// Records at the head of a frontier on which research builds.
const FRONTIER: usize = 16;
/// Newest records among which a verifier looks for the best claims.
const NEWEST: usize = 2000;

pub struct Setting {
    pub identities: usize,
    pub dishonest: usize,
    pub rounds: u64,
    /// Whether the liars also refute honest records, or only confirm false ones.
    pub attack: bool,
}

pub struct Network {
    pub dishonest: usize,
    pub ledger: Ledger,
    /// Global, own key only, own key and trusted ones.
    pub views: [View; 3],
    honest: Vec<NodeId>,
    pub liars: Vec<NodeId>,
    dice: Dice,
    pub round: u64,
    pub rounds: u64,
    best: f64,
    attack: bool,
}

impl Network {
    pub fn new(setting: &Setting) -> Self {
        let mut dice = Dice(1);
        let mut key = || NodeId(dice.bytes());
        let honest: Vec<_> = (setting.dishonest..setting.identities).map(|_| key()).collect();
        let liars = (0..setting.dishonest).map(|_| key()).collect();
        let own = honest.iter().skip(TRUSTED).take(1).copied().collect();
        let trusted = honest.iter().take(TRUSTED + 1).copied().collect();
        let views =
            [View::new("global", None), View::new("own key", Some(own)), View::new("own + 10 seeds", Some(trusted))];
        let (round, best) = (0, 2.0);
        let (dishonest, rounds, attack) = (setting.dishonest, setting.rounds, setting.attack);
        Self { dishonest, ledger: Ledger::default(), views, honest, liars, dice, round, rounds, best, attack }
    }

    pub fn play(&mut self) {
        let before = self.ledger.records.len();
        for node in self.honest.clone().into_iter().enumerate() {
            let verifies = node.0 < TRUSTED || self.dice.unit() < VERIFYING;
            if verifies { self.verify(node.1, node.0) } else { self.research(node.1) }
        }
        self.lie(before);
        self.round += 1;
        for view in &mut self.views {
            view.judge(self.round, &self.ledger.records);
            if view.seeds.is_some() {
                let liars = self.liars.iter().filter(|liar| view.weight(liar) > 0).count();
                view.most_liars = view.most_liars.max(liars);
            }
        }
    }

    /// Rounds in which the liars lied.
    pub fn lying(&self) -> u64 {
        self.round - self.rounds.div_ceil(3).min(self.round)
    }

    fn research(&mut self, node: NodeId) {
        // Most changes do not help. The best result falls slowly.
        let truth = self.best + 0.002 + 0.02 * self.dice.unit() - if self.dice.unit() < 0.001 { 0.004 } else { 0.0 };
        self.best = self.best.min(truth);
        let claim = truth + NOISE * self.dice.normal();
        self.publish(node, claim, truth, Nature::Honest);
    }

    fn publish(&mut self, node: NodeId, claim: f64, truth: f64, nature: Nature) -> usize {
        let id = RecordId(self.dice.bytes());
        let number = self.ledger.publish(id, node, claim, truth, nature);
        if let Some(record) = self.ledger.records.get(number) {
            self.views.iter_mut().for_each(|view| view.count(number, record, Some(node)));
        }
        number
    }

    fn sign(&mut self, node: NodeId, number: usize, value: f64) {
        let event = EventId(self.dice.bytes());
        let Some(record) = self.ledger.records.get_mut(number) else { return };
        if record.subject.publisher == node || record.measurements.iter().any(|m| m.node == node) {
            return;
        }
        self.views.iter_mut().for_each(|view| view.count(number, record, None));
        record.measurements.push(measurement(event, node, value));
        self.views.iter_mut().for_each(|view| view.count(number, record, Some(node)));
    }

    /// Re-runs a record as the lab does: once, and again when the result is outside tolerance. Two runs that disagree
    /// prove nothing.
    fn verify(&mut self, node: NodeId, place: usize) {
        let Some(number) = self.choose(node, place) else { return };
        let Some(record) = self.ledger.records.get(number) else { return };
        let (subject, truth) = (record.subject.clone(), record.truth);
        let mut run = || truth + NOISE * self.dice.normal();
        let first = run();
        if subject.agrees_with(first) {
            return self.sign(node, number, first);
        }
        let second = run();
        if subject.agrees_with(second) {
            self.sign(node, number, second);
        } else if (first - second).abs() <= subject.class.tolerance() {
            self.sign(node, number, first);
        }
    }

    /// Nodes of weight answer a dispute first, every second time. Of other re-runs a third goes to the best record that holds in the node's view and that it did not measure, on
    /// which research would build, or else to the best claims. A third goes to publishers of whom a record is
    /// confirmed in that view, and a third to any publisher.
    fn choose(&mut self, node: NodeId, place: usize) -> Option<usize> {
        let fits = |record: &crate::ledger::Published| {
            record.subject.publisher != node && record.measurements.iter().all(|m| m.node != node)
        };
        let records = &self.ledger.records;
        let dice = self.dice.below(3);
        let view = self.views.get(if place == TRUSTED { 1 } else { 2 })?;
        if view.weight(&node) > 0 && self.dice.below(2) == 0 {
            let disputed = view.disputed.iter().rev().take(NEWEST).copied();
            if let Some(number) = disputed.into_iter().find(|number| records.get(*number).is_some_and(fits)) {
                return Some(number);
            }
        }
        if dice == 0 {
            let best = view.holding.iter().take(FRONTIER).map(|(_, number)| *number);
            if let Some(number) = best.into_iter().find(|number| records.get(*number).is_some_and(fits)) {
                return Some(number);
            }
            let from = records.len().saturating_sub(NEWEST);
            // Of some that the node sees first, the best.
            let some = (0..20).map(|_| from + self.dice.below(records.len() - from)).collect::<Vec<_>>();
            let metric = |number: &usize| records.get(*number).map_or(f64::MAX, |r| r.subject.metric);
            return some
                .into_iter()
                .filter(|number| records.get(*number).is_some_and(fits))
                .min_by(|a, b| metric(a).total_cmp(&metric(b)));
        }
        let known = dice == 1 && !view.confirmed.is_empty();
        let publisher = self.dice.pick(if known { &view.confirmed } else { &self.ledger.publishers })?;
        let numbers = self.ledger.of.get(publisher)?;
        let number = *self.dice.pick(numbers)?;
        records.get(number).filter(|r| fits(r)).map(|_| number)
    }

    /// The first third of the time the liars only collect trust with true copies, which cost them nothing.
    fn lie(&mut self, before: usize) {
        let lying = self.round * 3 >= self.rounds;
        let honest: Vec<_> = (before..self.ledger.records.len()).collect();
        self.replace_exposed();
        for liar in self.liars.clone() {
            let truth = self.best + 0.02 * self.dice.unit();
            let claim = truth + NOISE * self.dice.normal();
            self.publish(liar, claim, truth, Nature::Copy);
            if lying {
                let fresh = NodeId(self.dice.bytes());
                let claim = truth - LIE * (0.1 + self.dice.unit());
                let number = self.publish(fresh, claim, truth, Nature::False);
                self.help(number, claim);
            }
        }
        if lying && self.attack {
            self.refute(honest);
        }
    }

    /// Liars refute some of these new records, and some that hold. They leave alone what a seed ran, for it would expose
    /// them.
    fn refute(&mut self, honest: Vec<usize>) {
        for number in honest {
            if self.dice.unit() < ATTACKED && !self.ran_by_seed(number) {
                self.help(number, 9.0);
            }
        }
        let [.., view] = &self.views;
        let holding: Vec<_> =
            view.holding.iter().map(|(_, number)| *number).filter(|n| !self.ran_by_seed(*n)).collect();
        for _ in 0..ATTACKED_THAT_HOLD {
            let Some(number) = self.dice.pick(&holding).copied() else { break };
            self.help(number, 9.0);
        }
    }

    fn ran_by_seed(&self, number: usize) -> bool {
        let [.., view] = &self.views;
        let is_seed = |node| view.seeds.as_ref().is_some_and(|seeds| seeds.contains(node));
        let record = self.ledger.records.get(number);
        record.is_some_and(|r| is_seed(&r.subject.publisher) || r.measurements.iter().any(|m| is_seed(&m.node)))
    }

    /// Liars sign one record: those of weight in the view with seeds, and as many new keys.
    fn help(&mut self, number: usize, value: f64) {
        let [.., view] = &self.views;
        let (weighty, _): (Vec<NodeId>, Vec<_>) = self.liars.iter().partition(|liar| view.weight(liar) > 0);
        for _ in 0..HELPERS.min(self.dishonest) {
            if let Some(node) = self.dice.pick(&weighty).copied() {
                self.sign(node, number, value);
            }
            let fresh = NodeId(self.dice.bytes());
            self.sign(fresh, number, value);
        }
    }

    /// A liar whose trust is gone starts again with a new key.
    fn replace_exposed(&mut self) {
        let [.., view] = &self.views;
        let gone: Vec<_> = self.liars.iter().map(|liar| view.of(liar).refuted > 0 && view.weight(liar) == 0).collect();
        for (liar, _) in self.liars.iter_mut().zip(gone).filter(|(_, gone)| *gone) {
            *liar = NodeId(self.dice.bytes());
        }
    }
}
