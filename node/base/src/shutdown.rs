//! The signal that the node shuts down. Every long-running part waits for it.

use tokio::sync::watch;

/// True once the node shuts down.
pub type Shutdown = watch::Receiver<bool>;

/// Resolves when the node shuts down, or when the sender of the signal is gone. Holds no lock meanwhile, so a future
/// that waits here may move between threads.
pub async fn stopped(shutdown: &mut Shutdown) {
    // An error means that the sender is gone, and with it the node.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
