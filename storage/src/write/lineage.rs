//! Trees, roots and frontiers: a record counts while it descends from its task's root.
//!
//! A child's tree is its parent's, so a tree joins as a whole, and leaves when another takes its
//! place. Joining parents before children is all that a frontier needs: a record enters it as it
//! joins and is taken off by the first child that beats it.

use std::ops::ControlFlow;

use spore_protocol::{
    Kind, NodeId, RecordId, Status, TaskId,
    frontier::{FrontierView, beats, share_view},
};

use super::Batch;
use crate::{
    columns::Column,
    db::{Source, Way},
    error::{Result, StoreError},
    keys, read,
    values::{Counters, Row, TaskState},
};

/// Which of a task's two kinds of frontier.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frontier {
    Class,
    Blind,
}

impl Batch<'_> {
    /// A parentless record came: it may be the task's root from now on.
    pub(super) fn plant(&mut self, number: u64) -> Result<()> {
        let s = &self.row(number)?.summary;
        let (id, task, signer, timestamp) = (s.id, s.task_id, s.node_id, s.timestamp);
        for of in [None, Some(&signer)] {
            self.view.put(Column::Roots, keys::root(&task, of, timestamp, &id), Vec::new());
        }
        let mut known = self.task(&task)?.clone();
        if task == TaskId::from(id) {
            // The founder's word on roots counts against all others'.
            known.founder = Some(signer);
        }
        self.settle(&task, known)
    }

    /// Takes over what is newly known of a task, and moves trees where that changes the root or
    /// the goal. The root is the creator's first parentless record, or else anybody's: the order
    /// of the protocol's [`spore_protocol::lineage`], which the keys keep.
    pub(super) fn settle(&mut self, task: &TaskId, known: TaskState) -> Result<()> {
        let root = match known.creator() {
            Some(creator) => self.first_root(task, Some(&creator))?,
            None => None,
        };
        let root = root.map_or_else(|| self.first_root(task, None), |root| Ok(Some(root)))?;
        let before = self.task(task)?.clone();
        let same = before.root == root && before.goal() == known.goal();
        if let (Some(root), false) = (before.root, same) {
            self.clear(task, &root)?;
        }
        let state = self.task(task)?;
        (state.manifest, state.founder, state.root) = (known.manifest, known.founder, root);
        if let (Some(root), false) = (root, same) {
            self.join_tree(&root)?;
        }
        Ok(())
    }

    fn first_root(&self, task: &TaskId, signer: Option<&NodeId>) -> Result<Option<RecordId>> {
        let first = self.view.first(Column::Roots, &keys::roots(task, signer), None, Way::Up)?;
        first.map(|(key, _)| keys::last_id(&key).map(RecordId)).transpose()
    }

    fn join_tree(&mut self, root: &RecordId) -> Result<()> {
        self.each_in_tree(root, |batch, number| batch.join(number))
    }

    /// Visits the records of a tree, parents before their children: none but those that a better root
    /// moves, however many strays a task has.
    fn each_in_tree(&mut self, root: &RecordId, mut visit: impl FnMut(&mut Self, u64) -> Result<()>) -> Result<()> {
        let number = read::number_of(&self.view, Kind::Experiment, &(*root).into())?;
        let mut ahead = vec![number.ok_or_else(|| StoreError::corrupt("a root is gone"))?];
        while let Some(number) = ahead.pop() {
            visit(self, number)?;
            self.view.each(Column::Children, &number.to_be_bytes(), &mut |key, _| {
                ahead.push(keys::last_number(key)?);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(())
    }

    /// No record of the task descends from this, its root, any more: all are strays.
    fn clear(&mut self, task: &TaskId, root: &RecordId) -> Result<()> {
        self.each_in_tree(root, |batch, number| {
            let summary = &mut batch.row_mut(number)?.summary;
            (summary.stray, summary.on_frontier, summary.on_frontier_blind) = (true, false, false);
            let class = summary.class.clone();
            batch.class(task, &class)?.counted = Counters::default();
            Ok(())
        })?;
        for key in self.view.keys(Column::Series, &task.0)? {
            self.credit(keys::last_number(&key)?)?;
        }
        for column in [Column::Frontier, Column::Metrics, Column::Series] {
            for key in self.view.keys(column, &task.0)? {
                self.view.delete(column, key);
            }
        }
        self.memory.tails.clear();
        let state = self.task(task)?;
        let gone = std::mem::take(&mut state.counted);
        state.strays += gone.experiments;
        self.tally.counted.frontier = self.tally.counted.frontier.saturating_sub(gone.frontier);
        self.stirred.insert(*task);
        Ok(())
    }

    /// The record descends from the task's root: it counts, and may be on frontiers.
    pub(super) fn join(&mut self, number: u64) -> Result<()> {
        let row = self.row_mut(number)?;
        row.summary.stray = false;
        let row = row.clone();
        let s = &row.summary;
        self.stirred.insert(s.task_id);
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
        self.improve(&row, None)?;
        self.improve(&row, Some(&keys::class(&s.class)))?;
        let parent = if row.parent_number == 0 { None } else { Some(self.row(row.parent_number)?.clone()) };
        let candidate = row.candidate();
        for (frontier, view) in
            [(Frontier::Class, FrontierView::Class(s.class.clone())), (Frontier::Blind, FrontierView::ClassBlind)]
        {
            self.enter(frontier, &row)?;
            if let Some(parent) = &parent {
                let other = parent.candidate();
                if share_view(&view, &candidate, &other) && beats(goal, &candidate, &other) {
                    self.quit(frontier, parent)?;
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, frontier: Frontier, row: &Row) -> Result<()> {
        let key = self.frontier_key(frontier, row)?;
        self.view.put(Column::Frontier, key, Vec::new());
        *self.flag(frontier, row.number())? = true;
        *self.frontier_size(frontier, row)? += 1;
        if frontier == Frontier::Blind {
            self.tally.counted.frontier += 1;
        }
        Ok(())
    }

    /// Takes a record off a frontier, if it is on it.
    fn quit(&mut self, frontier: Frontier, row: &Row) -> Result<()> {
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

    fn frontier_size(&mut self, frontier: Frontier, row: &Row) -> Result<&mut u64> {
        let s = &row.summary;
        Ok(match frontier {
            Frontier::Class => &mut self.class(&s.task_id, &s.class)?.counted.frontier,
            Frontier::Blind => &mut self.task(&s.task_id)?.counted.frontier,
        })
    }

    fn frontier_key(&mut self, frontier: Frontier, row: &Row) -> Result<Vec<u8>> {
        let s = &row.summary;
        let goal = self.task(&s.task_id)?.goal();
        let class = (frontier == Frontier::Class).then(|| keys::class(&s.class));
        Ok(keys::frontier(&s.task_id, class.as_ref(), goal, s.metric, &row.moment()))
    }
}
