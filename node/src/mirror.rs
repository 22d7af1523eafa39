//! The artifact mirror: keeps copies of the scripts that records and tasks name. A script stays available while its
//! publisher is offline, and reaches nodes that cannot reach the publisher.
//!
//! The mirror checks records in the order of their arrival, and walks through the older ones page by page. The walk also
//! finds files whose hash no longer matches. A script that no peer has is asked for again, with growing backoff. A script
//! that the bounded cache dropped is not fetched again, unless a task names it.
//!
//! Anybody can name scripts that nobody has. Publishers with confirmed work and the others take turns, the newest first
//! ([`waiting`]), and no fetch takes long. Of tasks, only the trusted and the most active ones have their scripts kept.
//!
//! Never here: datasets, with which untrusted peers could fill the disk. A node that trains on one fetches it.

mod waiting;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use spore_base::{
    backoff::backoff,
    cooldown::Cooldown,
    fetch::{ArtifactSource, FetchError},
    random,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::StoreEvent;
use spore_protocol::{ArtifactType, Cid, Kind};
use spore_storage::{Cursor, RecordSummary, Scope, Store, StoreError};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep_until, timeout},
};

use self::waiting::{Missing, Waiting};

/// Bytes of the largest script or evaluator that is mirrored: the limit of the train-script language.
const LIMIT: u64 = ArtifactType::MAX_SCRIPT_BYTES as u64;
/// Records that are checked at once. Each costs a read of about a kilobyte.
const PAGE: usize = 512;
/// Fetches at the same time. They are few, because an experiment may wait for a fetch too.
const AT_ONCE: usize = 2;
/// Longest fetch: half a minute for 64 KiB is a slow line.
const FETCH: Duration = Duration::from_secs(30);
/// Time after which a round begins no more fetches, so that the newest records are looked at again.
const ROUND: Duration = Duration::from_secs(10);
/// Most active tasks whose scripts are mirrored, besides those of trusted keys.
const TASKS: usize = 256;
/// Time between two looks at these tasks. Each costs a read of some kilobytes for each task.
const TASKS_INTERVAL: Duration = Duration::from_secs(30);
/// Changes before the start that are checked first. The walk comes to the others.
const BEFORE_START: u64 = 2048;
/// Changes that are checked later at most. When more came, the oldest are left to the walk.
const BEHIND: u64 = 65_536;
/// Time without changes in the store until the next page of older records is checked.
const IDLE: Duration = Duration::from_secs(5);
/// Least time between two checks, so that a flood of records does not keep this loop busy.
const PAUSE: Duration = Duration::from_millis(500);
/// Time from the end of the walk to its next start.
const WALK_AGAIN: Duration = Duration::from_secs(600);
/// The same when scripts were left out for want of room. Reading a page takes a few milliseconds.
const WALK_SOON: Duration = Duration::from_secs(10);
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
    let mut mirror = Mirror {
        seen: store.sequence().saturating_sub(BEFORE_START),
        store,
        sources,
        cooldown: Cooldown::new(COOLDOWNS),
        walk: Walk::Next(None),
        waiting: Waiting::default(),
        tasks_looked: None,
    };
    loop {
        let started = Instant::now();
        tokio::select! {
            more = mirror.round() => if !more { return },
            () = stopped(&mut shutdown) => return,
        }
        tokio::select! {
            news = timeout(mirror.pause(), events.recv()) => {
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
    waiting: Waiting,
    /// The sequence number of the last change that was checked.
    seen: u64,
    /// When the tasks were looked at.
    tasks_looked: Option<Instant>,
}

/// The state of the walk through older records.
enum Walk {
    /// The next page begins before this record. None: at the newest record.
    Next(Option<Cursor>),
    /// The walk is at its end, and starts again at this time.
    Rest(Instant),
}

impl Mirror {
    /// Checks once and fetches missing artifacts. Returns false at shutdown.
    async fn round(&mut self) -> bool {
        let before = match &self.walk {
            Walk::Rest(until) if Instant::now() < *until => None,
            Walk::Rest(_) => Some(None),
            Walk::Next(cursor) => Some(*cursor),
        };
        let with_tasks = self.tasks_looked.is_none_or(|at| at.elapsed() >= TASKS_INTERVAL);
        let (store, seen) = (self.store.clone(), self.seen);
        let checked = match tokio::task::spawn_blocking(move || check(&store, seen, before, with_tasks)).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot check for missing scripts");
                return true;
            }
            Err(_) => return false,
        };
        self.seen = checked.seen;
        if with_tasks {
            self.tasks_looked = Some(Instant::now());
        }
        match checked.walked {
            Some(Some(cursor)) => self.walk = Walk::Next(Some(cursor)),
            Some(None) => self.walk = Walk::Rest(Instant::now() + WALK_AGAIN),
            None => {}
        }
        for (missing, confirmed) in checked.missing {
            self.waiting.add(missing, confirmed);
        }
        if let Walk::Rest(until) = &mut self.walk
            && self.waiting.take_left_out()
        {
            *until = (*until).min(Instant::now() + WALK_SOON);
        }
        self.fetch().await
    }

    /// Fetches artifacts that are not in backoff. Returns false at shutdown.
    async fn fetch(&mut self) -> bool {
        let until = Instant::now() + ROUND;
        let mut running = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            while running.len() < AT_ONCE && now < until {
                let (cooldown, store) = (&self.cooldown, &self.store);
                let Some((missing, confirmed)) = self.waiting.next(|cid| !cooldown.is_cooling(cid, now)) else { break };
                if store.artifact_path(&missing.0).is_some() {
                    continue;
                }
                let sources = self.sources.clone();
                running.push(async move {
                    let (cid, publisher) = missing;
                    let result = timeout(FETCH, sources.fetch_within(cid, Some(publisher), LIMIT)).await;
                    (missing, confirmed, result)
                });
            }
            let Some((missing, confirmed, result)) = running.next().await else { return true };
            match result {
                Ok(Ok(())) => self.cooldown.remove(&missing.0),
                Ok(Err(FetchError::Closed)) => return false,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "cannot fetch a script");
                    self.failed(missing, confirmed);
                }
                Err(_) => {
                    tracing::debug!(cid = %missing.0, "fetching a script takes too long");
                    self.failed(missing, confirmed);
                }
            }
        }
    }

    /// Time until the next check without news from the store.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let behind = self.seen < self.store.sequence() || self.waiting.any(|cid| !self.cooldown.is_cooling(cid, now));
        if behind { PAUSE } else { IDLE }
    }

    fn failed(&mut self, missing: Missing, confirmed: bool) {
        let wait = backoff(RETRY_FIRST, RETRY_MOST, self.cooldown.times(&missing.0), random::number());
        self.cooldown.put(missing.0, Instant::now() + wait);
        self.waiting.add_failed(missing, confirmed);
    }
}

/// The result of a check.
struct Checked {
    /// Missing artifacts, the newest last, each with whether its publisher has confirmed work.
    missing: Vec<(Missing, bool)>,
    /// The sequence number of the last change that was checked.
    seen: u64,
    /// The next cursor of the walk, if the walk went on. The inner None means the end.
    walked: Option<Option<Cursor>>,
}

/// Checks the changes after `seen`, the page before the cursor of the walk if the walk goes on, and the tasks if they are
/// to be looked at.
fn check(store: &Store, seen: u64, before: Option<Option<Cursor>>, with_tasks: bool) -> Result<Checked, StoreError> {
    let mut missing = Vec::new();
    let walked = match before {
        None => None,
        Some(before) => {
            let (older, next) = store.recent(Scope::All, before, PAGE)?;
            for record in older.into_iter().rev() {
                let Some(cid) = record.code_cid else { continue };
                if !sound(store, &cid)? && !store.was_dropped(&cid) && !store.drops_are_forgotten() {
                    missing.push(((cid, record.node_id), is_confirmed(store, &record)?));
                }
            }
            Some(next)
        }
    };
    let from = seen.max(store.sequence().saturating_sub(BEHIND));
    let changes = store.changes_since(from, PAGE)?;
    for change in changes.iter().filter(|change| change.kind == Kind::Experiment) {
        let Some(record) = store.summary(&change.id.into())? else { continue };
        let Some(cid) = record.code_cid else { continue };
        // A script that the cache dropped comes back when an experiment needs it.
        if store.artifact_path(&cid).is_none() && !store.was_dropped(&cid) {
            missing.push(((cid, record.node_id), is_confirmed(store, &record)?));
        }
    }
    if with_tasks {
        missing.extend(of_tasks(store)?.into_iter().map(|missing| (missing, true)));
    }
    Ok(Checked { missing, seen: changes.last().map_or(from, |last| last.sequence), walked })
}

fn is_confirmed(store: &Store, record: &RecordSummary) -> Result<bool, StoreError> {
    Ok(store.standing(&record.node_id, &record.class)?.level.is_some())
}

/// The missing scripts and evaluators of trusted tasks and of the most active ones.
fn of_tasks(store: &Store) -> Result<Vec<Missing>, StoreError> {
    let mut tasks = store.trusted_tasks(&[])?;
    tasks.extend(store.active_task_ids(TASKS)?.into_iter().map(|(task, _)| task));
    let mut missing = Vec::new();
    for task in tasks {
        let Some(manifest) = store.task(&task)?.and_then(|task| task.manifest) else { continue };
        // The evaluator of a legacy manifest is not a CID.
        let evaluator = manifest.prepare_cid.parse().ok();
        let named = manifest.base_code_cid.into_iter().chain(evaluator);
        missing.extend(named.filter(|cid| store.artifact_path(cid).is_none()).map(|cid| (cid, manifest.created_by)));
    }
    Ok(missing)
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
