//! How fast each subnet is answered: a burst, then a rate, whatever number of keys and hosts it has. Requests of some bytes
//! ask for megabytes, so one laptop could use up the line of a relay.
//!
//! An answer waits for its turn, which slows down the peer that waits for it, and counts as being answered meanwhile.

use std::{
    fmt,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use ipnet::IpNet;
use spore_base::subnet::Subnet;

use crate::limits::{LEAST_ANSWER, UPLOAD_BURST, UPLOAD_RATE, UPLOAD_SUBNETS, UPLOAD_WAIT};

/// The token buckets of the subnets. Clones share them.
#[derive(Clone)]
pub struct Upload(Arc<DefaultKeyedRateLimiter<IpNet>>);

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upload").field(&self.0.len()).finish()
    }
}

impl Default for Upload {
    fn default() -> Self {
        let rate = NonZeroU32::new(UPLOAD_RATE).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(UPLOAD_BURST).unwrap_or(NonZeroU32::MIN);
        Self(Arc::new(RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))))
    }
}

impl Upload {
    /// Waits for the turn of an answer of so many bytes. None when its turn does not come in time: the peer asks again.
    /// A peer without a subnet does not wait.
    pub async fn wait(&self, subnet: Option<Subnet>, bytes: usize) -> Option<()> {
        let Some(subnet) = subnet.map(|subnet| subnet.subnet()) else { return Some(()) };
        let until = Instant::now() + UPLOAD_WAIT;
        while let Some(wait) = self.take(subnet, bytes) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            tokio::time::sleep(wait.min(left)).await;
        }
        Some(())
    }

    /// Takes the bytes out of the subnet's bucket. If there are too few, takes none and returns how long to wait.
    fn take(&self, subnet: IpNet, bytes: usize) -> Option<Duration> {
        if self.0.len() >= UPLOAD_SUBNETS {
            self.0.retain_recent();
        }
        let bytes = u32::try_from(bytes).unwrap_or(UPLOAD_BURST).clamp(LEAST_ANSWER, UPLOAD_BURST);
        let bytes = NonZeroU32::new(bytes).unwrap_or(NonZeroU32::MIN);
        // The burst holds any answer.
        let Ok(taken) = self.0.check_key_n(&subnet, bytes) else { return None };
        taken.err().map(|early| early.wait_time_from(DefaultClock::default().now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::OBJECTS_ANSWER_BYTES;

    #[tokio::test]
    async fn subnet_is_answered_its_burst_at_once_and_waits_then_while_others_do_not() {
        let (upload, mib) = (Upload::default(), 1 << 20);
        let host = |third: u8| Subnet::of([192, 0, third, 1].into()).subnet();
        assert_eq!(Subnet::of([192, 0, 1, 7].into()).subnet(), host(1), "its hosts share a bucket");
        let burst = UPLOAD_BURST as usize / mib;
        for _ in 0..burst {
            assert_eq!(upload.take(host(1), mib), None);
        }
        let at_once = (0..burst).take_while(|_| upload.take(host(1), mib).is_none()).count();
        assert!(at_once < burst, "the rate is finite");
        assert!(upload.take(host(1), 0).is_none_or(|wait| wait < Duration::from_secs(1)));
        assert_eq!(upload.take(host(2), mib), None, "another subnet");
        for _ in 0..1000 {
            assert_eq!(upload.wait(None, mib).await, Some(()), "a peer without a subnet");
        }
    }

    #[tokio::test]
    async fn small_answers_cost_what_reading_does_and_the_largest_fits() {
        let upload = Upload::default();
        let host = Subnet::of([192, 0, 2, 1].into()).subnet();
        let free = (0..1_000_000).take_while(|_| upload.take(host, 1).is_none()).count();
        assert!(free >= (UPLOAD_BURST / LEAST_ANSWER) as usize && free < 100_000, "{free}");
        assert!(OBJECTS_ANSWER_BYTES < UPLOAD_BURST as usize);
        assert!(upload.take(host, usize::MAX).is_some());
    }
}
