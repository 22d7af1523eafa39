//! Schema 1, frozen: the names, keys and values that an upgrade reads. Never changed again.

use std::path::Path;

use serde::{Deserialize, de::IgnoredAny};
use spore_protocol::{Kind, ObjectId, TaskId};

use crate::{
    columns::Column,
    db::{Access, Db, Source},
    error::{Result, StoreError},
    keys,
    progress::Watch,
    read,
    repair::{Known, Readable, Replay, Replayed},
    types::Change,
    values,
};

pub const SCHEMA: u32 = 1;

/// Columns that only schema 1 has: by any of them it is known.
pub const ONLY_COLUMNS: [&str; 2] = ["standing", "controls"];

/// The columns that are read; the others followed from them. They had the names that they have today,
/// and `meta`, `pending` and `pending_by_age` also the keys and values:
/// `objects`: kind code ++ id -> signature (64) ++ canonical bytes;
/// `records`: record id -> CBOR [`Facts`]; `log`: number -> CBOR [`Line`].
const COLUMNS: [Column; 6] =
    [Column::Meta, Column::Objects, Column::Records, Column::Log, Column::Pending, Column::PendingByAge];

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

/// Opens a database of this schema for reading.
pub fn open(dir: &Path, access: Access) -> Result<Db> {
    let db = Db::open_columns(dir, access, &COLUMNS)?;
    let known = db.get(Column::Meta, keys::SCHEMA);
    // One that is salvaged may have lost that too.
    if access == Access::Read && known?.as_deref() != Some(&SCHEMA.to_be_bytes()) {
        return Err(StoreError::corrupt("it has the columns of format 1, and not its number"));
    }
    Ok(db)
}

/// Inserts what is in `old`: of a damaged store, of which this is `known`, also what the log does not name.
pub fn replay(old: &Db, mut replay: Replay<'_>, known: Option<Known>, watch: &mut Watch<'_>) -> Result<Replayed> {
    let (mut next, sound_until) = (1, known.map_or(u64::MAX, |known| known.sound_until));
    for step in Readable::new(old, Column::Log) {
        let Some((key, value)) = replay.entry(Column::Log, step?, watch)? else { continue };
        match values::number(&key).and_then(|number| Ok((number, values::decode(&value)?))) {
            Ok((number, line)) => {
                lost(&mut replay, next, number, sound_until);
                next = number.saturating_add(1);
                take_line(old, &mut replay, number, line)?;
            }
            Err(error) => replay.unreadable(Column::Log, error.into_reason()),
        }
    }
    let last = read::sequence(old).unwrap_or_default().max(known.map_or(0, |known| known.acknowledged));
    lost(&mut replay, next, last.saturating_add(1), sound_until);
    if known.is_some() {
        unlogged(old, &mut replay, watch)?;
        replay.rest_of_spare(watch)?;
    }
    replay.orphans(known.map(|known| known.now))?;
    replay.beyond();
    replay.waiting(old, watch)?;
    if replay.is_exact()
        && let Some(bytes) = old.get(Column::Meta, keys::TALLY)?
    {
        replay.orders(values::decode::<Tally>(&bytes)?.next_pending, 0);
    }
    replay.finish(last)
}

/// The numbers from `next` to before `number` have no line.
fn lost(replay: &mut Replay<'_>, next: u64, number: u64, sound_until: u64) {
    let first = next.max(sound_until.saturating_add(1));
    if first < number {
        replay.lost_changes(first..=number - 1);
    }
}

fn take_line(old: &Db, replay: &mut Replay<'_>, number: u64, Line(kind, id, task_id): Line) -> Result<()> {
    replay.at(number);
    let received_at = received_at(old, replay, kind, &id);
    let object = old.get(Column::Objects, &keys::id(kind, &id));
    let object = object.and_then(|bytes| bytes.map(|bytes| values::decode_object(kind, &bytes)).transpose());
    match object {
        Ok(Some(object)) => replay.take(object, id, received_at).map(drop),
        // Of profiles, only the newest was kept.
        Ok(None) if kind == Kind::Profile => replay.line(&Change { sequence: number, kind, id, task_id }),
        Ok(None) => replay.recover(kind, id, received_at, "it is not there".into()),
        Err(error) => replay.recover(kind, id, received_at, error.into_reason()),
    }
}

fn received_at(old: &Db, replay: &mut Replay<'_>, kind: Kind, id: &ObjectId) -> Option<u64> {
    if kind != Kind::Experiment {
        return None;
    }
    let facts = old.get(Column::Records, &id.0).and_then(|bytes| {
        let bytes = bytes.ok_or_else(|| StoreError::corrupt(format!("nothing tells when record {id} came")))?;
        values::decode::<Facts>(&bytes)
    });
    facts.map_err(|error| replay.unreadable(Column::Records, error.into_reason())).ok().map(|facts| facts.received_at)
}

/// Objects that the log does not name: they get new numbers.
fn unlogged(old: &Db, replay: &mut Replay<'_>, watch: &mut Watch<'_>) -> Result<()> {
    replay.flush()?;
    replay.beyond();
    for step in Readable::new(old, Column::Objects) {
        let Some((key, value)) = replay.entry(Column::Objects, step?, watch)? else { continue };
        let kind = key.first().and_then(|code| Kind::from_code(*code));
        let (Some(kind), Ok(id)) = (kind, keys::last_id(&key)) else { continue };
        let id = ObjectId(id);
        if replay.has(kind, &id)? {
            continue;
        }
        match values::decode_object(kind, &value) {
            Ok(object) => {
                let received_at = received_at(old, replay, kind, &id);
                replay.take(object, id, received_at)?;
            }
            // Told of where the log names it.
            Err(error) => replay.unreadable(Column::Objects, format!("{kind} {id}: {}", error.into_reason())),
        }
    }
    Ok(())
}
