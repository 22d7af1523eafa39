//! The lists of a task's records: frontiers and claims.
//!
//! Which lists a record belongs to follows from its row alone ([`Places`]), except that a better child of the same list
//! keeps it off a frontier. Each row counts these children, so a changed verdict changes the entries of the record and
//! of its parent, and no others.

use spore_protocol::{
    Status,
    frontier::{FrontierKind, beats},
};

use super::InsertBatch;
use crate::{
    columns::Column,
    error::Result,
    keys::{self, List},
    types::RecordSummary,
    values::{Counters, RecordRow, recount},
};

/// Whose verdict decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Local,
    Global,
}

/// What a record counts in, by its own row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// A comparable keep that holds locally.
    local: bool,
    /// A comparable keep that holds globally.
    global: bool,
    pub claim: bool,
    /// Of any status but crash: comparable, and holds locally.
    pub confirmed: bool,
}

impl Places {
    pub fn of(s: &RecordSummary) -> Self {
        let keep = s.is_comparable_keep();
        Self {
            local: keep && s.verdict.holds(),
            global: keep && s.global_verdict.holds(),
            claim: s.is_claim(),
            confirmed: !s.stray && s.flaw.is_none() && s.status != Status::Crash && s.verdict.holds(),
        }
    }

    fn on(self, side: Side) -> bool {
        match side {
            Side::Local => self.local,
            Side::Global => self.global,
        }
    }
}

impl InsertBatch<'_> {
    /// Brings the lists up to date after a row has changed. `before` is what the record counted in before.
    pub(super) fn update_places(&mut self, number: u64, before: Places) -> Result<()> {
        let row = self.row(number)?.clone();
        let after = Places::of(&row.summary);
        if before.confirmed != after.confirmed {
            self.count_confirmed(&row, after.confirmed)?;
        }
        if before.claim != after.claim {
            self.set_claim(&row, after.claim)?;
        }
        if before.local != after.local {
            self.update_series(&row, after.local)?;
        }
        for side in [Side::Local, Side::Global] {
            if before.on(side) != after.on(side) {
                self.count_as_child(&row, side, after.on(side))?;
                self.refresh(number, side)?;
            }
        }
        Ok(())
    }

    /// Counts the nodes with a confirmed record in a task.
    fn count_confirmed(&mut self, row: &RecordRow, more: bool) -> Result<()> {
        let (task, signer) = (row.summary.task_id, row.summary.node_id);
        let node = self.node(Some(task), signer)?;
        let had = node.confirmed > 0;
        node.confirmed = recount(node.confirmed, !more, more);
        let has = node.confirmed > 0;
        if had != has {
            let state = self.task(&task)?;
            state.confirmed_signers = recount(state.confirmed_signers, had, has);
            self.rank_changed.insert(task);
        }
        Ok(())
    }

    pub(super) fn set_claim(&mut self, row: &RecordRow, claims: bool) -> Result<()> {
        let class = keys::class(&row.summary.class);
        for list in [List::Claims(&class), List::ClaimsOf(&class, &row.summary.node_id)] {
            self.set_entry(list, row, claims)?;
        }
        self.recount(row, |counters| &mut counters.claims, claims)
    }

    /// Counts a record as a better child of its parent, or no longer.
    fn count_as_child(&mut self, row: &RecordRow, side: Side, counts: bool) -> Result<()> {
        if row.parent_number == 0 {
            return Ok(());
        }
        let parent = self.row(row.parent_number)?.clone();
        let goal = self.task(&row.summary.task_id)?.goal();
        let (s, p) = (&row.summary, &parent.summary);
        // Whatever holds now: the count is of children, and must not change with the parent's verdict.
        if s.class != p.class || p.status != Status::Keep || !goal.better(s.metric, p.metric) {
            return Ok(());
        }
        let better = &mut self.row_mut(row.parent_number)?.better;
        let count = match side {
            Side::Local => &mut better.local,
            Side::Global => &mut better.global,
        };
        *count = recount(*count, !counts, counts);
        self.refresh(row.parent_number, side)
    }

    /// Puts a record on a frontier of its class, or takes it off.
    fn refresh(&mut self, number: u64, side: Side) -> Result<()> {
        let row = self.row(number)?;
        let s = &row.summary;
        let (better, on) = match side {
            Side::Local => (row.better.local, s.on_frontier),
            Side::Global => (row.better.global, s.on_global_frontier),
        };
        let belongs = Places::of(s).on(side) && better == 0;
        if belongs == on {
            return Ok(());
        }
        let s = &mut self.row_mut(number)?.summary;
        match side {
            Side::Local => s.on_frontier = belongs,
            Side::Global => s.on_global_frontier = belongs,
        }
        let row = self.row(number)?.clone();
        let class = keys::class(&row.summary.class);
        match side {
            Side::Local => {
                self.set_entry(List::Local(&class), &row, belongs)?;
                self.recount(&row, |counters| &mut counters.frontier, belongs)
            }
            Side::Global => {
                self.set_entry(List::Global(&class), &row, belongs)?;
                self.recount(&row, |counters| &mut counters.global_frontier, belongs)
            }
        }
    }

    /// Puts a keep that joined its task's tree on the reference's frontier, and takes its parent off when it is
    /// better. Verdicts and terms have no effect there.
    pub(super) fn enter_reference_frontier(&mut self, row: &RecordRow) -> Result<()> {
        self.set_reference(row, true)?;
        if row.parent_number == 0 {
            return Ok(());
        }
        let parent = self.row(row.parent_number)?.clone();
        let goal = self.task(&row.summary.task_id)?.goal();
        if parent.summary.on_reference_frontier
            && beats(&FrontierKind::Reference, goal, &row.candidate(), &parent.candidate())
        {
            self.set_reference(&parent, false)?;
        }
        Ok(())
    }

    pub(super) fn set_reference(&mut self, row: &RecordRow, on: bool) -> Result<()> {
        self.row_mut(row.number())?.summary.on_reference_frontier = on;
        self.set_entry(List::Reference, row, on)?;
        let state = self.task(&row.summary.task_id)?;
        state.counted.reference = recount(state.counted.reference, !on, on);
        self.tally.counted.reference = recount(self.tally.counted.reference, !on, on);
        Ok(())
    }

    fn set_entry(&mut self, list: List<'_>, row: &RecordRow, on: bool) -> Result<()> {
        let s = &row.summary;
        let goal = self.task(&s.task_id)?.goal();
        let key = list.key(&s.task_id, goal, s.metric, &row.moment());
        if on {
            self.view.put(Column::Frontier, key, Vec::new());
        } else {
            self.view.delete(Column::Frontier, key);
        }
        Ok(())
    }

    /// Counts one record more or less in its class, its task and in all.
    fn recount(&mut self, row: &RecordRow, field: fn(&mut Counters) -> &mut u64, more: bool) -> Result<()> {
        let s = &row.summary;
        let count = |counters: &mut Counters| {
            let count = field(counters);
            *count = recount(*count, !more, more);
        };
        count(&mut self.class(&s.task_id, &s.class)?.counted);
        count(&mut self.task(&s.task_id)?.counted);
        count(&mut self.tally.counted);
        Ok(())
    }
}
