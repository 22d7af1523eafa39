//! Work on the store, off the async threads.

use spore_storage::StoreError;

/// Runs work on a blocking thread.
///
/// # Errors
/// Those of `work`; [`StoreError::Rocks`] when the thread panicked or was cancelled.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let ended = |_| Err(StoreError::Rocks("the store's thread ended early".into()));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(ended)
}
