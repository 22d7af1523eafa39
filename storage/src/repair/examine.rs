//! Reads the objects that the change log names, and checks their signatures on all cores, ahead of the one thread that
//! inserts them again.

use std::{num::NonZero, sync::mpsc::SyncSender, thread};

use spore_protocol::{Kind, ObjectId, Reject, SignedObject, VerifiedObject};

use crate::{
    columns::Column,
    db::KeyScanner,
    error::Result,
    keys, lookup,
    salvage::{SalvageScan, ScanStep},
    values::{self, LogEntry},
};

/// Most entries of the change log in one batch: enough work for a thread to be worth starting.
const BATCH: usize = 512;

/// Bytes of stored objects after which a batch ends. One object may have 10 MiB.
const BATCH_BYTES: usize = 4 << 20;

/// An object whose hash and signature were checked.
pub struct Examined {
    pub kind: Kind,
    /// What its bytes hash to.
    pub id: ObjectId,
    /// Of its canonical form.
    pub bytes: usize,
    pub verified: std::result::Result<VerifiedObject, Reject>,
}

impl Examined {
    pub fn of(object: SignedObject) -> Self {
        let (kind, id, bytes) = (object.kind(), object.id(), object.canonical().len());
        Self { kind, id, bytes, verified: object.verify() }
    }
}

/// A step through the change log.
pub enum LogStep {
    Line(Box<LogLine>),
    /// Something of the log cannot be read here, for this reason.
    Damage(String),
}

/// An entry of the change log, with what is stored under its number.
pub struct LogLine {
    pub number: u64,
    pub entry: LogEntry,
    /// Of a record whose placing can be read: its id and its time of arrival in Unix seconds.
    pub placing: Option<(ObjectId, u64)>,
    /// None where nothing is stored under the number.
    pub object: Result<Option<Examined>>,
    /// Whether the place of the object cannot be read.
    pub damaged: bool,
}

/// An entry of the change log whose object is not examined yet.
enum Unexamined {
    Line(u64, LogEntry, Result<Option<Vec<u8>>>),
    Damage(String),
}

/// Sends all steps through the change log in order, in batches, until nobody receives them.
pub fn log(from: &dyn KeyScanner, ready: &SyncSender<Result<Vec<LogStep>>>) {
    let workers = thread::available_parallelism().map_or(1, NonZero::get).saturating_sub(1).max(1);
    let mut steps = SalvageScan::new(from, Column::Log);
    loop {
        let batch = next_batch(from, &mut steps).map(|batch| examine(from, batch, workers));
        let over = batch.as_ref().map_or(true, Vec::is_empty);
        if ready.send(batch).is_err() || over {
            return;
        }
    }
}

/// Reads entries and their objects. Empty at the end of the log.
fn next_batch(from: &dyn KeyScanner, steps: &mut SalvageScan<'_>) -> Result<Vec<Unexamined>> {
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH), 0);
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Some(step) = steps.next() else { break };
        let (key, value) = match step? {
            ScanStep::Entry(key, value) => (key, value),
            ScanStep::Damage(why) => {
                batch.push(Unexamined::Damage(why));
                continue;
            }
        };
        let line = keys::number_at(&key, 0).and_then(|number| Ok((number, LogEntry::decode(&value)?)));
        batch.push(match line {
            Ok((number, entry)) => {
                let stored = from.get(Column::Objects, &keys::number(number));
                bytes += stored.as_ref().map_or(0, |stored| stored.as_ref().map_or(0, Vec::len));
                Unexamined::Line(number, entry, stored)
            }
            Err(error) => Unexamined::Damage(error.into_reason()),
        });
    }
    Ok(batch)
}

/// Examines the objects of a batch with this many threads. Keeps their order.
fn examine(from: &dyn KeyScanner, mut batch: Vec<Unexamined>, workers: usize) -> Vec<LogStep> {
    let size = batch.len().div_ceil(workers).max(1);
    if batch.len() <= size {
        return batch.into_iter().map(|line| examine_one(from, line)).collect();
    }
    let mut parts = Vec::with_capacity(workers);
    while !batch.is_empty() {
        let rest = batch.split_off(size.min(batch.len()));
        parts.push(std::mem::replace(&mut batch, rest));
    }
    thread::scope(|scope| {
        let part = |part: Vec<Unexamined>| {
            scope.spawn(move || part.into_iter().map(|line| examine_one(from, line)).collect::<Vec<_>>())
        };
        let workers: Vec<_> = parts.into_iter().map(part).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|why| std::panic::resume_unwind(why)))
            .collect()
    })
}

fn examine_one(from: &dyn KeyScanner, line: Unexamined) -> LogStep {
    let (number, entry, stored) = match line {
        Unexamined::Line(number, entry, stored) => (number, entry, stored),
        Unexamined::Damage(why) => return LogStep::Damage(why),
    };
    let damaged = stored.is_err();
    let object = stored.and_then(|stored| stored.map(|stored| values::decode_stored(&stored)).transpose());
    let placing = match entry {
        LogEntry::Record => lookup::placing(from, number).ok(),
        LogEntry::Other(..) => None,
    };
    LogStep::Line(Box::new(LogLine {
        number,
        entry,
        placing: placing.map(|placing| (placing.id.into(), placing.received_at)),
        object: object.map(|object| object.map(Examined::of)),
        damaged,
    }))
}
