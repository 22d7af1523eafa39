//! Records that came before their parents: kept on disk, within bounds, until these come.

use spore_protocol::{Kind, Record, RecordId, Reject, Signed, SignedObject, cbor::ByteBuf};

use super::{Batch, record::Placed};
use crate::{
    columns::Column,
    db::{Source, Way},
    error::{Result, StoreError},
    keys,
    values::{self, Flaw, Held, encode},
};

/// Most records kept aside: some minutes of a busy network, or a whole task whose root comes last.
const MAX_PENDING: u64 = 50_000;

/// Most bytes kept aside: anybody can sign records whose parents never come.
const MAX_PENDING_BYTES: u64 = 256 << 20;

/// Seconds that a record waits for its parent: a week covers a publisher's holiday.
const MAX_PENDING_AGE: u64 = 7 * 24 * 3600;

/// Refused records remembered, some 8 MB, so that what descends from them does not wait: as many
/// as may be pending, twice.
const MAX_REFUSED: u64 = 100_000;

/// Waiting records that one batch releases: a thousand of usual size are half a MiB, so that the bytes below
/// are the nearer bound for large ones. Bounds the memory and the time that the store is closed to others.
const MAX_RELEASED: usize = 2_000;

/// Bytes of waiting records that one batch releases; the last one may reach beyond.
const MAX_RELEASED_BYTES: usize = 16 << 20;

/// Records that are decided, with why they were refused, and others that may still wait for them.
pub type Unreleased = Vec<(RecordId, Option<Reject>)>;

/// How many records, of how many bytes, a batch may still release.
pub(super) type Room = (usize, usize);

/// Of a batch after which another can go on.
pub(super) const ONE_STEP: Room =
    if cfg!(test) { (50, MAX_RELEASED_BYTES) } else { (MAX_RELEASED, MAX_RELEASED_BYTES) };

/// Of a batch that has to release everything.
pub(super) const ALL_AT_ONCE: Room = (usize::MAX, usize::MAX);

impl Batch<'_> {
    /// Keeps a record until `parent` comes; the oldest kept ones make room.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn hold(&mut self, record: &Signed<Record>, parent: RecordId, received_at: u64) -> Result<()> {
        let id = RecordId::from(record.id());
        let order = self.tally.next_pending;
        let object = ByteBuf::from(values::encode_object(&SignedObject::Experiment(record.clone())));
        // More than fits wait only where a repair lost the parents of many: these go one by one.
        let most = (MAX_PENDING.max(self.tally.pending), MAX_PENDING_BYTES.max(self.tally.pending_bytes));
        self.dirty = true;
        self.tally.next_pending += 1;
        self.tally.pending += 1;
        self.tally.pending_bytes += object.len() as u64;
        self.view.put(Column::Pending, id.0.to_vec(), encode(&Held { order, received_at, parent, object })?);
        self.view.put(Column::PendingByParent, keys::pending_child(&parent, order, &id), Vec::new());
        self.view.put(Column::PendingByAge, order.to_be_bytes().to_vec(), id.0.to_vec());
        if self.keeps_all { Ok(()) } else { self.shed(most.0, most.1) }
    }

    /// Whether a record waits for this one.
    pub fn is_awaited(&self, id: &RecordId) -> Result<bool> {
        Ok(self.tally.pending > 0 && self.view.first(Column::PendingByParent, &id.0, None, Way::Up)?.is_some())
    }

    /// Drops the oldest until the rest is within the bounds.
    pub(crate) fn shed(&mut self, max_count: u64, max_bytes: u64) -> Result<()> {
        while self.tally.pending > max_count || self.tally.pending_bytes > max_bytes {
            let oldest = self.oldest_pending()?;
            let oldest = oldest.ok_or_else(|| StoreError::corrupt("the count of pending records is wrong"))?;
            self.take(&oldest)?;
            self.dropped_pending += 1;
        }
        Ok(())
    }

    /// Drops those that have waited too long, as of the latest arrival told. An unreadable one holds up this
    /// alone: nothing after it is dropped for its age until a repair took it away.
    pub(super) fn expire(&mut self) -> Result<()> {
        match self.drop_old() {
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::warn!(%error, "the record that has waited longest cannot be read: repair the store");
                Ok(())
            }
            dropped => dropped,
        }
    }

    fn drop_old(&mut self) -> Result<()> {
        // What was about to be released is not too old: its parent came in time.
        while self.tally.pending > 0
            && self.unreleased.is_empty()
            && !self.spares_waiting
            && !self.keeps_all
            && let Some(oldest) = self.oldest_pending()?
        {
            let bytes = self.view.get(Column::Pending, &oldest.0)?;
            let held: Held = values::decode(&bytes.ok_or_else(gone)?)?;
            if held.received_at.saturating_add(MAX_PENDING_AGE) >= self.now {
                break;
            }
            self.take(&oldest)?;
            self.dropped_pending += 1;
        }
        Ok(())
    }

    fn oldest_pending(&self) -> Result<Option<RecordId>> {
        let oldest = self.view.first(Column::PendingByAge, &[], None, Way::Up)?;
        oldest.map(|(_, value)| keys::last_id(&value).map(RecordId)).transpose()
    }

    /// Remembers a record that breaks the lineage rules, which it will for ever.
    pub fn refuse(&mut self, id: &RecordId, reject: &Reject) -> Result<()> {
        let Some(flaw) = Flaw::of(reject) else { return Ok(()) };
        self.dirty = true;
        let order = keys::number(self.tally.next_refused);
        self.tally.next_refused += 1;
        self.tally.refused += 1;
        self.view.put(Column::Refused, id.0.to_vec(), [order.as_slice(), &encode(&flaw)?].concat());
        self.view.put(Column::RefusedByAge, order, id.0.to_vec());
        while self.tally.refused > MAX_REFUSED
            && let Some((order, id)) = self.view.first(Column::RefusedByAge, &[], None, Way::Up)?
        {
            self.view.delete(Column::RefusedByAge, order);
            self.view.delete(Column::Refused, id);
            self.tally.refused -= 1;
        }
        Ok(())
    }

    /// Removes a record from what is kept aside.
    fn take(&mut self, id: &RecordId) -> Result<Held> {
        let bytes = self.view.get(Column::Pending, &id.0)?;
        let held: Held = values::decode(&bytes.ok_or_else(gone)?)?;
        self.dirty = true;
        self.view.delete(Column::Pending, id.0.to_vec());
        self.view.delete(Column::PendingByParent, keys::pending_child(&held.parent, held.order, id));
        self.view.delete(Column::PendingByAge, held.order.to_be_bytes().to_vec());
        self.tally.pending = self.tally.pending.saturating_sub(1);
        self.tally.pending_bytes = self.tally.pending_bytes.saturating_sub(held.object.len() as u64);
        Ok(held)
    }

    /// Decides what waited for `parent`, and what waited for that, and so on: stored where the
    /// lineage allows. What descends from a rejected record can never be placed and goes with it. What
    /// there is no room for in this batch is left to the next one, see [`Batch::release_left`]. What cannot
    /// be read waits on, until a repair: it holds up neither its parent nor the others.
    pub(super) fn release(&mut self, parent: RecordId, reject: Option<Reject>) -> Result<()> {
        let mut decided = vec![(parent, reject)];
        while self.tally.pending > 0
            && let Some((parent, reject)) = decided.pop()
        {
            let mut full = false;
            for key in self.view.keys(Column::PendingByParent, &parent.0)? {
                full = self.room.0 == 0 || self.room.1 == 0;
                if full {
                    break;
                }
                let id = RecordId(keys::last_id(&key)?);
                let held = match self.take(&id) {
                    Err(error @ StoreError::Corrupt { .. }) => {
                        tracing::warn!(%id, %error, "a waiting record cannot be read: repair the store");
                        continue;
                    }
                    held => held?,
                };
                self.room = (self.room.0.saturating_sub(1), self.room.1.saturating_sub(held.object.len()));
                let verdict = match &reject {
                    Some(reject) => Some(reject.clone()),
                    None => self.place_held(&held)?,
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

    /// Goes on where the batch before this one had no more room.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn release_left(&mut self, left: Unreleased) -> Result<()> {
        left.into_iter().try_for_each(|(parent, reject)| self.release(parent, reject))
    }

    fn place_held(&mut self, held: &Held) -> Result<Option<Reject>> {
        let SignedObject::Experiment(record) = values::decode_object(Kind::Experiment, &held.object)? else {
            return Err(StoreError::corrupt("a pending object is no record"));
        };
        match self.place(&record, held.received_at)? {
            Placed::Stored => Ok(None),
            Placed::Bad(reject) => Ok(Some(reject)),
            Placed::Missing(_) => Err(StoreError::corrupt("a record was released before its parent")),
        }
    }
}

fn gone() -> StoreError {
    StoreError::corrupt("a pending record is gone")
}
