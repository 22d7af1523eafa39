//! Questions about the whole store: objects by id, totals, the change log.

use std::ops::ControlFlow;

use spore_protocol::{Kind, ObjectId, SignedObject, TaskId};

use crate::{
    columns::Column,
    db::{DbSnapshot, KeyOrder, KeyReader},
    error::{Damage, Result},
    keys,
    lookup::{change, object, tally},
    store::Store,
    types::{Change, Counts},
    values::{LogEntry, Placing},
};

impl Store {
    /// Whether the object is stored. Pending records are not: see [`Store::is_pending`].
    ///
    /// # Errors
    /// When the store cannot be read, as for all questions here.
    pub fn contains(&self, kind: Kind, id: &ObjectId) -> Result<bool> {
        self.database().has(Column::Ids, &keys::id(kind, id))
    }

    /// An object as it was signed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn object(&self, kind: Kind, id: &ObjectId) -> Result<Option<SignedObject>> {
        // Both reads use one snapshot, because a profile may be replaced between them.
        object(&self.view(), kind, id)
    }

    /// The records, then the tasks, whose id starts with these hex digits. A legacy task has its founder's id, so
    /// both are returned. Empty when `prefix` is not hex.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn resolve(&self, prefix: &str, limit: usize) -> Result<Vec<(Kind, ObjectId)>> {
        let Some(prefix) = HexPrefix::parse(prefix) else { return Ok(Vec::new()) };
        let view = self.view();
        let mut found = Vec::new();
        let records: &[u8] = &[Kind::Experiment.code()];
        for (column, before, kind) in [(Column::Ids, records, Kind::Experiment), (Column::Tasks, &[], Kind::Task)] {
            let ids = prefix.find(&view, column, before, limit.saturating_sub(found.len()))?;
            found.extend(ids.into_iter().map(|id| (kind, ObjectId(id))));
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

    /// The changes after `sequence`, the oldest first. They include profiles that were replaced since.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn changes_since(&self, sequence: u64, limit: usize) -> Result<Vec<Change>> {
        let Some(from) = sequence.checked_add(1) else { return Ok(Vec::new()) };
        self.log(from, KeyOrder::Ascending, limit)
    }

    /// The changes before `before`, the newest first, in one task or in all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn changes_before(&self, before: u64, task: Option<&TaskId>, limit: usize) -> Result<Vec<Change>> {
        let Some(from) = before.checked_sub(1) else { return Ok(Vec::new()) };
        match task {
            Some(task) => self.log_of_task(task, from, limit),
            None => self.log(from, KeyOrder::Descending, limit),
        }
    }

    /// An entry for a record has its kind only; its placing has the rest. Both columns are in the same order, so two
    /// scans replace one read for each entry.
    fn log(&self, from: u64, way: KeyOrder, limit: usize) -> Result<Vec<Change>> {
        let view = self.view();
        let mut lines = Vec::new();
        view.walk(Column::Log, &[], Some(&from.to_be_bytes()), way, &mut |key, line| {
            if lines.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            lines.push((keys::last_number(key)?, LogEntry::decode(line)?));
            Ok(ControlFlow::Continue(()))
        })?;
        let of_records = lines.iter().filter(|(_, line)| *line == LogEntry::Record).map(|(number, _)| *number);
        let mut placings = placings(&view, of_records, way)?.into_iter();
        lines
            .into_iter()
            .map(|(sequence, line)| {
                Ok(match line {
                    LogEntry::Other(kind, id, task_id) => Change { sequence, kind, id, task_id },
                    LogEntry::Record => placings
                        .next()
                        .ok_or(Damage::NoEntry { column: Column::Records.name(), number: sequence })?
                        .change(sequence),
                })
            })
            .collect()
    }

    fn log_of_task(&self, task: &TaskId, from: u64, limit: usize) -> Result<Vec<Change>> {
        let view = self.view();
        let mut changes = Vec::new();
        view.walk(
            Column::LogByTask,
            &task.0,
            Some(&keys::task_sequence(task, from)),
            KeyOrder::Descending,
            &mut |key, _| {
                if changes.len() >= limit {
                    return Ok(ControlFlow::Break(()));
                }
                changes.push(change(&view, keys::last_number(key)?)?);
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(changes)
    }
}

/// The placings of these records. They are all placings between the first and the last of them.
fn placings(view: &DbSnapshot<'_>, numbers: impl Iterator<Item = u64>, way: KeyOrder) -> Result<Vec<Placing>> {
    let (mut numbers, mut placings) = (numbers.peekable(), Vec::new());
    let Some(first) = numbers.peek().map(|first| first.to_be_bytes()) else { return Ok(placings) };
    view.walk(Column::Records, &[], Some(&first), way, &mut |key, value| {
        let Some(number) = numbers.next() else { return Ok(ControlFlow::Break(())) };
        if keys::last_number(key)? != number {
            return Err(Damage::NoEntry { column: Column::Records.name(), number }.into());
        }
        placings.push(Placing::decode(value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(placings)
}

/// The first hex digits of an id: whole bytes, and perhaps half of one.
pub struct HexPrefix {
    bytes: Vec<u8>,
    half: Option<u8>,
}

impl HexPrefix {
    /// None when the text is not lower-case hex, or longer than an id.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let (whole, rest) = text.split_at_checked(text.len() / 2 * 2)?;
        let half = if rest.is_empty() { None } else { Some(u8::from_str_radix(rest, 16).ok()?) };
        Some(Self { bytes: hex::decode(whole).ok()?, half })
    }

    /// The first `limit` ids with this prefix, in a column whose keys are ids after `before`.
    pub fn find(&self, source: &dyn KeyReader, column: Column, before: &[u8], limit: usize) -> Result<Vec<[u8; 32]>> {
        let start = [before, &self.bytes].concat();
        // Half a byte is a range of 16 values of the next byte.
        let from = self.half.map(|half| [start.as_slice(), &[half << 4]].concat());
        let mut found = Vec::new();
        source.walk(column, &start, from.as_deref(), KeyOrder::Ascending, &mut |key, _| {
            let fits = self.half.is_none_or(|half| key.get(start.len()).is_some_and(|byte| byte >> 4 == half));
            if !fits || found.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            found.push(keys::last_id(key)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}
