//! What the store wants done now and then: it has no clock.
//!
//! Never here: what a person asks for, which is `api`'s.

use std::{ops::ControlFlow, time::Duration};

use spore_base::{
    clock::Clock,
    shutdown::{Shutdown, stopped},
};
use spore_storage::{GcPlan, Store, StoreError};
use tokio::time::timeout;

use crate::config::CacheConfig;

/// How often the uses of artifacts are written down. What a crash forgets of them is at most that old,
/// and the cache that goes by them is bounded in days.
const NOTE_USES: Duration = Duration::from_secs(3600);

/// When the cache is looked at first: some minutes after the start, so that a node that never runs for an
/// hour is bounded too, and one that just started is not slowed down.
const FIRST_LOOK: Duration = Duration::from_secs(300);

const DAY: u64 = 86_400;

/// What the artifacts kept may come to; none: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheBounds {
    /// In seconds since an artifact was used last.
    pub max_age: Option<u64>,
    /// Of all together.
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

/// Keeps at it until the node shuts down, and notes the uses once more then.
pub async fn run(store: Store, bounds: CacheBounds, clock: Clock, mut shutdown: Shutdown) {
    let mut wait = FIRST_LOOK;
    loop {
        let last = timeout(wait, stopped(&mut shutdown)).await.is_ok();
        wait = NOTE_USES;
        note_uses(store.clone(), clock()).await;
        if last {
            return;
        }
        keep_within(&store, bounds, clock(), &shutdown).await;
    }
}

/// Drops the artifacts that there is no room for.
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
            "the cache of artifacts is within its bounds again"
        ),
        Ok(Ok(_) | Err(StoreError::Cancelled)) | Err(_) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot bound the cache of artifacts"),
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
        run(store.clone(), CacheBounds::default(), Arc::new(|| NOW), shutdown).await;
        assert_eq!(time(&used), UNIX_EPOCH + Duration::from_secs(NOW));
        assert_eq!(time(&unused), before);
        drop(stop);
    }

    #[tokio::test]
    async fn the_cache_is_kept_within_its_bounds() {
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
