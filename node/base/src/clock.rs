//! The node's clock: Unix seconds, for times that others see; and what the clocks of peers say about it.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Returns the current time in Unix seconds. Services take the clock as a value, so that a test owns the time.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The current time of this machine, in Unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The clock of this machine.
pub fn system_clock() -> Clock {
    Arc::new(unix_now)
}

/// Seconds by which this machine's clock may differ from its peers' clocks. Nodes refuse objects that are an hour ahead
/// of them; half of that leaves room for peers that are off themselves.
pub const FAR: u64 = 1800;
/// Peers whose clocks must have been read before they count for more than a warning. A single wrong or hostile peer
/// could otherwise keep this node from signing.
pub const ENOUGH_CLOCKS: usize = 3;

/// What the clocks of connected peers say about the clock of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// Seconds by which the median of the peers' clocks is ahead of this machine's. Negative: behind.
    pub seconds: i64,
    /// Peers whose clocks were read.
    pub peers: usize,
}

impl ClockOffset {
    /// Enough peers agree that this machine's clock is wrong.
    pub const fn is_wrong(&self) -> bool {
        self.is_far() && self.peers >= ENOUGH_CLOCKS
    }

    /// Enough peers agree that this machine's clock is right.
    pub const fn is_right(&self) -> bool {
        !self.is_far() && self.peers >= ENOUGH_CLOCKS
    }

    /// The clocks differ by more than [`FAR`].
    pub const fn is_far(&self) -> bool {
        self.seconds.unsigned_abs() > FAR
    }
}

/// A sentence for people, such as "this machine's clock is 3 h 0 min behind the clocks of 4 peers".
impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds.unsigned_abs();
        let (days, hours, minutes) = (seconds / 86_400, seconds % 86_400 / 3600, seconds % 3600 / 60);
        let side = if self.seconds > 0 { "behind" } else { "ahead of" };
        f.write_str("this machine's clock is ")?;
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s")?,
            (0, 0, _) => write!(f, "{minutes} min")?,
            (0, ..) => write!(f, "{hours} h {minutes} min")?,
            _ => write!(f, "{days} d {hours} h")?,
        }
        match self.peers {
            1 => write!(f, " {side} the clock of 1 peer"),
            peers => write!(f, " {side} the clocks of {peers} peers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_wrong_only_when_enough_peers_say_so() {
        let offset = |seconds, peers| ClockOffset { seconds, peers };
        assert!(offset(10_800, 3).is_wrong() && offset(-10_800, 3).is_wrong());
        assert!(!offset(10_800, 2).is_wrong() && offset(10_800, 2).is_far());
        assert!(offset(5, 3).is_right() && !offset(5, 2).is_right() && !offset(10_800, 9).is_right());
    }

    #[test]
    fn offset_is_told_in_words_with_its_side() {
        let text = |seconds, peers| ClockOffset { seconds, peers }.to_string();
        assert_eq!(text(10_800, 4), "this machine's clock is 3 h 0 min behind the clocks of 4 peers");
        assert_eq!(text(-2_595_600, 1), "this machine's clock is 30 d 1 h ahead of the clock of 1 peer");
        assert_eq!(text(-90, 2), "this machine's clock is 1 min ahead of the clocks of 2 peers");
    }
}
