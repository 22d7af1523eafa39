//! Reading what the batches wrote: the pieces here, the store's questions in the files below.

mod graph;
mod listing;
mod nodes;
mod pending;
mod records;
mod search;
mod stream;
mod sync;
mod tasks;
mod whole;

use std::ops::ControlFlow;

use spore_protocol::{
    ControlEvent, Kind, ObjectId, Record, RecordId, Signed, SignedObject, TaskId, TaskManifest,
    verdict::{self, Judgement},
};

pub use graph::Graph;
pub(crate) use search::{MAX_WORDS, words};
pub use stream::{ObjectText, Position};
pub use sync::SyncSet;

use crate::{
    columns::Column,
    db::Source,
    error::{Result, StoreError},
    keys,
    types::{Change, RecordSummary},
    values::{self, Flaw, LogEntry, Placing, Row, Tally, TaskState},
};

/// Events about one record that its verdict looks at, the earliest by (timestamp, id): what comes
/// after so many has no say, so that nobody makes every further event cost more and more.
pub const MAX_JUDGED: usize = 512;

pub fn tally(source: &dyn Source) -> Result<Tally> {
    source.get(Column::Meta, keys::TALLY)?.map_or_else(|| Ok(Tally::default()), |bytes| values::decode(&bytes))
}

/// The last one given; 0 in an empty store.
pub fn sequence(source: &dyn Source) -> Result<u64> {
    source.get(Column::Meta, keys::SEQUENCE)?.map_or(Ok(0), |bytes| values::number(&bytes))
}

/// The sequence number of an object that is here.
pub fn number_of(source: &dyn Source, kind: Kind, id: &ObjectId) -> Result<Option<u64>> {
    source.get(Column::Ids, &keys::id(kind, id))?.map(|bytes| values::number(&bytes)).transpose()
}

pub fn object(source: &dyn Source, kind: Kind, id: &ObjectId) -> Result<Option<SignedObject>> {
    let Some(number) = number_of(source, kind, id)? else { return Ok(None) };
    let bytes = source.get(Column::Objects, &keys::number(number))?;
    let bytes = bytes.ok_or_else(|| StoreError::corrupt(format!("{kind} {id} is gone")))?;
    values::decode_stored(&bytes).map(Some)
}

pub fn record(source: &dyn Source, id: &RecordId) -> Result<Option<Signed<Record>>> {
    Ok(match object(source, Kind::Experiment, &(*id).into())? {
        Some(SignedObject::Experiment(record)) => Some(record),
        _ => None,
    })
}

pub fn manifest(source: &dyn Source, id: &TaskId) -> Result<Option<Signed<TaskManifest>>> {
    Ok(match object(source, Kind::Task, &(*id).into())? {
        Some(SignedObject::Task(manifest)) => Some(manifest),
        _ => None,
    })
}

/// What is known here of a record that an index names by its number.
pub fn placing(source: &dyn Source, number: u64) -> Result<Placing> {
    let bytes = source.get(Column::Records, &keys::number(number))?;
    Placing::decode(&bytes.ok_or_else(|| StoreError::corrupt(format!("record number {number} is gone")))?)
}

/// The row of a record that an index names by its number.
pub fn row(source: &dyn Source, number: u64) -> Result<Row> {
    let placing = placing(source, number)?;
    let object = source.get(Column::Objects, &keys::number(number))?;
    let object = object.ok_or_else(|| StoreError::corrupt(format!("the object of record number {number} is gone")))?;
    Ok(Row::new(values::stored_record(&object)?, placing, number))
}

/// Rows read at once: bounds the memory, a few hundred KiB.
const ROWS_AT_ONCE: usize = 256;

/// As [`row`], of many records, in the order in which their numbers are given.
pub fn rows(source: &dyn Source, numbers: &[u64]) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(numbers.len());
    for numbers in numbers.chunks(ROWS_AT_ONCE) {
        let keys: Vec<_> = numbers.iter().map(|number| number.to_be_bytes()).collect();
        let placings = source.get_all(Column::Records, &keys)?;
        let objects = source.get_all(Column::Objects, &keys)?;
        for ((number, placing), object) in numbers.iter().zip(placings).zip(objects) {
            let (Some(placing), Some(object)) = (placing, object) else {
                return Err(StoreError::corrupt(format!("record number {number} is gone")));
            };
            rows.push(Row::new(values::stored_record(&object)?, Placing::decode(&placing)?, *number));
        }
    }
    Ok(rows)
}

pub fn row_of(source: &dyn Source, id: &RecordId) -> Result<Option<Row>> {
    number_of(source, Kind::Experiment, &(*id).into())?.map(|number| row(source, number)).transpose()
}

pub fn summary(source: &dyn Source, id: &RecordId) -> Result<Option<RecordSummary>> {
    Ok(row_of(source, id)?.map(|row| row.summary))
}

/// A line of the log.
pub fn change(source: &dyn Source, sequence: u64) -> Result<Change> {
    let line = source.get(Column::Log, &keys::number(sequence))?;
    let line = line.ok_or_else(|| StoreError::corrupt(format!("change {sequence} is not in the log")))?;
    Ok(match LogEntry::decode(&line)? {
        LogEntry::Other(kind, id, task_id) => Change { sequence, kind, id, task_id },
        LogEntry::Record => placing(source, sequence)?.change(sequence),
    })
}

pub fn task_state(source: &dyn Source, id: &TaskId) -> Result<Option<TaskState>> {
    source.get(Column::Tasks, &id.0)?.map(|bytes| values::decode(&bytes)).transpose()
}

/// Why a record was refused, if it is remembered.
pub fn refusal(source: &dyn Source, id: &RecordId) -> Result<Option<Flaw>> {
    let Some(bytes) = source.get(Column::Refused, &id.0)? else { return Ok(None) };
    bytes.get(8..).map(values::decode).transpose()
}

/// In (timestamp, id) order, the first `limit`.
pub fn events_about(source: &dyn Source, id: &RecordId, limit: usize) -> Result<Vec<Signed<ControlEvent>>> {
    let mut ids = Vec::new();
    source.each(Column::About, &id.0, &mut |key, _| {
        if ids.len() >= limit {
            return Ok(ControlFlow::Break(()));
        }
        ids.push(ObjectId(keys::last_id(key)?));
        Ok(ControlFlow::Continue(()))
    })?;
    let mut events = Vec::with_capacity(ids.len());
    for event in ids {
        match object(source, Kind::Control, &event)? {
            Some(SignedObject::Control(event)) => events.push(event),
            _ => return Err(StoreError::corrupt(format!("an index names event {event}, which is not here"))),
        }
    }
    Ok(events)
}

pub fn judgement(source: &dyn Source, row: &Row) -> Result<Judgement> {
    let events = events_about(source, &row.summary.id, MAX_JUDGED)?;
    Ok(verdict::judge(&row.subject(), events.iter().map(|e| (e.id().into(), e.object()))))
}
