//! Lineage: which task a record belongs to, and at which depth.
//!
//! A task's root is one of its parentless records, whatever the order of arrival: those signed by the
//! manifest's creator come first, then the lowest (timestamp, id). In a legacy task without a manifest
//! the founding record's signer takes the creator's place. Otherwise anybody could take over a legacy
//! task with a root of an earlier date.

use crate::{Record, RecordId, Reject, TaskId};

/// The facts about a parent that decide where its child belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentPlacement {
    pub task_id: TaskId,
    pub depth: u64,
}

/// Where a record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    pub task_id: TaskId,
    /// The signed depth is not the parent's plus one. Legacy records with this flaw are kept.
    pub odd_depth: bool,
}

/// Decides where a record belongs. `parent` is the placement of the parent that the record names.
///
/// A version 1 record takes its parent's task. Without a parent it founds the legacy task that has the
/// record's own id.
///
/// # Errors
/// [`Reject::TaskMismatch`] when the signed task differs from the parent's.
/// [`Reject::DepthMismatch`] when the depth is wrong and the version is above 1.
pub fn place(id: RecordId, record: &Record, parent: Option<ParentPlacement>) -> Result<Placement, Reject> {
    let derived = parent.map_or_else(|| TaskId::from(id), |parent| parent.task_id);
    let task_id = record.task_id.unwrap_or(derived);
    if parent.is_some() && task_id != derived {
        return Err(Reject::TaskMismatch);
    }
    let expected = parent.map_or(0, |parent| parent.depth.saturating_add(1));
    let odd_depth = record.depth != expected;
    if odd_depth && record.version >= 2 {
        return Err(Reject::DepthMismatch { expected, actual: record.depth });
    }
    Ok(Placement { task_id, odd_depth })
}
