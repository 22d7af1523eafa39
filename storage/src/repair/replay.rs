//! Objects going into an empty database again, under their numbers: what the columns should be.
//! Whatever does not verify is named and left out. What is read of a store for it, and in which
//! order, is [`super::walk`]'s; of a store of the first schema, [`crate::migrate`]'s.

use std::{collections::HashSet, fmt, ops::RangeInclusive};

use spore_protocol::{Kind, ObjectId, RecordId, Reject, SignedObject};

use super::{
    files::DamagedFile,
    readable::{Readable, Step},
};
use crate::{
    columns::Column,
    db::{Db, Entry, Scan, Source},
    error::{Result, StoreError},
    keys,
    progress::{Stage, Watch, tell},
    read,
    types::{Change, Outcome},
    values::{self, Flaw, Held},
    write::Batch,
};

/// Objects in one batch: bounds the memory, some MiB of records.
const BATCH: u64 = 1000;

/// Bytes of objects after which a batch is written however few they are: one may have 10 MiB, and a
/// batch takes some times its objects' bytes of memory.
const BATCH_BYTES: usize = 16 << 20;

/// Steps between two reports of progress.
const REPORT: u64 = 250;

/// Faults, damages and ranges of lost changes kept, of each so many. Enough to name what is lost,
/// bounded where all is.
const MAX_FAULTS: usize = 1000;

/// Objects that are known to be bad, so that each is told of once: 4 MiB of memory.
const MAX_TOLD: usize = 1 << 16;

/// What is wrong with one object of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An object that the log names cannot be read.
    Lost { kind: Kind, id: ObjectId, why: String },
    /// What is under the object's id is not what was signed, or breaks a rule.
    Refused { kind: Kind, id: ObjectId, why: String },
    /// The record's parent is not here, so that it waits for it again.
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

/// What a replay came to.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// Objects inserted, pending ones left out.
    pub objects: u64,
    pub pending: u64,
    /// Objects that only the spare database still had.
    pub from_spare: u64,
    /// Where the database cannot be read.
    pub damaged: Vec<DamagedFile>,
    /// The first of them.
    pub faults: Vec<Fault>,
    pub fault_count: u64,
    /// Numbers under which something was acknowledged and nothing is left, not even a line of the log;
    /// the first of them.
    pub lost_changes: Vec<RangeInclusive<u64>>,
}

/// A replay under way.
pub struct Replay<'a> {
    into: &'a Db,
    spare: Option<&'a dyn Scan>,
    batch: Batch<'a>,
    in_batch: u64,
    bytes_in_batch: usize,
    stage: Stage,
    /// Whether the result is to be what the old database should be, faults included: waiting records keep
    /// their numbers, and nothing is mended.
    exact: bool,
    /// Whether signatures are taken for good: they were verified once.
    trusting: bool,
    /// The highest number given, and the one above which new numbers are given.
    highest: u64,
    last: u64,
    /// The last arrival time known: what a record gets whose own is lost.
    received_at: u64,
    told: HashSet<ObjectId>,
    seen: u64,
    done: Replayed,
}

impl<'a> Replay<'a> {
    /// `into` is empty. Objects that are lost are looked for in `spare`. New numbers are given above `last`.
    pub fn new(into: &'a Db, spare: Option<&'a dyn Scan>, last: u64) -> Result<Self> {
        Ok(Self {
            into,
            spare,
            batch: Batch::replay(into)?,
            in_batch: 0,
            bytes_in_batch: 0,
            stage: Stage::Replay,
            exact: false,
            trusting: false,
            highest: 0,
            last,
            received_at: 0,
            told: HashSet::new(),
            seen: 0,
            done: Replayed::default(),
        })
    }

    /// Mends nothing: for comparing.
    pub fn exactly(self) -> Self {
        Self { exact: true, ..self }
    }

    /// Mends nothing and verifies no signature: for a store that is sound and only older.
    pub fn upgrading(self) -> Self {
        Self { trusting: true, stage: Stage::Upgrade, ..self.exactly() }
    }

    pub fn is_exact(&self) -> bool {
        self.exact
    }

    pub fn spare(&self) -> Option<&'a dyn Scan> {
        self.spare
    }

    /// Ends with this number as the last given, if none above it was.
    pub fn finish(mut self, last: u64) -> Result<Replayed> {
        self.highest = self.highest.max(last);
        self.flush()?;
        self.done.pending = read::tally(self.into)?.pending;
        Ok(self.done)
    }

    pub fn fault(&mut self, fault: Fault) {
        self.done.fault_count += 1;
        if self.done.faults.len() < MAX_FAULTS {
            self.done.faults.push(fault);
        }
    }

    fn refuse(&mut self, kind: Kind, id: ObjectId, why: String) {
        if self.told.len() < MAX_TOLD && !self.told.insert(id) {
            return;
        }
        self.fault(Fault::Refused { kind, id, why });
    }

    /// Names a place that cannot be read, once.
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

    /// The entry that a step came to, if it is none of damage, which is named. Tells of progress.
    pub fn entry(&mut self, column: Column, step: Step, watch: &mut Watch<'_>) -> Result<Option<Entry>> {
        self.seen(watch)?;
        Ok(match step {
            Step::Entry(key, value) => Some((key, value)),
            Step::Damage(why) => {
                self.unreadable(column, why);
                None
            }
        })
    }

    fn seen(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        if self.seen.is_multiple_of(REPORT) {
            tell(watch, self.stage, self.done.objects, self.last.max(self.done.objects))?;
        }
        self.seen += 1;
        Ok(())
    }

    /// The next object has this number.
    pub fn at(&mut self, number: u64) {
        self.batch.skip_to(number);
    }

    /// From here on objects get new numbers.
    pub fn beyond(&mut self) {
        self.highest = self.highest.max(self.last);
        self.batch.skip_to(self.highest.saturating_add(1));
    }

    /// Whether the object is inserted and written already.
    pub fn has(&self, kind: Kind, id: &ObjectId) -> Result<bool> {
        self.into.has(Column::Ids, &keys::id(kind, id))
    }

    /// A line of the log of what is no longer here: a profile since replaced.
    pub fn line(&mut self, change: &Change) -> Result<()> {
        self.batch.replay_line(change)?;
        self.step(0)
    }

    /// From the spare database, when there is one and it has it; else it is lost.
    pub fn recover(&mut self, kind: Kind, id: ObjectId, received_at: Option<u64>, why: String) -> Result<()> {
        if !self.take_spare(kind, id, received_at)? {
            self.fault(Fault::Lost { kind, id, why });
        }
        Ok(())
    }

    /// Inserts the spare database's copy; false where it has none.
    pub fn take_spare(&mut self, kind: Kind, id: ObjectId, received_at: Option<u64>) -> Result<bool> {
        let Some(spare) = self.spare else { return Ok(false) };
        let Ok(Some(number)) = read::number_of(spare, kind, &id) else { return Ok(false) };
        let Ok(Some(object)) = read::object(spare, kind, &id) else { return Ok(false) };
        self.take_copy(object, number, received_at)
    }

    /// Inserts what the spare database has under a number of its own, and tells whether it was not here.
    pub fn take_copy(&mut self, object: SignedObject, number: u64, received_at: Option<u64>) -> Result<bool> {
        let own = || self.spare.and_then(|spare| read::placing(spare, number).ok()).map(|placing| placing.received_at);
        let received_at = received_at.or_else(own);
        let id = object.id();
        let taken = self.take(object, id, received_at)?;
        self.done.from_spare += u64::from(taken);
        Ok(taken)
    }

    /// Everything that only the spare database has: what the store lost every trace of.
    pub fn rest_of_spare(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        let Some(spare) = self.spare else { return Ok(()) };
        self.flush()?;
        self.beyond();
        for step in Readable::new(spare, Column::Objects) {
            self.seen(watch)?;
            // What the spare one itself lost is no loss of this store.
            let Step::Entry(key, value) = step? else { continue };
            let (Ok(number), Ok(object)) = (keys::number_at(&key, 0), values::decode_stored(&value)) else { continue };
            if !self.has(object.kind(), &object.id())? {
                self.take_copy(object, number, None)?;
            }
        }
        Ok(())
    }

    /// Verifies and inserts one object, which was found under `id`; whether it is new, or waits.
    pub fn take(&mut self, object: SignedObject, id: ObjectId, received_at: Option<u64>) -> Result<bool> {
        let (kind, size) = (object.kind(), object.canonical().len());
        if object.id() != id {
            let why = format!("its bytes are those of {}", object.id());
            self.refuse(kind, id, why);
            return Ok(false);
        }
        let object = match self.verified(object) {
            Ok(object) => object,
            Err(reject) => {
                self.refuse(kind, id, reject.to_string());
                return Ok(false);
            }
        };
        self.received_at = received_at.unwrap_or(self.received_at);
        // What it releases gets the numbers that follow, which may not be those of others.
        if kind == Kind::Experiment && self.batch.is_awaited(&RecordId::from(id))? {
            self.beyond();
        }
        let taken = match self.batch.insert(&object, self.received_at)? {
            Outcome::New => {
                self.done.objects += 1;
                true
            }
            // Counted when its parent comes, told of when that does not.
            Outcome::Pending { .. } => true,
            Outcome::Known => {
                if self.exact {
                    self.refuse(kind, id, "it is there twice".into());
                }
                false
            }
            Outcome::Rejected(reject) => {
                self.refuse(kind, id, reject.to_string());
                false
            }
        };
        self.step(size)?;
        Ok(taken)
    }

    fn verified(&self, object: SignedObject) -> std::result::Result<SignedObject, Reject> {
        if self.trusting { Ok(object) } else { Ok(object.verify()?.into_signed()) }
    }

    /// Remembers a refused record.
    pub fn remember(&mut self, order: u64, id: &RecordId, flaw: Flaw) -> Result<()> {
        if self.exact {
            self.batch.replay_refused(order);
        }
        self.batch.refuse(id, &flaw.reject())
    }

    /// The records that wait for their parents, in the order in which they came, then those that are in
    /// no order any more.
    pub fn waiting(&mut self, from: &dyn Scan, watch: &mut Watch<'_>) -> Result<()> {
        self.flush()?;
        for step in Readable::new(from, Column::PendingByAge) {
            let Some((_, id)) = self.entry(Column::PendingByAge, step?, watch)? else { continue };
            match from.get(Column::Pending, &id) {
                Ok(Some(held)) => self.hold(&id, &held)?,
                Ok(None) => {}
                Err(error) => self.unreadable(Column::Pending, error.into_reason()),
            }
        }
        if self.exact {
            return Ok(());
        }
        self.flush()?;
        for step in Readable::new(from, Column::Pending) {
            let Some((id, held)) = self.entry(Column::Pending, step?, watch)? else { continue };
            if !self.into.has(Column::Pending, &id)? {
                self.hold(&id, &held)?;
            }
        }
        Ok(())
    }

    fn hold(&mut self, id: &[u8], held: &[u8]) -> Result<()> {
        let found = values::decode::<Held>(held).and_then(|held| {
            let object = self.verified(values::decode_object(Kind::Experiment, &held.object.0)?)?;
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
            self.batch.replay_held(held.order);
            return self.hold_still(&object, &held);
        }
        match self.batch.insert(&object, held.received_at)? {
            // Its parent was in the store, or came out of the spare one.
            Outcome::New => self.done.objects += 1,
            Outcome::Known | Outcome::Pending { .. } => {}
            Outcome::Rejected(reject) => self.refuse(Kind::Experiment, object.id(), reject.to_string()),
        }
        self.step(held.object.0.len())
    }

    /// What waits goes on waiting, whatever became of its parent: between two steps of a release that
    /// one is stored, or refused, and the record not yet.
    fn hold_still(&mut self, object: &SignedObject, held: &Held) -> Result<()> {
        let id = object.id();
        let decided = self.has(Kind::Experiment, &id)? || self.into.has(Column::Refused, &id.0)?;
        match object {
            SignedObject::Experiment(record) if !decided && let Some(parent) = record.parent => {
                self.batch.hold(record, parent, held.received_at)?;
            }
            _ if decided => self.refuse(Kind::Experiment, id, "it waits and is decided".into()),
            _ => self.refuse(Kind::Experiment, id, "it waits for no parent".into()),
        }
        self.step(held.object.0.len())
    }

    /// Names the records that wait for a parent that is lost. With `now` they begin to wait then: their
    /// parents are asked for from now on only, and would be given up at once if they came long ago.
    pub fn orphans(&mut self, now: Option<u64>) -> Result<()> {
        self.flush()?;
        for entry in self.into.scan(Column::PendingByAge, &[])? {
            let (_, id) = entry?;
            let bytes = self.into.get(Column::Pending, &id)?;
            let bytes = bytes.ok_or_else(|| StoreError::corrupt("a pending record is gone"))?;
            let mut held: Held = values::decode(&bytes)?;
            self.fault(Fault::Orphaned { id: ObjectId(keys::last_id(&id)?), missing: held.parent });
            if let Some(now) = now.filter(|now| *now > held.received_at) {
                held.received_at = now;
                self.into.commit([(Column::Pending, &*id, Some(&*values::encode(&held)?))])?;
            }
        }
        Ok(())
    }

    /// The numbers that the next waiting and the next refused record get.
    pub fn orders(&mut self, pending: u64, refused: u64) {
        self.batch.replay_held(pending);
        self.batch.replay_refused(refused);
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
        // The number that is written is above all that were given.
        self.batch.skip_to(self.highest.saturating_add(1));
        let finished = std::mem::replace(&mut self.batch, Batch::replay(self.into)?).finish()?;
        self.into.commit(finished.view.entries())?;
        self.done.objects += finished.resolved.values().filter(|reject| reject.is_none()).count() as u64;
        for (id, reject) in finished.late_rejects {
            self.refuse(Kind::Experiment, id, reject.to_string());
        }
        self.batch = Batch::replay(self.into)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::VerifiedObject;

    use super::*;
    use crate::{
        db::Access,
        tests::objects::{record, sign},
    };

    #[test]
    fn a_few_large_objects_are_a_batch() {
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
