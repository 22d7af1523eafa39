//! The node's clock: Unix seconds, for times that others see.

use std::{
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
