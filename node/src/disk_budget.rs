//! Keeps the store within its disk budget, and takes no objects of other nodes while the disk is nearly full.
//!
//! `spore-storage` decides what is dropped, and when a disk counts as full. Never here: the bounds of the artifact cache,
//! which [`crate::housekeeping`] applies.

use std::time::Duration;

use spore_base::{
    clock::Clock,
    shutdown::{Shutdown, stopped},
    warnings::{WarningTopic, Warnings},
};
use spore_ingest::IngestHandle;
use spore_protocol::TaskId;
use spore_storage::{DiskSpace, RoomPlan, RoomReport, Store, StoreError};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{config::STORE_LEAST, genesis};

/// Time between two looks. A flood brings some megabytes meanwhile, because admission bounds it.
const INTERVAL: Duration = Duration::from_secs(20);
/// Time between two measurements of a store that did not change: artifacts may have arrived. The same between two attempts
/// to make room where nothing more could be dropped, each of which looks at every object: records grow old.
const QUIET: Duration = Duration::from_secs(600);
/// Share of the disk that the store may take by default.
const SHARE: u64 = 10;
/// Most bytes that the store may take by default: some fifteen million records.
const MOST: u64 = 10 << 30;

/// What the service needs.
#[derive(Clone)]
pub struct DiskBudget {
    pub store: Store,
    /// Bytes. None: a tenth of the disk, 10 GiB at most.
    pub max: Option<u64>,
    /// The task that the user chose.
    pub pinned: watch::Receiver<Option<TaskId>>,
    pub ingest: IngestHandle,
    pub warnings: Warnings,
    pub clock: Clock,
}

/// The default budget on this disk, in bytes.
fn default_budget(disk: DiskSpace) -> u64 {
    (disk.total / SHARE).clamp(STORE_LEAST, MOST)
}

/// Runs until the node shuts down.
pub async fn run(budget: DiskBudget, mut shutdown: Shutdown) {
    let mut keeper = Keeper::new(budget);
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => keeper.look(&shutdown).await,
            () = stopped(&mut shutdown) => break,
        }
    }
    // It ends at its next step.
    if let Some(running) = keeper.running {
        let _ = running.await;
    }
}

type Made = Result<RoomReport, StoreError>;

struct Keeper {
    budget: DiskBudget,
    /// The budget in force, once the disk was looked at.
    max: Option<u64>,
    /// Whether the disk is nearly full.
    low: bool,
    /// Whether the store exceeds its budget and nothing more may be dropped.
    short: bool,
    /// Whether the last attempt failed, such as for want of space to compact.
    failed: bool,
    /// When the store was measured last, and its sequence number then.
    last: Option<(Instant, u64)>,
    running: Option<JoinHandle<Made>>,
}

impl Keeper {
    fn new(budget: DiskBudget) -> Self {
        Self { budget, max: None, low: false, short: false, failed: false, last: None, running: None }
    }

    /// Whether the store may grow again that exceeded its budget: the operator dropped, unpinned or moved something.
    async fn has_room_again(&self) -> bool {
        let (store, max) = (self.budget.store.clone(), self.max.unwrap_or_default());
        self.short
            && matches!(tokio::task::spawn_blocking(move || store.bytes_on_disk()).await, Ok(Ok(bytes)) if bytes <= max)
    }

    async fn look(&mut self, shutdown: &Shutdown) {
        if self.running.is_none() && self.has_room_again().await {
            self.short = false;
            self.warn(WarningTopic::Budget, false, String::new());
        }
        let store = self.budget.store.clone();
        if let Ok(Ok(disk)) = tokio::task::spawn_blocking(move || store.disk_space()).await {
            self.saw(disk);
        }
        if let Some(running) = self.running.take_if(|running| running.is_finished())
            && let Ok(made) = running.await
        {
            self.made(made);
        }
        if self.running.is_none() && self.is_due() {
            self.begin(shutdown.clone());
        }
    }

    fn saw(&mut self, disk: DiskSpace) {
        self.max.get_or_insert_with(|| self.budget.max.unwrap_or_else(|| default_budget(disk)));
        self.low = disk.is_low() || self.low && !disk.is_ample();
        let floor = disk.floor() >> 20;
        self.warn(
            WarningTopic::Disk,
            self.low,
            format!("less than {floor} MiB of the disk are free: objects of other nodes are refused for now"),
        );
        self.budget.ingest.set_space_short(self.low || self.short);
    }

    fn warn(&self, topic: WarningTopic, stands: bool, text: String) {
        if stands { self.budget.warnings.set(topic, text) } else { self.budget.warnings.clear(topic) }
    }

    fn is_due(&self) -> bool {
        let Some((at, sequence)) = self.last else { return true };
        let changed = self.budget.store.sequence() != sequence;
        at.elapsed() >= QUIET || changed && !self.short && !self.failed
    }

    fn begin(&mut self, shutdown: Shutdown) {
        let Some(max) = self.max else { return };
        let DiskBudget { store, pinned, clock, .. } = &self.budget;
        let plan = RoomPlan {
            budget: max,
            // The node's own key is one of the store's seeds. The built-in task is what every node begins with.
            own: genesis::manifest().into_iter().map(|manifest| manifest.created_by).collect(),
            pinned: (*pinned.borrow()).into_iter().collect(),
            now: clock(),
        };
        self.last = Some((Instant::now(), store.sequence()));
        let store = store.clone();
        self.running = Some(tokio::task::spawn_blocking(move || store.make_room(&plan, &|| *shutdown.borrow())));
    }

    fn made(&mut self, made: Made) {
        self.failed = matches!(&made, Err(error) if *error != StoreError::Cancelled);
        let report = match made {
            Ok(report) => report,
            Err(StoreError::Cancelled) => return,
            Err(error) => return tracing::warn!(%error, "cannot make room in the store"),
        };
        if report.dropped + report.dropped_pending + report.dropped_artifacts > 0 {
            tracing::info!(
                objects = report.dropped,
                pending = report.dropped_pending,
                artifacts = report.dropped_artifacts,
                bytes_before = report.bytes_before,
                bytes_after = report.bytes_after,
                "dropped what is worth least to keep the store within its disk budget"
            );
        }
        self.short = report.short;
        let max = self.max.unwrap_or_default() >> 20;
        self.warn(
            WarningTopic::Budget,
            self.short,
            format!(
                "the store exceeds its disk budget of {max} MiB and nothing more may be dropped: objects of other nodes \
                 are refused for now"
            ),
        );
        self.budget.ingest.set_space_short(self.low || self.short);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use spore_ingest::Ingest;

    const MIB: u64 = 1 << 20;

    struct World {
        _folder: tempfile::TempDir,
        _stop: watch::Sender<bool>,
        keeper: Keeper,
    }

    fn world(max: Option<u64>) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (stop, shutdown) = watch::channel(false);
        let (ingest, ..) = Ingest::spawn(store.clone(), Arc::new(|| 1), shutdown);
        let budget = DiskBudget {
            store,
            max,
            pinned: watch::channel(None).1,
            ingest,
            warnings: Warnings::default(),
            clock: Arc::new(|| 1),
        };
        let keeper = Keeper::new(budget);
        World { _folder: folder, _stop: stop, keeper }
    }

    #[test]
    fn default_budget_is_a_tenth_of_the_disk_within_bounds() {
        let of = |mib: u64| default_budget(DiskSpace { total: mib * MIB, free: 0 }) / MIB;
        assert_eq!([of(0), of(1000), of(50_000), of(10_000_000)], [16, 100, 5000, 10 << 10]);
    }

    #[tokio::test]
    async fn nearly_full_disk_is_warned_of_once_and_until_it_has_ample_room() {
        let mut world = world(Some(64 * MIB));
        let keeper = &mut world.keeper;
        let disk = |free: u64| DiskSpace { total: 1000 << 30, free: free * MIB };
        for (free, low) in [(3000, false), (2000, true), (2100, true), (2600, false), (2100, false)] {
            keeper.saw(disk(free));
            assert_eq!((keeper.low, keeper.budget.warnings.all().len()), (low, usize::from(low)), "{free} MiB");
        }
        assert_eq!(keeper.max, Some(64 * MIB));
    }

    #[tokio::test]
    async fn unchanged_store_within_its_budget_is_not_measured_again() {
        let mut world = world(Some(1));
        let keeper = &mut world.keeper;
        let (_stop, shutdown) = watch::channel(false);
        assert!(keeper.is_due());
        keeper.saw(DiskSpace { total: 1 << 40, free: 1 << 40 });
        keeper.begin(shutdown);
        assert!(!keeper.is_due());
        let made = keeper.running.take().unwrap().await.unwrap();
        assert!(made.as_ref().unwrap().short, "an empty database has more than one byte: {made:?}");
        keeper.made(made);
        assert_eq!(keeper.budget.warnings.all().len(), 1);
    }

    #[tokio::test]
    async fn store_that_fits_its_budget_again_takes_objects_at_the_next_look() {
        let mut world = world(Some(1));
        let keeper = &mut world.keeper;
        let (_stop, shutdown) = watch::channel(false);
        keeper.saw(DiskSpace { total: 1 << 40, free: 1 << 40 });
        keeper.begin(shutdown.clone());
        let made = keeper.running.take().unwrap().await.unwrap();
        keeper.made(made);
        assert!(keeper.short);
        keeper.look(&shutdown).await;
        assert!(keeper.short, "nothing changed");
        keeper.max = Some(64 * MIB);
        keeper.look(&shutdown).await;
        assert!(!keeper.short && keeper.budget.warnings.all().is_empty());
    }
}
