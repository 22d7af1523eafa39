//! What a comparison asks of a set of (timestamp, id) pairs.

use spore_protocol::ObjectId;
use spore_storage::{StoreError, SyncSet};

/// (timestamp, id) pairs in this order, each at a place from 0 on.
pub trait ItemSet {
    /// Number of items.
    fn len(&self) -> usize;

    /// Visits the items from place `begin` up to `end`, until `visit` returns false.
    ///
    /// # Errors
    /// When the items cannot be read.
    fn each(&self, begin: usize, end: usize, visit: &mut dyn FnMut(u64, ObjectId) -> bool) -> Result<(), StoreError>;

    /// Number of items before this timestamp and id.
    ///
    /// # Errors
    /// When the items cannot be read.
    fn place_of(&self, timestamp: u64, id: &ObjectId) -> Result<usize, StoreError>;

    /// The sum of the ids from place `begin` up to `end`, as little-endian numbers modulo 2^256.
    ///
    /// # Errors
    /// When the items cannot be read.
    fn sum(&self, begin: usize, end: usize) -> Result<[u8; 32], StoreError>;
}

/// The store keeps the sums of whole stretches, so that a sum reads few items.
impl ItemSet for SyncSet<'_> {
    fn len(&self) -> usize {
        self.len()
    }

    fn each(&self, begin: usize, end: usize, visit: &mut dyn FnMut(u64, ObjectId) -> bool) -> Result<(), StoreError> {
        self.each(begin, end, &mut |timestamp, id, _| Ok(visit(timestamp, id)))
    }

    fn place_of(&self, timestamp: u64, id: &ObjectId) -> Result<usize, StoreError> {
        self.place_of(timestamp, id)
    }

    fn sum(&self, begin: usize, end: usize) -> Result<[u8; 32], StoreError> {
        self.sum(begin, end)
    }
}
