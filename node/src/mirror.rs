//! Keeps the scripts that records and tasks name, so that they outlive their publisher's absence
//! and reach nodes that cannot reach the publisher: a relay serves what it has never run.
//!
//! It looks at the newest records whenever the store has news, and walks through the older ones a
//! page at a time, where it also finds files that no longer hash to their name. What no peer has is
//! asked for again, ever more rarely; what the bounded cache dropped is not, unless a task names it.
//!
//! Never here: datasets, which strangers could fill a disk with; who trains on one fetches it.

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

/// Largest script or evaluator kept, in bytes: what the train-script language takes.
const LIMIT: u64 = ArtifactType::MAX_SCRIPT_BYTES as u64;
/// Records looked at in one go; each costs a read of about a kilobyte.
const PAGE: usize = 512;
/// Fetches at once: few, for whoever runs an experiment waits for one too.
const AT_ONCE: usize = 2;
/// How long without news before the next page of older records.
const IDLE: Duration = Duration::from_secs(5);
/// Least time between two looks, so that a flood of records does not keep this loop busy.
const PAUSE: Duration = Duration::from_millis(500);
/// How long after the oldest record the walk begins again.
const WALK_AGAIN: Duration = Duration::from_secs(600);
/// First cooldown of a script that no peer had. Each further one is twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// Longest cooldown of such a script.
const RETRY_MOST: Duration = Duration::from_secs(3600);
/// Scripts in cooldown that are remembered. Past it, the one whose cooldown ends first is fetched too early.
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
        let looked = Instant::now();
        tokio::select! {
            more = mirror.round() => if !more { return },
            () = stopped(&mut shutdown) => return,
        }
        tokio::select! {
            news = timeout(IDLE, events.recv()) => {
                if matches!(news, Ok(Err(broadcast::error::RecvError::Closed))) {
                    return;
                }
                sleep_until(looked + PAUSE).await;
                // Everything that came meanwhile is seen by the one look that follows.
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

/// Where the walk through older records is.
enum Walk {
    /// Before this record next; at the newest with none.
    Next(Option<Cursor>),
    /// At the end, until then.
    Rest(Instant),
}

/// Something missing, and who published it.
type Missing = (Cid, NodeId);

impl Mirror {
    /// Looks once, and fetches what is missing. False at shutdown.
    async fn round(&mut self) -> bool {
        let before = match &self.walk {
            Walk::Rest(until) if Instant::now() < *until => None,
            Walk::Rest(_) => Some(None),
            Walk::Next(cursor) => Some(*cursor),
        };
        let store = self.store.clone();
        let looked = match tokio::task::spawn_blocking(move || look(&store, before)).await {
            Ok(Ok(looked)) => looked,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot look for missing scripts");
                return true;
            }
            Err(_) => return false,
        };
        match looked.walked {
            Some(Some(cursor)) => self.walk = Walk::Next(Some(cursor)),
            Some(None) => self.walk = Walk::Rest(Instant::now() + WALK_AGAIN),
            None => {}
        }
        self.fetch(looked.missing).await
    }

    /// Fetches what is due. False at shutdown.
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
                    tracing::debug!(%error, "a script is missing");
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

/// What a look found.
struct Looked {
    missing: BTreeSet<Missing>,
    /// Where the walk goes on, if it went on; none in it at the end.
    walked: Option<Option<Cursor>>,
}

/// Looks at the tasks, the newest records, and those before the walk's place, if it is to go on.
fn look(store: &Store, before: Option<Option<Cursor>>) -> Result<Looked, StoreError> {
    let mut named = BTreeSet::new();
    for task in store.tasks()? {
        let Some(manifest) = task.manifest else { continue };
        // Legacy manifests name their evaluators in other ways.
        let evaluator = manifest.prepare_cid.parse().ok();
        named.extend(manifest.base_code_cid.into_iter().chain(evaluator).map(|cid| (cid, manifest.created_by)));
    }
    let (newest, _) = store.recent(Scope::All, None, PAGE)?;
    let scripts = newest.iter().filter_map(|record| Some((record.code_cid?, record.node_id)));
    named.extend(scripts.filter(|(cid, _)| !store.was_dropped(cid)));
    // Of what records name, that which the cache had no room for comes back when somebody runs it.
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
    Ok(Looked { missing: named, walked })
}

/// Whether a script is here and undamaged; the store removes one that is not. Only what may be a
/// script is read: a record can name any file. It counts as no use of the script, by which the
/// store would never find one old.
fn sound(store: &Store, cid: &Cid) -> Result<bool, StoreError> {
    match store.artifact_size(cid)? {
        None => Ok(false),
        Some(size) if size > LIMIT => Ok(true),
        Some(_) => store.verify_artifact(cid),
    }
}

#[cfg(test)]
mod tests;
