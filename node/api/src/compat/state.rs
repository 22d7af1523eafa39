//! What the reference collects for most answers: the records of a task, and its frontier.

use spore_protocol::{Status, TaskId};
use spore_storage::{PageDirection, RecordSummary, Scope, Span};

use super::shapes::{self, RecordJson};
use crate::{
    problem::{ApiError, ProblemKind},
    route::Route,
    view::StoreView,
};

/// Records of the largest task that is served whole: some 20 MB of summaries in memory.
pub const MOST_RECORDS: usize = 20_000;
/// Bytes of texts in the largest answer.
pub const MOST_BYTES: usize = 32 << 20;
/// Records read in one step.
const STEP: usize = 5_000;

/// 413: the answer would be larger than this node sends in one piece.
pub fn too_much() -> ApiError {
    let message = format!("the answer would have more than {MOST_RECORDS} records or {MOST_BYTES} bytes");
    let hint = format!("this node's own API has pages: GET {} lists its routes", Route::OpenApi.path());
    ApiError::new(ProblemKind::TooLarge, message).hint(hint)
}

/// The records of a task, or of all tasks.
pub struct State {
    /// Id of the task as it was asked for. Empty for all tasks.
    pub task: String,
    /// In the order of depth, then of time.
    pub records: Vec<RecordSummary>,
    /// Indices of the kept records that no kept child beats, the smallest metric first, as the reference lists them.
    pub frontier: Vec<usize>,
}

impl State {
    pub fn new(view: &StoreView, task: String) -> Result<Self, ApiError> {
        let mut records = match (task.is_empty(), task.parse::<TaskId>()) {
            (true, _) => all(view)?,
            (false, Ok(id)) => of_task(view, &id)?,
            (false, Err(_)) => Vec::new(),
        };
        records.sort_by_key(|record| (record.depth, record.timestamp, record.id));
        let mut frontier: Vec<usize> = (0..records.len())
            .filter(|index| {
                records.get(*index).is_some_and(|record| record.status == Status::Keep && record.on_reference_frontier)
            })
            .collect();
        frontier.sort_by(|a, b| {
            let metric = |index: &usize| records.get(*index).map_or(f64::INFINITY, |record| record.metric);
            metric(a).total_cmp(&metric(b))
        });
        Ok(Self { task, records, frontier })
    }

    /// Indices of the `limit` newest records.
    pub fn newest(&self, limit: usize) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..self.records.len()).collect();
        indices.sort_by_key(|index| std::cmp::Reverse(self.records.get(*index).map(|record| record.timestamp)));
        indices.truncate(limit);
        indices
    }

    /// Records in full.
    pub fn shown(
        &self,
        view: &StoreView,
        indices: impl IntoIterator<Item = usize>,
    ) -> Result<Vec<RecordJson>, ApiError> {
        let (mut shown, mut bytes) = (Vec::new(), 0);
        for index in indices {
            let Some(summary) = self.records.get(index) else { continue };
            if let Some(record) = shapes::record(view, &summary.id)? {
                bytes += record.bytes();
                if bytes > MOST_BYTES {
                    return Err(too_much());
                }
                shown.push(record);
            }
        }
        Ok(shown)
    }
}

fn of_task(view: &StoreView, task: &TaskId) -> Result<Vec<RecordSummary>, ApiError> {
    let Some(known) = view.store().task(task)? else { return Ok(Vec::new()) };
    if known.experiment_count.saturating_add(known.stray_count) > MOST_RECORDS as u64 {
        return Err(too_much());
    }
    Ok(view.store().task_summaries(task)?)
}

fn all(view: &StoreView) -> Result<Vec<RecordSummary>, ApiError> {
    if view.store().counts()?.experiments > MOST_RECORDS as u64 {
        return Err(too_much());
    }
    let (mut found, mut span) = (Vec::new(), Span::first(STEP));
    for _ in 0..=MOST_RECORDS.div_ceil(STEP) {
        let page = view.store().recent_page(Scope::All, &span)?;
        found.extend(page.items);
        match page.next {
            Some(next) => span = Span { after: Some(next), direction: PageDirection::Forward, limit: STEP },
            None => break,
        }
    }
    Ok(found)
}
