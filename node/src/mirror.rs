//! The artifact mirror: keeps copies of the scripts that records and tasks name. A script stays available while its
//! publisher is offline, and reaches nodes that cannot reach the publisher.
//!
//! The mirror checks the newest records whenever the store changes, and walks through the older ones page by page. The
//! walk also finds files whose hash no longer matches. A script that no peer has is asked for again, with growing
//! backoff. A script that the bounded cache dropped is not fetched again, unless a task names it.
//!
//! Never here: datasets, with which untrusted peers could fill the disk. A node that trains on one fetches it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::StreamExt as _;
use spore_base::{
    backoff::backoff,
    cooldown::Cooldown,
    fetch::{ArtifactSource, FetchError},
    random,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::StoreEvent;
use spore_protocol::{ArtifactType, Cid, NodeId};
use spore_storage::{Cursor, Scope, Store, StoreError};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep_until, timeout},
};

/// Bytes of the largest script or evaluator that is mirrored: the limit of the train-script language.
const LIMIT: u64 = ArtifactType::MAX_SCRIPT_BYTES as u64;
/// Records that are checked at once. Each costs a read of about a kilobyte.
const PAGE: usize = 512;
/// Fetches at the same time. They are few, because an experiment may wait for a fetch too.
const AT_ONCE: usize = 2;
/// Time without changes in the store until the next page of older records is checked.
const IDLE: Duration = Duration::from_secs(5);
/// Least time between two checks, so that a flood of records does not keep this loop busy.
const PAUSE: Duration = Duration::from_millis(500);
/// Time from the end of the walk to its next start.
const WALK_AGAIN: Duration = Duration::from_secs(600);
/// First cooldown of a script that no peer had. Each further one is twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// Longest cooldown of such a script.
const RETRY_MOST: Duration = Duration::from_secs(3600);
/// Scripts in cooldown that are remembered. When there are more, the one that failed longest ago is fetched too early.
const COOLDOWNS: usize = 8192;

/// Fetches missing scripts until the node shuts down.
pub async fn run(
    store: Store,
    sources: Arc<dyn ArtifactSource>,
    mut events: broadcast::Receiver<StoreEvent>,
    mut shutdown: Shutdown,
) {
    let mut mirror = Mirror { store, sources, cooldown: Cooldown::new(COOLDOWNS), walk: Walk::Next(None) };
    loop {
        let started = Instant::now();
        tokio::select! {
            more = mirror.round() => if !more { return },
            () = stopped(&mut shutdown) => return,
        }
        tokio::select! {
            news = timeout(IDLE, events.recv()) => {
                if matches!(news, Ok(Err(broadcast::error::RecvError::Closed))) {
                    return;
                }
                sleep_until(started + PAUSE).await;
                // The next check sees everything that arrived meanwhile.
                events = events.resubscribe();
            }
            () = stopped(&mut shutdown) => return,
        }
    }
}

struct Mirror {
    store: Store,
    sources: Arc<dyn ArtifactSource>,
    /// Scripts that no peer had.
    cooldown: Cooldown<Cid, Instant>,
    walk: Walk,
}

/// The state of the walk through older records.
enum Walk {
    /// The next page begins before this record. None: at the newest record.
    Next(Option<Cursor>),
    /// The walk is at its end, and starts again at this time.
    Rest(Instant),
}

/// A missing artifact and its publisher.
type Missing = (Cid, NodeId);

impl Mirror {
    /// Checks once and fetches missing artifacts. Returns false at shutdown.
    async fn round(&mut self) -> bool {
        let before = match &self.walk {
            Walk::Rest(until) if Instant::now() < *until => None,
            Walk::Rest(_) => Some(None),
            Walk::Next(cursor) => Some(*cursor),
        };
        let store = self.store.clone();
        let checked = match tokio::task::spawn_blocking(move || check(&store, before)).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot check for missing scripts");
                return true;
            }
            Err(_) => return false,
        };
        match checked.walked {
            Some(Some(cursor)) => self.walk = Walk::Next(Some(cursor)),
            Some(None) => self.walk = Walk::Rest(Instant::now() + WALK_AGAIN),
            None => {}
        }
        self.fetch(checked.missing).await
    }

    /// Fetches artifacts that are not in backoff. Returns false at shutdown.
    async fn fetch(&mut self, missing: BTreeSet<Missing>) -> bool {
        let now = Instant::now();
        let due: Vec<_> = missing.into_iter().filter(|(cid, _)| !self.cooldown.is_cooling(cid, now)).collect();
        let sources = self.sources.clone();
        let fetch = |(cid, publisher): Missing| {
            let sources = sources.clone();
            async move { (cid, sources.fetch_within(cid, Some(publisher), LIMIT).await) }
        };
        let mut results = futures::stream::iter(due).map(fetch).buffer_unordered(AT_ONCE);
        while let Some((cid, result)) = results.next().await {
            match result {
                Ok(()) => self.cooldown.remove(&cid),
                Err(FetchError::Closed) => return false,
                Err(error) => {
                    tracing::debug!(%error, "cannot fetch a script");
                    self.failed(cid);
                }
            }
        }
        true
    }

    fn failed(&mut self, cid: Cid) {
        let wait = backoff(RETRY_FIRST, RETRY_MOST, self.cooldown.times(&cid), random::number());
        self.cooldown.put(cid, Instant::now() + wait);
    }
}

/// The result of a check.
struct Checked {
    missing: BTreeSet<Missing>,
    /// The next cursor of the walk, if the walk went on. The inner None means the end.
    walked: Option<Option<Cursor>>,
}

/// Checks the tasks, the newest records, and the page before the cursor of the walk if the walk goes on.
fn check(store: &Store, before: Option<Option<Cursor>>) -> Result<Checked, StoreError> {
    let mut named = BTreeSet::new();
    for task in store.tasks()? {
        let Some(manifest) = task.manifest else { continue };
        // The evaluator of a legacy manifest is not a CID.
        let evaluator = manifest.prepare_cid.parse().ok();
        named.extend(manifest.base_code_cid.into_iter().chain(evaluator).map(|cid| (cid, manifest.created_by)));
    }
    let (newest, _) = store.recent(Scope::All, None, PAGE)?;
    let scripts = newest.iter().filter_map(|record| Some((record.code_cid?, record.node_id)));
    named.extend(scripts.filter(|(cid, _)| !store.was_dropped(cid)));
    // A script that the cache dropped comes back when an experiment needs it.
    named.retain(|(cid, _)| store.artifact_path(cid).is_none());
    let walked = match before {
        None => None,
        Some(before) => {
            let (older, next) = store.recent(Scope::All, before, PAGE)?;
            for record in older {
                let Some(cid) = record.code_cid else { continue };
                if !sound(store, &cid)? && !store.was_dropped(&cid) && !store.drops_are_forgotten() {
                    named.insert((cid, record.node_id));
                }
            }
            Some(next)
        }
    };
    Ok(Checked { missing: named, walked })
}

/// Whether a script is here and undamaged. The store removes a damaged one. A record can name any file, so files that are
/// too large for a script are not read. The check does not count as a use of the script, or no script would ever expire.
fn sound(store: &Store, cid: &Cid) -> Result<bool, StoreError> {
    match store.artifact_size(cid)? {
        None => Ok(false),
        Some(size) if size > LIMIT => Ok(true),
        Some(_) => store.verify_artifact(cid),
    }
}

#[cfg(test)]
mod tests;
