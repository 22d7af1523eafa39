//! Trees, roots and frontiers. A record counts while it descends from its task's root.
//!
//! A child is in its parent's tree. A tree joins as a whole when its root becomes the task's root, and leaves as a
//! whole when another root replaces it. Parents always join before their children, and that is all that a frontier
//! needs: a record enters the frontier when it joins, and leaves it when the first child that is better joins.

use std::ops::ControlFlow;

use spore_protocol::{
    Kind, NodeId, RecordId, Status, TaskId,
    frontier::{FrontierView, beats, share_view},
};

use super::InsertBatch;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys, lookup,
    values::{Counters, RecordRow, TaskState},
};

/// One of a task's two kinds of frontier.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frontier {
    Class,
    Blind,
}

impl InsertBatch<'_> {
    /// Adds a parentless record, which may become the task's root.
    pub(super) fn add_root(&mut self, number: u64) -> Result<()> {
        let s = &self.row(number)?.summary;
        let (id, task, signer, timestamp) = (s.id, s.task_id, s.node_id, s.timestamp);
        for of in [None, Some(&signer)] {
            self.view.put(Column::Roots, keys::root(&task, of, timestamp, &id), Vec::new());
        }
        let mut known = self.task(&task)?.clone();
        if task == TaskId::from(id) {
            // The founder's roots precede all others.
            known.founder = Some(signer);
        }
        self.update_task(&task, known)
    }

    /// Replaces what is known of a task, and moves trees when that changes the root or the goal. The root is the
    /// creator's first parentless record, or else the first one of all nodes. The keys are in the order of the
    /// protocol's [`spore_protocol::lineage`].
    pub(super) fn update_task(&mut self, task: &TaskId, known: TaskState) -> Result<()> {
        let root = match known.creator() {
            Some(creator) => self.first_root(task, Some(&creator))?,
            None => None,
        };
        let root = root.map_or_else(|| self.first_root(task, None), |root| Ok(Some(root)))?;
        let before = self.task(task)?.clone();
        let same = before.root == root && before.goal() == known.goal();
        if let (Some(root), false) = (before.root, same) {
            self.clear_tree(task, &root)?;
        }
        let state = self.task(task)?;
        (state.manifest, state.founder, state.root) = (known.manifest, known.founder, root);
        if let (Some(root), false) = (root, same) {
            self.join_tree(&root)?;
        }
        Ok(())
    }

    fn first_root(&self, task: &TaskId, signer: Option<&NodeId>) -> Result<Option<RecordId>> {
        let first = self.view.first(Column::Roots, &keys::roots(task, signer), None, KeyOrder::Ascending)?;
        first.map(|(key, _)| keys::last_id(&key).map(RecordId)).transpose()
    }

    fn join_tree(&mut self, root: &RecordId) -> Result<()> {
        self.each_in_tree(root, |batch, number| batch.join(number))
    }

    /// Visits the records of a tree, parents before their children. Visits no strays of other trees, however many a
    /// task has.
    fn each_in_tree(&mut self, root: &RecordId, mut visit: impl FnMut(&mut Self, u64) -> Result<()>) -> Result<()> {
        let number = lookup::number_of(&self.view, Kind::Experiment, &(*root).into())?;
        let mut ahead = vec![number.ok_or(Damage::NoObject { kind: Kind::Experiment, id: (*root).into() })?];
        while let Some(number) = ahead.pop() {
            visit(self, number)?;
            self.view.each(Column::Children, &number.to_be_bytes(), &mut |key, _| {
                ahead.push(keys::last_number(key)?);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(())
    }

    /// Makes all records of the tree of `root`, which was the task's root, strays.
    fn clear_tree(&mut self, task: &TaskId, root: &RecordId) -> Result<()> {
        self.each_in_tree(root, |batch, number| {
            let summary = &mut batch.row_mut(number)?.summary;
            (summary.stray, summary.on_frontier, summary.on_frontier_blind) = (true, false, false);
            let class = summary.class.clone();
            batch.class(task, &class)?.counted = Counters::default();
            Ok(())
        })?;
        for key in self.view.keys(Column::Series, &task.0)? {
            self.rejudge_if_verified(keys::last_number(&key)?)?;
        }
        for column in [Column::Frontier, Column::Metrics, Column::Series] {
            for key in self.view.keys(column, &task.0)? {
                self.view.delete(column, key);
            }
        }
        self.cache.tails.clear();
        let state = self.task(task)?;
        let gone = std::mem::take(&mut state.counted);
        state.strays += gone.experiments;
        self.tally.counted.frontier = self.tally.counted.frontier.saturating_sub(gone.frontier);
        self.rank_changed.insert(*task);
        Ok(())
    }

    /// Counts a record that descends from the task's root, and puts it on frontiers.
    pub(super) fn join(&mut self, number: u64) -> Result<()> {
        let row = self.row_mut(number)?;
        row.summary.stray = false;
        let row = row.clone();
        let s = &row.summary;
        self.rank_changed.insert(s.task_id);
        let state = self.task(&s.task_id)?;
        let goal = state.goal();
        state.strays = state.strays.saturating_sub(1);
        state.counted.add(s.status);
        state.counted.reverify(false, s.verdict.holds());
        let class = self.class(&s.task_id, &s.class)?;
        class.counted.add(s.status);
        class.counted.reverify(false, s.verdict.holds());
        if s.status != Status::Crash {
            let key = keys::metric(&s.task_id, goal, s.metric, &row.moment());
            self.view.put(Column::Metrics, key, Vec::new());
        }
        if s.status != Status::Keep {
            return Ok(());
        }
        self.enter_series(&row, None)?;
        self.enter_series(&row, Some(&keys::class(&s.class)))?;
        let parent = if row.parent_number == 0 { None } else { Some(self.row(row.parent_number)?.clone()) };
        let candidate = row.candidate();
        for (frontier, view) in
            [(Frontier::Class, FrontierView::Class(s.class.clone())), (Frontier::Blind, FrontierView::ClassBlind)]
        {
            self.enter_frontier(frontier, &row)?;
            if let Some(parent) = &parent {
                let other = parent.candidate();
                if share_view(&view, &candidate, &other) && beats(goal, &candidate, &other) {
                    self.leave_frontier(frontier, parent)?;
                }
            }
        }
        Ok(())
    }

    fn enter_frontier(&mut self, frontier: Frontier, row: &RecordRow) -> Result<()> {
        let key = self.frontier_key(frontier, row)?;
        self.view.put(Column::Frontier, key, Vec::new());
        *self.flag(frontier, row.number())? = true;
        *self.frontier_size(frontier, row)? += 1;
        if frontier == Frontier::Blind {
            self.tally.counted.frontier += 1;
        }
        Ok(())
    }

    /// Removes a record from a frontier, if it is on it.
    fn leave_frontier(&mut self, frontier: Frontier, row: &RecordRow) -> Result<()> {
        if !std::mem::take(self.flag(frontier, row.number())?) {
            return Ok(());
        }
        let key = self.frontier_key(frontier, row)?;
        self.view.delete(Column::Frontier, key);
        let size = self.frontier_size(frontier, row)?;
        *size = size.saturating_sub(1);
        if frontier == Frontier::Blind {
            self.tally.counted.frontier = self.tally.counted.frontier.saturating_sub(1);
        }
        Ok(())
    }

    fn flag(&mut self, frontier: Frontier, number: u64) -> Result<&mut bool> {
        let summary = &mut self.row_mut(number)?.summary;
        Ok(match frontier {
            Frontier::Class => &mut summary.on_frontier,
            Frontier::Blind => &mut summary.on_frontier_blind,
        })
    }

    fn frontier_size(&mut self, frontier: Frontier, row: &RecordRow) -> Result<&mut u64> {
        let s = &row.summary;
        Ok(match frontier {
            Frontier::Class => &mut self.class(&s.task_id, &s.class)?.counted.frontier,
            Frontier::Blind => &mut self.task(&s.task_id)?.counted.frontier,
        })
    }

    fn frontier_key(&mut self, frontier: Frontier, row: &RecordRow) -> Result<Vec<u8>> {
        let s = &row.summary;
        let goal = self.task(&s.task_id)?.goal();
        let class = (frontier == Frontier::Class).then(|| keys::class(&s.class));
        Ok(keys::frontier(&s.task_id, class.as_ref(), goal, s.metric, &row.moment()))
    }
}
