//! Questions about tasks.

use std::ops::ControlFlow;

use spore_protocol::{
    RecordId, Status, TaskId,
    activity::{ACTIVITY_WINDOW, TaskActivity, most_active},
};

use super::{facts, first_ids, manifest, standing, task_state};
use crate::{
    columns::Column,
    db::{Source, View},
    error::{Result, StoreError},
    keys,
    store::Store,
    types::{ClassView, Scope, TaskView},
    values::{self, ClassState, TaskState},
};

/// The metric of version 1 records, and what is assumed while a manifest is unknown.
const DEFAULT_METRIC: &str = "val_bpb";

impl Store {
    /// Every task of which a manifest or a record is here, by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tasks(&self) -> Result<Vec<TaskView>> {
        let view = self.view();
        let mut tasks = Vec::new();
        for (id, state) in states(&view)? {
            tasks.push(task_view(&view, id, state)?);
        }
        Ok(tasks)
    }

    /// One task.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn task(&self, id: &TaskId) -> Result<Option<TaskView>> {
        let view = self.view();
        task_state(&view, id)?.map(|state| task_view(&view, *id, state)).transpose()
    }

    /// The task that a node follows when none is pinned.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn most_active_task(&self) -> Result<Option<TaskId>> {
        self.most_active_task_where(|_| true)
    }

    /// As [`Store::most_active_task`], out of the tasks that a node can work on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn most_active_task_where(&self, fit: impl Fn(&TaskView) -> bool) -> Result<Option<TaskId>> {
        let view = self.view();
        let mut activities = Vec::new();
        for (id, state) in states(&view)? {
            let task = task_view(&view, id, state)?;
            if fit(&task) {
                activities.push(activity(&view, &task)?);
            }
        }
        Ok(most_active(activities))
    }
}

fn states(view: &View<'_>) -> Result<Vec<(TaskId, TaskState)>> {
    let mut states = Vec::new();
    view.each(Column::Tasks, &[], &mut |key, value| {
        states.push((TaskId(keys::last_id(key)?), values::decode(value)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(states)
}

fn task_view(view: &View<'_>, id: TaskId, state: TaskState) -> Result<TaskView> {
    let legacy = state.founder.is_some();
    let goal = state.goal();
    let prefix = if legacy { "legacy" } else { "task" };
    let (name, metric) = match &state.manifest {
        Some(manifest) => (manifest.name.clone(), manifest.metric.clone()),
        None => (format!("{prefix}-{}", id.short()), DEFAULT_METRIC.to_owned()),
    };
    let newest = newest(view, &id)?;
    let last_activity = newest.or(state.manifest.as_ref().map(|m| m.timestamp)).unwrap_or_default();
    Ok(TaskView {
        task_id: id,
        manifest: if state.manifest.is_some() { manifest(view, &id)? } else { None },
        legacy,
        name,
        metric,
        goal,
        root: state.root,
        experiment_count: state.experiments,
        keep_count: state.keeps,
        discard_count: state.discards,
        crash_count: state.crashes,
        verified_count: state.verified,
        stray_count: state.strays,
        node_count: state.nodes,
        last_activity,
        classes: classes(view, &id)?,
        frontier_size: state.frontier,
        best: best(view, &keys::frontier_prefix(&id, None))?,
    })
}

/// Timestamp of the newest record of a task.
fn newest(view: &View<'_>, task: &TaskId) -> Result<Option<u64>> {
    let mut newest = None;
    view.each_back(Column::Timeline, &keys::timeline_prefix(Scope::Task(*task)), &mut |key, _| {
        newest = Some(keys::time_before_id(key)?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(newest)
}

fn classes(view: &View<'_>, task: &TaskId) -> Result<Vec<ClassView>> {
    let mut states: Vec<ClassState> = Vec::new();
    view.each(Column::Classes, &task.0, &mut |_, value| {
        states.push(values::decode(value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    let mut classes = Vec::new();
    for state in states.into_iter().filter(|state| state.experiments > 0) {
        let best = best(view, &keys::frontier_prefix(task, Some(&keys::class(&state.class))))?;
        classes.push(ClassView {
            class: state.class,
            experiment_count: state.experiments,
            frontier_size: state.frontier,
            best,
        });
    }
    classes.sort_by(|a, b| a.class.cmp(&b.class));
    Ok(classes)
}

/// The first of a frontier, which is in the goal's order already.
fn best(view: &View<'_>, prefix: &[u8]) -> Result<Option<(RecordId, f64)>> {
    let Some(id) = first_ids(view, Column::Frontier, prefix, 1)?.pop() else { return Ok(None) };
    let facts = facts(view, &id)?.ok_or_else(|| StoreError::corrupt(format!("the frontier names record {id}")))?;
    Ok(Some((id, facts.metric)))
}

/// What a task's newest records show; strays among them show nothing.
fn activity(view: &View<'_>, task: &TaskView) -> Result<TaskActivity> {
    let mut newest = Vec::new();
    view.each_back(Column::Timeline, &keys::timeline_prefix(Scope::Task(task.task_id)), &mut |key, _| {
        newest.push(RecordId(keys::last_id(key)?));
        Ok(if newest.len() < ACTIVITY_WINDOW { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    let (mut recent, mut keeps) = (0, 0);
    for id in newest {
        if standing(view, &id)?.stray {
            continue;
        }
        recent += 1;
        keeps += usize::from(facts(view, &id)?.is_some_and(|facts| facts.status == Status::Keep));
    }
    Ok(TaskActivity { task_id: task.task_id, recent, keeps, newest: task.last_activity })
}
