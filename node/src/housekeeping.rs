//! Periodic work on the store, which has no clock: notes the uses of artifacts and bounds the cache.
//!
//! Never here: jobs that a user asks for, which are in `spore-api`.

use std::{ops::ControlFlow, time::Duration};

use spore_base::{
    clock::Clock,
    shutdown::{Shutdown, stopped},
};
use spore_storage::{GcPlan, Store, StoreError};
use tokio::time::timeout;

use crate::config::CacheConfig;

/// Interval at which the uses of artifacts are saved. A crash loses at most this much, and the bounds of the cache are in
/// days.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Time from the start to the first check. It is short, so that the cache of a node that never runs for an hour is bounded
/// too, and long enough not to slow the start down.
const FIRST: Duration = Duration::from_secs(300);

const DAY: u64 = 86_400;

/// Bounds of the artifact cache. None means no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheBounds {
    /// Seconds since the last use of an artifact.
    pub max_age: Option<u64>,
    /// Bytes of all artifacts together.
    pub max_bytes: Option<u64>,
}

impl CacheBounds {
    pub fn of_days(days: Option<u64>, max_bytes: Option<u64>) -> Self {
        Self { max_age: days.map(|days| days.saturating_mul(DAY)), max_bytes }
    }

    pub fn is_none(&self) -> bool {
        self.max_age.is_none() && self.max_bytes.is_none()
    }
}

impl From<Option<&CacheConfig>> for CacheBounds {
    fn from(config: Option<&CacheConfig>) -> Self {
        config.map_or_else(Self::default, |config| Self::of_days(config.max_age_days, config.max_size))
    }
}

/// Runs until the node shuts down, and saves the uses a last time then.
pub async fn run(store: Store, bounds: CacheBounds, clock: Clock, mut shutdown: Shutdown) {
    let mut wait = FIRST;
    look(store.clone(), clock()).await;
    loop {
        let last = timeout(wait, stopped(&mut shutdown)).await.is_ok();
        wait = INTERVAL;
        look(store.clone(), clock()).await;
        note_uses(store.clone(), clock()).await;
        if last {
            return;
        }
        keep_within(&store, bounds, clock(), &shutdown).await;
    }
}

/// Drops artifacts until the cache is within its bounds.
async fn keep_within(store: &Store, bounds: CacheBounds, now: u64, shutdown: &Shutdown) {
    if bounds.is_none() {
        return;
    }
    let CacheBounds { max_age, max_bytes } = bounds;
    let (store, shutdown) = (store.clone(), shutdown.clone());
    let collected = tokio::task::spawn_blocking(move || {
        let plan = GcPlan { now, max_age, max_bytes, dry_run: false };
        store.gc(&plan, &mut |_| if *shutdown.borrow() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    match collected.await {
        Ok(Ok(report)) if report.dropped_count > 0 => tracing::info!(
            artifacts = report.dropped_count,
            bytes = report.dropped_bytes,
            kept_bytes = report.kept_bytes,
            "dropped artifacts to keep the cache within its bounds"
        ),
        Ok(Ok(_) | Err(StoreError::Cancelled)) | Err(_) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot drop artifacts from the cache"),
    }
}

async fn look(store: Store, now: u64) {
    let looked = tokio::task::spawn_blocking(move || store.look_at_artifacts(now)).await;
    if let Ok(Err(error)) = looked {
        tracing::warn!(%error, "cannot note when the cache was looked at");
    }
}

async fn note_uses(store: Store, now: u64) {
    let noted = tokio::task::spawn_blocking(move || store.note_artifact_uses(now)).await;
    let noted: Result<(), StoreError> = noted.unwrap_or(Ok(()));
    if let Err(error) = noted {
        // The only effect is that some artifacts look older than they are.
        tracing::warn!(%error, "cannot save the uses of artifacts");
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
    async fn uses_are_saved_at_shutdown() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let [used, unused] = [b"used", b"idle"].map(|bytes| store.put_artifact(bytes).unwrap());
        store.note_artifact_uses(1_000_000_000).unwrap();
        let path = |cid| store.artifact_path(cid).unwrap();
        let time = |cid| -> SystemTime { std::fs::metadata(path(cid)).unwrap().modified().unwrap() };
        let before = time(&unused);
        store.artifact(&used).unwrap().unwrap();
        let (stop, shutdown) = tokio::sync::watch::channel(true);
        run(store.clone(), CacheBounds::default(), Arc::new(|| NOW), shutdown).await;
        assert_eq!(time(&used), UNIX_EPOCH + Duration::from_secs(NOW));
        assert_eq!(time(&unused), before);
        drop(stop);
    }

    #[tokio::test]
    async fn cache_is_kept_within_its_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let cid = store.put_artifact(b"old").unwrap();
        store.note_artifact_uses(NOW - 3 * DAY).unwrap();
        let (_stop, shutdown) = tokio::sync::watch::channel(false);
        for (bounds, kept) in [(CacheBounds::default(), true), (CacheBounds::of_days(Some(4), Some(3)), true)] {
            keep_within(&store, bounds, NOW, &shutdown).await;
            assert_eq!(store.artifact_path(&cid).is_some(), kept);
        }
        keep_within(&store, CacheBounds::of_days(Some(2), None), NOW, &shutdown).await;
        assert!(store.artifact_path(&cid).is_none() && store.was_dropped(&cid));
    }
}
