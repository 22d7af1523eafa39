//! Everything of one kind, page by page, across tasks: how a whole store is passed on or written out
//! without being held in memory. A page is one short read of a snapshot, so that writers never wait.

use std::{collections::BinaryHeap, ops::ControlFlow};

use rocksdb::Direction;
use spore_protocol::{Kind, ObjectId, RecordId};

use super::indexed;
use crate::{
    columns::Column,
    db::Source,
    error::{Result, StoreError},
    keys,
    store::Store,
    types::{RecordSummary, Scope, SyncScope},
    values,
};

/// A timestamp (Unix seconds) and an id: the order of a stream, and where it goes on.
pub type Position = (u64, ObjectId);

/// An object as it lies in the store: what was signed, not parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectText {
    pub canonical: Vec<u8>,
    pub signature: [u8; 64],
}

impl Store {
    /// The objects of a kind in (timestamp, id) order, from just after `from`: `limit` of them at most,
    /// fewer only at the end.
    ///
    /// Control events have no index of their own by time, so that a page of them reads all: few exist
    /// beside the records that they are about.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn page(&self, kind: Kind, from: Option<Position>, limit: usize) -> Result<Vec<Position>> {
        match kind {
            Kind::Experiment => self.page_of_records(from, limit),
            Kind::Control => self.page_of_controls(from, limit),
            Kind::Task => Ok(after(self.sync_items(SyncScope::Tasks)?, from, limit)),
            Kind::Profile => Ok(after(self.sync_items(SyncScope::Profiles)?, from, limit)),
        }
    }

    fn page_of_records(&self, from: Option<Position>, limit: usize) -> Result<Vec<Position>> {
        let (timestamp, id) = from.unwrap_or((0, ObjectId([0; 32])));
        let start = keys::timeline(Scope::All, timestamp, &id.into());
        let mut page = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            if page.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            let position = (keys::time_before_id(key)?, ObjectId(keys::last_id(key)?));
            if Some(position) != from {
                page.push(position);
            }
            Ok(ControlFlow::Continue(()))
        };
        let prefix = keys::timeline_prefix(Scope::All);
        self.view().each_from(Column::Timeline, &prefix, &start, Direction::Forward, &mut visit)?;
        Ok(page)
    }

    fn page_of_controls(&self, from: Option<Position>, limit: usize) -> Result<Vec<Position>> {
        // The greatest on top, so that what is kept is the least of what was seen.
        let mut least = BinaryHeap::new();
        self.view().each(Column::Objects, &[Kind::Control.code()], &mut |key, value| {
            let position = (values::decode_object(Kind::Control, value)?.timestamp(), ObjectId(keys::last_id(key)?));
            if from.is_none_or(|from| position > from) {
                least.push(position);
                if least.len() > limit {
                    least.pop();
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(least.into_sorted_vec())
    }

    /// A record as it was signed, with where it stands; none where it is not here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn record_text(&self, id: &RecordId) -> Result<Option<(RecordSummary, ObjectText)>> {
        // Read before its facts, which are written with it and never removed.
        let Some(text) = text(self.database(), Kind::Experiment, &(*id).into())? else { return Ok(None) };
        Ok(Some((indexed(self.database(), id)?, text)))
    }
}

fn text(source: &dyn Source, kind: Kind, id: &ObjectId) -> Result<Option<ObjectText>> {
    let Some(mut bytes) = source.get(Column::Objects, &keys::object(kind, id))? else { return Ok(None) };
    let signature = *bytes.first_chunk::<64>().ok_or_else(|| StoreError::corrupt("an object is cut short"))?;
    bytes.drain(..signature.len());
    Ok(Some(ObjectText { canonical: bytes, signature }))
}

/// The part of a sorted list that a page shows.
fn after(mut items: Vec<Position>, from: Option<Position>, limit: usize) -> Vec<Position> {
    let start = from.map_or(0, |from| items.partition_point(|item| *item <= from));
    items.drain(..start);
    items.truncate(limit);
    items
}
