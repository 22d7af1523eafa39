//! Backoff: the growing wait between two attempts at something that keeps failing.
//!
//! The backoff doubles with each failure, up to a maximum, and is cut to between half and all of it at random, so that
//! nodes that lost one peer together do not come back together.

use std::time::Duration;

/// Doublings after which a wait no longer grows. By then every maximum in use is reached.
const MOST_DOUBLINGS: u32 = 16;

/// Counts failures in a row and gives the wait after each.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// `first`: the wait after one failure. `most`: the longest wait. Both before they are cut at random.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// Counts one more failure and returns how long to wait after it. `random` is any number.
    pub fn next(&mut self, random: u64) -> Duration {
        let wait = backoff(self.first, self.most, self.failures, random);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Forgets the failures: an attempt succeeded.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

/// The wait before the next attempt, when `earlier` attempts before the last one failed in a row: between half and
/// all of `first` times two to the power of `earlier`, at most `most`. `random` is any number.
pub fn backoff(first: Duration, most: Duration, earlier: u32, random: u64) -> Duration {
    let full = first.saturating_mul(1 << earlier.min(MOST_DOUBLINGS)).min(most);
    let share = 0.5 + (random % 1024) as f64 / 2048.0;
    full.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn backoff_doubles_up_to_the_maximum_with_jitter_of_half(failures in 0u32..100, random: u64) {
            let (first, most) = (Duration::from_secs(1), Duration::from_secs(60));
            let wait = backoff(first, most, failures, random);
            let full = Duration::from_secs(1 << failures.min(6)).min(most);
            prop_assert!(wait >= full / 2 && wait < full, "{wait:?} of {full:?}");
        }
    }

    #[test]
    fn reset_restarts_the_backoff() {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));
        assert_eq!([0, 0, 0].map(|random| backoff.next(random).as_secs()), [1, 2, 4]);
        assert_eq!(backoff.failures(), 3);
        backoff.reset();
        assert_eq!((backoff.next(0).as_secs(), backoff.failures()), (1, 1));
    }
}
