//! How long to wait before a peer that could not be reached is tried again.

use std::time::Duration;

/// Doublings after which a wait no longer grows: by then every `most` is reached.
const MOST_DOUBLINGS: u32 = 16;

/// The wait after so many failures in a row: doubling from `first` to `most`, and between half and all
/// of it by chance (`random` is any number), so that nodes which lost one peer together do not come
/// back together.
pub fn backoff(first: Duration, most: Duration, failures: u32, random: u64) -> Duration {
    let full = first.saturating_mul(1 << failures.min(MOST_DOUBLINGS)).min(most);
    let share = 0.5 + (random % 1024) as f64 / 2048.0;
    full.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_double_up_to_the_most_and_vary_by_half(failures in 0u32..100, random: u64) {
            let (first, most) = (Duration::from_secs(1), Duration::from_secs(60));
            let wait = backoff(first, most, failures, random);
            let full = Duration::from_secs(1 << failures.min(6)).min(most);
            prop_assert!(wait >= full / 2 && wait < full, "{wait:?} of {full:?}");
        }
    }
}
