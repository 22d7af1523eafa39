//! Reads a store object by object, in the order of their sequence numbers, for a [`Replay`]: the objects that the
//! change log names, and in a repair also those that it no longer names.

use std::{collections::HashMap, sync::mpsc, thread};

use spore_protocol::{Kind, ObjectId, RecordId};

use super::{
    examine::{self, LogLine, LogStep},
    replay::{Replay, ReplayReport},
};
use crate::{
    columns::Column,
    db::{Db, KeyOrder, KeyScanner},
    error::Result,
    keys, lookup,
    progress::Watch,
    salvage::{SalvageScan, ScanStep},
    types::Change,
    values::{self, LogEntry},
};

/// Batches of examined objects that wait to be inserted.
const BATCHES_AHEAD: usize = 1;

/// What a repair knows about a store besides its contents.
#[derive(Clone, Copy, Debug)]
pub struct RepairContext {
    /// The last acknowledged sequence number.
    pub acknowledged: u64,
    /// The sequence number up to which the database opens as a store. Losses up to it were reported before.
    pub sound_until: u64,
    /// Unix seconds.
    pub now: u64,
}

/// A walk through a store.
pub struct StoreWalk<'a> {
    from: &'a dyn KeyScanner,
    replay: Replay<'a>,
    /// Ids by sequence number, from the column of ids. Read when first needed.
    names: Option<HashMap<u64, ObjectId>>,
    /// The lowest sequence number that is still to come.
    next: u64,
    /// Gaps up to this sequence number were reported before.
    sound_until: u64,
}

/// Inserts the logged and the pending objects into the empty database `into`, for comparing: nothing is repaired.
pub fn exactly(from: &dyn KeyScanner, into: &Db, watch: &mut Watch<'_>) -> Result<ReplayReport> {
    let total = lookup::sequence(from).unwrap_or_default();
    trust_as(from, into)?;
    let mut walk = StoreWalk::new(from, Replay::new(into, None, total)?.exactly(), 0);
    walk.logged(watch)?;
    walk.replay.orphans(None)?;
    walk.replay.dropped(from, watch)?;
    walk.waiting(watch)?;
    let tally = lookup::tally(from).unwrap_or_default();
    walk.replay.orders(tally.next_pending, tally.next_refused);
    walk.replay.finish(total)
}

/// Inserts every object that can be read, also those that the change log has lost and those that only the spare
/// database has.
pub fn repairing(
    from: &dyn KeyScanner,
    spare: Option<&dyn KeyScanner>,
    into: &Db,
    known: RepairContext,
    watch: &mut Watch<'_>,
) -> Result<ReplayReport> {
    let last = last_number(from).max(known.acknowledged);
    trust_as(from, into)?;
    let mut walk = StoreWalk::new(from, Replay::new(into, spare, last)?, known.sound_until);
    walk.logged(watch)?;
    walk.unlogged(last.saturating_add(1), watch)?;
    walk.replay.rest_of_spare(watch)?;
    walk.replay.orphans(Some(known.now))?;
    walk.replay.dropped(from, watch)?;
    walk.replay.beyond();
    walk.waiting(watch)?;
    walk.replay.finish(last)
}

/// Makes the new database trust the keys that the old one trusts. Where they cannot be read, none are trusted until
/// the next start, which names them again.
fn trust_as(from: &dyn KeyScanner, into: &Db) -> Result<()> {
    match from.get(Column::Meta, keys::SEEDS) {
        Ok(Some(seeds)) => into.commit([(Column::Meta, keys::SEEDS, Some(seeds.as_slice()))]),
        _ => Ok(()),
    }
}

/// The highest sequence number in use, as far as it can be read.
fn last_number(from: &dyn KeyScanner) -> u64 {
    let last = |column| {
        let (key, _) = from.first(column, &[], None, KeyOrder::Descending).ok()??;
        keys::number_at(&key, 0).ok()
    };
    let used = [Column::Log, Column::Objects].into_iter().filter_map(last);
    used.max().unwrap_or_default().max(lookup::sequence(from).unwrap_or_default())
}

impl<'a> StoreWalk<'a> {
    fn new(from: &'a dyn KeyScanner, replay: Replay<'a>, sound_until: u64) -> Self {
        Self { from, replay, names: None, next: 1, sound_until }
    }

    /// Inserts the objects that the change log names. Other threads read them and check their signatures meanwhile.
    fn logged(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        let from = self.from;
        thread::scope(|scope| {
            let (ready, batches) = mpsc::sync_channel(BATCHES_AHEAD);
            scope.spawn(move || examine::log(from, &ready));
            // When this ends early, the other thread can send nothing more, and ends too.
            for batch in batches {
                for step in batch? {
                    self.replay.seen(watch)?;
                    self.step(step, watch)?;
                }
            }
            Ok(())
        })
    }

    fn step(&mut self, step: LogStep, watch: &mut Watch<'_>) -> Result<()> {
        match step {
            LogStep::Line(line) => {
                if !self.replay.is_exact() {
                    self.unlogged(line.number, watch)?;
                }
                self.next = line.number.saturating_add(1);
                self.line(*line)
            }
            LogStep::Damage(why) => {
                self.replay.unreadable(Column::Log, why);
                Ok(())
            }
        }
    }

    /// Inserts the object of an entry of the change log.
    fn line(&mut self, found: LogLine) -> Result<()> {
        let LogLine { number, entry, placing, object, damaged } = found;
        self.replay.at(number);
        let received_at = placing.map(|(_, received_at)| received_at);
        let (kind, id) = match entry {
            LogEntry::Other(kind, id, _) => (kind, Some(id)),
            LogEntry::Record => (Kind::Experiment, placing.map(|(id, _)| id).or_else(|| self.name_of(number))),
        };
        let why = match object {
            Ok(Some(object)) => {
                let id = id.unwrap_or(object.id);
                return self.replay.take_examined(object, id, received_at).map(drop);
            }
            Ok(None) => "it is missing".to_owned(),
            Err(error) => error.into_reason(),
        };
        if damaged && !self.replay.is_exact() {
            self.replay.unreadable(Column::Objects, why.clone());
        }
        match (id, entry) {
            // Only the newest profile of a node is stored, and the change log names all of them.
            (Some(id), LogEntry::Other(Kind::Profile, _, task_id)) if !damaged => {
                if self.replay.is_exact() {
                    self.replay.line(&Change { sequence: number, kind, id, task_id })
                } else {
                    self.replay.take_spare(kind, id, None).map(drop)
                }
            }
            (Some(id), _) => self.replay.recover(kind, id, received_at, why),
            (None, _) => {
                let why = format!("record number {number}, of which the id is lost too: {why}");
                self.replay.unreadable(Column::Objects, why);
                Ok(())
            }
        }
    }

    fn received_at(&self, number: u64) -> Option<u64> {
        lookup::placing(self.from, number).ok().map(|placing| placing.received_at)
    }

    /// The id of a record without a placing by its number, from the column of ids. That column is then read once and
    /// kept: 40 bytes for each object, in a damaged store only.
    fn name_of(&mut self, number: u64) -> Option<ObjectId> {
        if self.names.is_none() {
            let ids = SalvageScan::new(self.from, Column::Ids).filter_map(|step| match step {
                Ok(ScanStep::Entry(key, value)) => {
                    Some((values::number(&value).ok()?, ObjectId(keys::last_id(&key).ok()?)))
                }
                _ => None,
            });
            self.names = Some(ids.collect());
        }
        self.names.as_ref().and_then(|names| names.get(&number).copied())
    }

    /// Inserts objects that have lost their entry in the change log, with sequence numbers below `end`.
    fn unlogged(&mut self, end: u64, watch: &mut Watch<'_>) -> Result<()> {
        if self.next >= end {
            return Ok(());
        }
        let from = self.from;
        for step in SalvageScan::from(from, Column::Objects, &keys::number(self.next)) {
            let Some((key, value)) = self.replay.entry(Column::Objects, step?, watch)? else { continue };
            let number = keys::number_at(&key, 0)?;
            if number >= end {
                break;
            }
            match values::decode_stored(&value) {
                Ok(object) => {
                    self.absent(number)?;
                    self.next = number.saturating_add(1);
                    self.replay.at(number);
                    let id = object.id();
                    self.replay.take(object, id, self.received_at(number))?;
                }
                Err(error) => {
                    self.replay.unreadable(Column::Objects, format!("number {number}: {}", error.into_reason()));
                }
            }
        }
        self.absent(end)
    }

    /// Looks for sequence numbers below `end` in the spare database when the store has neither entry nor object for
    /// them. A spare database uses the same numbers, as far as it goes.
    fn absent(&mut self, end: u64) -> Result<()> {
        if self.next < end
            && let Some(spare) = self.replay.spare()
        {
            for step in SalvageScan::from(spare, Column::Objects, &keys::number(self.next)) {
                let ScanStep::Entry(key, value) = step? else { continue };
                let number = keys::number_at(&key, 0)?;
                if number >= end {
                    break;
                }
                let Ok(object) = values::decode_stored(&value) else { continue };
                // An object that has another number here is inserted under that one, or at the end.
                let here = lookup::number_of(self.from, object.kind(), &object.id());
                if here.is_ok_and(|here| here.is_some_and(|here| here != number)) {
                    continue;
                }
                self.replay.at(number);
                if self.replay.take_copy(object, number, self.received_at(number))? {
                    self.lost(number);
                    self.next = number.saturating_add(1);
                }
            }
        }
        self.lost(end);
        Ok(())
    }

    /// Reports that nothing is left of the sequence numbers below `end`.
    fn lost(&mut self, end: u64) {
        let first = self.next.max(self.sound_until.saturating_add(1));
        if first < end {
            self.replay.lost_changes(first..=end - 1);
        }
        self.next = self.next.max(end);
    }

    /// Inserts the memory of refused records, and the pending records.
    fn waiting(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        let from = self.from;
        for step in SalvageScan::new(from, Column::RefusedByAge) {
            let Some((key, id)) = self.replay.entry(Column::RefusedByAge, step?, watch)? else { continue };
            let id = RecordId(keys::last_id(&id)?);
            // An unreadable entry is only forgotten. The comparison reports it.
            if let Ok(Some(flaw)) = lookup::refusal(from, &id) {
                self.replay.remember(keys::number_at(&key, 0)?, &id, flaw)?;
            }
        }
        self.replay.waiting(from, watch)
    }
}
