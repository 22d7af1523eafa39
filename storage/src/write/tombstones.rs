//! What was dropped: the objects that are remembered, so that they do not come back.
//!
//! A dropped object stays in the set that nodes compare. One that was dropped for room comes back when a pending record
//! waits for it: somebody builds on it. What the operator dropped does not.

use spore_protocol::{Kind, ObjectId};

use super::{DropRules, InsertBatch};
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::Result,
    keys::{self, Moment, TimeList},
    lookup,
    values::DroppedEntry,
};

/// Most dropped objects that are remembered. Their three entries take some 250 bytes, 64 MiB in all. Of a flood that
/// is longer, the oldest objects may come back, and are dropped again.
pub const MAX_DROPPED: u64 = if cfg!(test) { 64 } else { 262_144 };

impl InsertBatch<'_> {
    /// Whether an object that is not stored may be inserted: it was not dropped, or dropped for room only, and a record
    /// waits for it. In that case it is no longer counted as dropped.
    pub(super) fn may_return(&mut self, kind: Kind, id: &ObjectId) -> Result<bool> {
        if self.tally.dropped == 0 {
            return Ok(true);
        }
        let Some(entry) = lookup::dropped(&self.view, kind, id)? else { return Ok(true) };
        if !lookup::returns(&self.view, kind, id, &entry)? {
            return Ok(false);
        }
        self.forget_dropped(kind, id, &entry)?;
        Ok(true)
    }

    /// Remembers a dropped object, whose item leaves the timeline and stays in its bucket.
    pub(super) fn bury(
        &mut self,
        kind: Kind,
        listing: Option<TimeList>,
        moment: &Moment,
        rules: &DropRules,
    ) -> Result<()> {
        let item = listing.map(|listing| keys::timeline(listing, moment));
        let order = self.tally.next_dropped;
        if let Some(item) = &item {
            self.view.delete(Column::Timeline, item.clone());
        }
        self.put_dropped(kind, &moment.id, &DroppedEntry { order, why: rules.why, item });
        while self.tally.dropped > rules.most_dropped.min(MAX_DROPPED)
            && let Some((_, oldest)) = self.view.first(Column::Dropped, &[2], None, KeyOrder::Ascending)?
            && let Some(kind) = oldest.first().copied().and_then(Kind::from_code)
        {
            let id = ObjectId(keys::last_id(&oldest)?);
            let Some(entry) = lookup::dropped(&self.view, kind, &id)? else { break };
            self.forget_dropped(kind, &id, &entry)?;
        }
        Ok(())
    }

    /// Remembers what another store dropped. For a replay. Does nothing when the object is stored here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn replay_dropped(&mut self, kind: Kind, id: &ObjectId, entry: &DroppedEntry) -> Result<()> {
        if self.view.has(Column::Ids, &keys::id(kind, id))? {
            return Ok(());
        }
        self.put_dropped(kind, id, entry);
        if let Some(item) = &entry.item {
            let (listing, moment) = keys::listed_item(item)?;
            self.add_to_bucket(listing, &moment)?;
        }
        Ok(())
    }

    /// The next dropped object gets this order. For a replay.
    pub fn replay_dropped_order(&mut self, order: u64) {
        self.tally.next_dropped = order;
    }

    fn put_dropped(&mut self, kind: Kind, id: &ObjectId, entry: &DroppedEntry) {
        self.dirty = true;
        self.tally.dropped += 1;
        self.tally.next_dropped = self.tally.next_dropped.max(entry.order.saturating_add(1));
        self.view.put(Column::Dropped, keys::dropped(kind, id), entry.encode());
        self.view.put(Column::Dropped, keys::dropped_order(entry.order), keys::id(kind, id));
        if let Some(item) = &entry.item {
            self.view.put(Column::Dropped, keys::dropped_item(item), Vec::new());
        }
    }

    fn forget_dropped(&mut self, kind: Kind, id: &ObjectId, entry: &DroppedEntry) -> Result<()> {
        self.dirty = true;
        self.tally.dropped = self.tally.dropped.saturating_sub(1);
        self.view.delete(Column::Dropped, keys::dropped(kind, id));
        self.view.delete(Column::Dropped, keys::dropped_order(entry.order));
        if let Some(item) = &entry.item {
            self.view.delete(Column::Dropped, keys::dropped_item(item));
            let (listing, moment) = keys::listed_item(item)?;
            self.remove_from_list(listing, &moment)?;
        }
        Ok(())
    }
}
