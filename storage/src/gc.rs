//! Which artifacts a bounded cache would drop, and dropping them.
//!
//! Never those that are pinned, that a task's manifest or root names, or that a record on a frontier names:
//! new work needs these. Of the rest those that nothing names go first, then the least recently
//! used. Whether a record names an artifact is asked of the records when it is needed, once in a long
//! while; an index would cost each record on disk for ever.

use std::{cmp::Reverse, collections::HashSet, ops::ControlFlow};

use spore_protocol::{Cid, Kind, Record, SignedObject, TaskId, TaskManifest};

use crate::{
    artifacts::Stored,
    columns::Column,
    db::{Source, View},
    error::{Result, StoreError},
    keys,
    progress::{Stage, Watch, tell},
    read,
    store::Store,
    values::{self, Held, TaskState},
};

/// Seconds for which an artifact is kept after its last use, whatever the limits: its record may be
/// on its way, or a worker at work on it.
const GRACE: u64 = 3600;

/// Drops listed; all are counted.
const MAX_LISTED: usize = 10_000;

/// Records between two reports of progress.
const REPORT: u64 = 1000;

/// The bounds of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcPlan {
    /// Unix seconds: the store has no clock.
    pub now: u64,
    /// Artifacts not used for longer go; in seconds.
    pub max_age: Option<u64>,
    /// Artifacts go until the rest takes no more; in bytes.
    pub max_bytes: Option<u64>,
    /// Only tells.
    pub dry_run: bool,
}

/// Why an artifact goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    Age,
    Size,
}

/// An artifact that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub cid: Cid,
    pub bytes: u64,
    /// Unix seconds, coarse.
    pub last_used: u64,
    /// Records and manifests here that name it.
    pub references: u64,
    pub reason: DropReason,
}

/// What a collection came to, or would come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// In the order in which they go; the first ten thousand.
    pub dropped: Vec<Dropped>,
    pub dropped_count: u64,
    pub dropped_bytes: u64,
    pub kept_count: u64,
    pub kept_bytes: u64,
    /// Of those kept, what no limit could drop.
    pub protected_count: u64,
    pub protected_bytes: u64,
}

impl Store {
    /// Drops the artifacts that the plan leaves no room for, or tells which these are. Can run beside
    /// everything else. Takes memory for each artifact, some 60 bytes, and reads every record once.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] where something is to be dropped, [`StoreError::Cancelled`]; when the
    /// store cannot be read.
    pub fn gc(&self, plan: &GcPlan, watch: &mut Watch<'_>) -> Result<GcReport> {
        if self.read_only() && !plan.dry_run {
            return Err(StoreError::ReadOnly);
        }
        if !self.read_only() {
            self.artifacts().note_uses(plan.now)?;
        }
        let mut cache = Cache::of(self, plan.now)?;
        if cache.could_drop(plan) {
            cache.protect_needed(&self.view(), watch)?;
            cache.count_references(&self.view(), watch)?;
        }
        let mut report = GcReport::default();
        let chosen = cache.choose(plan);
        for dropped in chosen {
            if !plan.dry_run {
                // Somebody may have pinned or used it since it was chosen.
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
        if !plan.dry_run {
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

    /// Whether [`Store::gc`] dropped this artifact, and nobody put it here since: who fetches artifacts
    /// before they are needed leaves it out.
    pub fn was_dropped(&self, cid: &Cid) -> bool {
        self.artifacts().dropped.contains(cid)
    }

    /// Whether more was dropped than is remembered, so that [`Store::was_dropped`] may say no of some:
    /// who fetches whatever is missing should not then.
    pub fn drops_are_forgotten(&self) -> bool {
        self.artifacts().dropped.is_full()
    }

    /// Keeps an artifact from [`Store::gc`], whether it is here or not; false when it was pinned already.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`], [`StoreError::TooManyPins`], [`StoreError::Io`].
    pub fn pin(&self, cid: &Cid) -> Result<bool> {
        if self.read_only() { Err(StoreError::ReadOnly) } else { self.artifacts().pins.set(cid, true) }
    }

    /// Takes a pin back; false when there was none.
    ///
    /// # Errors
    /// As [`Store::pin`].
    pub fn unpin(&self, cid: &Cid) -> Result<bool> {
        if self.read_only() { Err(StoreError::ReadOnly) } else { self.artifacts().pins.set(cid, false) }
    }

    /// The pinned artifacts, in order.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn pins(&self) -> Result<Vec<Cid>> {
        Ok(self.artifacts().pins.all()?.into_iter().collect())
    }
}

struct Entry {
    stored: Stored,
    references: u64,
    protected: bool,
}

/// Every artifact here, by address.
struct Cache {
    entries: Vec<Entry>,
}

impl Cache {
    fn of(store: &Store, now: u64) -> Result<Self> {
        let mut entries = Vec::new();
        store.artifacts().each(&mut |stored| {
            // Also what the clock says comes from the future.
            let protected = stored.last_used.saturating_add(GRACE) > now;
            entries.push(Entry { stored, references: 0, protected });
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

    /// Whether it is worth asking the records.
    fn could_drop(&self, plan: &GcPlan) -> bool {
        let too_large = plan.max_bytes.is_some_and(|limit| self.bytes() > limit);
        too_large || self.entries.iter().any(|entry| !entry.protected && is_old(&entry.stored, plan))
    }

    fn find(&mut self, cid: &Cid) -> Option<&mut Entry> {
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

    /// What the tasks and their frontiers name. A frontier is protected whole, however long it is.
    fn protect_needed(&mut self, view: &View<'_>, watch: &mut Watch<'_>) -> Result<()> {
        // Those on a class's frontier are mostly on the class-blind one too: 8 bytes each to ask once.
        let mut needed = HashSet::new();
        view.each(Column::Tasks, &[], &mut |key, value| {
            let task = TaskId(keys::last_id(key)?);
            if let Some(manifest) = read::manifest(view, &task)? {
                named_by_manifest(&manifest).for_each(|cid| self.protect(&cid));
            }
            if let Some(root) = values::decode::<TaskState>(value)?.root {
                needed.extend(read::number_of(view, Kind::Experiment, &root.into())?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        view.each(Column::Frontier, &[], &mut |key, _| {
            needed.insert(keys::last_number(key)?);
            Ok(ControlFlow::Continue(()))
        })?;
        for (seen, number) in (1u64..).zip(needed) {
            let stored = view.get(Column::Objects, &keys::number(number))?;
            let stored = stored.ok_or_else(|| StoreError::corrupt(format!("record number {number} is gone")))?;
            if let SignedObject::Experiment(record) = values::decode_stored(&stored)? {
                named_by_record(&record).for_each(|cid| self.protect(&cid));
            }
            if seen.is_multiple_of(REPORT) {
                tell(watch, Stage::References, seen, 0)?;
            }
        }
        Ok(())
    }

    /// Asks every object, waiting ones too.
    fn count_references(&mut self, view: &View<'_>, watch: &mut Watch<'_>) -> Result<()> {
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
                tell(watch, Stage::References, seen, 0)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        view.each(Column::Pending, &[], &mut |_, value| {
            let held: Held = values::decode(value)?;
            if let SignedObject::Experiment(record) = values::decode_object(Kind::Experiment, &held.object)? {
                named_by_record(&record).for_each(|cid| self.refer(&cid));
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// What goes, in its order: what is too old first, then what there is no room for.
    fn choose(&self, plan: &GcPlan) -> Vec<Dropped> {
        let mut candidates: Vec<&Entry> = self.entries.iter().filter(|entry| !entry.protected).collect();
        candidates.sort_by_key(|entry| {
            let reason = if is_old(&entry.stored, plan) { 0 } else { 1 };
            // Among equals the largest first, so that fewest go.
            (reason, entry.references > 0, entry.stored.last_used, Reverse(entry.stored.size))
        });
        let mut left = self.bytes();
        let mut chosen = Vec::new();
        for Entry { stored, references, .. } in candidates {
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

fn is_old(stored: &Stored, plan: &GcPlan) -> bool {
    plan.max_age.is_some_and(|age| stored.last_used.saturating_add(age) < plan.now)
}

/// Legacy objects name some things in other ways than by an address.
fn named_by_record(record: &Record) -> impl Iterator<Item = Cid> {
    let texts = [record.dataset_cid.parse().ok(), record.prepare_cid.parse().ok()];
    record.code_cid.into_iter().chain(texts.into_iter().flatten())
}

fn named_by_manifest(manifest: &TaskManifest) -> impl Iterator<Item = Cid> {
    let texts = [manifest.dataset_cid.parse().ok(), manifest.prepare_cid.parse().ok()];
    manifest.base_code_cid.into_iter().chain(texts.into_iter().flatten())
}
