//! A task's whole graph in columns: what the chart draws, of a hundred thousand records too.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use spore_protocol::{HardwareClass, RecordId, Status, TaskId};
use spore_storage::RecordSummary;

use super::{dto, problem::ApiError, view::View};

/// Tasks whose graph is kept serialised. A graph of 100 000 records takes about 12 MB.
const CACHED: usize = 4;

/// Serialised graphs by task, each with the store's sequence that it shows.
pub type Graphs = Mutex<HashMap<TaskId, (u64, Arc<Vec<u8>>)>>;

impl View {
    /// The graph's columns as JSON text, kept until the store changes.
    ///
    /// # Errors
    /// As [`View::task`].
    pub fn graph(&self, id: &str) -> Result<Arc<Vec<u8>>, ApiError> {
        let task = self.task_view(id)?.task_id;
        let sequence = self.store().sequence();
        // Held while the graph is made, so that many readers of a large graph make it once.
        let mut graphs = self.graphs.lock().map_err(|_| ApiError::internal("the graph cache is broken"))?;
        if let Some((made_at, graph)) = graphs.get(&task)
            && *made_at == sequence
        {
            return Ok(graph.clone());
        }
        let columns = graph_columns(&self.store().task_summaries(&task)?);
        let graph = Arc::new(serde_json::to_vec(&columns).map_err(|e| ApiError::internal(e.to_string()))?);
        if graphs.len() >= CACHED && !graphs.contains_key(&task) {
            graphs.clear();
        }
        graphs.insert(task, (sequence, graph.clone()));
        Ok(graph)
    }
}

fn graph_columns(records: &[RecordSummary]) -> dto::GraphColumns {
    let places: HashMap<RecordId, i64> = records.iter().zip(0..).map(|(record, place)| (record.id, place)).collect();
    let mut class_places: HashMap<HardwareClass, u16> = HashMap::new();
    let mut columns = dto::GraphColumns::default();
    for record in records {
        let next = u16::try_from(class_places.len()).unwrap_or(u16::MAX);
        let class = *class_places.entry(record.class.clone()).or_insert_with(|| {
            columns.class_names.push(record.class.to_string());
            next
        });
        columns.ids.push(record.id.to_string());
        columns.parents.push(record.parent.and_then(|parent| places.get(&parent).copied()).unwrap_or(-1));
        columns.timestamps.push(record.timestamp);
        columns.metrics.push(record.metric);
        columns.statuses.push(match record.status {
            Status::Keep => 0,
            Status::Discard => 1,
            Status::Crash => 2,
        });
        columns.classes.push(class);
        columns.verified.push(record.verdict.holds());
        columns.frontier.push(record.on_frontier);
    }
    columns
}
