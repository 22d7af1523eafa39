//! Schema 1, frozen: the names, keys and values that an upgrade reads. Never changed again.

use std::path::Path;

use rocksdb::{DB, Options};
use serde::{Deserialize, de::IgnoredAny};
use spore_protocol::{Kind, ObjectId, SignedObject, TaskId, cbor::Bytes};

use crate::{
    db::Db,
    error::{Result, StoreError},
    progress::{Stage, Watch, tell},
    types::{Change, Outcome},
    values,
    write::Batch,
};

pub const SCHEMA: u32 = 1;

/// A column that only schema 1 has.
pub const ONLY_COLUMN: &str = "standing";

/// The columns that are read, by name; the others followed from them.
/// `meta`: `schema` -> u32, `sequence` -> u64, `tally` -> CBOR [`Tally`].
const META: &str = "meta";
/// Kind code ++ id -> signature (64) ++ canonical bytes.
const OBJECTS: &str = "objects";
/// Record id -> CBOR [`Facts`].
const RECORDS: &str = "records";
/// Sequence -> CBOR [`Line`].
const LOG: &str = "log";
/// Record id -> CBOR [`Held`].
const PENDING: &str = "pending";
/// Arrival number -> record id.
const PENDING_BY_AGE: &str = "pending_by_age";

#[derive(Deserialize)]
struct Line(Kind, ObjectId, Option<TaskId>);

/// Fields were written by their place, so those before the one that is read stand here too.
#[derive(Deserialize)]
struct Facts {
    _id: IgnoredAny,
    _task_id: IgnoredAny,
    _parent: IgnoredAny,
    _depth: IgnoredAny,
    _status: IgnoredAny,
    _class: IgnoredAny,
    _metric: IgnoredAny,
    _node_id: IgnoredAny,
    _timestamp: IgnoredAny,
    received_at: u64,
}

#[derive(Deserialize)]
struct Held {
    order: u64,
    received_at: u64,
    _parent: IgnoredAny,
    object: Bytes,
}

#[derive(Deserialize)]
struct Tally {
    _experiments: IgnoredAny,
    _verified: IgnoredAny,
    _tasks: IgnoredAny,
    _controls: IgnoredAny,
    _profiles: IgnoredAny,
    _frontier: IgnoredAny,
    _pending: IgnoredAny,
    _pending_bytes: IgnoredAny,
    next_pending: u64,
}

/// Objects in one write: some megabytes of memory.
const BATCH: usize = 512;
/// Objects between two words on progress: a second or so.
const PROGRESS_EVERY: u64 = 10_000;

/// Fills the database `new` from the one in `old`, which stays as it is.
pub fn rebuild(old: &Path, new: &Db, watch: &mut Watch<'_>) -> Result<()> {
    let old = Old::open(old)?;
    let total = old.number(META, b"sequence")?.unwrap_or_default();
    let (mut done, mut lines) = (0, Vec::with_capacity(BATCH));
    tell(watch, Stage::Upgrade, done, total)?;
    for entry in old.db.iterator_cf(old.column(LOG)?, rocksdb::IteratorMode::Start) {
        let (key, value) = entry?;
        lines.push((values::number(&key)?, values::decode::<Line>(&value)?));
        if lines.len() >= BATCH {
            done += take_over(&old, new, std::mem::take(&mut lines))?;
            if done % PROGRESS_EVERY < BATCH as u64 {
                tell(watch, Stage::Upgrade, done, total)?;
            }
        }
    }
    done += take_over(&old, new, lines)?;
    take_over_pending(&old, new, total)?;
    tell(watch, Stage::Upgrade, done, done)
}

fn take_over(old: &Old, new: &Db, lines: Vec<(u64, Line)>) -> Result<u64> {
    let mut batch = Batch::new(new)?;
    let count = lines.len() as u64;
    for (sequence, Line(kind, id, task_id)) in lines {
        match old.get(OBJECTS, &[&[kind.code()], id.0.as_slice()].concat())? {
            Some(bytes) => {
                let received_at = match kind {
                    Kind::Experiment => old.decoded::<Facts>(RECORDS, &id.0)?.received_at,
                    _ => 0,
                };
                batch.skip_to(sequence);
                let object = values::decode_object(kind, &bytes)?;
                if object.id() != id || batch.insert(&object, received_at)? != Outcome::New {
                    return Err(StoreError::corrupt(format!("{kind} {id} is not what was stored")));
                }
            }
            // Of profiles, only the newest was kept.
            None if kind == Kind::Profile => batch.replay_line(&Change { sequence, kind, id, task_id })?,
            None => return Err(StoreError::corrupt(format!("{kind} {id} is in the log but not here"))),
        }
    }
    new.commit(batch.finish()?.view.entries())?;
    Ok(count)
}

/// In the order in which they came, which decides what is dropped first.
fn take_over_pending(old: &Old, new: &Db, sequence: u64) -> Result<()> {
    let mut batch = Batch::new(new)?;
    for entry in old.db.iterator_cf(old.column(PENDING_BY_AGE)?, rocksdb::IteratorMode::Start) {
        let (_, id) = entry?;
        let held: Held = old.decoded(PENDING, &id)?;
        let object: SignedObject = values::decode_object(Kind::Experiment, &held.object.0)?;
        batch.replay_held(held.order);
        batch.insert(&object, held.received_at)?;
    }
    batch.replay_held(match old.get(META, b"tally")? {
        Some(bytes) => values::decode::<Tally>(&bytes)?.next_pending,
        None => 0,
    });
    batch.skip_to(sequence.saturating_add(1));
    new.commit(batch.finish()?.view.entries())
}

struct Old {
    db: DB,
}

impl Old {
    fn open(dir: &Path) -> Result<Self> {
        let names = [META, OBJECTS, RECORDS, LOG, PENDING, PENDING_BY_AGE];
        let old = Self { db: DB::open_cf_for_read_only(&Options::default(), dir, names, false)? };
        let schema = old.get(META, b"schema")?;
        if schema.as_deref() != Some(&SCHEMA.to_be_bytes()) {
            return Err(StoreError::corrupt("it has the columns of format 1, and not its number"));
        }
        Ok(old)
    }

    fn column(&self, name: &str) -> Result<&rocksdb::ColumnFamily> {
        self.db.cf_handle(name).ok_or_else(|| StoreError::corrupt(format!("column {name} is missing")))
    }

    fn get(&self, column: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.db.get_cf(self.column(column)?, key)?)
    }

    fn number(&self, column: &str, key: &[u8]) -> Result<Option<u64>> {
        self.get(column, key)?.map(|bytes| values::number(&bytes)).transpose()
    }

    fn decoded<T: serde::de::DeserializeOwned>(&self, column: &str, key: &[u8]) -> Result<T> {
        let missing = || StoreError::corrupt(format!("{column} lacks {}", hex::encode(key)));
        values::decode(&self.get(column, key)?.ok_or_else(missing)?)
    }
}
