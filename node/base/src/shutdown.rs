//! Word that the node shuts down, as every long-running part hears it.

use tokio::sync::watch;

/// True once the node shuts down.
pub type Shutdown = watch::Receiver<bool>;

/// Resolves when the node shuts down, or when nobody is left who could say so. Holds no lock
/// meanwhile, so a future that waits for it may move between threads.
pub async fn stopped(shutdown: &mut Shutdown) {
    // An error means that the sender is gone, and with it the node.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
