//! Maintenance of the store beside the running node: jobs, one at a time, with progress and a report, and short
//! questions about the store's size, pending records and pins.
//!
//! A job stops early when its client disconnects or the node stops: the store's work checks, at each report of its
//! progress, whether somebody still reads. Commands without a node call [`perform`], [`stats`], [`pending`] and [`pin`]
//! too.
//!
//! Never here: what replaces a store (repair, restore), for which no node may run.

pub mod shapes;

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use spore_base::clock::unix_now;
use spore_protocol::{Cid, Kind, NodeId, ObjectId};
use spore_storage::{GcPlan, MAX_PAGE, Span, Store, StoreError, Unwanted, Watch};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;

use self::shapes::{
    CompactReport, DamagedArtifact, DropReport, GcReport, LostChanges, PendingPage, PinOutcome, StoreStats,
    UnwantedKind, UpkeepJob, UpkeepLine, UpkeepProgress, UpkeepReport, VerifyReport,
};
use super::problem::ApiError;

/// Lines queued for the client. A slow client delays the lines, never the job.
const QUEUE: usize = 8;
/// Least time between two lines of progress: as often as a person can follow.
const PACE: Duration = Duration::from_millis(200);
/// Longest time without a line, so that a client can tell a long job from a node that hangs.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// Runs the jobs of one server, one at a time. Clones share the running job.
#[derive(Clone, Default)]
pub struct Upkeep {
    running: Arc<Mutex<Option<RunningJob>>>,
}

struct RunningJob {
    name: &'static str,
    since: Instant,
    lines: mpsc::WeakSender<JobLine>,
}

impl RunningJob {
    /// Whether the client has disconnected: the job stops at its next report of progress.
    fn is_ending(&self) -> bool {
        self.lines.upgrade().is_none_or(|lines| lines.is_closed())
    }
}

/// Permission to run a job. The next job can start when it is dropped.
struct JobPermit(Arc<Mutex<Option<RunningJob>>>);

impl Drop for JobPermit {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The answer to a job: JSON texts, each ended by a line feed.
pub type JobLines = ReceiverStream<JobLine>;
type JobLine = Result<Vec<u8>, std::convert::Infallible>;

impl Upkeep {
    /// Starts a job on the store.
    ///
    /// # Errors
    /// 400 for a job that is not valid, 409 while another job is running.
    pub fn start(&self, job: UpkeepJob, store: Store, shutdown: watch::Receiver<bool>) -> Result<JobLines, ApiError> {
        if let UpkeepJob::Backup { folder, .. } = &job
            && !Path::new(folder).is_absolute()
        {
            return Err(ApiError::bad_request(format!("{folder:.200} is no absolute path"))
                .hint("`folder` is an absolute path on the machine of the node"));
        }
        self.begin(job.name(), shutdown, move |watch| perform(&store, &job, watch))
    }

    fn begin(
        &self,
        name: &'static str,
        shutdown: watch::Receiver<bool>,
        work: impl FnOnce(&mut Watch<'_>) -> Result<UpkeepReport, StoreError> + Send + 'static,
    ) -> Result<JobLines, ApiError> {
        let (lines, queue) = mpsc::channel(QUEUE);
        let permit = self.acquire(name, lines.downgrade())?;
        let (now, progress) = watch::channel(UpkeepProgress { stage: "starting".into(), ..UpkeepProgress::default() });
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // Sending fails when the only receiver is gone, which means that the client has disconnected.
            work(&mut |progress| match now.send(progress.into()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        });
        tokio::spawn(send_lines(work, progress, lines, shutdown));
        Ok(ReceiverStream::new(queue))
    }

    fn acquire(&self, name: &'static str, lines: mpsc::WeakSender<JobLine>) -> Result<JobPermit, ApiError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = &*running {
            let seconds = other.since.elapsed().as_secs();
            let (state, hint) = if other.is_ending() {
                ("is being stopped", "try again soon: the job stops at the next point where it can be interrupted")
            } else {
                ("is running", "wait until the job ends, or end the program that asked for it")
            };
            let message = format!("{} {state} in this node, started {seconds} s ago", other.name);
            return Err(ApiError::conflict(message).hint(hint));
        }
        *running = Some(RunningJob { name, since: Instant::now(), lines });
        Ok(JobPermit(self.running.clone()))
    }
}

/// Sends lines about a job until the job ends, the client disconnects, or the node stops.
async fn send_lines(
    work: JoinHandle<Result<UpkeepReport, StoreError>>,
    progress: watch::Receiver<UpkeepProgress>,
    lines: mpsc::Sender<JobLine>,
    mut shutdown: watch::Receiver<bool>,
) {
    let last = tokio::select! {
        () = lines.closed() => return,
        _ = shutdown.wait_for(|stop| *stop) => UpkeepLine::Error(ApiError::unavailable("the node is stopping").problem()),
        last = send_progress(work, progress, &lines) => last,
    };
    let _ = lines.send(Ok(encode(&last))).await;
}

/// Sends the progress of a job. Returns the last line, the report or the error.
async fn send_progress(
    mut work: JoinHandle<Result<UpkeepReport, StoreError>>,
    mut progress: watch::Receiver<UpkeepProgress>,
    lines: &mpsc::Sender<JobLine>,
) -> UpkeepLine {
    loop {
        let now = progress.borrow_and_update().clone();
        let _ = lines.send(Ok(encode(&UpkeepLine::Progress(now)))).await;
        tokio::select! {
            done = &mut work => return match done {
                Ok(Ok(report)) => UpkeepLine::Report(report),
                Ok(Err(error)) => UpkeepLine::Error(ApiError::from(error).problem()),
                Err(_) => UpkeepLine::Error(ApiError::thread_ended().problem()),
            },
            () = next_line(&mut progress) => {}
        }
    }
}

/// Waits until the next line is due: after progress, or after a long silence.
async fn next_line(progress: &mut watch::Receiver<UpkeepProgress>) {
    tokio::time::sleep(PACE).await;
    let _ = tokio::time::timeout(HEARTBEAT, progress.changed()).await;
}

fn encode(line: &UpkeepLine) -> Vec<u8> {
    // Only map keys that are no text make serialisation fail, and the shapes of the API have none.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Runs a job on the calling thread.
///
/// # Errors
/// Those of the store; [`StoreError::Cancelled`] when `watch` asks for it.
pub fn perform(store: &Store, job: &UpkeepJob, watch: &mut Watch<'_>) -> Result<UpkeepReport, StoreError> {
    Ok(match job {
        UpkeepJob::Check => UpkeepReport::Check(store.check(watch)?.into()),
        UpkeepJob::Verify => UpkeepReport::Verify(verify(store, watch)?),
        UpkeepJob::Compact => {
            let bytes_before = store.stats()?.database_bytes();
            store.compact(watch)?;
            UpkeepReport::Compact(CompactReport { bytes_before, bytes_after: store.stats()?.database_bytes() })
        }
        UpkeepJob::Backup { folder, keep } => {
            let keep = usize::try_from(*keep).unwrap_or(usize::MAX);
            UpkeepReport::Backup(store.backup(Path::new(folder), keep, watch)?.into())
        }
        UpkeepJob::Gc { dry_run, max_age_seconds, max_bytes } => {
            let (max_age, max_bytes) = (*max_age_seconds, *max_bytes);
            let plan = GcPlan { now: unix_now(), max_age, max_bytes, dry_run: *dry_run };
            UpkeepReport::Gc(GcReport::new(store.gc(&plan, watch)?, *dry_run))
        }
        UpkeepJob::Drop { by, id } => UpkeepReport::Drop(drop_unwanted(store, *by, *id, watch)?),
    })
}

fn drop_unwanted(
    store: &Store,
    by: UnwantedKind,
    id: ObjectId,
    watch: &mut Watch<'_>,
) -> Result<DropReport, StoreError> {
    let unwanted = match by {
        UnwantedKind::Signer => vec![Unwanted::Signer(NodeId(id.0))],
        UnwantedKind::Task => vec![Unwanted::Task(id.into())],
        UnwantedKind::Object => [Kind::Experiment, Kind::Control, Kind::Task, Kind::Profile]
            .into_iter()
            .map(|kind| Unwanted::Object(kind, id))
            .collect(),
    };
    let mut report = DropReport::default();
    for unwanted in unwanted {
        if let Unwanted::Object(kind, id) = unwanted
            && !store.contains(kind, &id)?
        {
            continue;
        }
        let dropped = store.drop_unwanted(unwanted, watch)?;
        report.dropped += dropped.dropped;
        report.dropped_bytes += dropped.freed;
        report.kept += dropped.kept;
    }
    if report.dropped > 0 {
        report.artifacts = store.gc_unnamed(unix_now(), watch)?.dropped_count;
    }
    Ok(report)
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

/// The size of the store. Looks at the size of each artifact.
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

/// A page of pending records, in the order of their arrival.
///
/// # Errors
/// 400 for text that is no cursor; when the store cannot be read.
pub fn pending(store: &Store, after: Option<&str>, limit: usize) -> Result<PendingPage, ApiError> {
    let limit = limit.clamp(1, MAX_PAGE);
    let span = match after {
        None => Span::first(limit),
        Some(text) => {
            let cursor =
                text.parse().map_err(|_| ApiError::bad_request("`after` is not the `next` of an earlier page"))?;
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

/// The content ids of the pinned artifacts, in order.
///
/// # Errors
/// When the list cannot be read.
pub fn pins(store: &Store) -> Result<Vec<String>, ApiError> {
    Ok(store.pins()?.iter().map(ToString::to_string).collect())
}

/// Pins an artifact, or removes its pin.
///
/// # Errors
/// 400 for text that is no content id, and for one pin too many; when the list cannot be written.
pub fn pin(store: &Store, cid: &str, pinned: bool) -> Result<PinOutcome, ApiError> {
    let cid: Cid = cid.parse().map_err(|_| no_cid())?;
    let changed = if pinned { store.pin(&cid)? } else { store.unpin(&cid)? };
    Ok(PinOutcome { cid: cid.to_string(), changed })
}

/// 400: the text is no content id.
pub(super) fn no_cid() -> ApiError {
    ApiError::bad_request("the id of an artifact is 64 lower-case hex digits")
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use spore_storage::{Stage, StageProgress};

    use super::*;

    const PROGRESS: StageProgress = StageProgress { stage: Stage::Scan, done: 1, total: 2 };

    fn report() -> UpkeepReport {
        UpkeepReport::Compact(CompactReport { bytes_before: 2, bytes_after: 1 })
    }

    /// Work that runs until it is told to stop, and then reports that.
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

    fn line(item: Option<JobLine>) -> Option<UpkeepLine> {
        item.map(|line| serde_json::from_slice(&line.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn job_sends_progress_and_a_report_and_then_the_next_job_may_start() {
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
    async fn second_job_is_refused_with_the_name_of_the_running_one() {
        let (upkeep, (_stop, shutdown)) = (Upkeep::default(), watch::channel(false));
        let (stopped, _) = tokio::sync::oneshot::channel();
        let _lines = upkeep.begin("a long test", shutdown.clone(), endless(stopped)).unwrap();
        let refused = upkeep.begin("another", shutdown, |_| Ok(report())).err().unwrap();
        assert_eq!(refused.status(), 409);
        assert!(refused.message.contains("a long test") && refused.hint.is_some(), "{refused:?}");
    }

    #[tokio::test]
    async fn job_stops_when_its_client_disconnects() {
        let (upkeep, (_stop, shutdown)) = (Upkeep::default(), watch::channel(false));
        let (stopped, has_stopped) = tokio::sync::oneshot::channel();
        // The work notices late that the client is gone. The next job is refused meanwhile.
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
        assert!(refused.message.contains("is being stopped"), "{refused:?}");
        drop(go_on);
        has_stopped.await.unwrap();
    }

    #[tokio::test]
    async fn job_stops_with_the_node_and_reports_that() {
        let (upkeep, (stop, shutdown)) = (Upkeep::default(), watch::channel(false));
        let (stopped, has_stopped) = tokio::sync::oneshot::channel();
        let mut lines = upkeep.begin("a test", shutdown, endless(stopped)).unwrap();
        lines.next().await.unwrap().unwrap();
        stop.send(true).unwrap();
        let mut last = None;
        while let Some(next) = line(lines.next().await) {
            last = Some(next);
        }
        assert!(matches!(last, Some(UpkeepLine::Error(problem)) if problem.error.contains("stopping")));
        has_stopped.await.unwrap();
    }

    #[tokio::test]
    async fn invalid_jobs_are_refused_and_pins_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (_stop, shutdown) = watch::channel(false);
        let relative = UpkeepJob::Backup { folder: "somewhere".into(), keep: 1 };
        let refused = Upkeep::default().start(relative, store.clone(), shutdown);
        assert_eq!(refused.err().map(|error| error.status()), Some(400));
        assert_eq!(pending(&store, Some("no cursor"), 1).map_err(|error| error.status()), Err(400));
        assert_eq!(pin(&store, "no address", true).map_err(|error| error.status()), Err(400));

        let cid = Cid::of(b"a").to_string();
        assert!(pin(&store, &cid, true).unwrap().changed && !pin(&store, &cid, true).unwrap().changed);
        assert_eq!(pins(&store).unwrap(), std::slice::from_ref(&cid));
        assert!(pin(&store, &cid, false).unwrap().changed && pins(&store).unwrap().is_empty());
    }
}
