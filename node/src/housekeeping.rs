//! What the store wants done now and then: it has no clock.
//!
//! Never here: what a person asks for, which is `api`'s.

use std::time::Duration;

use spore_storage::{Store, StoreError};
use tokio::time::timeout;

use crate::{
    ingest::Clock,
    shutdown::{Shutdown, stopped},
};

/// How often the uses of artifacts are written down. What a crash forgets of them is at most that old,
/// and the cache that goes by them is bounded in days.
const NOTE_USES: Duration = Duration::from_secs(3600);

/// Keeps at it until the node shuts down, and does it once more then.
pub async fn run(store: Store, clock: Clock, mut shutdown: Shutdown) {
    loop {
        let last = timeout(NOTE_USES, stopped(&mut shutdown)).await.is_ok();
        note_uses(store.clone(), clock()).await;
        if last {
            return;
        }
    }
}

async fn note_uses(store: Store, now: u64) {
    let noted = tokio::task::spawn_blocking(move || store.note_artifact_uses(now)).await;
    let noted: Result<(), StoreError> = noted.unwrap_or(Ok(()));
    if let Err(error) = noted {
        // Only that some artifacts look older than they are.
        tracing::warn!(%error, "cannot write down which artifacts were used");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{SystemTime, UNIX_EPOCH},
    };

    use super::*;

    const NOW: u64 = 2_000_000_000;

    #[tokio::test]
    async fn uses_are_written_down_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let [used, unused] = [b"used", b"idle"].map(|bytes| store.put_artifact(bytes).unwrap());
        store.note_artifact_uses(1_000_000_000).unwrap();
        let path = |cid| store.artifact_path(cid).unwrap();
        let time = |cid| -> SystemTime { std::fs::metadata(path(cid)).unwrap().modified().unwrap() };
        let before = time(&unused);
        store.artifact(&used).unwrap().unwrap();
        let (stop, shutdown) = tokio::sync::watch::channel(true);
        run(store.clone(), Arc::new(|| NOW), shutdown).await;
        assert_eq!(time(&used), UNIX_EPOCH + Duration::from_secs(NOW));
        assert_eq!(time(&unused), before);
        drop(stop);
    }
}
