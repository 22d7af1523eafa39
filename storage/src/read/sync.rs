//! The sets that nodes compare: the (timestamp, id) of all objects of a kind, in order, with the sums over ranges
//! that range-based set reconciliation needs.
//!
//! What was dropped stays in its set while the store remembers it, so that two nodes of which one dropped more than the
//! other still have equal sets, and nothing that was dropped comes back.
//!
//! The sums are kept by bucket ([`crate::columns::Column::Buckets`], about 256 items each), so that no answer reads
//! all items. A set of 1,000,000 items reads 4,000 buckets (300 KB) when it is made, and then at most two buckets of
//! items for each sum or place.

use std::ops::ControlFlow;

use spore_protocol::ObjectId;

use crate::{
    columns::Column,
    db::{DbSnapshot, KeyReader},
    error::Result,
    keys::{self, TimeList},
    lookup,
    store::Store,
    types::SyncScope,
    values::Bucket,
};

/// The items of one scope at one moment, in (timestamp, id) order. It holds a snapshot: use it for one message, not
/// for a session, between whose messages the set may change.
pub struct SyncSet<'a> {
    view: DbSnapshot<'a>,
    prefix: [u8; keys::SCOPE],
    /// First key of each bucket, how many items come before it, and their sum.
    buckets: Vec<(Vec<u8>, usize, Bucket)>,
    all: Bucket,
}

impl Store {
    /// The set that two nodes compare to find what each lacks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn sync_set(&self, scope: SyncScope) -> Result<SyncSet<'_>> {
        let view = self.view();
        let prefix = TimeList::from(scope).prefix();
        let (mut buckets, mut all) = (Vec::new(), Bucket::default());
        view.each(Column::Buckets, &prefix, &mut |key, value| {
            buckets.push((key.to_vec(), size(all.count), all));
            all.add(&Bucket::decode(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(SyncSet { view, prefix, buckets, all })
    }

    /// All items of a scope, in (timestamp, id) order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn sync_items(&self, scope: SyncScope) -> Result<Vec<(u64, ObjectId)>> {
        let set = self.sync_set(scope)?;
        let mut items = Vec::with_capacity(set.len());
        set.each(0, set.len(), &mut |timestamp, id, _| {
            items.push((timestamp, id));
            Ok(true)
        })?;
        Ok(items)
    }
}

impl SyncSet<'_> {
    pub fn len(&self) -> usize {
        size(self.all.count)
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The item at a place.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get(&self, place: usize) -> Result<Option<(u64, ObjectId)>> {
        let mut found = None;
        self.each(place, place.saturating_add(1), &mut |timestamp, id, _| {
            found = Some((timestamp, id));
            Ok(false)
        })?;
        Ok(found)
    }

    /// Visits the items from place `begin` up to place `end`, each with its place, until `visit` returns false.
    ///
    /// # Errors
    /// When the store cannot be read, and errors of `visit`.
    pub fn each(
        &self,
        begin: usize,
        end: usize,
        visit: &mut dyn FnMut(u64, ObjectId, usize) -> Result<bool>,
    ) -> Result<()> {
        let end = end.min(self.len());
        let bucket = self.buckets.partition_point(|(_, before, _)| *before <= begin).checked_sub(1);
        let Some((start, before, _)) = bucket.and_then(|bucket| self.buckets.get(bucket)) else { return Ok(()) };
        if begin >= end {
            return Ok(());
        }
        let mut place = *before;
        lookup::each_item(&self.view, &self.prefix, start, &mut |key| {
            let at = place;
            place += 1;
            let wanted = at >= begin;
            if at >= end || wanted && !visit(keys::time_before_id(key)?, ObjectId(keys::last_id(key)?), at)? {
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// How many items come before this timestamp and id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn place_of(&self, timestamp: u64, id: &ObjectId) -> Result<usize> {
        let key = [self.prefix.as_slice(), &timestamp.to_be_bytes(), &id.0].concat();
        let bucket = self.buckets.partition_point(|(start, _, _)| *start <= key).checked_sub(1);
        let Some(bucket) = bucket else { return Ok(0) };
        let Some((start, before, _)) = self.buckets.get(bucket) else { return Ok(0) };
        let end = self.buckets.get(bucket + 1).map_or(self.len(), |(_, before, _)| *before);
        let mut place = *before;
        lookup::each_item(&self.view, &self.prefix, start, &mut |item| {
            if item >= key.as_slice() || place >= end {
                return Ok(ControlFlow::Break(()));
            }
            place += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(place)
    }

    /// The sum of the ids from place `begin` up to place `end`, as little-endian numbers modulo 2^256.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn sum(&self, begin: usize, end: usize) -> Result<[u8; 32]> {
        let mut sum = self.sum_before(end)?;
        sum.subtract(&self.sum_before(begin)?);
        Ok(sum.sum)
    }

    fn sum_before(&self, place: usize) -> Result<Bucket> {
        if place >= self.len() {
            return Ok(self.all);
        }
        let bucket = self.buckets.partition_point(|(_, before, _)| *before <= place).checked_sub(1);
        let Some((_, before, sum)) = bucket.and_then(|bucket| self.buckets.get(bucket)) else {
            return Ok(Bucket::default());
        };
        let mut sum = *sum;
        self.each(*before, place, &mut |_, id, _| {
            sum.add(&Bucket::of(&id));
            Ok(true)
        })?;
        Ok(sum)
    }
}

/// A count of items in memory fits a `usize`.
fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
