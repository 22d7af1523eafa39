//! Parents, depths and roots: which task a record belongs to, and which root is the task's.

use crate::{NodeId, ObjectId, Record, RecordId, Reject, TaskId};

/// What a child needs to know of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub task_id: TaskId,
    pub depth: u64,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub task_id: TaskId,
    /// Its depth is not its parent's plus one: kept in legacy records, shown as a flaw.
    pub odd_depth: bool,
}

/// The task of a record, given its parent if it names one.
///
/// A version 1 record takes its parent's task, or founds the legacy task that bears its own id.
///
/// # Errors
/// [`Reject::TaskMismatch`] when a signed task differs from the parent's, and
/// [`Reject::DepthMismatch`] on a wrong depth, which only version 1 is forgiven.
pub fn place(id: RecordId, record: &Record, parent: Option<Parent>) -> Result<Place, Reject> {
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
    Ok(Place { task_id, odd_depth })
}

/// Orders the parentless records of one task: the least is the task's root, whatever came first.
/// Those signed by the manifest's creator precede all others, then the lowest (timestamp, id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootRank {
    not_by_creator: bool,
    timestamp: u64,
    id: ObjectId,
}

impl RootRank {
    /// `creator` is the manifest's signer, in a legacy task the founding record's, or none while
    /// neither is known. (Without the founder's precedence anyone could take a legacy task over
    /// with a root of an earlier date.)
    pub fn of(id: RecordId, record: &Record, creator: Option<NodeId>) -> Self {
        Self { not_by_creator: creator != Some(record.node_id), timestamp: record.timestamp, id: id.into() }
    }

    pub fn id(&self) -> RecordId {
        self.id.into()
    }
}
