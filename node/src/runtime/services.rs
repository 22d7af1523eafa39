//! The long-running tasks of a node, by name.

use tokio::task::{JoinHandle, JoinSet};

/// The running services. None of them may end before the node stops.
#[derive(Debug, Default)]
pub struct Services(JoinSet<&'static str>);

impl Services {
    /// Watches a task that is running already.
    pub fn watch<T: Send + 'static>(&mut self, name: &'static str, task: JoinHandle<T>) {
        self.0.spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(%error, "the {name} failed");
            }
            name
        });
    }

    /// Starts a task and watches it.
    pub fn spawn(&mut self, name: &'static str, service: impl Future<Output = ()> + Send + 'static) {
        self.watch(name, tokio::spawn(service));
    }

    /// The name of the next service that ends. None when no service is left.
    pub async fn next_ended(&mut self) -> Option<&'static str> {
        let ended = self.0.join_next().await?;
        Some(ended.unwrap_or("runtime"))
    }

    /// Stops waiting for the services that are left.
    pub fn abort(&mut self) {
        self.0.abort_all();
    }
}
