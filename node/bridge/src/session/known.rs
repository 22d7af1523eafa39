//! Which objects the peer has, as far as this session saw: bounded sets of ids.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use spore_protocol::ObjectId;

use crate::limits::{RECEIVED_IDS, SENT_IDS};

/// Ids of the objects that went over a connection, in each direction. An id is kept as a hash of eight bytes with a
/// secret key, so that nobody can make two objects that are taken for one.
#[derive(Debug)]
pub(super) struct KnownIds {
    key: RandomState,
    received: Generations,
    sent: Generations,
}

impl KnownIds {
    pub fn new() -> Self {
        Self { key: RandomState::new(), received: Generations::new(RECEIVED_IDS), sent: Generations::new(SENT_IDS) }
    }

    /// The peer sent an object. False when it had sent the object before.
    pub fn add_received(&mut self, id: &ObjectId) -> bool {
        self.received.insert(self.key.hash_one(id))
    }

    /// An object that the peer sent was not stored: the peer may send it again.
    pub fn forget_received(&mut self, id: &ObjectId) {
        self.received.remove(self.key.hash_one(id));
    }

    /// The peer may send everything again.
    pub fn forget_all_received(&mut self) {
        self.received = Generations::new(RECEIVED_IDS);
    }

    /// Whether the peer sent an object.
    pub fn was_received(&self, id: &ObjectId) -> bool {
        self.received.contains(self.key.hash_one(id))
    }

    /// An object is sent to the peer.
    pub fn add_sent(&mut self, id: &ObjectId) {
        self.sent.insert(self.key.hash_one(id));
    }

    /// Whether the peer has an object, because it sent the object or was sent it.
    pub fn peer_has(&self, id: &ObjectId) -> bool {
        let hash = self.key.hash_one(id);
        self.received.contains(hash) || self.sent.contains(hash)
    }
}

/// Both directions of a session share the ids: the reading side adds what came, and the feed leaves it out.
pub(super) type SharedIds = Arc<Mutex<KnownIds>>;

/// Locks the ids.
pub(super) fn lock(ids: &SharedIds) -> MutexGuard<'_, KnownIds> {
    // A panic elsewhere leaves sets of numbers intact.
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A set of the newest entries: at least `limit` of them, at most twice as many.
#[derive(Debug)]
struct Generations {
    limit: usize,
    new: HashSet<u64>,
    old: HashSet<u64>,
}

impl Generations {
    fn new(limit: usize) -> Self {
        Self { limit, new: HashSet::new(), old: HashSet::new() }
    }

    fn contains(&self, hash: u64) -> bool {
        self.new.contains(&hash) || self.old.contains(&hash)
    }

    fn insert(&mut self, hash: u64) -> bool {
        if self.contains(hash) {
            return false;
        }
        if self.new.len() >= self.limit {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(hash)
    }

    fn remove(&mut self, hash: u64) {
        self.new.remove(&hash);
        self.old.remove(&hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ObjectId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        ObjectId(bytes)
    }

    #[test]
    fn peer_has_what_it_sent_and_what_it_was_sent() {
        let mut ids = KnownIds::new();
        assert!(ids.add_received(&id(1)) && !ids.add_received(&id(1)));
        ids.add_sent(&id(2));
        assert!(ids.peer_has(&id(1)) && ids.peer_has(&id(2)) && !ids.peer_has(&id(3)));
        assert!(ids.was_received(&id(1)) && !ids.was_received(&id(2)));
        ids.forget_received(&id(1));
        assert!(ids.add_received(&id(1)), "a refused object may come again");
        ids.forget_all_received();
        assert!(ids.add_received(&id(1)) && ids.peer_has(&id(2)));
    }

    #[test]
    fn newest_ids_are_remembered_and_no_more_than_twice_the_limit() {
        let mut ids = KnownIds::new();
        let limit = RECEIVED_IDS as u64;
        for n in 0..3 * limit {
            ids.add_received(&id(n));
        }
        assert!((2 * limit..3 * limit).all(|n| ids.was_received(&id(n))));
        assert!(ids.received.new.len() + ids.received.old.len() <= 2 * RECEIVED_IDS);
    }
}
