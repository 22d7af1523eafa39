//! All objects of one kind, page by page, across tasks. So a whole store is sent or exported without being held in
//! memory. A page is one short read of a snapshot, and does not block writers.

use std::ops::ControlFlow;

use spore_protocol::{Kind, ObjectId, RecordId};

use crate::{
    columns::Column,
    db::{DbSnapshot, KeyOrder, KeyReader},
    error::{Damage, Result, StoreError},
    keys::{self, Moment, TimeList},
    lookup::{change, number_of, placing, row_of},
    store::Store,
    types::RecordSummary,
    values::{self, RecordRow},
};

/// A timestamp (Unix seconds) and an id: the order of a stream, and where it continues.
pub type Position = (u64, ObjectId);

/// A stored object as it was signed, not parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectText {
    pub canonical: Vec<u8>,
    pub signature: [u8; 64],
}

impl Store {
    /// The objects of a kind in (timestamp, id) order, from just after `from`: at most `limit`, and fewer only at the
    /// end. Ids of one second that begin with the same 8 bytes are in the order of their arrival.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn page(&self, kind: Kind, from: Option<Position>, limit: usize) -> Result<Vec<Position>> {
        let listing = match kind {
            Kind::Experiment => TimeList::Records,
            Kind::Control => TimeList::Controls,
            Kind::Task => TimeList::Manifests,
            Kind::Profile => TimeList::Profiles,
        };
        let view = self.view();
        // Keys that contain a number are in its order where the first bytes of two ids are equal. An object that is
        // no longer stored sorts before all of these: they are returned again, and none is missed.
        let start = from.map(|(timestamp, id)| {
            let number = if listing.compared() { None } else { number_of(&view, kind, &id)? };
            Ok::<_, StoreError>(keys::timeline(listing, &Moment { timestamp, id, number: number.unwrap_or_default() }))
        });
        let start = start.transpose()?;
        let mut page = Vec::new();
        view.walk(Column::Timeline, &listing.prefix(), start.as_deref(), KeyOrder::Ascending, &mut |key, _| {
            if page.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            if start.as_deref() != Some(key) {
                page.push((keys::number_at(key, keys::SCOPE)?, id_in(&view, listing, key)?));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(page)
    }

    /// A record as it was signed, with its summary. None when it is not stored.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn record_text(&self, id: &RecordId) -> Result<Option<(RecordSummary, ObjectText)>> {
        let view = self.view();
        let Some(RecordRow { summary, .. }) = row_of(&view, id)? else { return Ok(None) };
        let stored = view.get(Column::Objects, &keys::number(summary.sequence))?;
        let stored = stored.ok_or(Damage::NoObject { kind: Kind::Experiment, id: (*id).into() })?;
        let (canonical, signature) = values::stored_text(&stored)?;
        Ok(Some((summary, ObjectText { canonical, signature })))
    }
}

/// The id that an entry of a list stands for.
fn id_in(view: &DbSnapshot<'_>, listing: TimeList, key: &[u8]) -> Result<ObjectId> {
    if listing.compared() {
        return keys::last_id(key).map(ObjectId);
    }
    let number = keys::last_number(key)?;
    if listing == TimeList::Records {
        return Ok(placing(view, number)?.id.into());
    }
    change(view, number).map(|change| change.id)
}
