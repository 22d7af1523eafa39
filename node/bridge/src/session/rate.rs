//! The rate at which a peer may send messages that bring no new object.

use std::time::{Duration, Instant};

use crate::limits::{IDLE_BURST, IDLE_PER_SECOND};

/// Tokens that refill over time, each worth one message without a new object: a burst, then a number per second.
#[derive(Debug)]
pub(super) struct TokenBucket {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    pub fn new(now: Instant) -> Self {
        Self { tokens: IDLE_BURST, at: now }
    }

    /// Takes tokens, even when there are too few. Returns for how long to stop reading then.
    pub fn take(&mut self, tokens: f64, now: Instant) -> Option<Duration> {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * IDLE_PER_SECOND;
        self.at = now;
        self.tokens = (self.tokens + gained).min(IDLE_BURST) - tokens;
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / IDLE_PER_SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_that_exceeds_the_burst_is_read_at_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start);
        let burst = (0..1_000_000).take_while(|_| bucket.take(1.0, start).is_none()).count();
        assert_eq!(burst as f64, IDLE_BURST);
        let mut now = start;
        for _ in 0..1000 {
            if let Some(wait) = bucket.take(1.0, now) {
                now += wait;
            }
        }
        let rate = 1000.0 / now.duration_since(start).as_secs_f64();
        assert!((0.9..1.1).contains(&(rate / IDLE_PER_SECOND)), "{rate}");
        assert!(bucket.take(1.0, now + Duration::from_secs(3600)).is_none(), "the tokens come back");
    }
}
