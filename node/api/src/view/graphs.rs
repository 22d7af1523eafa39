//! A cache of what is made of whole graphs, which many readers ask for: each is made once for a state of its task.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use spore_protocol::TaskId;

use crate::{encoding, problem::ApiError};

/// Most bytes of all kept answers: a few of the largest that are kept.
const KEPT_BYTES: usize = 32 << 20;

/// What is made of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Columns of JSON.
    Json,
    /// The compact form.
    Compact,
    /// The picture of the chart, of one hardware class or of all, as PNG or as SVG.
    Picture { class: Option<String>, png: bool },
}

/// An answer and the task's sequence number that it shows.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// What was dropped when the graph was asked for, and the sequence number that it shows.
    pub drops: u64,
    pub sequence: u64,
    pub body: Arc<Vec<u8>>,
    /// The same in gzip, where that saves bytes.
    pub gzip: Option<Arc<Vec<u8>>>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.body.len() + self.gzip.as_ref().map_or(0, |gzip| gzip.len())
    }
}

/// Answers by task and form.
#[derive(Debug, Default)]
pub(crate) struct Graphs(Mutex<HashMap<(TaskId, Form), Kept>>);

impl Graphs {
    /// The kept answer if it is not older than this state (`drops`, sequence number), or else the one that `make` returns
    /// with its sequence number. Readers of one that is being made wait for it, so that it is made once.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn get_or_make(
        &self,
        task: TaskId,
        form: Form,
        (drops, sequence): (u64, u64),
        make: impl FnOnce() -> Result<(u64, Vec<u8>), ApiError>,
    ) -> Result<Kept, ApiError> {
        let mut graphs = self.0.lock().map_err(|_| ApiError::internal("the graph cache is broken"))?;
        let key = (task, form);
        if let Some(kept) = graphs.get(&key).filter(|kept| kept.drops == drops && kept.sequence >= sequence) {
            return Ok(kept.clone());
        }
        let (sequence, body) = make()?;
        let gzip = encoding::gzip_shared(&body);
        let kept = Kept { drops, sequence, body: Arc::new(body), gzip };
        graphs.remove(&key);
        if graphs.values().map(Kept::bytes).sum::<usize>() + kept.bytes() > KEPT_BYTES {
            graphs.clear();
        }
        if kept.bytes() <= KEPT_BYTES {
            graphs.insert(key, kept.clone());
        }
        Ok(kept)
    }
}
