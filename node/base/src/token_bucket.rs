//! Token buckets: a burst, then a rate.
//!
//! A bucket may go into debt, because what an answer costs is known only when it is there. The debt is paid by waiting
//! before the next one. Pure: times are passed in.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Time between two attempts to forget full buckets of a map that has too many: each walks the whole map.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);

/// What a bucket holds and what it gains, in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BucketSize {
    pub holds: f64,
    pub per_second: f64,
}

/// Tokens that come back over time.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    size: BucketSize,
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub const fn new(size: BucketSize, now: Instant) -> Self {
        Self { size, tokens: size.holds, at: now }
    }

    /// Takes tokens, even when there are too few. Returns for how long to wait then.
    pub fn take(&mut self, tokens: f64, now: Instant) -> Option<Duration> {
        self.tokens = self.tokens_at(now) - tokens;
        self.at = now.max(self.at);
        self.debt(now)
    }

    /// How long it takes until the debt is paid. None without a debt.
    pub fn debt(&self, now: Instant) -> Option<Duration> {
        let tokens = self.tokens_at(now);
        let wait = || Duration::try_from_secs_f64(-tokens / self.size.per_second).unwrap_or(Duration::MAX);
        (tokens < 0.0).then(wait)
    }

    /// The share of the tokens that is there, at most 1.
    pub fn fullness(&self, now: Instant) -> f64 {
        self.tokens_at(now) / self.size.holds
    }

    fn tokens_at(&self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.size.per_second;
        (self.tokens + gained).min(self.size.holds)
    }
}

/// One bucket for each key, as long as it is not full.
#[derive(Debug)]
pub struct TokenBuckets<K> {
    size: BucketSize,
    /// Most buckets. Further keys have none until others are full again.
    most: usize,
    buckets: HashMap<K, TokenBucket>,
    forgot: Option<Instant>,
}

impl<K: Eq + Hash> TokenBuckets<K> {
    pub fn new(size: BucketSize, most: usize) -> Self {
        Self { size, most, buckets: HashMap::new(), forgot: None }
    }

    /// As [`TokenBucket::take`]. A key for which there is no bucket never waits: what all share is bounded elsewhere.
    pub fn take(&mut self, key: K, tokens: f64, now: Instant) -> Option<Duration> {
        if self.buckets.len() >= self.most && !self.buckets.contains_key(&key) {
            let forgot = self.forgot.replace(now);
            if forgot.is_some_and(|at| now.saturating_duration_since(at) < FORGET_INTERVAL) {
                self.forgot = forgot;
                return None;
            }
            self.buckets.retain(|_, bucket| bucket.fullness(now) < 1.0);
            if self.buckets.len() >= self.most {
                return None;
            }
        }
        self.buckets.entry(key).or_insert_with(|| TokenBucket::new(self.size, now)).take(tokens, now)
    }

    /// As [`TokenBucket::debt`].
    pub fn debt(&self, key: &K, now: Instant) -> Option<Duration> {
        self.buckets.get(key)?.debt(now)
    }

    /// As [`TokenBucket::fullness`].
    pub fn fullness(&self, key: &K, now: Instant) -> f64 {
        self.buckets.get(key).map_or(1.0, |bucket| bucket.fullness(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: BucketSize = BucketSize { holds: 100.0, per_second: 10.0 };

    #[test]
    fn bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(SIZE, start);
        let burst = (0..1_000_000).take_while(|_| bucket.take(1.0, start).is_none()).count();
        assert_eq!(burst as f64, SIZE.holds);
        let mut now = start;
        for _ in 0..1000 {
            if let Some(wait) = bucket.take(1.0, now) {
                now += wait;
            }
        }
        let rate = 1000.0 / now.duration_since(start).as_secs_f64();
        assert!((0.9..1.1).contains(&(rate / SIZE.per_second)), "{rate}");
        assert!(bucket.take(1.0, now + Duration::from_secs(3600)).is_none(), "the tokens come back");
    }

    #[test]
    fn debt_is_paid_by_waiting_and_a_full_bucket_gains_nothing() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(SIZE, start);
        assert_eq!(bucket.take(150.0, start + Duration::from_secs(60)), Some(Duration::from_secs(5)));
        let later = start + Duration::from_secs(64);
        assert_eq!(bucket.debt(later), Some(Duration::from_secs(1)));
        assert_eq!(bucket.debt(start + Duration::from_secs(65)), None);
        assert_eq!(bucket.fullness(start + Duration::from_secs(3600)), 1.0);
        assert_eq!(bucket.debt(start), Some(Duration::from_secs(5)), "a time before the last one gains nothing");
    }

    #[test]
    fn buckets_are_bounded_and_full_ones_make_room() {
        let start = Instant::now();
        let mut buckets = TokenBuckets::new(SIZE, 2);
        assert!(buckets.take(1, 200.0, start).is_some());
        assert!(buckets.take(2, 50.0, start).is_none());
        assert!(buckets.take(3, 200.0, start).is_none() && buckets.debt(&3, start).is_none(), "there is no room");
        let later = start + Duration::from_secs(6);
        assert!(buckets.take(3, 200.0, later).is_some(), "the second bucket is full again");
        assert!(buckets.debt(&1, later).is_some(), "the first one is not");
        assert_eq!(buckets.buckets.len(), 2);
    }
}
