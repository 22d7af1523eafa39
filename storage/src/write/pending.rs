//! Records that came before their parents: kept on disk, within bounds, until these come.

use std::ops::ControlFlow;

use spore_protocol::{Kind, Record, RecordId, Reject, Signed, SignedObject, cbor::Bytes};

use super::{Batch, record::Placed};
use crate::{
    columns::Column,
    db::Source,
    error::{Result, StoreError},
    keys,
    values::{self, Held, encode},
};

/// Most records kept aside: some minutes of a busy network, or a whole task whose root comes last.
const MAX_PENDING: u64 = 50_000;

/// Most bytes kept aside: anybody can sign records whose parents never come.
const MAX_PENDING_BYTES: u64 = 256 << 20;

impl Batch<'_> {
    /// Keeps a record until `parent` comes; the oldest kept ones make room.
    pub(super) fn hold(&mut self, record: &Signed<Record>, parent: RecordId, received_at: u64) -> Result<()> {
        let id = RecordId::from(record.id());
        let order = self.tally.next_pending;
        let object = Bytes(values::encode_object(&SignedObject::Experiment(record.clone())));
        self.tally.next_pending += 1;
        self.tally.pending += 1;
        self.tally.pending_bytes += object.0.len() as u64;
        self.view.put(Column::Pending, id.0.to_vec(), encode(&Held { order, received_at, parent, object })?);
        self.view.put(Column::PendingByParent, keys::pending_child(&parent, order, &id), Vec::new());
        self.view.put(Column::PendingByAge, order.to_be_bytes().to_vec(), id.0.to_vec());
        self.shed(MAX_PENDING, MAX_PENDING_BYTES)
    }

    /// Drops the oldest until the rest is within the bounds.
    pub(crate) fn shed(&mut self, max_count: u64, max_bytes: u64) -> Result<()> {
        while self.tally.pending > max_count || self.tally.pending_bytes > max_bytes {
            let mut oldest = None;
            self.view.each(Column::PendingByAge, &[], &mut |_, value| {
                oldest = Some(RecordId(keys::last_id(value)?));
                Ok(ControlFlow::Break(()))
            })?;
            let Some(oldest) = oldest else {
                return Err(StoreError::corrupt("the count of pending records is wrong"));
            };
            self.take(&oldest)?;
            self.dropped_pending += 1;
        }
        Ok(())
    }

    /// Removes a record from what is kept aside.
    fn take(&mut self, id: &RecordId) -> Result<Held> {
        let bytes = self.view.get(Column::Pending, &id.0)?;
        let held: Held = values::decode(&bytes.ok_or_else(|| StoreError::corrupt("a pending record is gone"))?)?;
        self.view.delete(Column::Pending, id.0.to_vec());
        self.view.delete(Column::PendingByParent, keys::pending_child(&held.parent, held.order, id));
        self.view.delete(Column::PendingByAge, held.order.to_be_bytes().to_vec());
        self.tally.pending = self.tally.pending.saturating_sub(1);
        self.tally.pending_bytes = self.tally.pending_bytes.saturating_sub(held.object.0.len() as u64);
        Ok(held)
    }

    /// Decides what waited for `parent`, and what waited for that, and so on: stored where the
    /// lineage allows. What descends from a rejected record can never be placed and goes with it.
    pub(super) fn release(&mut self, parent: RecordId, reject: Option<Reject>) -> Result<()> {
        let mut decided = vec![(parent, reject)];
        while self.tally.pending > 0
            && let Some((parent, reject)) = decided.pop()
        {
            for key in self.view.keys(Column::PendingByParent, &parent.0)? {
                let id = RecordId(keys::last_id(&key)?);
                let held = self.take(&id)?;
                let verdict = match &reject {
                    Some(reject) => Some(reject.clone()),
                    None => self.place_held(&held)?,
                };
                if let Some(reject) = &verdict {
                    self.late_rejects.push((id.into(), reject.clone()));
                }
                self.resolved.insert(id.into(), verdict.clone());
                decided.push((id, verdict));
            }
        }
        Ok(())
    }

    fn place_held(&mut self, held: &Held) -> Result<Option<Reject>> {
        let SignedObject::Experiment(record) = values::decode_object(Kind::Experiment, &held.object.0)? else {
            return Err(StoreError::corrupt("a pending object is no record"));
        };
        match self.place(&record, held.received_at)? {
            Placed::Stored => Ok(None),
            Placed::Bad(reject) => Ok(Some(reject)),
            Placed::Missing(_) => Err(StoreError::corrupt("a record was released before its parent")),
        }
    }
}
