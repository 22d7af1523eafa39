//! What research leaves alone for a while: tasks that cannot be worked on, records that cannot be
//! built on.
//!
//! One bad task or record must not hold up the others, and may be good again later.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    time::Duration,
};

use tokio::time::Instant;

/// Most keys that are remembered: at some fifty bytes each, and a stranger can make more.
const MOST: usize = 1024;

/// Keys with the time until which each is left alone. Bounded: past [`MOST`], the one that would
/// be free soonest is forgotten.
#[derive(Debug)]
pub struct Aside<K> {
    until: HashMap<K, Instant>,
}

impl<K> Default for Aside<K> {
    fn default() -> Self {
        Self { until: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Aside<K> {
    /// Leaves `key` alone for `time` from `now` on.
    pub fn put(&mut self, key: K, now: Instant, time: Duration) {
        self.until.retain(|_, until| *until > now);
        while self.until.len() >= MOST && !self.until.contains_key(&key) {
            let Some(soonest) = self.until.iter().min_by_key(|(_, until)| **until).map(|(key, _)| *key) else { break };
            self.until.remove(&soonest);
        }
        self.until.insert(key, now + time);
    }

    /// What to leave alone at `now`.
    pub fn at(&self, now: Instant) -> HashSet<K> {
        self.until.iter().filter(|(_, until)| now < **until).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_free_again_after_its_time() {
        let now = Instant::now();
        let mut aside = Aside::default();
        aside.put(1, now, Duration::from_secs(60));
        aside.put(2, now, Duration::from_secs(600));
        assert_eq!(aside.at(now), HashSet::from([1, 2]));
        assert_eq!(aside.at(now + Duration::from_secs(60)), HashSet::from([2]));
        aside.put(1, now, Duration::from_secs(900));
        assert_eq!(aside.at(now + Duration::from_secs(700)), HashSet::from([1]));
    }

    #[test]
    fn the_one_free_soonest_gives_way() {
        let now = Instant::now();
        let mut aside = Aside::default();
        for key in 0..2 * MOST {
            aside.put(key, now, Duration::from_secs(1 + key as u64));
        }
        let left = aside.at(now);
        assert_eq!(left.len(), MOST);
        assert!(left.contains(&(2 * MOST - 1)) && !left.contains(&0));
    }
}
