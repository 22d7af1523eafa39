//! Looking after the store beside the running node: one long job at a time, told of line by line
//! until its report, and the short questions about what the store takes, waits for and keeps.
//!
//! A job ends early when whoever asked for it goes away or the node ends: the store's work asks at
//! each report of its progress whether anybody still listens. [`perform`], [`stats`], [`pending`] and
//! [`pin`] are what commands without a node call as well.
//!
//! Never here: what changes the place of a store (repair, restore), for which no node may run.

pub mod shapes;

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use spore_base::clock::unix_now;
use spore_protocol::Cid;
use spore_storage::{GcPlan, MAX_PAGE, Span, Store, StoreError, Watch};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;

use self::shapes::{
    CompactReport, DamagedArtifact, GcReport, Job, LostChanges, PendingPage, PinOutcome, StoreStats, UpkeepLine,
    UpkeepProgress, UpkeepReport, VerifyReport,
};
use super::problem::ApiError;

/// Lines on their way to whoever asked. One that reads slowly makes the telling wait, never the work.
const QUEUE: usize = 8;
/// Least time between two lines of progress: as often as a person can follow.
const PACE: Duration = Duration::from_millis(200);
/// Longest silence: whoever asked can tell long work from a node that hangs.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// The one place where jobs are done.
#[derive(Clone, Default)]
pub struct Upkeep {
    running: Arc<Mutex<Option<Running>>>,
}

/// What is being done, and since when.
struct Running {
    name: &'static str,
    since: Instant,
    /// Where it is told of.
    lines: mpsc::WeakSender<Line>,
}

impl Running {
    /// Whether nobody waits for it any more, so that it ends when it next tells how far it is.
    fn is_ending(&self) -> bool {
        self.lines.upgrade().is_none_or(|lines| lines.is_closed())
    }
}

/// The right to do a job; dropping it lets the next one begin.
struct Place(Arc<Mutex<Option<Running>>>);

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The answer to a job: JSON texts, each ended by a line feed.
pub type Lines = ReceiverStream<Line>;
type Line = Result<Vec<u8>, std::convert::Infallible>;

impl Upkeep {
    /// Begins a job on the store.
    ///
    /// # Errors
    /// 400 for what cannot be done, 409 while another job is under way.
    pub fn start(&self, job: Job, store: Store, shutdown: watch::Receiver<bool>) -> Result<Lines, ApiError> {
        if let Job::Backup { folder, .. } = &job
            && !Path::new(folder).is_absolute()
        {
            return Err(ApiError::bad_request(format!("{folder:.200} is no absolute path"))
                .hint("the folder is one of the node's machine, from the root on"));
        }
        self.begin(job.name(), shutdown, move |watch| perform(&store, &job, watch))
    }

    fn begin(
        &self,
        name: &'static str,
        shutdown: watch::Receiver<bool>,
        work: impl FnOnce(&mut Watch<'_>) -> Result<UpkeepReport, StoreError> + Send + 'static,
    ) -> Result<Lines, ApiError> {
        let (lines, queue) = mpsc::channel(QUEUE);
        let place = self.take(name, lines.downgrade())?;
        let (now, progress) = watch::channel(UpkeepProgress { stage: "starting".into(), ..UpkeepProgress::default() });
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            // Fails when the only receiver is gone, and with it whoever asked.
            work(&mut |progress| match now.send(progress.into()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        });
        tokio::spawn(tell(work, progress, lines, shutdown));
        Ok(ReceiverStream::new(queue))
    }

    fn take(&self, name: &'static str, lines: mpsc::WeakSender<Line>) -> Result<Place, ApiError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = &*running {
            let seconds = other.since.elapsed().as_secs();
            let (state, hint) = if other.is_ending() {
                ("is being ended", "try again soon: it ends where it can be interrupted")
            } else {
                ("is under way", "wait for its end, or end the command that asked for it")
            };
            let message = format!("{} {state} in this node, begun {seconds} s ago", other.name);
            return Err(ApiError::conflict(message).hint(hint));
        }
        *running = Some(Running { name, since: Instant::now(), lines });
        Ok(Place(self.running.clone()))
    }
}

type Queue = mpsc::Sender<Line>;

/// Tells of a job to its end, or to that of whoever asked, or of the node.
async fn tell(
    work: JoinHandle<Result<UpkeepReport, StoreError>>,
    progress: watch::Receiver<UpkeepProgress>,
    lines: Queue,
    mut shutdown: watch::Receiver<bool>,
) {
    let last = tokio::select! {
        () = lines.closed() => return,
        _ = shutdown.wait_for(|stop| *stop) => UpkeepLine::Error(ApiError::unavailable("the node is ending").problem()),
        last = follow(work, progress, &lines) => last,
    };
    let _ = lines.send(Ok(encode(&last))).await;
}

/// Sends how far the job is, and gives the last line.
async fn follow(
    mut work: JoinHandle<Result<UpkeepReport, StoreError>>,
    mut progress: watch::Receiver<UpkeepProgress>,
    lines: &Queue,
) -> UpkeepLine {
    loop {
        let now = progress.borrow_and_update().clone();
        let _ = lines.send(Ok(encode(&UpkeepLine::Progress(now)))).await;
        tokio::select! {
            done = &mut work => return match done {
                Ok(Ok(report)) => UpkeepLine::Report(report),
                Ok(Err(error)) => UpkeepLine::Error(ApiError::from(error).problem()),
                Err(_) => UpkeepLine::Error(ApiError::internal("the store's thread ended early").problem()),
            },
            () = news(&mut progress) => {}
        }
    }
}

/// Waits until there is something to tell: progress, or a silence that was long enough.
async fn news(progress: &mut watch::Receiver<UpkeepProgress>) {
    tokio::time::sleep(PACE).await;
    let _ = tokio::time::timeout(HEARTBEAT, progress.changed()).await;
}

fn encode(line: &UpkeepLine) -> Vec<u8> {
    // The shapes of the API have no map keys but text, so this cannot fail.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Does a job, here and now.
///
/// # Errors
/// The store's; [`StoreError::Cancelled`] when the watcher asks for it.
pub fn perform(store: &Store, job: &Job, watch: &mut Watch<'_>) -> Result<UpkeepReport, StoreError> {
    Ok(match job {
        Job::Check => UpkeepReport::Check(store.check_with(watch)?.into()),
        Job::Verify => UpkeepReport::Verify(verify(store, watch)?),
        Job::Compact => {
            let bytes_before = store.stats()?.database_bytes();
            store.compact(watch)?;
            UpkeepReport::Compact(CompactReport { bytes_before, bytes_after: store.stats()?.database_bytes() })
        }
        Job::Backup { folder, keep } => {
            let keep = usize::try_from(*keep).unwrap_or(usize::MAX);
            UpkeepReport::Backup(store.backup(Path::new(folder), keep, watch)?.into())
        }
        Job::Gc { dry_run, max_age_seconds, max_bytes } => {
            let (max_age, max_bytes) = (*max_age_seconds, *max_bytes);
            let plan = GcPlan { now: unix_now(), max_age, max_bytes, dry_run: *dry_run };
            UpkeepReport::Gc(GcReport::new(store.gc(&plan, watch)?, *dry_run))
        }
    })
}

fn verify(store: &Store, watch: &mut Watch<'_>) -> Result<VerifyReport, StoreError> {
    let report = store.verify_files(watch)?;
    let mut damaged_artifacts = Vec::new();
    for cid in report.damaged_artifacts {
        let removed = store.artifact_size(&cid)?.is_none();
        damaged_artifacts.push(DamagedArtifact { cid: cid.to_string(), removed });
    }
    Ok(VerifyReport {
        files: report.files,
        artifacts: report.artifacts,
        damaged_files: report.damaged.into_iter().map(Into::into).collect(),
        damaged_artifacts,
    })
}

/// What the store takes. Looks at each artifact's size.
///
/// # Errors
/// When the store cannot be read.
pub fn stats(store: &Store) -> Result<StoreStats, ApiError> {
    let stats = store.stats()?;
    let lost = |lost: std::ops::RangeInclusive<u64>| LostChanges { first: *lost.start(), last: *lost.end() };
    Ok(StoreStats {
        database_bytes: stats.database_bytes(),
        log_bytes: stats.log_bytes,
        artifacts: stats.artifacts,
        artifact_bytes: stats.artifact_bytes,
        pins: stats.pins,
        pending: store.pending_count()?,
        sequence: stats.sequence,
        lost_changes: store.lost_changes().map(lost),
        columns: stats.columns.into_iter().map(Into::into).collect(),
    })
}

/// A page of the records that wait for their parents.
///
/// # Errors
/// 400 for a cursor that is none; when the store cannot be read.
pub fn pending(store: &Store, after: Option<&str>, limit: usize) -> Result<PendingPage, ApiError> {
    let limit = limit.clamp(1, MAX_PAGE);
    let span = match after {
        None => Span::first(limit),
        Some(text) => {
            let cursor = text.parse().map_err(|_| ApiError::bad_request("`after` is not what a page's `next` was"))?;
            Span::after(cursor, limit)
        }
    };
    let page = store.pending(&span)?;
    Ok(PendingPage {
        total: store.pending_count()?,
        pending: page.items.into_iter().map(Into::into).collect(),
        next: page.next.map(|cursor| cursor.to_string()),
    })
}

/// The addresses that are pinned, in order.
///
/// # Errors
/// When the list cannot be read.
pub fn pins(store: &Store) -> Result<Vec<String>, ApiError> {
    Ok(store.pins()?.iter().map(ToString::to_string).collect())
}

/// Pins an artifact, or takes the pin back.
///
/// # Errors
/// 400 for what is no address, or a pin too many; when the list cannot be written.
pub fn pin(store: &Store, cid: &str, pinned: bool) -> Result<PinOutcome, ApiError> {
    let cid: Cid =
        cid.parse().map_err(|_| ApiError::bad_request("an artifact is named by 64 lower-case hex digits"))?;
    let changed = if pinned { store.pin(&cid)? } else { store.unpin(&cid)? };
    Ok(PinOutcome { cid: cid.to_string(), changed })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use spore_storage::{Progress, Stage};

    use super::*;

    const PROGRESS: Progress = Progress { stage: Stage::Scan, done: 1, total: 2 };

    fn report() -> UpkeepReport {
        UpkeepReport::Compact(CompactReport { bytes_before: 2, bytes_after: 1 })
    }

    /// Work that goes on until it is told to stop, and says so then.
    fn endless(
        stopped: tokio::sync::oneshot::Sender<()>,
    ) -> impl FnOnce(&mut Watch<'_>) -> Result<UpkeepReport, StoreError> + Send + 'static {
        move |watch| {
            while watch(PROGRESS).is_continue() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = stopped.send(());
            Err(StoreError::Cancelled)
        }
    }

    fn line(item: Option<Line>) -> Option<UpkeepLine> {
        item.map(|line| serde_json::from_slice(&line.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn a_job_is_told_of_until_its_report_and_then_the_next_may_begin() {
        let (upkeep, (_stop, shutdown)) = (Upkeep::default(), watch::channel(false));
        for _ in 0..2 {
            let mut lines = upkeep.begin("a test", shutdown.clone(), |_| Ok(report())).unwrap();
            let mut seen = Vec::new();
            while let Some(next) = line(lines.next().await) {
                seen.push(next);
            }
            assert!(matches!(seen.first(), Some(UpkeepLine::Progress(_))), "{seen:?}");
            assert!(matches!(seen.last(), Some(UpkeepLine::Report(last)) if *last == report()), "{seen:?}");
        }
    }

    #[tokio::test]
    async fn a_second_job_is_told_what_runs() {
        let (upkeep, (_stop, shutdown)) = (Upkeep::default(), watch::channel(false));
        let (stopped, _) = tokio::sync::oneshot::channel();
        let _lines = upkeep.begin("a long test", shutdown.clone(), endless(stopped)).unwrap();
        let refused = upkeep.begin("another", shutdown, |_| Ok(report())).err().unwrap();
        assert_eq!(refused.status, 409);
        assert!(refused.message.contains("a long test") && refused.hint.is_some(), "{refused:?}");
    }

    #[tokio::test]
    async fn a_job_stops_when_nobody_listens_any_more() {
        let (upkeep, (_stop, shutdown)) = (Upkeep::default(), watch::channel(false));
        let (stopped, told) = tokio::sync::oneshot::channel();
        // Slow to notice: the next one is told so meanwhile.
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let work = endless(stopped);
        let slow = move |watch: &mut Watch<'_>| {
            let _ = held.recv();
            work(watch)
        };
        let mut lines = upkeep.begin("a test", shutdown.clone(), slow).unwrap();
        lines.next().await.unwrap().unwrap();
        drop(lines);
        let refused = upkeep.begin("another", shutdown, |_| Ok(report())).err().unwrap();
        assert!(refused.message.contains("is being ended"), "{refused:?}");
        drop(go_on);
        told.await.unwrap();
    }

    #[tokio::test]
    async fn a_job_stops_with_the_node_which_says_so() {
        let (upkeep, (stop, shutdown)) = (Upkeep::default(), watch::channel(false));
        let (stopped, told) = tokio::sync::oneshot::channel();
        let mut lines = upkeep.begin("a test", shutdown, endless(stopped)).unwrap();
        lines.next().await.unwrap().unwrap();
        stop.send(true).unwrap();
        let mut last = None;
        while let Some(next) = line(lines.next().await) {
            last = Some(next);
        }
        assert!(matches!(last, Some(UpkeepLine::Error(problem)) if problem.error.contains("ending")));
        told.await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_refused_and_pins_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (_stop, shutdown) = watch::channel(false);
        let relative = Job::Backup { folder: "somewhere".into(), keep: 1 };
        let refused = Upkeep::default().start(relative, store.clone(), shutdown);
        assert_eq!(refused.err().map(|error| error.status), Some(400));
        assert_eq!(pending(&store, Some("no cursor"), 1).map_err(|error| error.status), Err(400));
        assert_eq!(pin(&store, "no address", true).map_err(|error| error.status), Err(400));

        let cid = Cid::of(b"a").to_string();
        assert!(pin(&store, &cid, true).unwrap().changed && !pin(&store, &cid, true).unwrap().changed);
        assert_eq!(pins(&store).unwrap(), std::slice::from_ref(&cid));
        assert!(pin(&store, &cid, false).unwrap().changed && pins(&store).unwrap().is_empty());
    }
}
