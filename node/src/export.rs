//! Writing a store out: each signed object as a line ([`crate::import::lines`]), kind after kind, in
//! (timestamp, id) order. Memory stays at a page of ids and one object, however large the store.

use std::io::{self, Write};

use serde::Serialize;
use spore_protocol::{Kind, ObjectId, Reject, TaskId, legacy::ObjectFrame};
use spore_storage::{Position, Store, StoreError, SyncScope};

use crate::import::lines;

/// Ids looked up at once; the objects are then read one by one.
const PAGE: usize = 256;

/// Manifests before records and records before what is said of them, as an import likes them best.
const ORDER: [Kind; 4] = [Kind::Task, Kind::Experiment, Kind::Control, Kind::Profile];

/// How many objects were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    pub tasks: u64,
    pub records: u64,
    pub controls: u64,
    pub profiles: u64,
    /// Records that wait for their parents, of whatever task, and were left out.
    pub pending: u64,
}

impl Written {
    pub const fn total(&self) -> u64 {
        self.tasks + self.records + self.controls + self.profiles
    }

    const fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Task => &mut self.tasks,
            Kind::Experiment => &mut self.records,
            Kind::Control => &mut self.controls,
            Kind::Profile => &mut self.profiles,
        }
    }
}

/// An export could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("object {id}: {reject}")]
    Object { id: ObjectId, reject: Reject },
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Writes everything, or of one task its manifest, its records and the events about them. `told`
/// hears after each page how far it is.
///
/// # Errors
/// When the store cannot be read or `out` takes no more.
pub fn write(
    store: &Store,
    task: Option<TaskId>,
    out: &mut dyn Write,
    told: &mut dyn FnMut(&Written),
) -> Result<Written, ExportError> {
    let mut written = Written { pending: store.pending_count()?, ..Written::default() };
    for kind in ORDER {
        if let Some(task) = task {
            for page in of_task(store, kind, task)?.chunks(PAGE) {
                *written.of(kind) += write_page(store, kind, page, out)?;
                told(&written);
            }
            continue;
        }
        let mut page = store.page(kind, None, PAGE)?;
        while let Some(last) = page.last() {
            let from = Some(*last);
            *written.of(kind) += write_page(store, kind, &page, out)?;
            told(&written);
            page = store.page(kind, from, PAGE)?;
        }
    }
    out.flush()?;
    Ok(written)
}

fn of_task(store: &Store, kind: Kind, task: TaskId) -> Result<Vec<Position>, StoreError> {
    match kind {
        Kind::Task => {
            let manifest = store.task(&task)?.and_then(|view| view.manifest);
            Ok(manifest.map(|manifest| (manifest.timestamp, task.into())).into_iter().collect())
        }
        Kind::Experiment => store.sync_items(SyncScope::Records(task)),
        Kind::Control => store.sync_items(SyncScope::Controls(task)),
        Kind::Profile => Ok(Vec::new()),
    }
}

/// Gives the number of objects written: one may be gone since the page was made, such as a profile
/// that was replaced.
fn write_page(store: &Store, kind: Kind, page: &[Position], out: &mut dyn Write) -> Result<u64, ExportError> {
    let mut written = 0;
    let mut line = Vec::new();
    for (_, id) in page {
        line.clear();
        if append(store, kind, id, &mut line)? {
            out.write_all(&line)?;
            written += 1;
        }
    }
    Ok(written)
}

/// Appends an object's line; false where it is not here.
fn append(store: &Store, kind: Kind, id: &ObjectId, line: &mut Vec<u8>) -> Result<bool, ExportError> {
    let appended = if kind == Kind::Experiment {
        let Some((summary, text)) = store.record_text(&(*id).into())? else { return Ok(false) };
        let derived = (summary.version <= 1).then_some(summary.task_id);
        lines::write_frame(&ObjectFrame::record(*id, &text.canonical, &text.signature, derived), line)
    } else {
        let Some(object) = store.object(kind, id)? else { return Ok(false) };
        lines::write(&object, None, line)
    };
    appended.map_err(|reject| ExportError::Object { id: *id, reject })?;
    Ok(true)
}
