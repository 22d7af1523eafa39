//! Waits for other processes.

use std::time::{Duration, Instant};

/// Time between two checks.
const PAUSE: Duration = Duration::from_millis(300);

/// Calls `look` again and again until it returns a value. Fails at the limit, with the last error.
///
/// The limit ends a hang. It is generous, and no test passes or fails by speed.
pub async fn wait_for<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > limit => panic!("waited {limit:?} for {what}; last seen: {seen}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
