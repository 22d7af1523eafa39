//! Waiting for what other processes bring about.

use std::time::{Duration, Instant};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// Looks again and again until `look` gives a value. Fails at the limit with what was last seen.
///
/// The limit bounds a hang; it is generous, and no test passes or fails by speed.
pub async fn wait_for<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > limit => panic!("waited {limit:?} in vain for {what}; last seen: {seen}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
