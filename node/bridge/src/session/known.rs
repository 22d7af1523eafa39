//! What a peer has, as far as this session saw: bounded sets of ids; and the rate at which it may say
//! what is nothing new.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use spore_protocol::ObjectId;

use crate::limits::{DUPLICATE_BURST, DUPLICATES_PER_SECOND, HEARD_IDS, TOLD_IDS};

/// Ids that went over a connection, each way. An id is kept as eight bytes, hashed with a key that
/// nobody outside knows: nobody can make two objects that are taken for one.
#[derive(Debug)]
pub(super) struct Known {
    key: RandomState,
    heard: Generations,
    told: Generations,
}

impl Known {
    pub fn new() -> Self {
        Self { key: RandomState::new(), heard: Generations::new(HEARD_IDS), told: Generations::new(TOLD_IDS) }
    }

    /// Notes that the peer sent an object. False when it had sent it before.
    pub fn hear(&mut self, id: &ObjectId) -> bool {
        self.heard.insert(self.key.hash_one(id))
    }

    /// What the peer sent was not taken: it may come again.
    pub fn unhear(&mut self, id: &ObjectId) {
        self.heard.remove(self.key.hash_one(id));
    }

    /// Everything that the peer sent may come again.
    pub fn unhear_all(&mut self) {
        self.heard = Generations::new(HEARD_IDS);
    }

    pub fn heard(&self, id: &ObjectId) -> bool {
        self.heard.contains(self.key.hash_one(id))
    }

    /// Notes that an object is sent to the peer.
    pub fn tell(&mut self, id: &ObjectId) {
        self.told.insert(self.key.hash_one(id));
    }

    /// Whether the peer has an object: it sent it, or was sent it.
    pub fn has(&self, id: &ObjectId) -> bool {
        let hash = self.key.hash_one(id);
        self.heard.contains(hash) || self.told.contains(hash)
    }
}

/// A set of the newest entries: at least `limit`, at most twice as many.
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

/// How much a peer may say that is nothing new: a burst, then so many a second.
#[derive(Debug)]
pub(super) struct TokenBucket {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    pub fn new(now: Instant) -> Self {
        Self { tokens: DUPLICATE_BURST, at: now }
    }

    /// Takes tokens, on credit where there are none: how long to read nothing then.
    pub fn take(&mut self, tokens: f64, now: Instant) -> Option<Duration> {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * DUPLICATES_PER_SECOND;
        self.at = now;
        self.tokens = (self.tokens + gained).min(DUPLICATE_BURST) - tokens;
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / DUPLICATES_PER_SECOND))
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
    fn a_peer_has_what_it_sent_and_what_it_was_sent() {
        let mut known = Known::new();
        assert!(known.hear(&id(1)) && !known.hear(&id(1)));
        known.tell(&id(2));
        assert!(known.has(&id(1)) && known.has(&id(2)) && !known.has(&id(3)));
        assert!(known.heard(&id(1)) && !known.heard(&id(2)));
        known.unhear(&id(1));
        assert!(known.hear(&id(1)), "what was refused may come again");
        known.unhear_all();
        assert!(known.hear(&id(1)) && known.has(&id(2)));
    }

    #[test]
    fn the_newest_are_remembered_and_no_more_than_twice_the_limit() {
        let mut known = Known::new();
        let limit = HEARD_IDS as u64;
        for n in 0..3 * limit {
            known.hear(&id(n));
        }
        assert!((2 * limit..3 * limit).all(|n| known.heard(&id(n))));
        assert!(known.heard.new.len() + known.heard.old.len() <= 2 * HEARD_IDS);
    }

    #[test]
    fn whoever_repeats_more_than_the_burst_is_read_at_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start);
        let burst = (0..1_000_000).take_while(|_| bucket.take(1.0, start).is_none()).count();
        assert_eq!(burst as f64, DUPLICATE_BURST);
        let mut now = start;
        for _ in 0..1000 {
            if let Some(wait) = bucket.take(1.0, now) {
                now += wait;
            }
        }
        let rate = 1000.0 / now.duration_since(start).as_secs_f64();
        assert!((0.9..1.1).contains(&(rate / DUPLICATES_PER_SECOND)), "{rate}");
        assert!(bucket.take(1.0, now + Duration::from_secs(3600)).is_none(), "time heals");
    }
}
