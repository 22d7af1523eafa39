//! A cache of serialised graphs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use spore_protocol::TaskId;

use crate::problem::ApiError;

/// Most bytes of all kept graphs: a few of the largest that are served as JSON.
const KEPT_BYTES: usize = 16 << 20;

/// Serialised graphs by task.
#[derive(Debug, Default)]
pub(crate) struct Graphs(Mutex<HashMap<TaskId, KeptGraph>>);

#[derive(Debug)]
struct KeptGraph {
    /// What was dropped when the graph was asked for, and the sequence number that it shows.
    drops: u64,
    sequence: u64,
    json: Arc<Vec<u8>>,
}

impl Graphs {
    /// The kept graph of a task if it is not older than this state (`drops`, sequence number), or else the graph that `make` returns with its
    /// sequence number. Readers of a graph that is being made wait for it, so that it is made once.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn get_or_make(
        &self,
        task: TaskId,
        (drops, sequence): (u64, u64),
        make: impl FnOnce() -> Result<(u64, Vec<u8>), ApiError>,
    ) -> Result<Arc<Vec<u8>>, ApiError> {
        let mut graphs = self.0.lock().map_err(|_| ApiError::internal("the graph cache is broken"))?;
        if let Some(kept) = graphs.get(&task).filter(|kept| kept.drops == drops && kept.sequence >= sequence) {
            return Ok(kept.json.clone());
        }
        let (sequence, json) = make()?;
        let json = Arc::new(json);
        graphs.remove(&task);
        if graphs.values().map(|kept| kept.json.len()).sum::<usize>() + json.len() > KEPT_BYTES {
            graphs.clear();
        }
        if json.len() <= KEPT_BYTES {
            graphs.insert(task, KeptGraph { drops, sequence, json: json.clone() });
        }
        Ok(json)
    }
}
