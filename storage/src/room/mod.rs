//! Bounds the disk space of the store: drops the least valuable objects until the rest fits. Dropped objects are
//! remembered and do not come back.
//!
//! Never dropped for room: objects of the node's own and of trusted keys, records that a signer with weight confirmed
//! or refuted, their ancestors, and pinned tasks. What arrived within the last hour goes late, and what signers with a
//! level or a confirmed record in the task published goes last.

use std::{collections::BTreeSet, ops::ControlFlow};

use spore_protocol::{Kind, NodeId, ObjectId, TaskId};

use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Result, StoreError},
    gc::GcPlan,
    keys, lookup,
    store::Store,
    types::WhyDropped,
    write::DropRules,
};

mod space;
#[cfg(test)]
mod tests;
mod unwanted;

pub use space::DiskSpace;
pub use unwanted::Unwanted;

/// Seconds after its arrival in which a record is dropped only when nothing else is left, so that somebody can re-run it.
const GRACE: u64 = 3600;

/// A store over its budget is brought down to this share of it, in percent, so that room is not made for each object.
const TARGET: u64 = 90;

/// The database has this share of the budget to itself, in percent: artifacts that cannot be dropped, such as the dataset
/// of a task, do not displace more records.
const DATABASE_SHARE: u64 = 50;

/// Objects looked at while other writers wait: some 10 ms.
const AT_ONCE: usize = if cfg!(test) { 5 } else { 256 };

/// Bytes of objects looked at while other writers wait.
const BYTES_AT_ONCE: usize = 16 << 20;

/// Stored bytes from which a record counts as large: four times what one without its diff needs.
const LARGE: usize = 16 << 10;

/// Bytes of an object's entries in the indexes, about.
const INDEXES: u64 = 300;

/// Attempts to reach the target: how many bytes an object takes is an estimate until the database is compacted.
const ROUNDS: usize = 4;

/// Share of removed entries in the tables, in percent, from which a compaction alone may give the disk its room back.
const GARBAGE: u64 = 5;

/// Bytes of the budget for each object, dropped for one of two reasons, that is remembered: what is remembered, of 250
/// bytes each, takes a quarter of it at most.
const BUDGET_A_DROPPED: u64 = 2048;

/// Objects dropped for one reason that are remembered under any budget.
const LEAST_DROPPED: u64 = 1000;

/// What room to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomPlan {
    /// Bytes that the database and the artifacts that are not pinned may take on disk.
    pub budget: u64,
    /// The node's own keys.
    pub own: BTreeSet<NodeId>,
    pub pinned: BTreeSet<TaskId>,
    /// Unix seconds.
    pub now: u64,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomReport {
    /// Bytes on disk before, see [`Store::bytes_on_disk`]. 0 in a report of [`Store::drop_unwanted`].
    pub bytes_before: u64,
    /// Bytes on disk after. 0 in a report of [`Store::drop_unwanted`].
    pub bytes_after: u64,
    /// Bytes of the dropped objects and artifacts, about. The disk has an object's back when its table is compacted.
    pub freed: u64,
    pub dropped: u64,
    pub dropped_pending: u64,
    pub dropped_artifacts: u64,
    /// Unwanted objects that are kept, because others depend on them.
    pub kept: u64,
    /// Whether nothing more may be dropped and the database still exceeds its share.
    pub short: bool,
}

impl RoomReport {
    /// Counts dropped objects by their bytes.
    fn count_dropped(&mut self, bytes: &[u64]) {
        self.dropped += bytes.len() as u64;
        self.freed += bytes.iter().map(|bytes| bytes + INDEXES).sum::<u64>();
    }

    fn count(&self) -> u64 {
        self.dropped + self.dropped_pending + self.dropped_artifacts
    }
}

/// Bytes on disk that count against a budget.
#[derive(Clone, Copy, Debug)]
struct Measured {
    database: u64,
    artifacts: u64,
}

impl Measured {
    const fn all(self) -> u64 {
        self.database.saturating_add(self.artifacts)
    }

    /// Bytes by which the database exceeds what the artifacts leave of a budget, or its own share of it.
    fn database_over(self, budget: u64) -> u64 {
        let share = budget / 100 * DATABASE_SHARE;
        self.database.saturating_sub(budget.saturating_sub(self.artifacts).max(share))
    }
}

/// A piece of work that ends early when somebody wants that.
type Stop<'a> = &'a dyn Fn() -> bool;

impl Store {
    /// Bytes of the database and of the artifacts that are not pinned.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn bytes_on_disk(&self) -> Result<u64> {
        Ok(self.measure()?.all())
    }

    fn measure(&self) -> Result<Measured> {
        let stats = self.stats()?;
        let mut artifacts = stats.artifact_bytes;
        for pin in self.pins()? {
            artifacts = artifacts.saturating_sub(self.artifact_size(&pin)?.unwrap_or_default());
        }
        Ok(Measured { database: stats.database_bytes(), artifacts })
    }

    /// How many objects were ever dropped here. It grows with each, as sequence numbers do not: whoever keeps what was
    /// read compares this number too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn drops(&self) -> Result<u64> {
        Ok(lookup::tally(self.database())?.next_dropped)
    }

    /// Drops objects until the store fits its budget, in steps between which other writers come in: pending records;
    /// strays, events about unknown records, tasks without records and profiles of nodes without anything else;
    /// artifacts, by the rules of [`Store::gc`]; large records that nobody verified; the others; those that arrived within
    /// the last hour; those of signers with a level or with a confirmed record in the task. Of each, the last to arrive
    /// go first, so that a flood goes before what was here. Compacts the database afterwards.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`], [`StoreError::Cancelled`]; when the store cannot be read or written.
    pub fn make_room(&self, plan: &RoomPlan, stop: Stop<'_>) -> Result<RoomReport> {
        if self.read_only() {
            return Err(StoreError::ReadOnly);
        }
        let mut now = self.measure()?;
        let mut report = RoomReport { bytes_before: now.all(), bytes_after: now.all(), ..RoomReport::default() };
        if now.all() <= plan.budget {
            return Ok(report);
        }
        // The budget may be smaller than it was.
        while self.forget_dropped(most_dropped(plan), AT_ONCE)? {
            go_on(stop)?;
        }
        self.reclaim(stop)?;
        now = self.measure()?;
        for _ in 0..ROUNDS {
            let before = report.count();
            if now.all() > plan.budget {
                self.make_some_room(plan, now, stop, &mut report)?;
                now = self.measure()?;
            }
            if report.count() == before {
                break;
            }
        }
        report.bytes_after = now.all();
        report.short = now.database_over(plan.budget) > 0;
        Ok(report)
    }

    /// Writes what is in memory to tables, which removes the write-ahead log, and compacts the database if much of it was
    /// removed.
    fn reclaim(&self, stop: Stop<'_>) -> Result<()> {
        self.database().seal()?;
        let (mut entries, mut removed) = (0_u64, 0_u64);
        for file in self.database().raw().live_files()? {
            entries = entries.saturating_add(file.num_entries);
            removed = removed.saturating_add(file.num_deletions);
        }
        if removed > entries / 100 * GARBAGE { self.compact_until(stop) } else { Ok(()) }
    }

    fn compact_until(&self, stop: Stop<'_>) -> Result<()> {
        self.compact(&mut |_| flow(stop))
    }

    /// One attempt to bring the store down to the target.
    fn make_some_room(&self, plan: &RoomPlan, now: Measured, stop: Stop<'_>, report: &mut RoomReport) -> Result<()> {
        let target = plan.budget / 100 * TARGET;
        let need = now.all().saturating_sub(target);
        let (before, objects) = (report.freed, report.dropped + report.dropped_pending);
        let pending = lookup::tally(self.database())?.pending_bytes;
        self.drop_pending_down(pending.saturating_sub(need), stop, report)?;
        report.freed += pending.saturating_sub(lookup::tally(self.database())?.pending_bytes);
        let grace = plan.now.saturating_sub(GRACE);
        self.drop_down(&rules(plan, grace, true, 0), before + need, stop, report)?;
        let freed = report.freed - before;
        let artifacts = self.drop_artifacts(plan, need.saturating_sub(freed), stop, report)?;
        let left = Measured {
            database: now.database.saturating_sub(freed),
            artifacts: now.artifacts.saturating_sub(artifacts),
        };
        let enough = report.freed + left.database_over(target);
        for (before, min_bytes) in [(grace, LARGE), (grace, 0), (u64::MAX, 0)] {
            self.drop_down(&rules(plan, before, false, min_bytes), enough, stop, report)?;
        }
        // One confirmed record must not protect as many as its signer likes to send.
        let last = DropRules { keeps_known: false, ..rules(plan, u64::MAX, false, 0) };
        self.drop_down(&last, enough, stop, report)?;
        if report.dropped + report.dropped_pending > objects {
            self.drop_orphans(plan, stop, report)?;
            self.database().seal()?;
            self.compact_until(stop)?;
        }
        Ok(())
    }

    /// Drops artifacts until `need` bytes are free, as far as the rules of [`Store::gc`] allow. Returns how many are.
    fn drop_artifacts(&self, plan: &RoomPlan, need: u64, stop: Stop<'_>, report: &mut RoomReport) -> Result<u64> {
        if need == 0 {
            return Ok(0);
        }
        let max = self.stats()?.artifact_bytes.saturating_sub(need);
        let plan = GcPlan { now: plan.now, max_age: None, max_bytes: Some(max), dry_run: false };
        let dropped = self.gc(&plan, &mut |_| flow(stop))?;
        report.dropped_artifacts += dropped.dropped_count;
        report.freed += dropped.dropped_bytes;
        Ok(dropped.dropped_bytes)
    }

    /// Drops the artifacts that only dropped objects named.
    fn drop_orphans(&self, plan: &RoomPlan, stop: Stop<'_>, report: &mut RoomReport) -> Result<()> {
        let dropped = self.gc_unnamed(plan.now, &mut |_| flow(stop))?;
        report.dropped_artifacts += dropped.dropped_count;
        report.freed += dropped.dropped_bytes;
        Ok(())
    }

    /// Drops from the last object down to the first until the report has `enough` bytes freed. Children arrive after
    /// their parents, so a whole tree goes in one pass.
    fn drop_down(&self, rules: &DropRules, enough: u64, stop: Stop<'_>, report: &mut RoomReport) -> Result<()> {
        let mut from = Some(u64::MAX);
        while report.freed < enough
            && let Some(last) = from
        {
            let mut numbers = self.numbers_down_from(last)?;
            from = numbers.last().and_then(|number| number.checked_sub(1));
            while !numbers.is_empty() {
                go_on(stop)?;
                let done = self.drop_numbers(&numbers, rules)?;
                report.count_dropped(&done.freed);
                numbers.drain(..done.looked_at);
            }
        }
        Ok(())
    }

    /// Drops the oldest pending records until the others take no more than these bytes, in steps.
    fn drop_pending_down(&self, max_bytes: u64, stop: Stop<'_>, report: &mut RoomReport) -> Result<()> {
        let mut more = true;
        while more {
            go_on(stop)?;
            let dropped;
            (dropped, more) = self.drop_pending(max_bytes, AT_ONCE)?;
            report.dropped_pending += dropped;
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

    /// Whether an object was dropped and is not taken again. One that was dropped for room is taken when a pending record
    /// waits for it: somebody builds on it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_turned_away(&self, kind: Kind, id: &ObjectId) -> Result<bool> {
        let Some(entry) = lookup::dropped(self.database(), kind, id)? else { return Ok(false) };
        Ok(!lookup::returns(self.database(), kind, id, &entry)?)
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

fn flow(stop: Stop<'_>) -> ControlFlow<()> {
    if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn go_on(stop: Stop<'_>) -> Result<()> {
    if stop() { Err(StoreError::Cancelled) } else { Ok(()) }
}

/// Dropped objects of one reason that are remembered.
fn most_dropped(plan: &RoomPlan) -> u64 {
    (plan.budget / BUDGET_A_DROPPED).max(LEAST_DROPPED)
}

fn rules(plan: &RoomPlan, before: u64, only_worthless: bool, min_bytes: usize) -> DropRules {
    DropRules {
        why: WhyDropped::Room,
        own: plan.own.clone(),
        pinned: plan.pinned.clone(),
        before,
        only_worthless,
        min_bytes,
        keeps_known: true,
        most_dropped: most_dropped(plan),
    }
}
