//! Writes the objects of a store as lines ([`crate::import::lines`]), one kind after another, in the order of timestamp
//! and id. One page of ids and one object are in memory at a time.

use std::io::{self, Write};

use serde::Serialize;
use spore_protocol::{Kind, ObjectId, Reject, TaskId, legacy::ObjectFrame};
use spore_storage::{Position, Store, StoreError, SyncScope};

use crate::import::lines;

/// Ids that are looked up at once. The objects are then read one by one.
const PAGE: usize = 256;

/// Manifests come before records, and records before events about them, so that an import has few pending records.
const ORDER: [Kind; 4] = [Kind::Task, Kind::Experiment, Kind::Control, Kind::Profile];

/// Numbers of exported objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExportCounts {
    pub tasks: u64,
    pub records: u64,
    pub controls: u64,
    pub profiles: u64,
    /// Pending records of all tasks, which are not exported.
    pub pending: u64,
}

impl ExportCounts {
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

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("object {id}: {reject}")]
    Object { id: ObjectId, reject: Reject },
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Writes all objects, or the manifest, the records and the events of one task. Calls `progress` after each page.
///
/// # Errors
/// When the store cannot be read or `out` cannot be written.
pub fn write(
    store: &Store,
    task: Option<TaskId>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&ExportCounts),
) -> Result<ExportCounts, ExportError> {
    let mut written = ExportCounts { pending: store.pending_count()?, ..ExportCounts::default() };
    for kind in ORDER {
        if let Some(task) = task {
            for page in of_task(store, kind, task)?.chunks(PAGE) {
                *written.of(kind) += write_page(store, kind, page, out)?;
                progress(&written);
            }
            continue;
        }
        let mut page = store.page(kind, None, PAGE)?;
        while let Some(last) = page.last() {
            let from = Some(*last);
            *written.of(kind) += write_page(store, kind, &page, out)?;
            progress(&written);
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

/// Returns the number of objects written. An object may be gone since the page was read, such as a profile that was
/// replaced.
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

/// Appends the line of an object. Returns false when the store does not have the object.
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
