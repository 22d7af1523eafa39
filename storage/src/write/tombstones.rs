//! What was dropped: the objects that are remembered, so that they do not come back.
//!
//! A dropped object stays in the set that nodes compare. One that was dropped for room comes back when a pending record
//! waits for it: somebody builds on it. What the operator dropped does not.

use std::ops::ControlFlow;

use spore_protocol::{Kind, ObjectId};

use super::{DropRules, InsertBatch};
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::Result,
    keys::{self, Moment, TimeList},
    lookup,
    types::WhyDropped,
    values::DroppedEntry,
};

/// Most objects dropped for one reason that are remembered. Their three entries take some 250 bytes, 64 MiB in all. Of a
/// flood that is longer, the oldest objects may come back, and are dropped again.
pub const MAX_DROPPED: u64 = if cfg!(test) { 64 } else { 262_144 };

/// Dropped objects that are forgotten for each one that is remembered, while there are too many: one for itself, and one
/// more, so that a bound that shrank is reached at last. [`InsertBatch::forget_beyond`] reaches it at once.
const FORGOTTEN_FOR_ONE: usize = 2;

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
        self.forget_beyond(rules.why, rules.most_dropped, FORGOTTEN_FOR_ONE)?;
        Ok(())
    }

    /// Forgets the oldest objects dropped for a reason, until no more than `most` are remembered, and no more than
    /// `limit` of them. Returns whether there are too many left.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn forget_beyond(&mut self, why: WhyDropped, most: u64, limit: usize) -> Result<bool> {
        let most = most.min(MAX_DROPPED);
        let excess = self.tally.dropped_for(why).saturating_sub(most);
        let limit = usize::try_from(excess).unwrap_or(limit).min(limit);
        // What this batch has forgotten is not stepped over again.
        let from = self.forgotten.get(&why).map(|order| keys::dropped_order(why, *order));
        let mut oldest = Vec::with_capacity(limit);
        if limit > 0 {
            let orders = keys::dropped_orders(why);
            self.view.walk(Column::Dropped, &orders, from.as_deref(), KeyOrder::Ascending, &mut |_, name| {
                oldest.push(name.to_vec());
                Ok(if oldest.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        }
        for name in oldest {
            let Some(kind) = name.first().copied().and_then(Kind::from_code) else { return Ok(false) };
            let id = ObjectId(keys::last_id(&name)?);
            let Some(entry) = lookup::dropped(&self.view, kind, &id)? else { return Ok(false) };
            self.forget_dropped(kind, &id, &entry)?;
            self.forgotten.insert(why, entry.order.saturating_add(1));
        }
        Ok(self.tally.dropped_for(why) > most)
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
        self.tally.dropped_by_operator += u64::from(entry.why == WhyDropped::Operator);
        self.tally.next_dropped = self.tally.next_dropped.max(entry.order.saturating_add(1));
        self.view.put(Column::Dropped, keys::dropped(kind, id), entry.encode());
        self.view.put(Column::Dropped, keys::dropped_order(entry.why, entry.order), keys::id(kind, id));
        if let Some(item) = &entry.item {
            self.view.put(Column::Dropped, keys::dropped_item(item), Vec::new());
        }
    }

    fn forget_dropped(&mut self, kind: Kind, id: &ObjectId, entry: &DroppedEntry) -> Result<()> {
        self.dirty = true;
        self.tally.dropped = self.tally.dropped.saturating_sub(1);
        let by_operator = u64::from(entry.why == WhyDropped::Operator);
        self.tally.dropped_by_operator = self.tally.dropped_by_operator.saturating_sub(by_operator);
        self.view.delete(Column::Dropped, keys::dropped(kind, id));
        self.view.delete(Column::Dropped, keys::dropped_order(entry.why, entry.order));
        if let Some(item) = &entry.item {
            self.view.delete(Column::Dropped, keys::dropped_item(item));
            let (listing, moment) = keys::listed_item(item)?;
            self.remove_from_list(listing, &moment)?;
        }
        Ok(())
    }
}
