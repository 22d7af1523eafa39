//! Questions about the store as a whole: objects by id, totals, the log, what to compare with
//! other nodes.

use std::ops::ControlFlow;

use rocksdb::Direction;
use spore_protocol::{Kind, ObjectId, RecordId, SignedObject, TaskId};

use super::{object, tally};
use crate::{
    columns::Column,
    db::{Source, View},
    error::{Result, StoreError},
    keys,
    store::Store,
    types::{Change, Counts, Scope, SyncScope},
    values::{self, LogEntry, TaskState},
};

impl Store {
    /// Whether the object is stored. Pending ones are not: see [`Store::is_pending`].
    ///
    /// # Errors
    /// When the store cannot be read, as for all questions here.
    pub fn contains(&self, kind: Kind, id: &ObjectId) -> Result<bool> {
        self.database().has(Column::Objects, &keys::object(kind, id))
    }

    /// Whether the record waits here for its parent.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_pending(&self, id: &RecordId) -> Result<bool> {
        self.database().has(Column::Pending, &id.0)
    }

    /// An object as it was signed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn object(&self, kind: Kind, id: &ObjectId) -> Result<Option<SignedObject>> {
        object(self.database(), kind, id)
    }

    /// Records, then tasks, whose id starts with these hex digits; a legacy task bears its
    /// founder's id, so that both come. Nothing where `prefix` is no hex.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn resolve(&self, prefix: &str, limit: usize) -> Result<Vec<(Kind, ObjectId)>> {
        let Some((bytes, half)) = parse_prefix(prefix) else { return Ok(Vec::new()) };
        let view = self.view();
        let mut found = Vec::new();
        for (column, kind) in [(Column::Records, Kind::Experiment), (Column::Tasks, Kind::Task)] {
            view.each(column, &bytes, &mut |key, _| {
                let fits = half.is_none_or(|half| key.get(bytes.len()).is_some_and(|byte| byte >> 4 == half));
                if fits && found.len() < limit {
                    found.push((kind, ObjectId(keys::last_id(key)?)));
                }
                Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        }
        Ok(found)
    }

    /// Totals.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        Ok(tally(self.database())?.counts())
    }

    /// Records that wait for their parents.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn pending_count(&self) -> Result<u64> {
        Ok(tally(self.database())?.pending)
    }

    /// What was stored after `sequence`, oldest first. A profile since replaced is still told of.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn changes_since(&self, sequence: u64, limit: usize) -> Result<Vec<Change>> {
        let view = self.view();
        let mut changes = Vec::new();
        let Some(from) = sequence.checked_add(1) else { return Ok(changes) };
        view.each_from(Column::Log, &[], &from.to_be_bytes(), Direction::Forward, &mut |key, value| {
            if changes.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            changes.push(values::decode::<LogEntry>(value)?.change(keys::number_at(key, 0)?));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(changes)
    }

    /// What was stored before `before`, newest first, in one task or at all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn changes_before(&self, before: u64, task: Option<&TaskId>, limit: usize) -> Result<Vec<Change>> {
        let view = self.view();
        let mut changes = Vec::new();
        let Some(from) = before.checked_sub(1) else { return Ok(changes) };
        let (column, prefix, from) = match task {
            Some(task) => (Column::LogByTask, task.0.to_vec(), keys::task_sequence(task, from)),
            None => (Column::Log, Vec::new(), from.to_be_bytes().to_vec()),
        };
        let at = prefix.len();
        view.each_from(column, &prefix, &from, Direction::Reverse, &mut |key, _| {
            if changes.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            changes.push(change(&view, keys::number_at(key, at)?)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(changes)
    }

    /// What two nodes compare to find what each lacks, in (timestamp, id) order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn sync_items(&self, scope: SyncScope) -> Result<Vec<(u64, ObjectId)>> {
        let view = self.view();
        let mut items = Vec::new();
        let mut timed = |key: &[u8], _: &[u8]| {
            items.push((keys::time_before_id(key)?, ObjectId(keys::last_id(key)?)));
            Ok(ControlFlow::Continue(()))
        };
        match scope {
            SyncScope::Records(task) => {
                view.each(Column::Timeline, &keys::timeline_prefix(Scope::Task(task)), &mut timed)?
            }
            SyncScope::Controls(task) => view.each(Column::Controls, &task.0, &mut timed)?,
            SyncScope::Tasks => view.each(Column::Tasks, &[], &mut |key, value| {
                if let Some(manifest) = values::decode::<TaskState>(value)?.manifest {
                    items.push((manifest.timestamp, ObjectId(keys::last_id(key)?)));
                }
                Ok(ControlFlow::Continue(()))
            })?,
            SyncScope::Profiles => view.each(Column::Profiles, &[], &mut |_, value| timed(value, &[]))?,
        }
        items.sort_unstable();
        Ok(items)
    }
}

fn change(view: &View<'_>, sequence: u64) -> Result<Change> {
    let bytes = view.get(Column::Log, &sequence.to_be_bytes())?;
    let bytes = bytes.ok_or_else(|| StoreError::corrupt(format!("change {sequence} is not in the log")))?;
    Ok(values::decode::<LogEntry>(&bytes)?.change(sequence))
}

/// Hex digits as whole bytes and perhaps half a one.
fn parse_prefix(prefix: &str) -> Option<(Vec<u8>, Option<u8>)> {
    if prefix.len() > 64 || !prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let (whole, rest) = prefix.split_at_checked(prefix.len() / 2 * 2)?;
    let half = if rest.is_empty() { None } else { Some(u8::from_str_radix(rest, 16).ok()?) };
    Some((hex::decode(whole).ok()?, half))
}
