//! Bounds the disk space of the store: drops the least valuable objects until the rest fits, and what an operator does
//! not want to carry. Dropped objects are remembered and do not come back.
//!
//! Never dropped for room: objects of the node's own and of trusted keys, records that a signer with weight confirmed
//! or refuted, their ancestors, what signers with a level or a confirmed record in the task published, pinned tasks, and what
//! arrived within the last hour.

use std::{collections::BTreeSet, ops::ControlFlow};

use spore_protocol::{Kind, NodeId, ObjectId, TaskId};

use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Result, StoreError},
    keys, lookup,
    store::Store,
    values::{self, WhyDropped},
    write::DropRules,
};

#[cfg(test)]
mod tests;

/// Seconds for which a record is kept after its arrival, so that somebody can re-run it.
const GRACE: u64 = 3600;

/// A store over its budget is brought down to this share of it, in percent, so that room is not made for each object.
const TARGET: u64 = 90;

/// Objects looked at while other writers wait: some 10 ms.
const AT_ONCE: usize = if cfg!(test) { 5 } else { 256 };

/// Bytes of objects looked at while other writers wait.
const BYTES_AT_ONCE: usize = 16 << 20;

/// Stored bytes from which a record counts as large: four times what one without its diff needs.
const LARGE: usize = 16 << 10;

/// Bytes of an object's entries in the indexes, about.
const INDEXES: u64 = 300;

/// What room to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomPlan {
    /// Bytes that the database and the artifacts may take on disk.
    pub budget: u64,
    /// The node's own keys.
    pub own: BTreeSet<NodeId>,
    pub pinned: BTreeSet<TaskId>,
    /// Unix seconds.
    pub now: u64,
}

/// What an operator wants dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    Signer(NodeId),
    Task(TaskId),
    Object(Kind, ObjectId),
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomReport {
    /// Bytes on disk before.
    pub bytes_before: u64,
    /// Bytes of the dropped objects, about. The disk has them back when their tables are compacted.
    pub freed: u64,
    pub dropped: u64,
    pub dropped_pending: u64,
    /// Unwanted objects that are kept, because others depend on them.
    pub kept: u64,
    /// Whether nothing more may be dropped and the budget is still exceeded.
    pub short: bool,
}

impl Store {
    /// Bytes of the database and the artifacts on disk.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn bytes_on_disk(&self) -> Result<u64> {
        let stats = self.stats()?;
        Ok(stats.database_bytes().saturating_add(stats.artifact_bytes))
    }

    /// Drops objects until the store fits its budget, in steps between which other writers come in: pending records,
    /// then strays, events about unknown records and tasks without records, then large records that nobody verified,
    /// then the others. Of each, the last to arrive go first, so that a flood goes before what was here. Compacts the
    /// database at the end, if anything was dropped.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`], [`StoreError::Cancelled`]; when the store cannot be read or written.
    pub fn make_room(&self, plan: &RoomPlan, stop: &dyn Fn() -> bool) -> Result<RoomReport> {
        if self.read_only() {
            return Err(StoreError::ReadOnly);
        }
        let mut report = RoomReport { bytes_before: self.bytes_on_disk()?, ..RoomReport::default() };
        if report.bytes_before <= plan.budget {
            return Ok(report);
        }
        let target = plan.budget / 100 * TARGET;
        let need = report.bytes_before.saturating_sub(target);
        let pending = lookup::tally(self.database())?.pending_bytes;
        report.dropped_pending = self.drop_pending(pending.saturating_sub(need))?;
        report.freed = pending.saturating_sub(lookup::tally(self.database())?.pending_bytes);
        for (only_worthless, min_bytes) in [(true, 0), (false, LARGE), (false, 0)] {
            let rules = DropRules {
                why: WhyDropped::Room,
                own: plan.own.clone(),
                pinned: plan.pinned.clone(),
                before: plan.now.saturating_sub(GRACE),
                only_worthless,
                min_bytes,
                keeps_known: true,
            };
            self.drop_down(&rules, need, stop, &mut report)?;
        }
        report.short = report.freed < need;
        if report.dropped + report.dropped_pending > 0 {
            self.compact(&mut |_| if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })?;
        }
        Ok(report)
    }

    /// Drops from the last object down to the first until `need` bytes are free. Children arrive after their parents,
    /// so a whole tree goes in one pass.
    fn drop_down(&self, rules: &DropRules, need: u64, stop: &dyn Fn() -> bool, report: &mut RoomReport) -> Result<()> {
        let mut from = Some(u64::MAX);
        while report.freed < need
            && let Some(last) = from
        {
            if stop() {
                return Err(StoreError::Cancelled);
            }
            let numbers = self.numbers_down_from(last)?;
            from = numbers.last().and_then(|number| number.checked_sub(1));
            let freed = self.drop_numbers(&numbers, rules)?;
            report.dropped += freed.len() as u64;
            report.freed += freed.iter().map(|bytes| bytes + INDEXES).sum::<u64>();
        }
        Ok(())
    }

    fn numbers_down_from(&self, last: u64) -> Result<Vec<u64>> {
        let (mut numbers, mut bytes) = (Vec::new(), 0);
        let from = keys::number(last);
        self.view().walk(Column::Objects, &[], Some(&from), KeyOrder::Descending, &mut |key, value| {
            numbers.push(keys::number_at(key, 0)?);
            bytes += value.len();
            let full = numbers.len() >= AT_ONCE || bytes >= BYTES_AT_ONCE;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(numbers)
    }

    /// Drops what an operator does not want, as far as nothing else depends on it: children, verdicts, and the weight
    /// of signers. The report counts what is kept.
    ///
    /// # Errors
    /// As [`Store::make_room`].
    pub fn drop_unwanted(&self, unwanted: Unwanted, stop: &dyn Fn() -> bool) -> Result<RoomReport> {
        if self.read_only() {
            return Err(StoreError::ReadOnly);
        }
        let rules = DropRules {
            why: WhyDropped::Operator,
            own: BTreeSet::new(),
            pinned: BTreeSet::new(),
            before: u64::MAX,
            only_worthless: false,
            min_bytes: 0,
            keeps_known: false,
        };
        let mut report = RoomReport { bytes_before: self.bytes_on_disk()?, ..RoomReport::default() };
        let mut from = Some(u64::MAX);
        while let Some(last) = from {
            if stop() {
                return Err(StoreError::Cancelled);
            }
            let numbers = self.numbers_down_from(last)?;
            from = numbers.last().and_then(|number| number.checked_sub(1));
            let chosen = self.unwanted(&numbers, unwanted)?;
            let freed = self.drop_numbers(&chosen, &rules)?;
            report.dropped += freed.len() as u64;
            report.kept += (chosen.len() - freed.len()) as u64;
            report.freed += freed.iter().map(|bytes| bytes + INDEXES).sum::<u64>();
        }
        Ok(report)
    }

    fn unwanted(&self, numbers: &[u64], unwanted: Unwanted) -> Result<Vec<u64>> {
        let view = self.view();
        let mut chosen = Vec::new();
        for number in numbers {
            let Some(stored) = view.get(Column::Objects, &keys::number(*number))? else { continue };
            let object = values::decode_stored(&stored)?;
            let matches = match unwanted {
                Unwanted::Signer(signer) => object.signer() == signer,
                Unwanted::Object(kind, id) => object.kind() == kind && object.id() == id,
                Unwanted::Task(task) => lookup::change(&view, *number)?.task_id == Some(task),
            };
            if matches {
                chosen.push(*number);
            }
        }
        Ok(chosen)
    }

    /// Whether the object was dropped and is remembered.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_dropped(&self, kind: Kind, id: &ObjectId) -> Result<bool> {
        self.database().has(Column::Dropped, &keys::dropped(kind, id))
    }

    /// How many dropped objects are remembered.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn dropped_count(&self) -> Result<u64> {
        Ok(lookup::tally(self.database())?.dropped)
    }
}
