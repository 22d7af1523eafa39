//! Pending records: they arrived before their parents, and are kept on disk, within bounds, until these arrive.

use spore_protocol::{Kind, Record, RecordId, Reject, Signed, SignedObject, cbor::ByteBuf};

use super::{InsertBatch, record::Placed};
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result, StoreError},
    keys,
    lookup::{self, Unreleased},
    values::{self, LineageFault, PendingEntry, encode},
};

/// Most pending records: some minutes of a busy network, or a whole task whose root arrives last.
const MAX_PENDING: u64 = 50_000;

/// Most bytes of pending records. Anybody can sign records whose parents never arrive.
const MAX_PENDING_BYTES: u64 = 256 << 20;

/// Seconds after which a pending record expires. A week covers a publisher's holiday.
const MAX_PENDING_AGE: u64 = 7 * 24 * 3600;

/// Refused records remembered, some 8 MB, so that their descendants are refused at once: twice as many as may be
/// pending.
const MAX_REFUSED: u64 = 100_000;

/// Most pending records that one batch releases. A thousand of usual size have half a MiB, so for large ones the
/// limit of bytes comes first. Bounds the memory, and the time for which other insertions wait.
const MAX_RELEASED: usize = 2_000;

/// Bytes of pending records after which a batch releases no more.
const MAX_RELEASED_BYTES: usize = 16 << 20;

/// How many pending records, and how many bytes of them, a batch may still release.
pub(super) type ReleaseBudget = (usize, usize);

/// The budget of a batch that another one may continue. Smaller in tests.
pub(super) const ONE_STEP: ReleaseBudget =
    if cfg!(test) { (50, MAX_RELEASED_BYTES) } else { (MAX_RELEASED, MAX_RELEASED_BYTES) };

/// The budget of a batch that has to release everything.
pub(super) const ALL_AT_ONCE: ReleaseBudget = (usize::MAX, usize::MAX);

impl InsertBatch<'_> {
    /// Keeps a record until `parent` is stored. Drops the oldest pending records where there are too many.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn add_pending(&mut self, record: &Signed<Record>, parent: RecordId, received_at: u64) -> Result<()> {
        let id = RecordId::from(record.id());
        let order = self.tally.next_pending;
        let object = ByteBuf::from(values::encode_object(&SignedObject::Experiment(record.clone())));
        // There are more only after a repair that lost the parents of many. These are dropped one by one, as others
        // arrive.
        let most = (MAX_PENDING.max(self.tally.pending), MAX_PENDING_BYTES.max(self.tally.pending_bytes));
        self.dirty = true;
        self.tally.next_pending += 1;
        self.tally.pending += 1;
        self.tally.pending_bytes += object.len() as u64;
        self.view.put(Column::Pending, id.0.to_vec(), encode(&PendingEntry { order, received_at, parent, object })?);
        self.view.put(Column::PendingByParent, keys::pending_child(&parent, order, &id), Vec::new());
        self.view.put(Column::PendingByAge, order.to_be_bytes().to_vec(), id.0.to_vec());
        if self.keeps_all { Ok(()) } else { self.drop_oldest(most.0, most.1) }
    }

    /// Whether any record waits for this one.
    pub fn is_awaited(&self, id: &RecordId) -> Result<bool> {
        Ok(self.tally.pending > 0 && lookup::is_awaited(&self.view, id)?)
    }

    /// Drops the oldest pending records until the others are within these bounds.
    pub(crate) fn drop_oldest(&mut self, max_count: u64, max_bytes: u64) -> Result<()> {
        while self.tally.pending > max_count || self.tally.pending_bytes > max_bytes {
            self.drop_oldest_one()?;
        }
        Ok(())
    }

    /// As [`InsertBatch::drop_oldest`], but no more than `limit` records or some MiB. Returns whether there are too many
    /// left.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn drop_some_oldest(&mut self, max_bytes: u64, limit: usize) -> Result<bool> {
        let mut bytes = 0;
        for _ in 0..limit {
            if self.tally.pending_bytes <= max_bytes || bytes >= MAX_RELEASED_BYTES {
                break;
            }
            bytes += self.drop_oldest_one()?;
        }
        Ok(self.tally.pending_bytes > max_bytes)
    }

    /// Drops the oldest pending record. Returns the bytes of its object.
    fn drop_oldest_one(&mut self) -> Result<usize> {
        let (order, oldest) = self.oldest_pending()?.ok_or(Damage::PendingCount)?;
        let held = self.remove_pending(&oldest)?;
        self.pending_from = order.saturating_add(1);
        self.dropped_pending += 1;
        Ok(held.object.len())
    }

    /// Drops pending records that have waited too long for the newest arrival known. An unreadable record stops this,
    /// until a repair removes it; nothing else is affected.
    pub(super) fn expire(&mut self) -> Result<()> {
        match self.drop_expired() {
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::warn!(%error, "the oldest pending record cannot be read; the store needs a repair");
                Ok(())
            }
            dropped => dropped,
        }
    }

    fn drop_expired(&mut self) -> Result<()> {
        // A record that is about to be released does not expire: its parent arrived in time.
        while self.tally.pending > 0
            && self.unreleased.is_empty()
            && !self.keeps_expired
            && !self.keeps_all
            && let Some((_, oldest)) = self.oldest_pending()?
        {
            let bytes = self.view.get(Column::Pending, &oldest.0)?;
            let held: PendingEntry = values::decode(&bytes.ok_or(Damage::NoPending(oldest))?)?;
            if held.received_at.saturating_add(MAX_PENDING_AGE) >= self.now {
                break;
            }
            self.drop_oldest_one()?;
        }
        Ok(())
    }

    /// The oldest pending record and its order. Does not step over what this batch dropped before: it dropped the oldest.
    fn oldest_pending(&self) -> Result<Option<(u64, RecordId)>> {
        let from = keys::number(self.pending_from);
        let oldest = self.view.first(Column::PendingByAge, &[], Some(&from), KeyOrder::Ascending)?;
        oldest.map(|(key, value)| Ok((keys::number_at(&key, 0)?, RecordId(keys::last_id(&value)?)))).transpose()
    }

    /// Remembers a record that breaks the lineage rules, and always will.
    pub fn refuse(&mut self, id: &RecordId, reject: &Reject) -> Result<()> {
        let Some(flaw) = LineageFault::of(reject) else { return Ok(()) };
        self.dirty = true;
        let order = keys::number(self.tally.next_refused);
        self.tally.next_refused += 1;
        self.tally.refused += 1;
        self.view.put(Column::Refused, id.0.to_vec(), [order.as_slice(), &encode(&flaw)?].concat());
        self.view.put(Column::RefusedByAge, order, id.0.to_vec());
        while self.tally.refused > MAX_REFUSED
            && let Some((order, id)) = self.view.first(Column::RefusedByAge, &[], None, KeyOrder::Ascending)?
        {
            self.view.delete(Column::RefusedByAge, order);
            self.view.delete(Column::Refused, id);
            self.tally.refused -= 1;
        }
        Ok(())
    }

    /// Removes a record from the pending ones.
    fn remove_pending(&mut self, id: &RecordId) -> Result<PendingEntry> {
        let bytes = self.view.get(Column::Pending, &id.0)?;
        let held: PendingEntry = values::decode(&bytes.ok_or(Damage::NoPending(*id))?)?;
        self.dirty = true;
        self.view.delete(Column::Pending, id.0.to_vec());
        self.view.delete(Column::PendingByParent, keys::pending_child(&held.parent, held.order, id));
        self.view.delete(Column::PendingByAge, held.order.to_be_bytes().to_vec());
        self.tally.pending = self.tally.pending.saturating_sub(1);
        self.tally.pending_bytes = self.tally.pending_bytes.saturating_sub(held.object.len() as u64);
        Ok(held)
    }

    /// Decides the records that waited for `parent`, then those that waited for these, and so on. A record is stored
    /// when the lineage rules allow it. A record that descends from a refused one is refused too. Records that exceed
    /// the batch's budget are left to the next batch, see [`InsertBatch::release_left`]. An unreadable record stays
    /// pending until a repair, without stopping its parent or the others.
    pub(super) fn release(&mut self, parent: RecordId, reject: Option<Reject>) -> Result<()> {
        let mut decided = vec![(parent, reject)];
        while self.tally.pending > 0
            && let Some((parent, reject)) = decided.pop()
        {
            let mut full = false;
            for key in self.view.keys(Column::PendingByParent, &parent.0)? {
                full = self.budget.0 == 0 || self.budget.1 == 0;
                if full {
                    break;
                }
                let id = RecordId(keys::last_id(&key)?);
                let held = match self.remove_pending(&id) {
                    Err(error @ StoreError::Corrupt(_)) => {
                        tracing::warn!(%id, %error, "a pending record cannot be read; the store needs a repair");
                        continue;
                    }
                    held => held?,
                };
                self.budget = (self.budget.0.saturating_sub(1), self.budget.1.saturating_sub(held.object.len()));
                let verdict = match &reject {
                    Some(reject) => Some(reject.clone()),
                    None => self.place_pending(&held)?,
                };
                if let Some(reject) = &verdict {
                    self.refuse(&id, reject)?;
                    self.late_rejects.push((id.into(), reject.clone()));
                }
                self.resolved.insert(id.into(), verdict.clone());
                decided.push((id, verdict));
            }
            if full {
                self.unreleased.push((parent, reject));
            }
        }
        Ok(())
    }

    /// Continues where the previous batch had exceeded its budget.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn release_left(&mut self, left: Unreleased) -> Result<()> {
        left.into_iter().try_for_each(|(parent, reject)| self.release(parent, reject))
    }

    fn place_pending(&mut self, held: &PendingEntry) -> Result<Option<Reject>> {
        let SignedObject::Experiment(record) = values::decode_object(Kind::Experiment, &held.object)? else {
            return Err(Damage::Value("a pending object is no record").into());
        };
        match self.place(&record, held.received_at)? {
            Placed::Stored => Ok(None),
            Placed::Bad(reject) => Ok(Some(reject)),
            Placed::Missing(_) => Err(Damage::EarlyRelease(record.id().into()).into()),
        }
    }
}
