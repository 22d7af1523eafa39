//! A small task's whole graph in columns of JSON, for programs without a parser of the compact form.
//! [`super::compact`] has that form, for graphs of any size and for the chart.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use spore_protocol::{Status, TaskId};
use spore_storage::Graph;

use super::{dto, problem::ApiError, route::Route, view::View};

/// Records of the largest graph that is served as JSON, which is held in memory: about 6 MB.
const MOST_RECORDS: u64 = 50_000;
/// Bytes of serialised graphs that are kept.
const KEPT_BYTES: usize = 16 << 20;

/// Serialised graphs by task.
#[derive(Debug, Default)]
pub struct Graphs(Mutex<HashMap<TaskId, Kept>>);

#[derive(Debug)]
struct Kept {
    /// The task's sequence number when the graph was read.
    sequence: u64,
    json: Arc<Vec<u8>>,
}

impl View {
    /// The graph's columns as JSON text, kept until a change concerns the task.
    ///
    /// # Errors
    /// As [`View::task`]; 406 for a graph of too many records.
    pub fn graph(&self, id: &str) -> Result<Arc<Vec<u8>>, ApiError> {
        let known = self.task_view(id)?;
        let (task, records) = (known.task_id, known.experiment_count + known.stray_count);
        check_size(&task, records)?;
        // Held while the graph is made, so that many readers of a large graph make it once.
        let mut graphs = self.graphs.0.lock().map_err(|_| ApiError::internal("the graph cache is broken"))?;
        let newest = self.store().task_sequence(&task)?;
        if let Some(kept) = graphs.get(&task).filter(|kept| kept.sequence == newest) {
            return Ok(kept.json.clone());
        }
        let graph = self.store().graph(&task)?;
        let sequence = graph.sequence;
        let json = serde_json::to_vec(&columns(graph)).map_err(|e| ApiError::internal(e.to_string()))?;
        let json = Arc::new(json);
        graphs.remove(&task);
        if graphs.values().map(|kept| kept.json.len()).sum::<usize>() + json.len() > KEPT_BYTES {
            graphs.clear();
        }
        if json.len() <= KEPT_BYTES {
            graphs.insert(task, Kept { sequence, json: json.clone() });
        }
        Ok(json)
    }
}

fn check_size(task: &TaskId, records: u64) -> Result<(), ApiError> {
    if records <= MOST_RECORDS {
        return Ok(());
    }
    Err(ApiError::not_acceptable(format!("a graph of {records} records is too large for JSON")).hint(format!(
        "ask for {}, or with Accept: application/octet-stream",
        Route::CompactGraph(task.to_string()).path()
    )))
}

fn columns(graph: Graph) -> dto::GraphColumns {
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
    fn large_graph_is_refused_as_json_with_the_address_of_its_compact_form() {
        let task = TaskId([7; 32]);
        assert!(check_size(&task, MOST_RECORDS).is_ok());
        let error = check_size(&task, MOST_RECORDS + 1).unwrap_err();
        assert_eq!(error.status, 406);
        assert!(error.hint.unwrap().contains(&format!("/tasks/{task}/graph.bin")));
    }
}
