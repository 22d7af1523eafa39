//! Lists in order of time, and the buckets that let nodes compare them.
//!
//! A bucket begins at each item whose id ends with a zero byte, one in 256, and at the beginning of
//! the list: so the same items make the same buckets, whatever came first, and one more item
//! changes one bucket, or splits one. Whoever makes ids that begin no bucket only makes the
//! comparison of these very items slower.

use std::ops::ControlFlow;

use spore_protocol::ObjectId;

use super::InsertBatch;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Result, StoreError},
    keys::{self, Moment, TimeList},
    values::Bucket,
};

/// An item begins a bucket when these bits of its id's last byte are zero: one in 256. The tests
/// know few items, and want several buckets.
const BEGINS: u8 = if cfg!(test) { 3 } else { 255 };

fn begins(id: &ObjectId) -> bool {
    id.0.last().is_some_and(|last| last & BEGINS == 0)
}

/// Where a bucket lies: from its first key up to the next bucket's. One of each list is remembered,
/// for most items come near each other, and looking for a bucket costs more than changing it.
#[derive(Clone)]
pub(super) struct Stretch {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Stretch {
    fn holds(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_ref().is_none_or(|end| key < end.as_slice())
    }
}

/// Where the first bucket of a list begins.
fn beginning(listing: TimeList) -> Vec<u8> {
    keys::item(listing, 0, &ObjectId([0; 32]))
}

impl InsertBatch<'_> {
    pub(super) fn enlist(&mut self, listing: TimeList, moment: &Moment, value: Vec<u8>) -> Result<()> {
        let key = keys::timeline(listing, moment);
        self.view.put(Column::Timeline, key.clone(), value);
        if !listing.compared() {
            return Ok(());
        }
        let (start, mut bucket) = self.bucket_at(listing, &key)?;
        if begins(&moment.id) && start != key {
            // The key's own item is in the list already, so it is part of what is split off.
            let tail = self.sum_from(listing, &key)?;
            let mut rest = tail;
            rest.subtract(&Bucket::of(&moment.id));
            bucket.subtract(&rest);
            self.put_bucket(start, bucket);
            self.put_bucket(key, tail);
            self.memory.stretches.remove(&listing);
        } else {
            bucket.add(&Bucket::of(&moment.id));
            self.put_bucket(start, bucket);
        }
        Ok(())
    }

    pub(super) fn delist(&mut self, listing: TimeList, moment: &Moment) -> Result<()> {
        let key = keys::timeline(listing, moment);
        self.view.delete(Column::Timeline, key.clone());
        if !listing.compared() {
            return Ok(());
        }
        let (start, mut bucket) = self.bucket_at(listing, &key)?;
        bucket.subtract(&Bucket::of(&moment.id));
        if start == key && start != beginning(listing) {
            self.view.delete(Column::Buckets, key.clone());
            self.memory.stretches.remove(&listing);
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
        let known = self.memory.stretches.get(&listing).filter(|stretch| stretch.holds(key));
        let stretch = match known {
            Some(stretch) => stretch.clone(),
            None => self.stretch_around(listing, key)?,
        };
        let bucket = self.view.get(Column::Buckets, &stretch.start)?;
        let bucket = bucket.map_or_else(|| Ok(Bucket::default()), |bytes| Bucket::decode(&bytes))?;
        let start = stretch.start.clone();
        self.memory.stretches.insert(listing, stretch);
        Ok((start, bucket))
    }

    fn stretch_around(&self, listing: TimeList, key: &[u8]) -> Result<Stretch> {
        let prefix = listing.prefix();
        let start = self.view.first(Column::Buckets, &prefix, Some(key), KeyOrder::Descending)?;
        let start = start.map_or_else(|| beginning(listing), |(start, _)| start);
        let mut end = None;
        self.view.walk(Column::Buckets, &prefix, Some(key), KeyOrder::Ascending, &mut |next, _| {
            if next == start {
                return Ok(ControlFlow::Continue(()));
            }
            end = Some(next.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(Stretch { start, end })
    }

    /// Nothing is kept of a bucket without items.
    fn put_bucket(&mut self, start: Vec<u8>, bucket: Bucket) {
        if bucket.count == 0 {
            self.view.delete(Column::Buckets, start);
        } else {
            self.view.put(Column::Buckets, start, bucket.encode());
        }
    }

    /// The items from a key on, up to the next bucket.
    fn sum_from(&self, listing: TimeList, from: &[u8]) -> Result<Bucket> {
        let mut sum = Bucket::default();
        self.view.walk(Column::Timeline, &listing.prefix(), Some(from), KeyOrder::Ascending, &mut |key, _| {
            let id = ObjectId(keys::last_id(key)?);
            if key != from && begins(&id) {
                return Ok(ControlFlow::Break(()));
            }
            sum.add(&Bucket::of(&id));
            Ok::<_, StoreError>(ControlFlow::Continue(()))
        })?;
        Ok(sum)
    }
}
