//! Tasks as the reference lists them.

use std::collections::BTreeSet;

use serde::Serialize;
use spore_protocol::{Status, TaskId, frontier::FrontierKind};
use spore_storage::{PageDirection, Scope, Span, TaskView};

use super::Asked;
use crate::problem::ApiError;

/// Tasks in a list, the most active ones: anybody can create any number.
const MOST_TASKS: usize = 1_000;
/// Participants named in a task.
const MOST_PARTICIPANTS: usize = 5_000;
/// Tasks or nodes read in one step.
const STEP: usize = 500;
/// Newest records by which a task is hot.
const HOT: usize = 25;

/// A row of the reference's table of tasks.
pub struct TaskRow {
    pub id: TaskId,
    pub name: String,
    description: String,
    task_type: String,
    artifact_type: String,
    metric: String,
    goal: &'static str,
    source: &'static str,
    created_by: String,
    timestamp: u64,
    root: String,
}

#[derive(Serialize)]
pub struct TaskJson {
    task_id: String,
    name: String,
    description: String,
    task_type: String,
    artifact_type: String,
    metric: String,
    goal: &'static str,
    source: &'static str,
    created_by: String,
    timestamp: u64,
    root_experiment_id: String,
    experiment_count: u64,
    frontier_size: u64,
    best_val_bpb: Option<f64>,
    participant_count: usize,
    participants: Vec<String>,
    latest_activity: u64,
    is_active: bool,
}

#[derive(Serialize)]
pub struct HotTask {
    task_id: String,
    name: String,
    task_type: String,
    recent_experiment_count: usize,
    recent_keep_count: usize,
    latest_activity: u64,
    best_val_bpb: Option<f64>,
}

/// Counts of a task, or of all tasks.
#[derive(Default)]
pub struct Counts {
    pub experiments: u64,
    pub frontier: u64,
    pub best: Option<f64>,
    /// Nodes with a record on the frontier.
    pub frontier_nodes: usize,
}

/// The counts of the task with this id; of all tasks when the text is empty. An unknown task has none.
pub fn counts(asked: &Asked<'_>, task: &str) -> Result<Counts, ApiError> {
    let store = asked.view.store();
    let tasks: Vec<TaskView> = match (task.is_empty(), task.parse::<TaskId>()) {
        (true, _) => store.active_tasks(&Span::first(STEP))?.items,
        (false, Ok(id)) => store.task(&id)?.into_iter().collect(),
        (false, Err(_)) => Vec::new(),
    };
    let (mut counts, mut nodes) = (Counts::default(), BTreeSet::new());
    for task in tasks {
        counts.experiments += task.experiment_count.saturating_add(task.stray_count);
        counts.frontier += task.reference_frontier_size;
        let page = store.listing(&task.task_id, &FrontierKind::Reference, &Span::first(STEP))?;
        for record in page.items {
            counts.best = Some(counts.best.map_or(record.metric, |best| best.min(record.metric)));
            nodes.insert(record.node_id);
        }
    }
    counts.frontier_nodes = nodes.len();
    Ok(counts)
}

/// The task with this id. None when the reference would not know it: without a manifest and without a root.
pub fn row(asked: &Asked<'_>, id: &str) -> Result<Option<TaskRow>, ApiError> {
    let Ok(id) = id.parse::<TaskId>() else { return Ok(None) };
    asked.view.store().task(&id)?.map_or(Ok(None), |task| row_of(asked, task))
}

fn row_of(asked: &Asked<'_>, task: TaskView) -> Result<Option<TaskRow>, ApiError> {
    let root = task.root.map(|id| id.to_string()).unwrap_or_default();
    if let Some(manifest) = &task.manifest {
        return Ok(Some(TaskRow {
            id: task.task_id,
            name: manifest.name.clone(),
            description: manifest.description.clone(),
            task_type: manifest.task_type.clone(),
            artifact_type: manifest.artifact_type.to_string(),
            metric: manifest.metric.clone(),
            goal: manifest.goal.name(),
            source: "manifest",
            created_by: manifest.created_by.to_string(),
            timestamp: manifest.timestamp,
            root,
        }));
    }
    let first = task.root.map(|id| asked.view.store().summary(&id)).transpose()?.flatten();
    Ok(first.map(|first| TaskRow {
        id: task.task_id,
        name: task.name,
        description: if first.description.is_empty() { "Legacy backfilled task".into() } else { first.description },
        task_type: "legacy".into(),
        artifact_type: "python_train_script".into(),
        metric: "val_bpb".into(),
        goal: "minimize",
        source: "legacy",
        created_by: first.node_id.to_string(),
        timestamp: first.timestamp,
        root,
    }))
}

fn rows(asked: &Asked<'_>) -> Result<Vec<TaskRow>, ApiError> {
    let (mut found, mut span) = (Vec::new(), Span::first(STEP));
    for _ in 0..MOST_TASKS.div_ceil(STEP) {
        let page = asked.view.store().active_tasks(&span)?;
        for task in page.items {
            found.extend(row_of(asked, task)?);
        }
        match page.next {
            Some(next) => span = Span { after: Some(next), direction: PageDirection::Forward, limit: STEP },
            None => break,
        }
    }
    Ok(found)
}

/// The smallest metric on the task's frontier, as the reference computes it.
fn best(asked: &Asked<'_>, task: &TaskId) -> Result<Option<f64>, ApiError> {
    let page = asked.view.store().listing(task, &FrontierKind::Reference, &Span::first(STEP))?;
    Ok(page.items.iter().map(|record| record.metric).min_by(f64::total_cmp))
}

fn participants(asked: &Asked<'_>, task: &TaskId) -> Result<Vec<String>, ApiError> {
    let (mut found, mut span) = (Vec::new(), Span::first(STEP));
    for _ in 0..MOST_PARTICIPANTS.div_ceil(STEP) {
        let page = asked.view.store().nodes_page(Some(task), &span)?;
        found.extend(page.items.iter().filter(|node| node.experiment_count > 0).map(|node| node.node_id.to_string()));
        match page.next {
            Some(next) => span = Span { after: Some(next), direction: PageDirection::Forward, limit: STEP },
            None => break,
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A task with its counts.
pub fn summary(asked: &Asked<'_>, row: &TaskRow) -> Result<TaskJson, ApiError> {
    let store = asked.view.store();
    let (experiments, frontier) = store
        .task(&row.id)?
        .map_or((0, 0), |task| (task.experiment_count.saturating_add(task.stray_count), task.reference_frontier_size));
    let newest = store.recent_page(Scope::Task(row.id), &Span::first(1))?;
    let participants = participants(asked, &row.id)?;
    Ok(TaskJson {
        task_id: row.id.to_string(),
        name: row.name.clone(),
        description: row.description.clone(),
        task_type: row.task_type.clone(),
        artifact_type: row.artifact_type.clone(),
        metric: row.metric.clone(),
        goal: row.goal,
        source: row.source,
        created_by: row.created_by.clone(),
        timestamp: row.timestamp,
        root_experiment_id: row.root.clone(),
        experiment_count: experiments,
        frontier_size: frontier,
        best_val_bpb: best(asked, &row.id)?,
        participant_count: participants.len(),
        participants,
        latest_activity: newest.items.first().map_or(0, |record| record.timestamp),
        is_active: asked.active_task()? == row.id.to_string(),
    })
}

/// All tasks, the most active first.
pub fn all(asked: &Asked<'_>) -> Result<Vec<TaskJson>, ApiError> {
    let mut tasks: Vec<_> = rows(asked)?.iter().map(|row| summary(asked, row)).collect::<Result<_, _>>()?;
    tasks.sort_by(|a, b| {
        let key = |task: &TaskJson| (task.latest_activity, task.experiment_count, task.task_id.clone());
        key(b).cmp(&key(a))
    });
    Ok(tasks)
}

/// The tasks in which most happened lately.
pub fn hot(asked: &Asked<'_>) -> Result<Vec<HotTask>, ApiError> {
    let mut hot = Vec::new();
    for row in rows(asked)? {
        let recent = asked.view.store().recent_page(Scope::Task(row.id), &Span::first(HOT))?.items;
        hot.push(HotTask {
            task_id: row.id.to_string(),
            recent_experiment_count: recent.len(),
            recent_keep_count: recent.iter().filter(|record| record.status == Status::Keep).count(),
            latest_activity: recent.iter().map(|record| record.timestamp).max().unwrap_or_default(),
            best_val_bpb: best(asked, &row.id)?,
            name: row.name,
            task_type: row.task_type,
        });
    }
    hot.sort_by(|a, b| {
        let key = |task: &HotTask| {
            (task.recent_experiment_count, task.recent_keep_count, task.latest_activity, task.task_id.clone())
        };
        key(b).cmp(&key(a))
    });
    hot.truncate(asked.limit(10, 50)?);
    Ok(hot)
}
