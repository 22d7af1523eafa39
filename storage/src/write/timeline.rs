//! Lists in the order of time, and the buckets by which nodes compare them.
//!
//! A bucket begins at the beginning of a list, and at each item whose id ends with a zero byte, which is one in 256.
//! The same items therefore make the same buckets, in whatever order they arrived, and one more item changes one
//! bucket or splits one. Ids made so that they begin no bucket only slow down the comparison of these items.

use std::ops::ControlFlow;

use spore_protocol::ObjectId;

use super::InsertBatch;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::Result,
    keys::{self, Moment, TimeList},
    lookup,
    values::Bucket,
};

/// An item begins a bucket when these bits of its id's last byte are zero: one item in 256. Fewer bits in tests, so
/// that few items make several buckets.
const BUCKET_MASK: u8 = if cfg!(test) { 3 } else { 255 };

fn begins_bucket(id: &ObjectId) -> bool {
    id.0.last().is_some_and(|last| last & BUCKET_MASK == 0)
}

/// The range of a bucket: from its first key up to the first key of the next bucket. One range of each list is
/// remembered, because most items are near each other, and finding a bucket costs more than changing it.
#[derive(Clone)]
pub(super) struct BucketRange {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl BucketRange {
    fn holds(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_ref().is_none_or(|end| key < end.as_slice())
    }
}

/// The first key of a list's first bucket.
fn first_key(listing: TimeList) -> Vec<u8> {
    keys::item(listing, 0, &ObjectId([0; 32]))
}

impl InsertBatch<'_> {
    pub(super) fn add_to_list(&mut self, listing: TimeList, moment: &Moment, value: Vec<u8>) -> Result<()> {
        let key = keys::timeline(listing, moment);
        self.view.put(Column::Timeline, key, value);
        self.add_to_bucket(listing, moment)
    }

    /// Adds an item of a list to its bucket. The item is stored already.
    pub(super) fn add_to_bucket(&mut self, listing: TimeList, moment: &Moment) -> Result<()> {
        if !listing.compared() {
            return Ok(());
        }
        let key = keys::timeline(listing, moment);
        let (start, mut bucket) = self.bucket_at(listing, &key)?;
        if begins_bucket(&moment.id) && start != key {
            // The item itself is in the list already, so it is part of the new bucket's sum.
            let tail = self.sum_from(listing, &key)?;
            let mut rest = tail;
            rest.subtract(&Bucket::of(&moment.id));
            bucket.subtract(&rest);
            self.put_bucket(start, bucket);
            self.put_bucket(key, tail);
            self.cache.bucket_ranges.remove(&listing);
        } else {
            bucket.add(&Bucket::of(&moment.id));
            self.put_bucket(start, bucket);
        }
        Ok(())
    }

    pub(super) fn remove_from_list(&mut self, listing: TimeList, moment: &Moment) -> Result<()> {
        let key = keys::timeline(listing, moment);
        self.view.delete(Column::Timeline, key.clone());
        if !listing.compared() {
            return Ok(());
        }
        let (start, mut bucket) = self.bucket_at(listing, &key)?;
        bucket.subtract(&Bucket::of(&moment.id));
        if start == key && start != first_key(listing) {
            self.view.delete(Column::Buckets, key.clone());
            self.cache.bucket_ranges.remove(&listing);
            let (start, mut before) = self.bucket_at(listing, &key)?;
            before.add(&bucket);
            self.put_bucket(start, before);
        } else {
            self.put_bucket(start, bucket);
        }
        Ok(())
    }

    /// The bucket that a key belongs to, with its first key.
    fn bucket_at(&mut self, listing: TimeList, key: &[u8]) -> Result<(Vec<u8>, Bucket)> {
        let known = self.cache.bucket_ranges.get(&listing).filter(|range| range.holds(key));
        let range = match known {
            Some(range) => range.clone(),
            None => self.bucket_range_around(listing, key)?,
        };
        let bucket = self.view.get(Column::Buckets, &range.start)?;
        let bucket = bucket.map_or_else(|| Ok(Bucket::default()), |bytes| Bucket::decode(&bytes))?;
        let start = range.start.clone();
        self.cache.bucket_ranges.insert(listing, range);
        Ok((start, bucket))
    }

    fn bucket_range_around(&self, listing: TimeList, key: &[u8]) -> Result<BucketRange> {
        let prefix = listing.prefix();
        let start = self.view.first(Column::Buckets, &prefix, Some(key), KeyOrder::Descending)?;
        let start = start.map_or_else(|| first_key(listing), |(start, _)| start);
        let mut end = None;
        self.view.walk(Column::Buckets, &prefix, Some(key), KeyOrder::Ascending, &mut |next, _| {
            if next == start {
                return Ok(ControlFlow::Continue(()));
            }
            end = Some(next.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(BucketRange { start, end })
    }

    /// Writes a bucket, or deletes it when it is empty.
    fn put_bucket(&mut self, start: Vec<u8>, bucket: Bucket) {
        if bucket.count == 0 {
            self.view.delete(Column::Buckets, start);
        } else {
            self.view.put(Column::Buckets, start, bucket.encode());
        }
    }

    /// The sum of the items from a key on, up to the next bucket.
    fn sum_from(&self, listing: TimeList, from: &[u8]) -> Result<Bucket> {
        let mut sum = Bucket::default();
        lookup::each_item(&self.view, &listing.prefix(), from, &mut |key| {
            let id = ObjectId(keys::last_id(key)?);
            if key != from && begins_bucket(&id) {
                return Ok(ControlFlow::Break(()));
            }
            sum.add(&Bucket::of(&id));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(sum)
    }
}
