//! Inserts objects into an empty database again, under their sequence numbers. The result shows what the columns
//! should be. Objects that cannot be verified are reported and left out. [`super::walk`] decides what is read of a
//! store, and in which order.

use std::{collections::HashSet, fmt, ops::RangeInclusive};

use spore_protocol::{Kind, ObjectId, RecordId, SignedObject};

use super::examine::Examined;
use crate::{
    columns::Column,
    db::{Db, KeyReader, KeyScanner, KeyValue},
    error::{Damage, Result},
    keys, lookup,
    progress::{Stage, Watch, notify},
    salvage::{SalvageScan, ScanStep},
    types::{Change, DamagedFile, InsertOutcome},
    values::{self, LineageFault, PendingEntry},
    write::{InsertBatch, WriteCache},
};

/// Most objects of one batch, which bounds its memory: some MiB of records.
const BATCH: u64 = 1000;

/// Bytes of objects after which a batch is written. One object may have 10 MiB, and a batch takes a multiple of its
/// objects' bytes.
const BATCH_BYTES: usize = 16 << 20;

/// Steps between two progress reports.
const REPORT: u64 = 250;

/// Most faults, damaged files and ranges of lost changes in a report, of each.
const MAX_FAULTS: usize = 1000;

/// Most bad objects remembered, so that each is reported once: 4 MiB of memory.
const MAX_REPORTED: usize = 1 << 16;

/// A fault of one object of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The change log names an object that cannot be read.
    Lost { kind: Kind, id: ObjectId, why: String },
    /// The object under this id is not what was signed, or breaks a rule.
    Refused { kind: Kind, id: ObjectId, why: String },
    /// The record's parent is missing, so the record waits for it again.
    Orphaned { id: ObjectId, missing: RecordId },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { kind, id, why } => write!(f, "{kind} {id} is lost: {why}"),
            Self::Refused { kind, id, why } => write!(f, "{kind} {id} is refused: {why}"),
            Self::Orphaned { id, missing } => write!(f, "record {id} waits for its parent {missing} again"),
        }
    }
}

/// The result of a replay.
#[derive(Clone, Debug, Default)]
pub struct ReplayReport {
    /// Objects inserted, without pending ones.
    pub objects: u64,
    pub pending: u64,
    /// Objects that only the spare database had.
    pub from_spare: u64,
    /// Where the database cannot be read.
    pub damaged: Vec<DamagedFile>,
    /// The first faults.
    pub faults: Vec<Fault>,
    pub fault_count: u64,
    /// The first ranges of sequence numbers that were acknowledged and of which nothing is left.
    pub lost_changes: Vec<RangeInclusive<u64>>,
}

/// A replay in progress.
pub struct Replay<'a> {
    into: &'a Db,
    spare: Option<&'a dyn KeyScanner>,
    batch: InsertBatch<'a>,
    in_batch: u64,
    bytes_in_batch: usize,

    /// Whether the result is to be what the old database should be, with its faults: nothing is repaired, and pending
    /// records keep their arrival numbers.
    exact: bool,

    /// The highest sequence number used, and the one above which new numbers are given.
    highest: u64,
    last: u64,
    /// The last known time of arrival. A record whose own is lost gets it.
    received_at: u64,
    reported: HashSet<ObjectId>,
    seen: u64,
    done: ReplayReport,
}

impl<'a> Replay<'a> {
    /// `into` is empty. Lost objects are looked up in `spare`. New sequence numbers are above `last`.
    pub fn new(into: &'a Db, spare: Option<&'a dyn KeyScanner>, last: u64) -> Result<Self> {
        Ok(Self {
            into,
            spare,
            batch: InsertBatch::replay(into)?,
            in_batch: 0,
            bytes_in_batch: 0,

            exact: false,

            highest: 0,
            last,
            received_at: 0,
            reported: HashSet::new(),
            seen: 0,
            done: ReplayReport::default(),
        })
    }

    /// Repairs nothing: for comparing.
    pub fn exactly(self) -> Self {
        Self { exact: true, ..self }
    }

    pub fn is_exact(&self) -> bool {
        self.exact
    }

    pub fn spare(&self) -> Option<&'a dyn KeyScanner> {
        self.spare
    }

    /// Ends the replay. The database's last sequence number is `last`, or a higher one that was used.
    pub fn finish(mut self, last: u64) -> Result<ReplayReport> {
        self.highest = self.highest.max(last);
        self.flush()?;
        self.done.pending = lookup::tally(self.into)?.pending;
        Ok(self.done)
    }

    pub fn fault(&mut self, fault: Fault) {
        self.done.fault_count += 1;
        if self.done.faults.len() < MAX_FAULTS {
            self.done.faults.push(fault);
        }
    }

    fn refuse(&mut self, kind: Kind, id: ObjectId, why: String) {
        if self.reported.len() < MAX_REPORTED && !self.reported.insert(id) {
            return;
        }
        self.fault(Fault::Refused { kind, id, why });
    }

    /// Reports a place that cannot be read, once.
    pub fn unreadable(&mut self, column: Column, why: String) {
        let damaged = DamagedFile::in_column(column, why);
        if self.done.damaged.len() < MAX_FAULTS && !self.done.damaged.contains(&damaged) {
            self.done.damaged.push(damaged);
        }
    }

    pub fn lost_changes(&mut self, numbers: RangeInclusive<u64>) {
        if self.done.lost_changes.len() < MAX_FAULTS {
            self.done.lost_changes.push(numbers);
        }
    }

    /// The entry of a scan step. Damage is reported, and returns None. Reports progress.
    pub fn entry(&mut self, column: Column, step: ScanStep, watch: &mut Watch<'_>) -> Result<Option<KeyValue>> {
        self.seen(watch)?;
        Ok(match step {
            ScanStep::Entry(key, value) => Some((key, value)),
            ScanStep::Damage(why) => {
                self.unreadable(column, why);
                None
            }
        })
    }

    /// Reports progress, now and then.
    pub fn seen(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        if self.seen.is_multiple_of(REPORT) {
            notify(watch, Stage::Replay, self.done.objects, self.last.max(self.done.objects))?;
        }
        self.seen += 1;
        Ok(())
    }

    /// The next object gets this sequence number.
    pub fn at(&mut self, number: u64) {
        self.batch.skip_to(number);
    }

    /// The next objects get new sequence numbers.
    pub fn beyond(&mut self) {
        self.highest = self.highest.max(self.last);
        self.batch.skip_to(self.highest.saturating_add(1));
    }

    /// Whether the object is inserted and written already.
    pub fn has(&self, kind: Kind, id: &ObjectId) -> Result<bool> {
        self.into.has(Column::Ids, &keys::id(kind, id))
    }

    /// Adds an entry to the change log for an object that is no longer stored: a profile that was replaced.
    pub fn line(&mut self, change: &Change) -> Result<()> {
        self.batch.replay_line(change)?;
        self.step(0)
    }

    /// Inserts an object from the spare database, or reports it as lost.
    pub fn recover(&mut self, kind: Kind, id: ObjectId, received_at: Option<u64>, why: String) -> Result<()> {
        if !self.take_spare(kind, id, received_at)? {
            self.fault(Fault::Lost { kind, id, why });
        }
        Ok(())
    }

    /// Inserts the spare database's copy of an object. False when it has none.
    pub fn take_spare(&mut self, kind: Kind, id: ObjectId, received_at: Option<u64>) -> Result<bool> {
        let Some(spare) = self.spare else { return Ok(false) };
        let Ok(Some(number)) = lookup::number_of(spare, kind, &id) else { return Ok(false) };
        let Ok(Some(object)) = lookup::object(spare, kind, &id) else { return Ok(false) };
        self.take_copy(object, number, received_at)
    }

    /// Inserts an object that the spare database has under `number`. False when it was inserted before.
    pub fn take_copy(&mut self, object: SignedObject, number: u64, received_at: Option<u64>) -> Result<bool> {
        let own =
            || self.spare.and_then(|spare| lookup::placing(spare, number).ok()).map(|placing| placing.received_at);
        let received_at = received_at.or_else(own);
        let id = object.id();
        let taken = self.take(object, id, received_at)?;
        self.done.from_spare += u64::from(taken);
        Ok(taken)
    }

    /// Inserts every object that only the spare database has.
    pub fn rest_of_spare(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        let Some(spare) = self.spare else { return Ok(()) };
        self.flush()?;
        self.beyond();
        for step in SalvageScan::new(spare, Column::Objects) {
            self.seen(watch)?;
            // Damage in the spare database is no loss of this store.
            let ScanStep::Entry(key, value) = step? else { continue };
            let (Ok(number), Ok(object)) = (keys::number_at(&key, 0), values::decode_stored(&value)) else { continue };
            if !self.has(object.kind(), &object.id())? {
                self.take_copy(object, number, None)?;
            }
        }
        Ok(())
    }

    /// Verifies and inserts one object, which was found under `id`. True when it is new, or pending.
    pub fn take(&mut self, object: SignedObject, id: ObjectId, received_at: Option<u64>) -> Result<bool> {
        self.take_examined(Examined::of(object), id, received_at)
    }

    /// As [`Replay::take`], for an object whose signature was checked already.
    pub fn take_examined(&mut self, found: Examined, id: ObjectId, received_at: Option<u64>) -> Result<bool> {
        let (kind, size) = (found.kind, found.bytes);
        if found.id != id {
            let why = format!("its bytes belong to {}", found.id);
            self.refuse(kind, id, why);
            return Ok(false);
        }
        let object = match found.verified {
            Ok(object) => object,
            Err(reject) => {
                self.refuse(kind, id, reject.to_string());
                return Ok(false);
            }
        };
        self.received_at = received_at.unwrap_or(self.received_at);
        // The records that it releases get the following sequence numbers, which must not be those of other objects.
        if kind == Kind::Experiment && self.batch.is_awaited(&RecordId::from(id))? {
            self.beyond();
        }
        let taken = match self.batch.insert(&object, self.received_at)? {
            InsertOutcome::New => {
                self.done.objects += 1;
                true
            }
            // Counted when its parent is inserted, reported when the parent is not.
            InsertOutcome::Pending { .. } => true,
            InsertOutcome::Known => {
                if self.exact {
                    self.refuse(kind, id, "it is stored twice".into());
                }
                false
            }
            InsertOutcome::Rejected(reject) => {
                self.refuse(kind, id, reject.to_string());
                false
            }
            InsertOutcome::Failed(error) => return Err(error),
        };
        self.step(size)?;
        Ok(taken)
    }

    /// Remembers a refused record.
    pub fn remember(&mut self, order: u64, id: &RecordId, flaw: LineageFault) -> Result<()> {
        if self.exact {
            self.batch.replay_refused(order);
        }
        self.batch.refuse(id, &flaw.reject())
    }

    /// Inserts the pending records in the order of their arrival, then those that have lost their place in that
    /// order.
    pub fn waiting(&mut self, from: &dyn KeyScanner, watch: &mut Watch<'_>) -> Result<()> {
        self.flush()?;
        for step in SalvageScan::new(from, Column::PendingByAge) {
            let Some((_, id)) = self.entry(Column::PendingByAge, step?, watch)? else { continue };
            match from.get(Column::Pending, &id) {
                Ok(Some(held)) => self.insert_pending(&id, &held)?,
                Ok(None) => {}
                Err(error) => self.unreadable(Column::Pending, error.into_reason()),
            }
        }
        if self.exact {
            return Ok(());
        }
        self.flush()?;
        for step in SalvageScan::new(from, Column::Pending) {
            let Some((id, held)) = self.entry(Column::Pending, step?, watch)? else { continue };
            if !self.into.has(Column::Pending, &id)? {
                self.insert_pending(&id, &held)?;
            }
        }
        Ok(())
    }

    fn insert_pending(&mut self, id: &[u8], held: &[u8]) -> Result<()> {
        let found = values::decode::<PendingEntry>(held).and_then(|held| {
            let object = values::decode_object(Kind::Experiment, &held.object)?.verify()?;
            Ok((held, object))
        });
        let (held, object) = match found {
            Ok(found) => found,
            Err(error) => {
                self.refuse(Kind::Experiment, ObjectId(keys::last_id(id)?), error.into_reason());
                return Ok(());
            }
        };
        if self.exact {
            self.batch.replay_pending(held.order);
            return self.keep_pending(&object, &held);
        }
        match self.batch.insert(&object, held.received_at)? {
            // Its parent was stored, or came from the spare database.
            InsertOutcome::New => self.done.objects += 1,
            InsertOutcome::Known | InsertOutcome::Pending { .. } => {}
            InsertOutcome::Rejected(reject) => self.refuse(Kind::Experiment, object.id(), reject.to_string()),
            InsertOutcome::Failed(error) => return Err(error),
        }
        self.step(held.object.len())
    }

    /// Keeps a record pending, whatever its parent is: between two steps of a release, the parent is stored or
    /// refused and the record is not decided yet.
    fn keep_pending(&mut self, object: &SignedObject, held: &PendingEntry) -> Result<()> {
        let id = object.id();
        let decided = self.has(Kind::Experiment, &id)? || self.into.has(Column::Refused, &id.0)?;
        match object {
            SignedObject::Experiment(record) if !decided && let Some(parent) = record.parent => {
                self.batch.add_pending(record, parent, held.received_at)?;
            }
            _ if decided => self.refuse(Kind::Experiment, id, "it is pending and decided".into()),
            _ => self.refuse(Kind::Experiment, id, "it is pending without a parent".into()),
        }
        self.step(held.object.len())
    }

    /// Reports the records whose parents are lost. With `now`, they wait from then on: their parents are requested
    /// only from now on, and old records would expire at once.
    pub fn orphans(&mut self, now: Option<u64>) -> Result<()> {
        self.flush()?;
        for entry in self.into.scan(Column::PendingByAge, &[])? {
            let (_, id) = entry?;
            let bytes = self.into.get(Column::Pending, &id)?;
            let bytes = bytes.ok_or(Damage::NoPending(RecordId(keys::last_id(&id)?)))?;
            let mut held: PendingEntry = values::decode(&bytes)?;
            self.fault(Fault::Orphaned { id: ObjectId(keys::last_id(&id)?), missing: held.parent });
            if let Some(now) = now.filter(|now| *now > held.received_at) {
                held.received_at = now;
                self.into.commit([(Column::Pending, &*id, Some(&*values::encode(&held)?))])?;
            }
        }
        Ok(())
    }

    /// Sets the arrival numbers of the next pending and the next refused record.
    pub fn orders(&mut self, pending: u64, refused: u64) {
        self.batch.replay_pending(pending);
        self.batch.replay_refused(refused);
    }

    /// Remembers what the other store dropped.
    pub fn dropped(&mut self, from: &dyn KeyScanner, watch: &mut Watch<'_>) -> Result<()> {
        self.flush()?;
        for step in SalvageScan::from(from, Column::Dropped, &keys::DROPPED_ORDERS) {
            let Some((_, name)) = self.entry(Column::Dropped, step?, watch)? else { continue };
            let Some(kind) = name.first().copied().and_then(Kind::from_code) else { continue };
            let id = ObjectId(keys::last_id(&name)?);
            // An unreadable entry is only forgotten. The comparison reports it.
            if let Ok(Some(entry)) = lookup::dropped(from, kind, &id) {
                self.batch.replay_dropped(kind, &id, &entry)?;
                self.step(0)?;
            }
        }
        if let (true, Ok(tally)) = (self.exact, lookup::tally(from)) {
            self.batch.replay_dropped_order(tally.next_dropped);
        }
        Ok(())
    }

    fn step(&mut self, bytes: usize) -> Result<()> {
        self.highest = self.highest.max(self.batch.sequence());
        self.in_batch += 1;
        self.bytes_in_batch += bytes;
        if self.in_batch < BATCH && self.bytes_in_batch < BATCH_BYTES { Ok(()) } else { self.flush() }
    }

    /// Writes what was inserted.
    pub fn flush(&mut self) -> Result<()> {
        (self.in_batch, self.bytes_in_batch) = (0, 0);
        // The number that is written is the highest one used.
        self.batch.skip_to(self.highest.saturating_add(1));
        let batch = std::mem::replace(&mut self.batch, InsertBatch::replay(self.into)?);
        let finished = batch.finish()?;
        self.into.commit(finished.view.entries())?;
        self.done.objects += finished.resolved.values().filter(|reject| reject.is_none()).count() as u64;
        for (id, reject) in finished.late_rejects {
            self.refuse(Kind::Experiment, id, reject.to_string());
        }
        let (mut unsettled, mut cache) = (finished.unsettled, finished.cache);
        while unsettled {
            let mut batch = InsertBatch::replay_after(self.into, cache)?;
            batch.settle_left()?;
            let finished = batch.finish()?;
            unsettled = finished.unsettled;
            self.into.commit(finished.view.entries())?;
            cache = finished.cache;
        }
        // A repair inserts in any order, and what it remembers would mostly be of no use.
        self.batch = InsertBatch::replay_after(self.into, if self.exact { cache } else { WriteCache::default() })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::VerifiedObject;

    use super::*;
    use crate::{
        tests::objects::{record, sign},
        tuning::Access,
    };

    #[test]
    fn few_large_objects_fill_a_batch() {
        let dir = tempfile::tempdir().unwrap();
        let into = Db::open(dir.path(), Access::Scratch).unwrap();
        let mut replay = Replay::new(&into, None, 0).unwrap();
        let mut written = Vec::new();
        for number in 1..=6 {
            let mut large = record(2, None, None, 1.0, number);
            large.diff = "+".repeat(3 << 20);
            let large = VerifiedObject::from(sign(2, &large)).into_signed();
            let id = large.id();
            replay.at(number);
            assert!(replay.take(large, id, None).unwrap());
            written.push(replay.has(Kind::Experiment, &id).unwrap());
        }
        assert_eq!(written, [false, false, false, false, false, true]);
    }
}
