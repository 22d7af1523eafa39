//! Trees and roots. A record counts while it descends from its task's root.
//!
//! A child is in its parent's tree. A tree joins as a whole when its root becomes the task's root, and leaves as a
//! whole when another root replaces it. Parents always join before their children. A tree leaves and joins again when
//! the task's goal or its terms change: a manifest may arrive after records.

use std::ops::ControlFlow;

use spore_protocol::{
    Kind, NodeId, Record, RecordId, Status, TaskId,
    terms::{self, Terms},
};

use super::{InsertBatch, frontier::Places};
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys::{self, TimeList},
    lookup,
    values::{BetterChildren, Counters, GraphPoint, TaskState},
};

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
        let terms = match &known.manifest {
            Some(manifest) => Some(manifest.terms.clone()),
            None if before.root == root && before.founder == known.founder => before.terms.clone(),
            None => self.terms_of_root(&known, root.as_ref())?,
        };
        let same = before.root == root && before.goal() == known.goal() && before.terms == terms;
        if let (Some(root), false) = (before.root, same) {
            self.clear_tree(task, &root)?;
        }
        let same_goal = before.goal() == known.goal();
        let state = self.task(task)?;
        (state.manifest, state.founder, state.root, state.terms) = (known.manifest, known.founder, root, terms);
        if let (Some(root), false) = (root, same) {
            self.join_tree(&root)?;
        }
        if same_goal { Ok(()) } else { self.goal_changed(task) }
    }

    /// The terms of a task without a manifest: those of its root, if it is a legacy task.
    fn terms_of_root(&self, known: &TaskState, root: Option<&RecordId>) -> Result<Option<Terms>> {
        let Some(root) = root.filter(|_| known.founder.is_some()) else { return Ok(None) };
        Ok(lookup::record(&self.view, root)?.map(|root| Terms::of_root(&root)))
    }

    /// A refutation is on the worst side of the goal, so verdicts may change. They change for measured records only.
    fn goal_changed(&mut self, task: &TaskId) -> Result<()> {
        let mut measured = Vec::new();
        self.view.each(Column::Timeline, &TimeList::TaskRecords(*task).prefix(), &mut |_, value| {
            let point = GraphPoint::decode(value)?;
            if point.measured() {
                measured.push(point.number);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.unjudged.extend(measured);
        Ok(())
    }

    fn first_root(&self, task: &TaskId, signer: Option<&NodeId>) -> Result<Option<RecordId>> {
        let first = self.view.first(Column::Roots, &keys::roots(task, signer), None, KeyOrder::Ascending)?;
        first.map(|(key, _)| keys::last_id(&key).map(RecordId)).transpose()
    }

    fn join_tree(&mut self, root: &RecordId) -> Result<()> {
        self.each_in_tree(root, |batch, number| batch.join(number, None))
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
            let row = batch.row_mut(number)?;
            let confirmed = Places::of(&row.summary).confirmed;
            row.better = BetterChildren::default();
            let s = &mut row.summary;
            (s.stray, s.flaw) = (true, None);
            (s.on_frontier, s.on_global_frontier, s.on_reference_frontier) = (false, false, false);
            let (class, signer) = (s.class.clone(), s.node_id);
            if confirmed {
                batch.node(Some(*task), signer)?.confirmed = 0;
            }
            batch.class(task, &class)?.counted = Counters::default();
            Ok(())
        })?;
        for key in self.view.keys(Column::Series, &task.0)? {
            self.unawarded.insert(keys::last_number(&key)?);
        }
        for column in [Column::Frontier, Column::Metrics, Column::ClassRecords, Column::Series] {
            for key in self.view.keys(column, &task.0)? {
                self.view.delete(column, key);
            }
        }
        self.cache.tails.clear();
        let state = self.task(task)?;
        let gone = std::mem::take(&mut state.counted);
        state.strays += gone.experiments;
        state.confirmed_signers = 0;
        self.tally.counted.without_lists_of(&gone);
        self.rank_changed.insert(*task);
        Ok(())
    }

    /// Counts a record that descends from the task's root, and puts it on the lists. `record` is given when it is at
    /// hand, for else it is read.
    pub(super) fn join(&mut self, number: u64, record: Option<&Record>) -> Result<()> {
        let s = &self.row(number)?.summary;
        let (id, task) = (s.id, s.task_id);
        let terms = self.task(&task)?.terms.clone().unwrap_or_default();
        let flaw = match record {
            Some(record) => terms::flaw(record, &terms),
            None => {
                let record = lookup::record(&self.view, &id)?;
                let record = record.ok_or(Damage::NoObject { kind: Kind::Experiment, id: id.into() })?;
                terms::flaw(&record, &terms)
            }
        };
        let row = self.row_mut(number)?;
        (row.summary.stray, row.summary.flaw) = (false, flaw);
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
        let class = keys::class(&s.class);
        self.view.put(Column::ClassRecords, keys::class_record(&s.task_id, &class, &row.moment()), Vec::new());
        if s.status != Status::Crash {
            let key = keys::metric(&s.task_id, goal, s.metric, &row.moment());
            self.view.put(Column::Metrics, key, Vec::new());
        }
        if s.status == Status::Keep {
            self.enter_reference_frontier(&row)?;
        }
        self.update_places(number, Places::default())
    }
}
