//! A store that checks itself: everything but the objects is a function of the objects, so it is
//! computed again and compared.

use std::{collections::BTreeMap, ops::ControlFlow};

use spore_protocol::{Kind, RecordId, SignedObject};

use crate::{
    columns::Column,
    db::{Source, View, Visit, Way},
    error::{Result, StoreError},
    keys, read,
    store::Store,
    types::{Change, Outcome},
    values,
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

    fn walk(&self, _: Column, _: &[u8], _: Option<&[u8]>, _: Way, _: &mut Visit<'_>) -> Result<()> {
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
    view.each(Column::Log, &[], &mut |key, value| {
        let change = read::change(view, keys::number_at(key, 0)?, value)?;
        let Change { sequence, kind, id, .. } = change;
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
            None if kind == Kind::Profile => batch.replay_line(&change)?,
            None => return Err(StoreError::corrupt(format!("{kind} {id} is in the log but not here"))),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    batch.skip_to(read::sequence(view)?.saturating_add(1));
    replay_pending(view, &mut batch)?;
    let finished = batch.finish()?;
    let entries =
        finished.view.entries().filter_map(|(c, key, value)| value.map(|value| ((c, key.to_vec()), value.to_vec())));
    Ok(entries.collect())
}

fn received_at(view: &View<'_>, object: &SignedObject) -> Result<u64> {
    let SignedObject::Experiment(record) = object else { return Ok(0) };
    let id = RecordId::from(record.id());
    let row = read::row_of(view, &id)?.ok_or_else(|| StoreError::corrupt(format!("record {id} lacks its row")))?;
    Ok(row.summary.received_at)
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
    replay_refused(view, batch)
}

/// Refused records are a memory of what came, not a consequence of what is here.
fn replay_refused(view: &View<'_>, batch: &mut Batch<'_>) -> Result<()> {
    for key in view.keys(Column::RefusedByAge, &[])? {
        let id = RecordId(keys::last_id(&view.get(Column::RefusedByAge, &key)?.unwrap_or_default())?);
        let flaw = read::refusal(view, &id)?.ok_or_else(|| StoreError::corrupt("a refusal is gone"))?;
        batch.replay_refused(keys::number_at(&key, 0)?);
        batch.refuse(&id, &flaw.reject())?;
    }
    batch.replay_refused(read::tally(view)?.next_refused);
    Ok(())
}
