//! Reading what the batches wrote: the pieces here, the store's questions in the files below.

mod graph;
mod graph_changes;
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
    ControlEvent, HardwareClass, Kind, ObjectId, Record, RecordId, Signed, SignedObject, TaskId, TaskManifest,
    json::Map,
    verdict::{self, Judgement},
};

pub use graph::{Graph, GraphChanges, ParentColumn};
pub(crate) use pending::unreleased;
pub(crate) use search::{MAX_WORDS, words};
pub use stream::{ObjectText, Position};
pub use sync::SyncSet;

use crate::{
    columns::Column,
    db::Source,
    error::{Result, StoreError},
    keys::{self, Events},
    types::{Change, RecordSummary},
    values::{self, Flaw, LogEntry, Placing, Row, Tally, TaskState},
};

/// Events about one record that its verdict looks at, its window: the earliest by (timestamp, id) of those
/// that may have a say. What comes after so many has none, so that nobody makes every further event cost
/// more and more. The tests know few events.
pub const MAX_JUDGED: usize = if cfg!(test) { 12 } else { 512 };

/// Of them by one signer: a measurement and the end of a dispute have a say, and the rest is room for
/// other devices. So one identity cannot fill the window.
pub const MAX_JUDGED_OF_ONE: usize = if cfg!(test) { 3 } else { 8 };

/// Canonical bytes of an event that has a say. Those that nodes sign have under one KiB, and longer ones
/// than this do not travel in a message of their topic either.
pub const MAX_JUDGED_BYTES: usize = 64 << 10;

/// Bytes of a record's description, and of its hypothesis, in a listing: some thirty lines each. The
/// longest page is 25 MB of them; the whole text is in the record.
const MAX_SHOWN_TEXT: usize = 2 << 10;

/// Bytes of a device's, a class's or an agent's name in a listing: a real one has under a hundred.
const MAX_SHOWN_NAME: usize = 256;

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
    let object = values::decode_stored(&bytes)?;
    if object.id() != *id {
        return Err(StoreError::corrupt(format!("under {kind} {id} lies {}", object.id())));
    }
    Ok(Some(object))
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

/// Objects read at once. Usual ones are a few KiB together, the largest that can be signed 160 MiB.
const OBJECTS_AT_ONCE: usize = 16;

/// Records as listings show them, in the order in which their numbers are given.
pub fn summaries(source: &dyn Source, numbers: &[u64]) -> Result<Vec<RecordSummary>> {
    let mut summaries = Vec::with_capacity(numbers.len());
    for numbers in numbers.chunks(OBJECTS_AT_ONCE) {
        let keys: Vec<_> = numbers.iter().map(|number| number.to_be_bytes()).collect();
        let placings = source.get_all(Column::Records, &keys)?;
        let objects = source.get_all(Column::Objects, &keys)?;
        for ((number, placing), object) in numbers.iter().zip(placings).zip(objects) {
            let (Some(placing), Some(object)) = (placing, object) else {
                return Err(StoreError::corrupt(format!("record number {number} is gone")));
            };
            let row = Row::new(values::stored_record(&object)?, Placing::decode(&placing)?, *number);
            summaries.push(cut(row.summary));
        }
    }
    Ok(summaries)
}

pub fn row_of(source: &dyn Source, id: &RecordId) -> Result<Option<Row>> {
    number_of(source, Kind::Experiment, &(*id).into())?.map(|number| row(source, number)).transpose()
}

/// A record as listings show it: with the beginnings of its texts alone, so that a page is bounded in
/// bytes whatever was signed.
pub fn listed(source: &dyn Source, number: u64) -> Result<RecordSummary> {
    Ok(cut(row(source, number)?.summary))
}

pub fn cut(mut summary: RecordSummary) -> RecordSummary {
    shorten(&mut summary.description, MAX_SHOWN_TEXT);
    shorten(&mut summary.hypothesis, MAX_SHOWN_TEXT);
    shorten(&mut summary.agent_model, MAX_SHOWN_NAME);
    shorten(&mut summary.gpu_model, MAX_SHOWN_NAME);
    if summary.class.as_str().len() > MAX_SHOWN_NAME {
        let mut name = summary.class.as_str().to_owned();
        shorten(&mut name, MAX_SHOWN_NAME);
        // Not the class of a device that has the short name.
        name.push('…');
        summary.class = HardwareClass::of(&name);
    }
    summary
}

fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.shrink_to_fit();
    }
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

/// A control event that an index names by its number.
pub fn event(source: &dyn Source, number: u64) -> Result<Signed<ControlEvent>> {
    let bytes = source.get(Column::Objects, &keys::number(number))?;
    let bytes = bytes.ok_or_else(|| StoreError::corrupt(format!("event number {number} is gone")))?;
    match values::decode_stored(&bytes)? {
        SignedObject::Control(event) => Ok(event),
        _ => Err(StoreError::corrupt(format!("number {number} is no event"))),
    }
}

/// Judges a record by the events in its window, which are read one at a time and kept without what only
/// others look at.
pub fn judgement(source: &dyn Source, row: &Row) -> Result<Judgement> {
    let mut events = Vec::new();
    source.each(Column::About, &keys::events(&row.summary.id, Events::Judged), &mut |_, value| {
        let event = event(source, keys::event_entry(value)?.0)?;
        let ControlEvent { body, node_id, timestamp, version, .. } = event.object();
        let (body, kind, payload) = (body.clone(), String::new(), Map::new());
        let (node_id, timestamp, version) = (*node_id, *timestamp, *version);
        events.push((event.id().into(), ControlEvent { kind, payload, body, node_id, timestamp, version }));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(verdict::judge(&row.subject(), events.iter().map(|(id, event)| (*id, event))))
}
