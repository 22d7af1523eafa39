//! Every object of one database inserted again into an empty one, in the order in which they came:
//! what the columns should be. Whatever cannot be read or does not verify is named and left out.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use spore_protocol::{Kind, ObjectId, RecordId, SignedObject};

use super::{
    files::DamagedFile,
    readable::{Readable, Step},
};
use crate::{
    columns::Column,
    db::{Db, Scan, Source},
    error::{Result, StoreError},
    keys,
    progress::{Stage, Watch, tell},
    read,
    types::Outcome,
    values::{self, Held, LogEntry},
    write::Batch,
};

/// Objects in one batch: bounds the memory, some MiB of records.
const BATCH: u64 = 1000;

/// Objects between two reports of progress.
const REPORT: u64 = 250;

/// Faults kept; the rest is counted. Enough to name what is lost, bounded where all is.
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
    /// Waiting records that had no more room.
    pub dropped: u64,
    /// Where the database cannot be read.
    pub damaged: Vec<DamagedFile>,
    /// The first of them.
    pub faults: Vec<Fault>,
    pub fault_count: u64,
}

/// A replay under way.
pub struct Replay<'a> {
    from: &'a dyn Scan,
    spare: Option<&'a dyn Source>,
    into: &'a Db,
    batch: Batch<'a>,
    in_batch: u64,
    /// Whether waiting records keep the numbers that they have.
    exact: bool,
    /// The last arrival time known: what a record gets whose own is lost.
    received_at: u64,
    told: HashSet<ObjectId>,
    names: Option<HashMap<u64, ObjectId>>,
    total: u64,
    seen: u64,
    done: Replayed,
}

impl<'a> Replay<'a> {
    /// `into` is empty. Objects that `from` lost are looked for in `spare`.
    pub fn new(from: &'a dyn Scan, spare: Option<&'a dyn Source>, into: &'a Db) -> Result<Self> {
        let batch = Batch::new(into)?;
        let total = read::sequence(from).unwrap_or_default();
        let done = Replayed::default();
        Ok(Self {
            from,
            spare,
            into,
            batch,
            in_batch: 0,
            exact: false,
            received_at: 0,
            told: HashSet::new(),
            names: None,
            total,
            seen: 0,
            done,
        })
    }

    /// Inserts what the log names and what waits: for comparing, where nothing may be mended.
    pub fn strictly(mut self, watch: &mut Watch<'_>) -> Result<Replayed> {
        self.exact = true;
        self.logged(watch)?;
        self.flush()?;
        self.waiting(watch)?;
        let tally = read::tally(self.from).unwrap_or_default();
        self.batch.replay_held(tally.next_pending);
        self.batch.replay_refused(tally.next_refused);
        let last = self.total;
        self.number(last)
    }

    /// Inserts also what the log has lost, and gives new numbers above `acknowledged` only.
    pub fn mending(mut self, acknowledged: u64, watch: &mut Watch<'_>) -> Result<Replayed> {
        self.logged(watch)?;
        self.flush()?;
        let last = read::sequence(self.into)?.max(acknowledged).max(self.total);
        self.batch.skip_to(last.saturating_add(1));
        self.unlogged(watch)?;
        self.waiting(watch)?;
        self.unaged(watch)?;
        self.flush()?;
        let last = read::sequence(self.into)?.max(last);
        self.number(last)
    }

    /// Ends with this number as the last given.
    fn number(mut self, last: u64) -> Result<Replayed> {
        self.batch.skip_to(last.saturating_add(1));
        self.flush()?;
        Ok(self.done)
    }

    fn fault(&mut self, fault: Fault) {
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

    fn unreadable(&mut self, column: Column, why: String) {
        if self.done.damaged.len() < MAX_FAULTS {
            self.done.damaged.push(DamagedFile::in_column(column, why));
        }
    }

    /// Every entry of a column that can be read, one after the other.
    fn column(
        &mut self,
        column: Column,
        watch: &mut Watch<'_>,
        mut each: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let from = self.from;
        for step in Readable::new(from, column) {
            match step? {
                Step::Entry(key, value) => each(self, &key, &value)?,
                Step::Damage(why) => self.unreadable(column, why),
            }
            self.seen += 1;
            if self.seen.is_multiple_of(REPORT) {
                tell(watch, Stage::Replay, self.done.objects, self.total.max(self.done.objects))?;
            }
        }
        tell(watch, Stage::Replay, self.done.objects, self.total.max(self.done.objects))
    }

    fn logged(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        self.column(Column::Log, watch, |replay, key, value| {
            let entry = keys::number_at(key, 0).and_then(|sequence| Ok((sequence, LogEntry::decode(value)?)));
            let (sequence, line) = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    replay.unreadable(Column::Log, error.into_reason());
                    return Ok(());
                }
            };
            replay.batch.skip_to(sequence);
            let stored = replay.from.get(Column::Objects, key);
            let object = stored.and_then(|bytes| bytes.map(|bytes| values::decode_stored(&bytes)).transpose());
            let (kind, id) = match line {
                LogEntry::Other(kind, id, _) => (kind, Some(id)),
                LogEntry::Record => (Kind::Experiment, replay.name_of(sequence)),
            };
            match (object, id) {
                (Ok(Some(object)), id) => {
                    let id = id.unwrap_or(object.id());
                    replay.take(object, id)
                }
                // Of profiles only the newest is kept, and the log tells of all.
                (Ok(None), Some(_)) if kind == Kind::Profile && replay.exact => {
                    replay.into.commit([(Column::Log, key, Some(value))])
                }
                (Ok(None), Some(id)) if kind == Kind::Profile => replay.take_spare(kind, id).map(|_| ()),
                (Ok(None), Some(id)) => replay.recover(kind, id, "it is not there".into()),
                (Err(error), Some(id)) => replay.recover(kind, id, error.into_reason()),
                (lost, None) => {
                    let why = lost.err().map_or_else(|| "it is not there".into(), StoreError::into_reason);
                    replay
                        .unreadable(Column::Objects, format!("record number {sequence}, whose id is lost too: {why}"));
                    Ok(())
                }
            }
        })
    }

    /// The id of a record by its number: from its placing, or else from the column of ids, which is then
    /// read once and kept (40 bytes for each object, in a damaged store only).
    fn name_of(&mut self, number: u64) -> Option<ObjectId> {
        if let Ok(placing) = read::placing(self.from, number) {
            return Some(placing.id.into());
        }
        if self.names.is_none() {
            let ids = Readable::new(self.from, Column::Ids).filter_map(|step| match step {
                Ok(Step::Entry(key, value)) => {
                    Some((values::number(&value).ok()?, ObjectId(keys::last_id(&key).ok()?)))
                }
                _ => None,
            });
            self.names = Some(ids.collect());
        }
        self.names.as_ref().and_then(|names| names.get(&number).copied())
    }

    /// Objects that the log does not name.
    fn unlogged(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        self.column(Column::Objects, watch, |replay, key, value| {
            if let Ok(Some(line)) = replay.from.get(Column::Log, key)
                && LogEntry::decode(&line).is_ok()
            {
                return Ok(());
            }
            match values::decode_stored(value) {
                Ok(object) if replay.into.has(Column::Ids, &keys::id(object.kind(), &object.id()))? => Ok(()),
                Ok(object) => {
                    let id = object.id();
                    replay.take(object, id)
                }
                Err(error) => {
                    replay.unreadable(Column::Objects, format!("{}: {}", hex::encode(key), error.into_reason()));
                    Ok(())
                }
            }
        })
    }

    /// From the spare database, when there is one and it has it.
    fn recover(&mut self, kind: Kind, id: ObjectId, why: String) -> Result<()> {
        if !self.take_spare(kind, id)? {
            self.fault(Fault::Lost { kind, id, why });
        }
        Ok(())
    }

    /// Inserts the spare database's copy; false where it has none.
    fn take_spare(&mut self, kind: Kind, id: ObjectId) -> Result<bool> {
        let Some(Ok(Some(object))) = self.spare.map(|spare| read::object(spare, kind, &id)) else {
            return Ok(false);
        };
        let before = self.done.objects;
        self.take(object, id)?;
        self.done.from_spare += self.done.objects - before;
        Ok(true)
    }

    /// Verifies and inserts one object, which was found under `id`.
    fn take(&mut self, object: SignedObject, id: ObjectId) -> Result<()> {
        let kind = object.kind();
        if object.id() != id {
            let why = format!("its bytes are those of {}", object.id());
            self.refuse(kind, id, why);
            return Ok(());
        }
        let object = match object.verify() {
            Ok(object) => object.to_signed(),
            Err(reject) => {
                self.refuse(kind, id, reject.to_string());
                return Ok(());
            }
        };
        if kind == Kind::Experiment
            && let Ok(Some(number)) = read::number_of(self.from, kind, &id)
            && let Ok(placing) = read::placing(self.from, number)
        {
            self.received_at = placing.received_at;
        }
        match self.batch.insert(&object, self.received_at)? {
            Outcome::New | Outcome::Known => self.done.objects += 1,
            Outcome::Pending { missing } => self.fault(Fault::Orphaned { id, missing }),
            Outcome::Rejected(reject) => self.refuse(kind, id, reject.to_string()),
        }
        self.step()
    }

    /// Records that were refused, which is a memory of what came, and those that wait for their
    /// parents, in the order in which they came.
    fn waiting(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        self.column(Column::RefusedByAge, watch, |replay, key, id| {
            let id = RecordId(keys::last_id(id)?);
            // One that cannot be read is only forgotten, which the comparison tells of.
            if let Ok(Some(flaw)) = read::refusal(replay.from, &id) {
                if replay.exact {
                    replay.batch.replay_refused(keys::number_at(key, 0)?);
                }
                replay.batch.refuse(&id, &flaw.reject())?;
            }
            Ok(())
        })?;
        self.column(Column::PendingByAge, watch, |replay, _, id| match replay.from.get(Column::Pending, id) {
            Ok(Some(held)) => replay.hold(id, &held),
            Ok(None) => Ok(()),
            Err(error) => {
                replay.unreadable(Column::Pending, error.into_reason());
                Ok(())
            }
        })
    }

    /// Records that wait and are in no order any more.
    fn unaged(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        self.flush()?;
        self.column(Column::Pending, watch, |replay, id, held| {
            let known = replay.into.has(Column::Pending, id)?;
            if known { Ok(()) } else { replay.hold(id, held) }
        })
    }

    fn hold(&mut self, id: &[u8], held: &[u8]) -> Result<()> {
        let found = values::decode::<Held>(held).and_then(|held| {
            let object = values::decode_object(Kind::Experiment, &held.object.0)?.verify()?.to_signed();
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
        }
        match self.batch.insert(&object, held.received_at)? {
            Outcome::Pending { .. } => self.done.pending += 1,
            // Its parent was in the store, or came out of the spare one.
            Outcome::New | Outcome::Known => self.done.objects += 1,
            Outcome::Rejected(reject) => self.refuse(Kind::Experiment, object.id(), reject.to_string()),
        }
        self.step()
    }

    fn step(&mut self) -> Result<()> {
        self.in_batch += 1;
        if self.in_batch < BATCH { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<()> {
        self.in_batch = 0;
        // The numbers go on from what is written.
        let finished = std::mem::replace(&mut self.batch, Batch::new(self.into)?).finish()?;
        self.into.commit(finished.view.entries())?;
        self.done.dropped += finished.dropped_pending;
        self.batch = Batch::after(self.into, finished.memory)?;
        Ok(())
    }
}
