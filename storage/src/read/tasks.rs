//! Questions about tasks.

use std::{collections::BTreeSet, ops::ControlFlow};

use spore_protocol::{HardwareClass, Kind, RecordId, TaskId};

use super::listing::IndexListing;
use crate::{
    columns::Column,
    db::{DbSnapshot, KeyOrder, KeyReader},
    error::{Damage, Result},
    keys::{self, List},
    lookup::{self, manifest, placing, row, task_state},
    store::Store,
    types::{ClassView, Improvement, Page, Span, TaskView},
    values::{self, ClassState, TaskState},
};

/// Tasks of one trusted key that may be the default. An operator trusts few keys, and each makes few tasks.
const TASKS_OF_ONE: usize = 64;

/// The metric of version 1 records, and of tasks whose manifest is unknown.
const DEFAULT_METRIC: &str = "val_bpb";

impl Store {
    /// Every task with a stored manifest or record, by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tasks(&self) -> Result<Vec<TaskView>> {
        let view = self.view();
        by_id()
            .head(&view, usize::MAX, |key, value| task_view(&view, TaskId(keys::last_id(key)?), values::decode(value)?))
    }

    /// As [`Store::tasks`], a page at a time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tasks_page(&self, span: &Span) -> Result<Page<TaskView>> {
        let view = self.view();
        let task = |key: &[u8], value: &[u8]| task_view(&view, TaskId(keys::last_id(key)?), values::decode(value)?);
        by_id().page_of(&view, span, task, bytes_of)
    }

    /// The first `limit` of [`Store::active_tasks`], each with its [`TaskView::confirmed_signers`]. Reads nothing else of
    /// them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn active_task_ids(&self, limit: usize) -> Result<Vec<(TaskId, u32)>> {
        let list = IndexListing { column: Column::Activity, prefix: &[], order: KeyOrder::Ascending };
        list.head(&self.view(), limit, |key, _| Ok((TaskId(keys::last_id(key)?), keys::confirmed_signers(key)?)))
    }

    /// The tasks, the most active first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn active_tasks(&self, span: &Span) -> Result<Page<TaskView>> {
        let view = self.view();
        let list = IndexListing { column: Column::Activity, prefix: &[], order: KeyOrder::Ascending };
        list.page_of(&view, span, |key, _| known(&view, TaskId(keys::last_id(key)?)), bytes_of)
    }

    /// One task.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn task(&self, id: &TaskId) -> Result<Option<TaskView>> {
        let view = self.view();
        task_state(&view, id)?.map(|state| task_view(&view, *id, state)).transpose()
    }

    /// The sequence number of the newest change that concerns a task: of one of its records, of its manifest, of a
    /// control event about one of its records, on which verdicts depend, or of a change elsewhere that changed the level
    /// of a signer here. 0 for a task that is not here. While it stays the same, so does everything that
    /// [`Store::graph`] shows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn task_sequence(&self, task: &TaskId) -> Result<u64> {
        task_sequence(self.database(), task)
    }

    /// The most active task.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn most_active_task(&self) -> Result<Option<TaskId>> {
        let first = self.view().first(Column::Activity, &[], None, KeyOrder::Ascending)?;
        first.map(|(key, _)| keys::last_id(&key).map(TaskId)).transpose()
    }

    /// The task that a node works on when no task is pinned: of the built-in tasks and of those whose manifest a
    /// trusted key signed, among those for which `fit` is true, the first in the order of [`Store::active_tasks`].
    /// Other tasks are not looked at, however many there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn default_task(&self, built_in: &[TaskId], fit: impl Fn(&TaskView) -> bool) -> Result<Option<TaskId>> {
        let view = self.view();
        let candidates = trusted_tasks(&view, built_in)?;
        let mut best: Option<(Vec<u8>, TaskId)> = None;
        for id in candidates {
            let Some(state) = task_state(&view, &id)? else { continue };
            let Some(rank) = state.activity.map(|rank| keys::activity(&rank, &id)) else { continue };
            if best.as_ref().is_none_or(|(lowest, _)| rank < *lowest) && fit(&task_view(&view, id, state)?) {
                best = Some((rank, id));
            }
        }
        Ok(best.map(|(_, id)| id))
    }

    /// The tasks that a node works on without being asked: the built-in ones, and those whose manifest a trusted key
    /// signed, at most 64 of each key. They need not be stored yet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn trusted_tasks(&self, built_in: &[TaskId]) -> Result<BTreeSet<TaskId>> {
        trusted_tasks(&self.view(), built_in)
    }

    /// The comparable keeps that hold locally and are better than all of these before them by (timestamp, id), in a
    /// class or in all classes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn improvements(&self, task: &TaskId, class: Option<&HardwareClass>, span: &Span) -> Result<Page<Improvement>> {
        let view = self.view();
        let prefix = keys::view(task, class.map(keys::class).as_ref());
        let list = IndexListing { column: Column::Series, prefix: &prefix, order: KeyOrder::Ascending };
        list.page(&view, span, |key, value| {
            let metric = f64::from_bits(values::number(value)?);
            let timestamp = keys::number_at(key, prefix.len())?;
            Ok(Improvement { id: placing(&view, keys::last_number(key)?)?.id, timestamp, metric })
        })
    }
}

fn trusted_tasks(view: &DbSnapshot<'_>, built_in: &[TaskId]) -> Result<BTreeSet<TaskId>> {
    let mut tasks: BTreeSet<TaskId> = built_in.iter().copied().collect();
    for seed in lookup::seeds(view)? {
        let list = IndexListing { column: Column::Creators, prefix: &seed.0, order: KeyOrder::Ascending };
        tasks.extend(list.head(view, TASKS_OF_ONE, |key, _| keys::last_id(key).map(TaskId))?);
    }
    Ok(tasks)
}

/// As [`Store::task_sequence`].
pub fn task_sequence(source: &dyn KeyReader, task: &TaskId) -> Result<u64> {
    let newest = source.first(Column::LogByTask, &task.0, None, KeyOrder::Descending)?;
    let newest = newest.map_or(Ok(0), |(key, _)| keys::last_number(&key))?;
    let newest = newest.max(moved(source, task)?);
    // Verdicts may still change under this number. A reader that asks again after the number below it gets the rest.
    let settled = source.first(Column::Unsettled, &[], None, KeyOrder::Ascending)?.is_none();
    Ok(if settled { newest } else { newest.saturating_sub(1) })
}

/// The sequence number at which verdicts of a task last changed without an entry of the task in the change log; 0 if
/// they never did.
pub fn moved(source: &dyn KeyReader, task: &TaskId) -> Result<u64> {
    source.get(Column::Moved, &task.0)?.map_or(Ok(0), |bytes| values::number(&bytes))
}

const fn by_id() -> IndexListing<'static> {
    IndexListing { column: Column::Tasks, prefix: &[], order: KeyOrder::Ascending }
}

/// Bytes of a task in a page. Most of them may be its manifest.
fn bytes_of(task: &TaskView) -> usize {
    task.manifest.as_ref().map_or(0, |manifest| manifest.canonical().len())
}

/// A task that an index names.
fn known(view: &DbSnapshot<'_>, id: TaskId) -> Result<TaskView> {
    let state = task_state(view, &id)?;
    task_view(view, id, state.ok_or(Damage::NoObject { kind: Kind::Task, id: id.into() })?)
}

fn task_view(view: &DbSnapshot<'_>, id: TaskId, state: TaskState) -> Result<TaskView> {
    let legacy = state.founder.is_some();
    let goal = state.goal();
    let prefix = if legacy { "legacy" } else { "task" };
    let (name, metric) = match &state.manifest {
        Some(manifest) => (manifest.name.clone(), manifest.metric.clone()),
        None => (format!("{prefix}-{}", id.short()), DEFAULT_METRIC.to_owned()),
    };
    let classes = classes(view, &id)?;
    let best_of = |best: fn(&ClassView) -> Option<(RecordId, f64)>| {
        let all = classes.iter().filter_map(best);
        all.min_by(|(id_a, a), (id_b, b)| goal.order(*a, *b).then_with(|| id_a.cmp(id_b)))
    };
    let (best, best_global) = (best_of(|class| class.best), best_of(|class| class.best_global));
    Ok(TaskView {
        task_id: id,
        manifest: if state.manifest.is_some() { manifest(view, &id)? } else { None },
        legacy,
        name,
        metric,
        goal,
        root: state.root,
        experiment_count: state.counted.experiments,
        keep_count: state.counted.keeps,
        discard_count: state.counted.discards,
        crash_count: state.counted.crashes,
        verified_count: state.counted.verified,
        stray_count: state.strays,
        node_count: state.nodes,
        last_activity: state.activity.map(|activity| activity.newest).unwrap_or_default(),
        classes,
        frontier_size: state.counted.frontier,
        global_frontier_size: state.counted.global_frontier,
        claims_count: state.counted.claims,
        reference_frontier_size: state.counted.reference,
        best,
        best_global,
        confirmed_signers: state.confirmed_signers,
    })
}

fn classes(view: &DbSnapshot<'_>, task: &TaskId) -> Result<Vec<ClassView>> {
    let mut classes = Vec::new();
    view.each(Column::Classes, &task.0, &mut |_, value| {
        let ClassState { class, counted, .. } = values::decode(value)?;
        if counted.experiments > 0 {
            let key = keys::class(&class);
            let best = |list: List<'_>| best(view, &list.prefix(task));
            classes.push(ClassView {
                class,
                experiment_count: counted.experiments,
                keep_count: counted.keeps,
                discard_count: counted.discards,
                crash_count: counted.crashes,
                verified_count: counted.verified,
                frontier_size: counted.frontier,
                global_frontier_size: counted.global_frontier,
                claims_count: counted.claims,
                best: best(List::Local(&key))?,
                best_global: best(List::Global(&key))?,
            });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    classes.sort_by(|a, b| a.class.cmp(&b.class));
    Ok(classes)
}

/// The first record of a frontier, whose keys are in the order of the goal.
fn best(view: &DbSnapshot<'_>, prefix: &[u8]) -> Result<Option<(RecordId, f64)>> {
    let Some((key, _)) = view.first(Column::Frontier, prefix, None, KeyOrder::Ascending)? else { return Ok(None) };
    let best = row(view, keys::last_number(&key)?)?.summary;
    Ok(Some((best.id, best.metric)))
}
