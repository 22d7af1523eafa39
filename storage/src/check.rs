//! A store that checks itself: everything but the objects is a function of the objects, so it is
//! computed again and compared.

use std::{collections::BTreeMap, ops::ControlFlow};

use spore_protocol::{Kind, RecordId, SignedObject};

use crate::{
    columns::Column,
    db::{Source, View, Visit},
    error::{Result, StoreError},
    keys, read,
    store::Store,
    types::Outcome,
    values::{self, LogEntry},
    write::Batch,
};

/// Differences told of; the first few name the fault.
const MAX_FINDINGS: usize = 20;

/// A store without anything in it.
struct Nothing;

impl Source for Nothing {
    fn get(&self, _: Column, _: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn each(&self, _: Column, _: &[u8], _: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }
}

type Entries = BTreeMap<(Column, Vec<u8>), Vec<u8>>;

impl Store {
    /// Inserts every object again, in the order of the log, into an empty store in memory, checks
    /// each signature on the way, and tells where the two stores differ: nothing in a sound one.
    /// Takes memory and time in proportion to the store.
    ///
    /// # Errors
    /// When the store cannot be read, or holds an object that is not what was signed.
    pub fn check(&self) -> Result<Vec<String>> {
        let view = self.view();
        let mut expected = replay(&view)?;
        let mut findings = Vec::new();
        for column in Column::ALL {
            view.each(column, &[], &mut |key, value| {
                let name = || format!("{} {}", column.name(), hex::encode(key));
                match expected.remove(&(column, key.to_vec())) {
                    _ if column == Column::Meta && key == keys::SCHEMA => {}
                    Some(other) if other == value => {}
                    Some(_) => findings.push(format!("{}: another value", name())),
                    None => findings.push(format!("{}: should not be there", name())),
                }
                Ok(if findings.len() < MAX_FINDINGS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        }
        let missing =
            expected.keys().map(|(column, key)| format!("{} {}: is missing", column.name(), hex::encode(key)));
        findings.extend(missing);
        findings.truncate(MAX_FINDINGS);
        Ok(findings)
    }
}

/// What the columns should hold, by the objects and the log.
fn replay(view: &View<'_>) -> Result<Entries> {
    let nothing = Nothing;
    let mut batch = Batch::new(&nothing)?;
    let mut superseded = Vec::new();
    view.each(Column::Log, &[], &mut |key, value| {
        let sequence = keys::number_at(key, 0)?;
        let LogEntry(kind, id, _) = values::decode(value)?;
        match read::object(view, kind, &id)? {
            Some(object) => {
                batch.skip_to(sequence);
                let received_at = received_at(view, &object)?;
                let object = object.verify()?.to_signed();
                if batch.insert(&object, received_at)? != Outcome::New {
                    return Err(StoreError::corrupt(format!("{kind} {id} does not go in again")));
                }
            }
            // Of profiles, only the newest is kept.
            None if kind == Kind::Profile => superseded.push((key.to_vec(), value.to_vec())),
            None => return Err(StoreError::corrupt(format!("{kind} {id} is in the log but not here"))),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    batch.skip_to(read::sequence(view)?.saturating_add(1));
    replay_pending(view, &mut batch)?;
    let finished = batch.finish()?;
    let entries =
        finished.view.entries().filter_map(|(c, key, value)| value.map(|value| ((c, key.to_vec()), value.to_vec())));
    let mut entries: Entries = entries.collect();
    entries.extend(superseded.into_iter().map(|(key, value)| ((Column::Log, key), value)));
    Ok(entries)
}

fn received_at(view: &View<'_>, object: &SignedObject) -> Result<u64> {
    let SignedObject::Experiment(record) = object else { return Ok(0) };
    let id = RecordId::from(record.id());
    let facts = read::facts(view, &id)?.ok_or_else(|| StoreError::corrupt(format!("record {id} lacks its facts")))?;
    Ok(facts.received_at)
}

/// Pending records, in the order in which they came.
fn replay_pending(view: &View<'_>, batch: &mut Batch<'_>) -> Result<()> {
    for key in view.keys(Column::PendingByAge, &[])? {
        let id = view.get(Column::PendingByAge, &key)?.unwrap_or_default();
        let bytes = view.get(Column::Pending, &id)?;
        let held: values::Held =
            values::decode(&bytes.ok_or_else(|| StoreError::corrupt("a pending record is gone"))?)?;
        let object = values::decode_object(Kind::Experiment, &held.object.0)?.verify()?.to_signed();
        batch.replay_held(held.order);
        if !matches!(batch.insert(&object, held.received_at)?, Outcome::Pending { .. }) {
            return Err(StoreError::corrupt(format!("record {} need not be pending", object.id())));
        }
    }
    batch.replay_held(read::tally(view)?.next_pending);
    Ok(())
}
