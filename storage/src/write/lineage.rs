//! Trees, roots and frontiers: a record counts while it descends from its task's root.
//!
//! A child's tree is its parent's, so a tree joins and leaves as a whole. Joining parents before
//! children is all that a frontier needs: a record enters it as it joins and is taken off by the
//! first child that beats it.

use spore_protocol::{
    RecordId, Status, TaskId,
    frontier::{View, beats, share_view},
    lineage::RootRank,
};

use super::Batch;
use crate::{
    columns::Column,
    db::Source,
    error::{Result, StoreError},
    keys, read,
    values::{Facts, TaskState},
};

/// Which of a task's two kinds of frontier.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frontier {
    Class,
    Blind,
}

impl Batch<'_> {
    /// A parentless record came: it may be the task's root from now on.
    pub(super) fn plant(&mut self, facts: &Facts) -> Result<()> {
        let task = facts.task_id;
        self.view.put(Column::Roots, keys::root(&task, &facts.id), Vec::new());
        let mut state = self.task(&task)?.clone();
        let contenders = if task == TaskId::from(facts.id) {
            // The founder is known now, and its word on roots counts against all earlier ones.
            state.founder = Some(facts.node_id);
            self.roots(&task)?
        } else {
            state.root.into_iter().chain([facts.id]).collect()
        };
        self.settle(&task, state, &contenders)
    }

    /// Every parentless record of a task.
    pub(super) fn roots(&self, task: &TaskId) -> Result<Vec<RecordId>> {
        let keys = self.view.keys(Column::Roots, &task.0)?;
        keys.iter().map(|key| keys::last_id(key).map(RecordId)).collect()
    }

    /// Takes over what is newly known of a task, and moves trees where that changes the root
    /// (the least in rank of `contenders`) or the goal.
    pub(super) fn settle(&mut self, task: &TaskId, known: TaskState, contenders: &[RecordId]) -> Result<()> {
        let mut least: Option<RootRank> = None;
        for id in contenders {
            let record = read::record(&self.view, id)?.ok_or_else(|| StoreError::corrupt("a root's record is gone"))?;
            let rank = RootRank::of(*id, &record, known.creator());
            least = Some(least.map_or(rank, |least| least.min(rank)));
        }
        let root = least.map(|rank| rank.id());
        let before = self.task(task)?.clone();
        let same = before.root == root && before.goal() == known.goal();
        if let (Some(old), false) = (before.root, same) {
            self.leave_tree(old)?;
        }
        let state = self.task(task)?;
        (state.manifest, state.founder, state.root) = (known.manifest, known.founder, root);
        if let (Some(new), false) = (root, same) {
            self.join_tree(new)?;
        }
        Ok(())
    }

    fn children(&self, id: &RecordId) -> Result<Vec<RecordId>> {
        let keys = self.view.keys(Column::Children, &id.0)?;
        keys.iter().map(|key| keys::last_id(key).map(RecordId)).collect()
    }

    fn facts(&self, id: &RecordId) -> Result<Facts> {
        read::facts(&self.view, id)?.ok_or_else(|| StoreError::corrupt(format!("record {id} lacks its facts")))
    }

    fn join_tree(&mut self, root: RecordId) -> Result<()> {
        let mut ahead = vec![(root, None)];
        while let Some((id, parent)) = ahead.pop() {
            let facts = self.facts(&id)?;
            let parent: Option<RecordId> = parent;
            let parent = parent.map(|parent| self.facts(&parent)).transpose()?;
            self.join(&facts, parent.as_ref())?;
            ahead.extend(self.children(&id)?.into_iter().map(|child| (child, Some(id))));
        }
        Ok(())
    }

    fn leave_tree(&mut self, root: RecordId) -> Result<()> {
        let mut ahead = vec![root];
        while let Some(id) = ahead.pop() {
            let facts = self.facts(&id)?;
            self.leave(&facts)?;
            ahead.extend(self.children(&id)?);
        }
        Ok(())
    }

    /// The record descends from the task's root: it counts, and may be on frontiers.
    pub(super) fn join(&mut self, facts: &Facts, parent: Option<&Facts>) -> Result<()> {
        let mut standing = read::standing(&self.view, &facts.id)?;
        standing.stray = false;
        self.put_standing(&facts.id, standing);
        let state = self.task(&facts.task_id)?;
        state.strays = state.strays.saturating_sub(1);
        state.experiments += 1;
        *state.of_status(facts.status) += 1;
        state.verified += u64::from(standing.verdict.holds());
        let goal = state.goal();
        self.class(facts)?.experiments += 1;
        if facts.status != Status::Keep {
            return Ok(());
        }
        let candidate = facts.candidate();
        for (frontier, view) in
            [(Frontier::Class, View::Class(facts.class.clone())), (Frontier::Blind, View::ClassBlind)]
        {
            self.enter(frontier, facts)?;
            if let Some(parent) = parent {
                let other = parent.candidate();
                if share_view(&view, &candidate, &other) && beats(goal, &candidate, &other) {
                    self.quit(frontier, parent)?;
                }
            }
        }
        Ok(())
    }

    /// The record no longer descends from the task's root.
    fn leave(&mut self, facts: &Facts) -> Result<()> {
        for frontier in [Frontier::Class, Frontier::Blind] {
            self.quit(frontier, facts)?;
        }
        let mut standing = read::standing(&self.view, &facts.id)?;
        standing.stray = true;
        self.put_standing(&facts.id, standing);
        let state = self.task(&facts.task_id)?;
        state.strays += 1;
        state.experiments = state.experiments.saturating_sub(1);
        let status = state.of_status(facts.status);
        *status = status.saturating_sub(1);
        state.verified = state.verified.saturating_sub(u64::from(standing.verdict.holds()));
        let class = self.class(facts)?;
        class.experiments = class.experiments.saturating_sub(1);
        Ok(())
    }

    fn enter(&mut self, frontier: Frontier, facts: &Facts) -> Result<()> {
        let mut standing = read::standing(&self.view, &facts.id)?;
        let key = self.frontier_key(frontier, facts)?;
        self.view.put(Column::Frontier, key, Vec::new());
        match frontier {
            Frontier::Class => {
                standing.on_frontier = true;
                self.class(facts)?.frontier += 1;
            }
            Frontier::Blind => {
                standing.on_frontier_blind = true;
                self.task(&facts.task_id)?.frontier += 1;
                self.tally.frontier += 1;
            }
        }
        self.put_standing(&facts.id, standing);
        Ok(())
    }

    /// Takes a record off a frontier, if it is on it.
    fn quit(&mut self, frontier: Frontier, facts: &Facts) -> Result<()> {
        let mut standing = read::standing(&self.view, &facts.id)?;
        let flag = match frontier {
            Frontier::Class => &mut standing.on_frontier,
            Frontier::Blind => &mut standing.on_frontier_blind,
        };
        if !std::mem::take(flag) {
            return Ok(());
        }
        self.put_standing(&facts.id, standing);
        let key = self.frontier_key(frontier, facts)?;
        self.view.delete(Column::Frontier, key);
        match frontier {
            Frontier::Class => {
                let class = self.class(facts)?;
                class.frontier = class.frontier.saturating_sub(1);
            }
            Frontier::Blind => {
                let state = self.task(&facts.task_id)?;
                state.frontier = state.frontier.saturating_sub(1);
                self.tally.frontier = self.tally.frontier.saturating_sub(1);
            }
        }
        Ok(())
    }

    fn frontier_key(&mut self, frontier: Frontier, facts: &Facts) -> Result<Vec<u8>> {
        let goal = self.task(&facts.task_id)?.goal();
        let class = (frontier == Frontier::Class).then(|| keys::class(&facts.class));
        Ok(keys::frontier(&facts.task_id, class.as_ref(), goal, facts.metric, facts.timestamp, &facts.id))
    }
}
