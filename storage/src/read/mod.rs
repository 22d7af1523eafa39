//! Reading what the batches wrote: the pieces here, the store's questions in the files below.

mod nodes;
mod records;
mod stream;
mod tasks;
mod whole;

use std::ops::ControlFlow;

use spore_protocol::{
    ControlEvent, Kind, ObjectId, Record, RecordId, Signed, SignedObject, TaskId, TaskManifest,
    verdict::{self, Judgement},
};

pub(crate) use nodes::Deeds;
pub use stream::{ObjectText, Position};

use crate::{
    columns::Column,
    db::Source,
    error::{Result, StoreError},
    keys,
    types::RecordSummary,
    values::{self, Facts, Standing, Tally, TaskState},
};

pub fn tally(source: &dyn Source) -> Result<Tally> {
    source.get(Column::Meta, keys::TALLY)?.map_or_else(|| Ok(Tally::default()), |bytes| values::decode(&bytes))
}

/// The last one given; 0 in an empty store.
pub fn sequence(source: &dyn Source) -> Result<u64> {
    source.get(Column::Meta, keys::SEQUENCE)?.map_or(Ok(0), |bytes| values::number(&bytes))
}

pub fn object(source: &dyn Source, kind: Kind, id: &ObjectId) -> Result<Option<SignedObject>> {
    let bytes = source.get(Column::Objects, &keys::object(kind, id))?;
    bytes.map(|bytes| values::decode_object(kind, &bytes)).transpose()
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

pub fn facts(source: &dyn Source, id: &RecordId) -> Result<Option<Facts>> {
    source.get(Column::Records, &id.0)?.map(|bytes| values::decode(&bytes)).transpose()
}

/// Of a record that is here.
pub fn standing(source: &dyn Source, id: &RecordId) -> Result<Standing> {
    let bytes = source.get(Column::Standing, &id.0)?;
    Standing::decode(&bytes.ok_or_else(|| StoreError::corrupt(format!("record {id} lacks its standing")))?)
}

pub fn summary(source: &dyn Source, id: &RecordId) -> Result<Option<RecordSummary>> {
    let Some(facts) = facts(source, id)? else { return Ok(None) };
    Ok(Some(facts.summary(standing(source, id)?)))
}

/// The summary of a record that an index names.
pub fn indexed(source: &dyn Source, id: &RecordId) -> Result<RecordSummary> {
    summary(source, id)?.ok_or_else(|| StoreError::corrupt(format!("an index names record {id}, which is not here")))
}

pub fn task_state(source: &dyn Source, id: &TaskId) -> Result<Option<TaskState>> {
    source.get(Column::Tasks, &id.0)?.map(|bytes| values::decode(&bytes)).transpose()
}

/// In (timestamp, id) order.
pub fn events_about(source: &dyn Source, id: &RecordId) -> Result<Vec<Signed<ControlEvent>>> {
    let mut events = Vec::new();
    for key in source.keys(Column::About, &id.0)? {
        let event = ObjectId(keys::last_id(&key)?);
        match object(source, Kind::Control, &event)? {
            Some(SignedObject::Control(event)) => events.push(event),
            _ => return Err(StoreError::corrupt(format!("an index names event {event}, which is not here"))),
        }
    }
    Ok(events)
}

pub fn judgement(source: &dyn Source, facts: &Facts) -> Result<Judgement> {
    let events = events_about(source, &facts.id)?;
    Ok(verdict::judge(&facts.subject(), events.iter().map(|e| (e.id().into(), e.object()))))
}

/// Ids at the ends of the first `limit` keys with this prefix.
pub fn first_ids(source: &dyn Source, column: Column, prefix: &[u8], limit: usize) -> Result<Vec<RecordId>> {
    let mut ids = Vec::new();
    if limit == 0 {
        return Ok(ids);
    }
    source.each(column, prefix, &mut |key, _| {
        ids.push(RecordId(keys::last_id(key)?));
        Ok(if ids.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(ids)
}
