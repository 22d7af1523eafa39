//! Garbage collection of artifacts: which ones a bounded cache drops, and dropping them.
//!
//! An artifact is protected if it is pinned, or named by a task's manifest, a task's root or a record on a frontier,
//! because new work needs these. A long time in which nobody looked does not count, because the clock may have jumped. Of the others, unreferenced artifacts are dropped first, then the least recently
//! used. References are found by reading all records. A collection is rare, and an index of references would cost
//! disk space for each record.

use std::{cmp::Reverse, collections::HashSet, ops::ControlFlow};

use spore_protocol::{Cid, Kind, Record, SignedObject, TaskId, TaskManifest};

use crate::{
    artifacts::ArtifactFileStat,
    columns::Column,
    db::{DbSnapshot, KeyReader},
    error::{Damage, Result, StoreError},
    keys, lookup,
    progress::{Stage, Watch, notify},
    store::Store,
    values::{self, PendingEntry, TaskState},
};

/// Seconds for which an artifact is kept after its last use, whatever the limits are. Its record may not have arrived
/// yet, or a worker may be using it.
const GRACE: u64 = 3600;

/// Most dropped artifacts that a report lists. All of them are counted.
const MAX_LISTED: usize = 10_000;

/// Records between two progress reports.
const REPORT: u64 = 1000;

/// The limits of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcPlan {
    /// Unix seconds. The store has no clock.
    pub now: u64,
    /// Seconds. Artifacts that were unused for longer are dropped.
    pub max_age: Option<u64>,
    /// Bytes. Artifacts are dropped until the rest takes no more.
    pub max_bytes: Option<u64>,
    /// Only report what would be dropped.
    pub dry_run: bool,
}

/// Why an artifact is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    Age,
    Size,
}

/// A dropped artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub cid: Cid,
    pub bytes: u64,
    /// Unix seconds, exact to about an hour.
    pub last_used: u64,
    /// Stored records and manifests that name it.
    pub references: u64,
    pub reason: DropReason,
}

/// The result of a collection, or of a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// In the order in which they are dropped, up to ten thousand.
    pub dropped: Vec<Dropped>,
    pub dropped_count: u64,
    pub dropped_bytes: u64,
    pub kept_count: u64,
    pub kept_bytes: u64,
    /// Kept artifacts that no limit can drop.
    pub protected_count: u64,
    pub protected_bytes: u64,
}

impl Store {
    /// Drops the artifacts that exceed the plan's limits, or only reports them. Can run while the store is in use.
    /// Takes some 60 bytes of memory for each artifact, and reads every record once.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] when something would be dropped, [`StoreError::Cancelled`]; when the store cannot be
    /// read.
    pub fn gc(&self, plan: &GcPlan, watch: &mut Watch<'_>) -> Result<GcReport> {
        if self.read_only() && !plan.dry_run {
            return Err(StoreError::ReadOnly);
        }
        if !self.read_only() {
            self.artifacts().look(plan.now)?;
            self.artifacts().note_uses(plan.now)?;
        }
        let mut cache = ArtifactCache::of(self, plan.now)?;
        if cache.could_drop(plan) {
            cache.protect_needed(&self.view(), watch)?;
            cache.count_references(&self.view(), watch)?;
        }
        let chosen = cache.choose(plan);
        self.drop_chosen(&cache, chosen, plan.dry_run)
    }

    /// Drops the artifacts that no object names, whatever room they take. The same ones are protected.
    ///
    /// # Errors
    /// As [`Store::gc`].
    pub fn gc_unnamed(&self, now: u64, watch: &mut Watch<'_>) -> Result<GcReport> {
        if self.read_only() {
            return Err(StoreError::ReadOnly);
        }
        self.artifacts().look(now)?;
        self.artifacts().note_uses(now)?;
        let mut cache = ArtifactCache::of(self, now)?;
        if cache.entries.iter().all(|entry| entry.protected) {
            return Ok(GcReport::default());
        }
        cache.protect_needed(&self.view(), watch)?;
        cache.count_references(&self.view(), watch)?;
        let chosen = cache.unnamed();
        self.drop_chosen(&cache, chosen, false)
    }

    fn drop_chosen(&self, cache: &ArtifactCache, chosen: Vec<Dropped>, dry_run: bool) -> Result<GcReport> {
        let mut report = GcReport::default();
        for dropped in chosen {
            if !dry_run {
                // The artifact may have been pinned or used since it was chosen.
                if self.artifacts().pins.contains(&dropped.cid)? || !self.artifacts().remove_unused(&dropped.cid)? {
                    continue;
                }
                self.artifacts().dropped.add(dropped.cid);
            }
            report.dropped_count += 1;
            report.dropped_bytes += dropped.bytes;
            if report.dropped.len() < MAX_LISTED {
                report.dropped.push(dropped);
            }
        }
        if !dry_run {
            self.artifacts().sweep_lists()?;
            self.artifacts().dropped.save()?;
        }
        let protected = || cache.entries.iter().filter(|entry| entry.protected);
        report.kept_count = (cache.entries.len() as u64).saturating_sub(report.dropped_count);
        report.kept_bytes = cache.bytes().saturating_sub(report.dropped_bytes);
        report.protected_count = protected().count() as u64;
        report.protected_bytes = protected().map(|entry| entry.stored.size).sum();
        Ok(report)
    }

    /// Whether [`Store::gc`] dropped this artifact and it was not stored again since. A service that fetches
    /// artifacts before they are needed skips it.
    pub fn was_dropped(&self, cid: &Cid) -> bool {
        self.artifacts().dropped.contains(cid)
    }

    /// Whether more artifacts were dropped than the store remembers, so that [`Store::was_dropped`] may be false for
    /// some of them. A service should not fetch every missing artifact then.
    pub fn drops_are_forgotten(&self) -> bool {
        self.artifacts().dropped.is_full()
    }

    /// Protects an artifact from [`Store::gc`], whether it is stored or not. False when it was pinned already.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`], [`StoreError::TooManyPins`], [`StoreError::BadPins`], [`StoreError::Io`].
    pub fn pin(&self, cid: &Cid) -> Result<bool> {
        if self.read_only() { Err(StoreError::ReadOnly) } else { self.artifacts().pins.set(cid, true) }
    }

    /// Removes a pin. False when there was none.
    ///
    /// # Errors
    /// As [`Store::pin`].
    pub fn unpin(&self, cid: &Cid) -> Result<bool> {
        if self.read_only() { Err(StoreError::ReadOnly) } else { self.artifacts().pins.set(cid, false) }
    }

    /// The pinned artifacts, in the order of their addresses.
    ///
    /// # Errors
    /// [`StoreError::BadPins`], [`StoreError::Io`].
    pub fn pins(&self) -> Result<Vec<Cid>> {
        Ok(self.artifacts().pins.all()?.into_iter().collect())
    }
}

struct CachedArtifact {
    stored: ArtifactFileStat,
    references: u64,
    protected: bool,
}

/// Every stored artifact, sorted by address.
struct ArtifactCache {
    entries: Vec<CachedArtifact>,
}

impl ArtifactCache {
    fn of(store: &Store, now: u64) -> Result<Self> {
        let mut entries = Vec::new();
        // None after the look of a store that is open for writing.
        let missed = store.artifacts().missed(now)?;
        store.artifacts().each(&mut |mut stored| {
            stored.last_used = stored.last_used.saturating_add(missed);
            // A time in the future protects too: the clock may have been wrong.
            let protected = stored.last_used.saturating_add(GRACE) > now;
            entries.push(CachedArtifact { stored, references: 0, protected });
            Ok(())
        })?;
        entries.sort_unstable_by_key(|entry| entry.stored.cid);
        let mut cache = Self { entries };
        for pin in store.artifacts().pins.all()? {
            cache.protect(&pin);
        }
        Ok(cache)
    }

    fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.stored.size).sum()
    }

    /// Whether any artifact could be dropped. Otherwise the records need not be read.
    fn could_drop(&self, plan: &GcPlan) -> bool {
        let too_large = plan.max_bytes.is_some_and(|limit| self.bytes() > limit);
        too_large || self.entries.iter().any(|entry| !entry.protected && is_old(&entry.stored, plan))
    }

    fn find(&mut self, cid: &Cid) -> Option<&mut CachedArtifact> {
        let at = self.entries.binary_search_by_key(cid, |entry| entry.stored.cid).ok()?;
        self.entries.get_mut(at)
    }

    fn protect(&mut self, cid: &Cid) {
        if let Some(entry) = self.find(cid) {
            entry.protected = true;
        }
    }

    fn refer(&mut self, cid: &Cid) {
        if let Some(entry) = self.find(cid) {
            entry.references += 1;
        }
    }

    /// Protects the artifacts that tasks and frontier records name, however long a frontier is.
    fn protect_needed(&mut self, view: &DbSnapshot<'_>, watch: &mut Watch<'_>) -> Result<()> {
        // Records on one frontier are mostly on others too. The set takes 8 bytes for each, and each is read once.
        let mut needed = HashSet::new();
        view.each(Column::Tasks, &[], &mut |key, value| {
            let task = TaskId(keys::last_id(key)?);
            if let Some(manifest) = lookup::manifest(view, &task)? {
                named_by_manifest(&manifest).for_each(|cid| self.protect(&cid));
            }
            if let Some(root) = values::decode::<TaskState>(value)?.root {
                needed.extend(lookup::number_of(view, Kind::Experiment, &root.into())?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        view.each(Column::Frontier, &[], &mut |key, _| {
            // Claims are as many as anybody signs.
            if keys::is_frontier(key) {
                needed.insert(keys::last_number(key)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for (seen, number) in (1u64..).zip(needed) {
            let stored = view.get(Column::Objects, &keys::number(number))?;
            let stored = stored.ok_or(Damage::NoEntry { column: Column::Objects.name(), number })?;
            if let SignedObject::Experiment(record) = values::decode_stored(&stored)? {
                named_by_record(&record).for_each(|cid| self.protect(&cid));
            }
            if seen.is_multiple_of(REPORT) {
                notify(watch, Stage::References, seen, 0)?;
            }
        }
        Ok(())
    }

    /// Reads every object, also pending ones.
    fn count_references(&mut self, view: &DbSnapshot<'_>, watch: &mut Watch<'_>) -> Result<()> {
        let mut seen = 0;
        view.each(Column::Objects, &[], &mut |_, value| {
            if matches!(values::stored_kind(value)?, Kind::Task | Kind::Experiment) {
                match values::decode_stored(value)? {
                    SignedObject::Experiment(record) => named_by_record(&record).for_each(|cid| self.refer(&cid)),
                    SignedObject::Task(manifest) => named_by_manifest(&manifest).for_each(|cid| self.refer(&cid)),
                    SignedObject::Control(_) | SignedObject::Profile(_) => {}
                }
            }
            seen += 1;
            if seen % REPORT == 0 {
                notify(watch, Stage::References, seen, 0)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        view.each(Column::Pending, &[], &mut |_, value| {
            let held: PendingEntry = values::decode(value)?;
            if let SignedObject::Experiment(record) = values::decode_object(Kind::Experiment, &held.object)? {
                named_by_record(&record).for_each(|cid| self.refer(&cid));
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The artifacts that nothing names and nothing protects.
    fn unnamed(&self) -> Vec<Dropped> {
        let unnamed = self.entries.iter().filter(|entry| !entry.protected && entry.references == 0);
        let dropped = |CachedArtifact { stored, .. }: &CachedArtifact| {
            let (cid, bytes, last_used) = (stored.cid, stored.size, stored.last_used);
            Dropped { cid, bytes, last_used, references: 0, reason: DropReason::Size }
        };
        unnamed.map(dropped).collect()
    }

    /// The artifacts to drop, in this order: too old ones first, then those that exceed the size.
    fn choose(&self, plan: &GcPlan) -> Vec<Dropped> {
        let mut candidates: Vec<&CachedArtifact> = self.entries.iter().filter(|entry| !entry.protected).collect();
        candidates.sort_by_key(|entry| {
            let reason = if is_old(&entry.stored, plan) { 0 } else { 1 };
            // Among equal ones, the largest first, so that fewer are dropped.
            (reason, entry.references > 0, entry.stored.last_used, Reverse(entry.stored.size))
        });
        let mut left = self.bytes();
        let mut chosen = Vec::new();
        for CachedArtifact { stored, references, .. } in candidates {
            let reason = if is_old(stored, plan) {
                DropReason::Age
            } else if plan.max_bytes.is_some_and(|limit| left > limit) {
                DropReason::Size
            } else {
                break;
            };
            left = left.saturating_sub(stored.size);
            let (cid, bytes, last_used) = (stored.cid, stored.size, stored.last_used);
            chosen.push(Dropped { cid, bytes, last_used, references: *references, reason });
        }
        chosen
    }
}

fn is_old(stored: &ArtifactFileStat, plan: &GcPlan) -> bool {
    plan.max_age.is_some_and(|age| stored.last_used.saturating_add(age) < plan.now)
}

/// The addresses that a record names. Legacy objects also name things that are no addresses.
fn named_by_record(record: &Record) -> impl Iterator<Item = Cid> {
    let texts = [record.dataset_cid.parse().ok(), record.prepare_cid.parse().ok()];
    record.code_cid.into_iter().chain(texts.into_iter().flatten())
}

fn named_by_manifest(manifest: &TaskManifest) -> impl Iterator<Item = Cid> {
    let texts = [manifest.dataset_cid.parse().ok(), manifest.prepare_cid.parse().ok()];
    manifest.base_code_cid.into_iter().chain(texts.into_iter().flatten())
}
