//! Control events and the verdicts that follow from them.
//!
//! An event may come before its record: it is stored and indexed by the record's id, and counts
//! when the record comes.

use std::ops::ControlFlow;

use spore_protocol::{
    ControlBody, ControlEvent, EventId, Kind, ObjectId, RecordId, Signed, SignedObject, TaskId, Verdict, reputation,
};

use super::InsertBatch;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys::{self, EventSet, Moment, TimeList},
    lookup,
    types::InsertOutcome,
    values::{self, Evidence, LogEntry, RecordRow},
};

/// Keys of events held in memory at once while a record takes them in: anybody can sign any number of
/// events about a record that is still to come.
const ADOPTED_AT_ONCE: usize = 1_000;

/// Whether the event could count in any verdict: by its type and its length, which all nodes see alike.
fn may_have_a_say(event: &Signed<ControlEvent>) -> bool {
    event.canonical().len() <= lookup::MAX_JUDGED_BYTES && !matches!(event.body, ControlBody::Other { .. })
}

impl InsertBatch<'_> {
    pub(super) fn insert_control(&mut self, event: &Signed<ControlEvent>) -> Result<InsertOutcome> {
        let about = event.experiment_id();
        let subject =
            about.map(|record| lookup::number_of(&self.view, Kind::Experiment, &record.into())).transpose()?.flatten();
        let task = match subject {
            Some(number) => Some(self.row(number)?.summary.task_id),
            None => event.claimed_task(),
        };
        let number = self.store_object(&SignedObject::Control(event.clone()), task)?;
        self.tally.controls += 1;
        let moment = Moment { timestamp: event.timestamp, id: event.id(), number };
        self.enlist(TimeList::Controls, &moment, Vec::new())?;
        if let Some(task) = task {
            self.enlist(TimeList::TaskControls(task), &moment, Vec::new())?;
        }
        if let Some(record) = about {
            let key = keys::about(&record, EventSet::All, event.timestamp, &EventId::from(event.id()));
            let entry = [number.to_be_bytes().as_slice(), &event.node_id.0].concat();
            self.view.put(Column::About, key, entry.clone());
            if may_have_a_say(event) && self.admit(&record, event, entry)? {
                self.unjudged.extend(subject);
            }
            self.tally.early += u64::from(subject.is_none());
        }
        Ok(InsertOutcome::New)
    }

    /// Lets an event into the window of what its record's verdict looks at; false where it comes after.
    /// The window depends on the set of events alone, since what once left it never returns: those that
    /// took its place stay, or earlier ones do.
    fn admit(&mut self, record: &RecordId, event: &Signed<ControlEvent>, entry: Vec<u8>) -> Result<bool> {
        let key = keys::about(record, EventSet::Judged, event.timestamp, &EventId::from(event.id()));
        let (mut count, mut last, mut own) = (0, None, Vec::new());
        self.view.each(Column::About, &keys::events(record, EventSet::Judged), &mut |other, value| {
            count += 1;
            last = Some(other.to_vec());
            if keys::event_entry(value)?.1 == event.node_id {
                own.push(other.to_vec());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let leaves = if own.len() >= lookup::MAX_JUDGED_OF_ONE {
            own.pop()
        } else if count >= lookup::MAX_JUDGED {
            last
        } else {
            None
        };
        if leaves.as_ref().is_some_and(|leaves| *leaves < key) {
            return Ok(false);
        }
        if let Some(leaves) = leaves {
            self.view.delete(Column::About, leaves);
        }
        self.view.put(Column::About, key, entry);
        Ok(true)
    }

    /// Takes in the events that were here before their record: now they count, and belong to the
    /// record's task, whatever they claimed. The log tells what they claimed.
    pub(super) fn adopt_events(&mut self, row: &RecordRow) -> Result<()> {
        if self.tally.early == 0 {
            return Ok(());
        }
        let (prefix, task) = (keys::events(&row.summary.id, EventSet::All), row.summary.task_id);
        let mut from: Option<Vec<u8>> = None;
        loop {
            let mut some = Vec::new();
            self.view.walk(Column::About, &prefix, from.as_deref(), KeyOrder::Ascending, &mut |key, value| {
                if from.as_deref() != Some(key) {
                    some.push((key.to_vec(), keys::event_entry(value)?.0));
                }
                Ok(if some.len() < ADOPTED_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            for (key, number) in &some {
                let moment = Moment {
                    timestamp: keys::time_before_id(key)?,
                    id: ObjectId(keys::last_id(key)?),
                    number: *number,
                };
                let claimed = self.claimed_task(*number)?;
                if claimed == Some(task) {
                    continue;
                }
                if let Some(claimed) = claimed {
                    self.delist(TimeList::TaskControls(claimed), &moment)?;
                }
                self.enlist(TimeList::TaskControls(task), &moment, Vec::new())?;
            }
            self.tally.early = self.tally.early.saturating_sub(some.len() as u64);
            let Some((last, _)) = some.pop() else { return Ok(()) };
            self.unjudged.insert(row.number());
            from = Some(last);
        }
    }

    /// The task of an event that came before its record.
    fn claimed_task(&self, number: u64) -> Result<Option<TaskId>> {
        let line = self.view.get(Column::Log, &keys::number(number))?;
        match line.map(|line| LogEntry::decode(&line)).transpose()? {
            Some(LogEntry::Other(Kind::Control, _, task)) => Ok(task),
            _ => Err(Damage::NoEntry { column: Column::Log.name(), number }.into()),
        }
    }

    /// Brings a record's verdict, what counts verdicts and what it is worth up to date.
    pub(super) fn judge(&mut self, number: u64) -> Result<()> {
        let row = self.row(number)?.clone();
        let judgement = lookup::judgement(&self.view, &row)?;
        let s = &row.summary;
        let class = keys::class(&s.class);
        let series = keys::series(&s.task_id, Some(&class), &row.moment());
        let advanced = self.view.has(Column::Series, &series)?;
        let evidence = Evidence::of(&judgement, &reputation::deeds(&row.subject(), &judgement, advanced));
        self.prove(&row, evidence)?;
        let (before, after) = (s.verdict, judgement.verdict);
        if before == after {
            return Ok(());
        }
        self.row_mut(number)?.summary.verdict = after;
        if after == Verdict::Disputed {
            self.view.put(Column::Disputes, s.id.0.to_vec(), Vec::new());
        } else if before == Verdict::Disputed {
            self.view.delete(Column::Disputes, s.id.0.to_vec());
        }
        self.tally.counted.reverify(before.holds(), after.holds());
        if !s.stray {
            self.task(&s.task_id)?.counted.reverify(before.holds(), after.holds());
            self.class(&s.task_id, &s.class)?.counted.reverify(before.holds(), after.holds());
        }
        Ok(())
    }

    /// Replaces what a record's verdict rests on.
    fn prove(&mut self, row: &RecordRow, new: Evidence) -> Result<()> {
        let key = keys::number(row.number());
        let old = self.view.get(Column::Evidence, &key)?;
        let old: Evidence = old.map(|bytes| values::decode(&bytes)).transpose()?.unwrap_or_default();
        if old == new {
            return Ok(());
        }
        for award in old.awards.difference(&new.awards) {
            self.take_award(award, row.summary.task_id)?;
        }
        for award in new.awards.difference(&old.awards) {
            self.give_award(award, row.summary.task_id)?;
        }
        if new == Evidence::default() {
            self.view.delete(Column::Evidence, key);
        } else {
            self.view.put(Column::Evidence, key, values::encode(&new)?);
        }
        Ok(())
    }
}
