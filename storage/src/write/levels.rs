//! The levels of signers, and what follows from them.
//!
//! What a signer published or measured counts for or against it when a seed worked on the same record
//! (`spore_protocol::trust`). So a new measurement changes its signer's counters, and one by a seed the counters of all
//! signers of the record. When a signer's level changes, its measurements move to the tier of the new level, and the
//! records that it worked on are judged again. Levels depend on seeds only, so that is where it ends.
//!
//! Neither the signers of a record nor the works of a signer are bounded. The work is: a batch does at most [`STEPS`]
//! steps and writes what is left to [`Column::Unsettled`]. Further batches continue, with other insertions between them, or
//! after a crash. Every order of these steps ends in the same state.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use spore_protocol::{
    Finding, Goal, NodeId, Status,
    subject::Subject,
    trust::{self, Contribution, Counters, Level, Standing},
};

use super::InsertBatch;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys::{self, ClassKey},
    lookup,
    values::{SEEDS, StandingState, Work, WorkMark, encode_seeds, tier},
};

/// Works that one batch looks at because of changed levels. Each takes some 20 us, so other insertions wait a tenth of
/// a second at most. Few in tests, so that most changes take several batches.
const STEPS: usize = if cfg!(test) { 6 } else { 4_096 };

/// Entries of [`Column::Unsettled`] that one batch takes over.
const UNSETTLED: usize = if cfg!(test) { 3 } else { 1_024 };

/// Which works on a record to look at again.
pub(super) enum Recheck {
    /// The measurements of these signers.
    Of(BTreeSet<NodeId>),
    /// All after this key; with the publisher's claim when the key is empty.
    After(Vec<u8>),
}

/// What is still to be done because of new measurements and changed levels.
#[derive(Default)]
pub(super) struct LevelChanges {
    rechecks: BTreeMap<u64, Recheck>,
    /// Signers whose level in a class changed.
    moves: BTreeMap<(NodeId, ClassKey), Move>,
    /// Steps done in this batch.
    steps: usize,
    /// Records to be judged because of a level: their tasks' graphs change without an entry in the change log.
    pub releveled: BTreeSet<u64>,
}

/// How far the works of a signer are moved to its new level.
#[derive(Clone, Copy)]
struct Move {
    /// The last record done; 0 before the first.
    after: u64,
    /// Whether the signer became a seed, or no longer is one: then its claims decide differently about others.
    seed: bool,
}

impl Move {
    /// One move that does the work of both.
    fn with(self, other: Self) -> Self {
        Self { after: self.after.min(other.after), seed: self.seed || other.seed }
    }

    fn encode(self) -> Vec<u8> {
        [self.after.to_be_bytes().as_slice(), &[u8::from(self.seed)]].concat()
    }

    fn decode(value: &[u8]) -> Result<Self> {
        Ok(Self { after: keys::number_at(value, 0)?, seed: value.get(8) == Some(&1) })
    }
}

/// A record whose works are looked at again.
struct Rechecked {
    subject: Subject,
    number: u64,
    class: ClassKey,
    /// What seeds found about it.
    seeds: Vec<Finding>,
}

impl InsertBatch<'_> {
    /// The level of a node in a class, with the changes of this batch.
    pub(super) fn level(&mut self, node: &NodeId, class: &ClassKey) -> Result<Option<Level>> {
        if self.seeds.contains(node) {
            return Ok(Some(Level::Seed));
        }
        let state = self
            .cache
            .standings
            .read((*node, *class), |(node, class)| lookup::standing_state(&self.view, node, class))?;
        Ok(state.as_ref().and_then(|state| Standing::of(false, state.counters).level))
    }

    /// Notes a new measurement of a record by a signer of this tier.
    pub(super) fn measured_anew(&mut self, number: u64, signer: NodeId, at: u8) {
        if at == SEEDS {
            self.recheck_all(number);
        } else if let Recheck::Of(signers) =
            self.levels.rechecks.entry(number).or_insert_with(|| Recheck::Of(BTreeSet::new()))
        {
            signers.insert(signer);
        }
    }

    pub(super) fn recheck_all(&mut self, number: u64) {
        self.levels.rechecks.insert(number, Recheck::After(Vec::new()));
    }

    /// Trusts these keys from now on. Returns how many keys differ from those trusted before.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn trust(&mut self, seeds: BTreeSet<NodeId>) -> Result<usize> {
        let changed: Vec<_> = self.seeds.symmetric_difference(&seeds).copied().collect();
        if changed.is_empty() {
            return Ok(0);
        }
        self.dirty = true;
        self.view.put(Column::Meta, keys::SEEDS.to_vec(), encode_seeds(&seeds));
        self.seeds = seeds;
        for node in &changed {
            let mut from: Option<Vec<u8>> = None;
            while let Some((key, _)) =
                self.view.first(Column::WorksOf, &node.0, from.as_deref(), KeyOrder::Ascending)?
            {
                let class = keys::id_at(&key, 32)?;
                self.levels.moves.insert((*node, class), Move { after: 0, seed: true });
                // No number is as high.
                from = Some(keys::work_of(node, &class, u64::MAX));
            }
        }
        Ok(changed.len())
    }

    /// Continues what earlier batches left.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn settle_left(&mut self) -> Result<()> {
        let mut left = Vec::new();
        self.view.each(Column::Unsettled, &[], &mut |key, value| {
            left.push((key.to_vec(), value.to_vec()));
            Ok(if left.len() < UNSETTLED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        self.dirty |= !left.is_empty();
        self.continues = true;
        for (key, value) in left {
            match key.first() {
                Some(0) => {
                    let signer = (NodeId(keys::id_at(&key, 1)?), keys::id_at(&key, 33)?);
                    self.levels.moves.entry(signer).or_insert(Move::decode(&value)?);
                }
                _ => drop(self.levels.rechecks.entry(keys::last_number(&key)?).or_insert(Recheck::After(value))),
            }
            self.view.delete(Column::Unsettled, key);
        }
        Ok(())
    }

    /// Brings counters and levels up to date, and returns whether that is complete. What is left is written down.
    pub(super) fn settle(&mut self) -> Result<bool> {
        let own = |(number, what): (&u64, &Recheck)| matches!(what, Recheck::Of(_)).then_some(*number);
        let own: Vec<_> = self.levels.rechecks.iter().filter_map(own).collect();
        for number in own {
            // As many as this batch has events, so they are no steps.
            if let Some(what) = self.levels.rechecks.remove(&number) {
                self.recheck(number, what)?;
            }
        }
        while self.levels.steps < STEPS {
            if let Some((signer, left)) = self.levels.moves.pop_first() {
                self.move_works(signer, left)?;
            } else if let Some((number, what)) = self.levels.rechecks.pop_first() {
                self.recheck(number, what)?;
            } else {
                break;
            }
        }
        let complete = self.levels.moves.is_empty() && self.levels.rechecks.is_empty();
        for ((node, class), left) in std::mem::take(&mut self.levels.moves) {
            let key = keys::unsettled_node(&node, &class);
            // An earlier batch may have left a move of the same signer that this batch did not take over.
            let left = match self.view.get(Column::Unsettled, &key)? {
                Some(earlier) => left.with(Move::decode(&earlier)?),
                None => left,
            };
            self.view.put(Column::Unsettled, key, left.encode());
        }
        for (number, what) in std::mem::take(&mut self.levels.rechecks) {
            let after = match what {
                Recheck::After(after) => after,
                Recheck::Of(_) => Vec::new(),
            };
            self.view.put(Column::Unsettled, keys::unsettled_record(number), after);
        }
        Ok(complete)
    }

    /// Moves the measurements of a signer to the tier of its level, and notes what that changes.
    fn move_works(&mut self, (node, class): (NodeId, ClassKey), Move { after, seed }: Move) -> Result<()> {
        let now = tier(self.level(&node, &class)?);
        let prefix = keys::works_of(&node, &class);
        let from = keys::work_of(&node, &class, after.saturating_add(1));
        let most = STEPS.saturating_sub(self.levels.steps).max(1);
        let (mut marks, mut more) = (Vec::new(), false);
        self.view.walk(Column::WorksOf, &prefix, Some(&from), KeyOrder::Ascending, &mut |key, mark| {
            more = marks.len() == most;
            if more {
                return Ok(ControlFlow::Break(()));
            }
            marks.push((keys::last_number(key)?, WorkMark::decode(mark)?));
            Ok(ControlFlow::Continue(()))
        })?;
        self.levels.steps += marks.len();
        if let (true, Some((last, _))) = (more, marks.last()) {
            self.levels.moves.insert((node, class), Move { after: *last, seed });
        }
        for (number, mark) in marks {
            match mark {
                WorkMark::Measured(before) if before == now => continue,
                WorkMark::Measured(before) => {
                    self.move_work(number, &node, &class, before, now)?;
                    if before.min(now) == SEEDS {
                        self.recheck_all(number);
                    } else if self.is_rechecking(number)? {
                        // The recheck goes on behind a key, and the measurement may be before it now.
                        self.recheck(number, Recheck::Of(BTreeSet::from([node])))?;
                    }
                }
                WorkMark::Published(_) if seed => self.recheck_all(number),
                WorkMark::Published(_) => {}
            }
            self.levels.releveled.insert(number);
            self.unjudged.insert(number);
        }
        Ok(())
    }

    /// Whether some works on a record have been looked at again, and a later batch continues behind them.
    fn is_rechecking(&self, number: u64) -> Result<bool> {
        if let Some(Recheck::After(after)) = self.levels.rechecks.get(&number) {
            return Ok(!after.is_empty());
        }
        let left = self.view.get(Column::Unsettled, &keys::unsettled_record(number))?;
        Ok(left.is_some_and(|after| !after.is_empty()))
    }

    fn move_work(&mut self, number: u64, node: &NodeId, class: &ClassKey, before: u8, now: u8) -> Result<()> {
        let place = keys::rank(&self.row(number)?.summary.id, node);
        let old = keys::work(number, before, place, node);
        let work = self.view.get(Column::Works, &old)?.ok_or(MISSING)?;
        self.view.delete(Column::Works, old);
        self.cache.cutoffs.remove(&number);
        self.view.put(Column::Works, keys::work(number, now, place, node), work);
        self.view.put(Column::WorksOf, keys::work_of(node, class, number), WorkMark::Measured(now).encode());
        Ok(())
    }

    /// Computes again what works on a record add to the counters of their signers.
    fn recheck(&mut self, number: u64, what: Recheck) -> Result<()> {
        let row = self.row(number)?.clone();
        if row.summary.status == Status::Crash {
            return Ok(());
        }
        // The goal decides nothing here.
        let (subject, class) = (row.subject(Goal::Minimize), keys::class(&row.summary.class));
        let mut seeds = Vec::new();
        self.view.each(Column::Works, &keys::works(number, SEEDS), &mut |_, value| {
            seeds.push(Work::decode(value)?.finding);
            Ok(ControlFlow::Continue(()))
        })?;
        if self.seeds.contains(&subject.publisher) {
            seeds.push(Finding::Value(subject.metric));
        }
        let rechecked = Rechecked { subject, number, class, seeds };
        match what {
            Recheck::Of(signers) => {
                for signer in signers {
                    let mark = self.view.get(Column::WorksOf, &keys::work_of(&signer, &class, number))?;
                    let mark = mark.map(|mark| WorkMark::decode(&mark)).transpose()?;
                    let Some(WorkMark::Measured(at)) = mark else { continue };
                    let key = keys::work(number, at, keys::rank(&rechecked.subject.id, &signer), &signer);
                    let work = Work::decode(&self.view.get(Column::Works, &key)?.ok_or(MISSING)?)?;
                    self.recheck_work(&rechecked, key, work)?;
                }
            }
            Recheck::After(after) => self.recheck_after(&rechecked, after)?,
        }
        Ok(())
    }

    fn recheck_after(&mut self, of: &Rechecked, after: Vec<u8>) -> Result<()> {
        if after.is_empty() {
            self.recheck_claim(of)?;
        }
        let most = STEPS.saturating_sub(self.levels.steps).max(1);
        let from = (!after.is_empty()).then_some(after);
        let (mut works, mut more) = (Vec::new(), false);
        let prefix = of.number.to_be_bytes();
        self.view.walk(Column::Works, &prefix, from.as_deref(), KeyOrder::Ascending, &mut |key, value| {
            if from.as_deref() == Some(key) {
                return Ok(ControlFlow::Continue(()));
            }
            more = works.len() == most;
            if more {
                return Ok(ControlFlow::Break(()));
            }
            works.push((key.to_vec(), Work::decode(value)?));
            Ok(ControlFlow::Continue(()))
        })?;
        self.levels.steps += works.len() + 1;
        if let (true, Some((last, _))) = (more, works.last()) {
            self.levels.rechecks.insert(of.number, Recheck::After(last.clone()));
        }
        for (key, work) in works {
            self.recheck_work(of, key, work)?;
        }
        Ok(())
    }

    fn recheck_work(&mut self, of: &Rechecked, key: Vec<u8>, mut work: Work) -> Result<()> {
        let signer = NodeId(keys::last_id(&key)?);
        let now = self.contribution(of, &signer, trust::Work::Measured(work.finding));
        let before = std::mem::replace(&mut work.contribution, now);
        if before == now {
            return Ok(());
        }
        self.view.put(Column::Works, key, work.encode());
        self.contribute(signer, of, before, now)
    }

    fn recheck_claim(&mut self, of: &Rechecked) -> Result<()> {
        let publisher = of.subject.publisher;
        let key = keys::work_of(&publisher, &of.class, of.number);
        let mark = self.view.get(Column::WorksOf, &key)?.map(|mark| WorkMark::decode(&mark)).transpose()?;
        let Some(WorkMark::Published(before)) = mark else { return Err(MISSING.into()) };
        let now = self.contribution(of, &publisher, trust::Work::Published);
        if before == now {
            return Ok(());
        }
        self.view.put(Column::WorksOf, key, WorkMark::Published(now).encode());
        self.contribute(publisher, of, before, now)
    }

    /// What a work adds to its signer's counters. Seeds have no need of counters.
    fn contribution(&self, of: &Rechecked, signer: &NodeId, work: trust::Work) -> Option<Contribution> {
        if self.seeds.contains(signer) { None } else { trust::contribution(&of.subject, work, &of.seeds) }
    }

    /// Replaces what a work adds to its signer's counters.
    fn contribute(
        &mut self,
        signer: NodeId,
        of: &Rechecked,
        before: Option<Contribution>,
        now: Option<Contribution>,
    ) -> Result<()> {
        let class = of.class;
        let state = self
            .cache
            .standings
            .touch((signer, class), |(node, class)| lookup::standing_state(&self.view, node, class))?;
        let state = state
            .get_or_insert_with(|| StandingState { class: of.subject.class.clone(), counters: Counters::default() });
        let level = Standing::of(false, state.counters).level;
        if let Some(before) = before {
            state.counters.remove(before);
        }
        if let Some(now) = now {
            state.counters.add(now);
        }
        let new = Standing::of(false, state.counters).level;
        if level == new {
            return Ok(());
        }
        if let Some(level) = level {
            self.view.delete(Column::Standings, keys::weighty(&class, level.number(), &signer));
        }
        if let Some(new) = new {
            self.view.put(Column::Standings, keys::weighty(&class, new.number(), &signer), Vec::new());
        }
        if !self.seeds.contains(&signer) {
            let seed = self.levels.moves.get(&(signer, class)).is_some_and(|left| left.seed);
            self.levels.moves.insert((signer, class), Move { after: 0, seed });
        }
        Ok(())
    }

    pub(super) fn write_standings(&mut self) {
        for ((node, class), state) in self.cache.standings.take_touched() {
            let key = keys::standing(&node, &class);
            match state.filter(|state| state.counters != Counters::default()) {
                Some(state) => self.view.put(Column::Standings, key, state.encode()),
                None => self.view.delete(Column::Standings, key),
            }
        }
    }
}

const MISSING: Damage = Damage::Value("a signer's work is missing");
