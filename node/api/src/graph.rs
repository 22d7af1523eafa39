//! A small task's whole graph in columns of JSON, for programs without a parser of the compact form.
//! [`super::compact`] has that form, for graphs of any size and for the chart.

use std::sync::Arc;

use spore_protocol::{Status, TaskId};
use spore_storage::TaskGraph;

use super::{
    dto,
    problem::{ApiError, ProblemKind},
    route::Route,
    view::{Form, StoreView},
};

/// Records of the largest graph that is served as JSON, which is held in memory: about 6 MB.
const MOST_RECORDS: u64 = 50_000;

impl StoreView {
    /// The graph's columns as JSON text, kept until a change concerns the task or something is dropped.
    ///
    /// # Errors
    /// As [`StoreView::task`]; 406 for a graph of too many records.
    pub fn graph(&self, id: &str) -> Result<Arc<Vec<u8>>, ApiError> {
        let known = self.task_view(id)?;
        let (task, records) = (known.task_id, known.experiment_count + known.stray_count);
        check_size(&task, records)?;
        let state = (self.store().drops()?, self.store().task_sequence(&task)?);
        let kept = self.graphs.get_or_make(task, Form::Json, state, || {
            let graph = self.store().graph(&task)?;
            let sequence = graph.sequence;
            let json = serde_json::to_vec(&columns(graph)).map_err(|e| ApiError::internal(e.to_string()))?;
            Ok((sequence, json))
        })?;
        Ok(kept.body)
    }
}

fn check_size(task: &TaskId, records: u64) -> Result<(), ApiError> {
    if records <= MOST_RECORDS {
        return Ok(());
    }
    Err(ApiError::new(ProblemKind::NotAcceptable, format!("a graph of {records} records is too large for JSON")).hint(
        format!("ask for {}, or with Accept: application/octet-stream", Route::CompactGraph(task.to_string()).path()),
    ))
}

fn columns(graph: TaskGraph) -> dto::GraphColumns {
    dto::GraphColumns {
        ids: graph.ids.iter().map(ToString::to_string).collect(),
        parents: graph.parents.into_iter().map(|place| place.map_or(-1, i64::from)).collect(),
        timestamps: graph.timestamps,
        metrics: graph.metrics,
        statuses: graph.statuses.into_iter().map(number).collect(),
        classes: graph.classes.into_iter().map(|place| u16::try_from(place).unwrap_or(u16::MAX)).collect(),
        class_names: graph.class_names.iter().map(ToString::to_string).collect(),
        verified: graph.verified,
        frontier: graph.on_frontier,
        refused: graph.refused,
        disputed: graph.disputed,
    }
}

const fn number(status: Status) -> u8 {
    match status {
        Status::Keep => 0,
        Status::Discard => 1,
        Status::Crash => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_graph_is_refused_as_json_with_the_address_of_its_compact_form() {
        let task = TaskId([7; 32]);
        assert!(check_size(&task, MOST_RECORDS).is_ok());
        let error = check_size(&task, MOST_RECORDS + 1).unwrap_err();
        assert_eq!(error.status(), 406);
        assert!(error.hint.unwrap().contains(&format!("/tasks/{task}/graph.bin")));
    }
}
