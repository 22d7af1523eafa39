//! Cooldown: a bounded map of what is not to be tried again before a time.
//!
//! A task that cannot be worked on or an artifact that no peer has must not hold up the others, and may be good again
//! later. Pure: the caller passes in the time, as [`Instant`] or as Unix seconds.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    time::Instant,
};

/// Keys, each with the time before which it is not to be tried.
///
/// Past `limit` keys, the key that was put here longest ago is forgotten and tried too early. Not the key whose cooldown
/// ends first: among keys on cooldown for ever, that would always be the one that was put here just now.
#[derive(Clone, Debug)]
pub struct Cooldown<K, T = Instant> {
    limit: usize,
    puts: u64,
    keys: HashMap<K, Cooling<T>>,
}

#[derive(Clone, Copy, Debug)]
struct Cooling<T> {
    until: T,
    times: u32,
    /// The number of the `put` that set this cooldown.
    put: u64,
}

impl<K: Clone + Eq + Hash, T: Copy + Ord> Cooldown<K, T> {
    /// An empty map of at most `limit` keys.
    pub fn new(limit: usize) -> Self {
        Self { limit, puts: 0, keys: HashMap::new() }
    }

    /// Does not try `key` before `until`.
    pub fn put(&mut self, key: K, until: T) {
        let times = self.times(&key).saturating_add(1);
        while self.keys.len() >= self.limit && !self.keys.contains_key(&key) {
            let Some(oldest) = self.keys.iter().min_by_key(|(_, one)| one.put).map(|(key, _)| key.clone()) else {
                break;
            };
            self.keys.remove(&oldest);
        }
        self.puts += 1;
        self.keys.insert(key, Cooling { until, times, put: self.puts });
    }

    /// Forgets `key`: it may be tried at once, and its count begins again.
    pub fn remove(&mut self, key: &K) {
        self.keys.remove(key);
    }

    /// Whether `key` is not to be tried at `now`.
    pub fn is_cooling(&self, key: &K, now: T) -> bool {
        self.keys.get(key).is_some_and(|one| now < one.until)
    }

    /// How often `key` was put here since it was last removed or forgotten. A growing backoff counts by this.
    pub fn times(&self, key: &K) -> u32 {
        self.keys.get(key).map_or(0, |one| one.times)
    }

    /// All keys that are not to be tried at `now`.
    pub fn cooling(&self, now: T) -> HashSet<K> {
        self.keys.iter().filter(|(_, one)| now < one.until).map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn cooldown_of_a_key_ends_after_its_time() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut cooldown = Cooldown::new(16);
        cooldown.put(1, after(60));
        cooldown.put(2, after(600));
        assert_eq!(cooldown.cooling(now), HashSet::from([1, 2]));
        assert_eq!(cooldown.cooling(after(60)), HashSet::from([2]));
        cooldown.put(1, after(900));
        assert!(cooldown.is_cooling(&1, after(700)) && !cooldown.is_cooling(&2, after(700)));
        cooldown.remove(&1);
        assert!(!cooldown.is_cooling(&1, after(700)));
    }

    #[test]
    fn short_cooldowns_hold_among_keys_on_cooldown_for_ever() {
        let mut cooldown = Cooldown::new(4);
        for key in ["w", "x", "y", "z"] {
            cooldown.put(key, u64::MAX);
        }
        cooldown.put("a", 10);
        cooldown.put("b", 10);
        assert_eq!(cooldown.cooling(0), HashSet::from(["a", "b", "y", "z"]));
    }

    #[test]
    fn full_map_drops_the_key_that_was_put_longest_ago() {
        let mut cooldown = Cooldown::new(100);
        for key in 0..200_u64 {
            cooldown.put(key, key + 1);
        }
        assert_eq!(cooldown.cooling(0), (100..200).collect());
    }

    #[test]
    fn attempts_are_counted_until_the_key_is_removed() {
        let mut cooldown = Cooldown::new(2);
        assert_eq!(cooldown.times(&'a'), 0);
        cooldown.put('a', 1);
        cooldown.put('a', 5);
        assert_eq!(cooldown.times(&'a'), 2);
        assert!(!cooldown.is_cooling(&'a', 9), "the count outlasts the cooldown");
        cooldown.remove(&'a');
        assert_eq!(cooldown.times(&'a'), 0);
    }
}
