//! Inserts control events, and updates the verdicts that follow from them.
//!
//! An event may arrive before its record. It is stored and indexed by the record's id, and counts when the record is
//! inserted.

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

/// Most keys of events in memory while a record takes over its early events. Anybody can sign any number of events
/// about a record that is not stored yet.
const EVENTS_AT_ONCE: usize = 1_000;

/// Whether the event could count in any verdict. The type and the length decide, which all nodes see alike.
fn may_count(event: &Signed<ControlEvent>) -> bool {
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
        self.add_to_list(TimeList::Controls, &moment, Vec::new())?;
        if let Some(task) = task {
            self.add_to_list(TimeList::TaskControls(task), &moment, Vec::new())?;
        }
        if let Some(record) = about {
            let key = keys::about(&record, EventSet::All, event.timestamp, &EventId::from(event.id()));
            let entry = [number.to_be_bytes().as_slice(), &event.node_id.0].concat();
            self.view.put(Column::About, key, entry.clone());
            if may_count(event) && self.admit_to_window(&record, event, entry)? {
                self.unjudged.extend(subject);
            }
            self.tally.early += u64::from(subject.is_none());
        }
        Ok(InsertOutcome::New)
    }

    /// Puts an event into the window of its record's verdict. False when the window is full of earlier events. The
    /// window depends only on the set of events: an event that left it never returns, because the events that
    /// replaced it stay, or still earlier ones do.
    fn admit_to_window(&mut self, record: &RecordId, event: &Signed<ControlEvent>, entry: Vec<u8>) -> Result<bool> {
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

    /// Takes over the events that were stored before their record. They count from now on, and belong to the record's
    /// task, whatever task they claimed. The change log has the claimed task.
    pub(super) fn attach_early_events(&mut self, row: &RecordRow) -> Result<()> {
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
                Ok(if some.len() < EVENTS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
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
                    self.remove_from_list(TimeList::TaskControls(claimed), &moment)?;
                }
                self.add_to_list(TimeList::TaskControls(task), &moment, Vec::new())?;
            }
            self.tally.early = self.tally.early.saturating_sub(some.len() as u64);
            let Some((last, _)) = some.pop() else { return Ok(()) };
            self.unjudged.insert(row.number());
            from = Some(last);
        }
    }

    /// The task that an event claimed when it was stored before its record.
    fn claimed_task(&self, number: u64) -> Result<Option<TaskId>> {
        let line = self.view.get(Column::Log, &keys::number(number))?;
        match line.map(|line| LogEntry::decode(&line)).transpose()? {
            Some(LogEntry::Other(Kind::Control, _, task)) => Ok(task),
            _ => Err(Damage::NoEntry { column: Column::Log.name(), number }.into()),
        }
    }

    /// Updates a record's verdict, the counters of verdicts, and the deeds that follow.
    pub(super) fn judge(&mut self, number: u64) -> Result<()> {
        let row = self.row(number)?.clone();
        let judgement = lookup::judgement(&self.view, &row)?;
        let s = &row.summary;
        let class = keys::class(&s.class);
        let series = keys::series(&s.task_id, Some(&class), &row.moment());
        let advanced = self.view.has(Column::Series, &series)?;
        let evidence = Evidence::of(&judgement, &reputation::deeds(&row.subject(), &judgement, advanced));
        self.replace_evidence(&row, evidence)?;
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

    /// Replaces the evidence for a record's verdict, and the deeds that follow from it.
    fn replace_evidence(&mut self, row: &RecordRow, new: Evidence) -> Result<()> {
        let key = keys::number(row.number());
        let old = self.view.get(Column::Evidence, &key)?;
        let old: Evidence = old.map(|bytes| values::decode(&bytes)).transpose()?.unwrap_or_default();
        if old == new {
            return Ok(());
        }
        for award in old.awards.difference(&new.awards) {
            self.remove_award(award, row.summary.task_id)?;
        }
        for award in new.awards.difference(&old.awards) {
            self.add_award(award, row.summary.task_id)?;
        }
        if new == Evidence::default() {
            self.view.delete(Column::Evidence, key);
        } else {
            self.view.put(Column::Evidence, key, values::encode(&new)?);
        }
        Ok(())
    }
}
