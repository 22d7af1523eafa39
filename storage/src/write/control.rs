//! Inserts control events, and the measurements in them.
//!
//! An event may arrive before its record. It is stored and indexed by the record's id, and counts when the record is
//! inserted.

use std::ops::ControlFlow;

use spore_protocol::{ControlEvent, EventId, Goal, Kind, Measurement, NodeId, ObjectId, Signed, SignedObject, TaskId};

use super::InsertBatch;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys::{self, Moment, TimeList},
    lookup,
    types::InsertOutcome,
    values::{LogEntry, RecordRow, UNKNOWN, Work, WorkMark, recount, tier},
};

/// Most keys of events in memory while a record takes over its early events. Anybody can sign any number of events
/// about a record that is not stored yet.
const EVENTS_AT_ONCE: usize = 1_000;

/// The measurement in an event, if the event is not too long to count. The length is the same for all nodes.
pub(super) fn measurement(event: &Signed<ControlEvent>) -> Option<Measurement> {
    let fits = event.canonical().len() <= lookup::MAX_JUDGED_BYTES;
    Measurement::of(event.id().into(), event.object()).filter(|_| fits)
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
            let key = keys::about(&record, &event.node_id, event.timestamp, &EventId::from(event.id()));
            let found = measurement(event);
            self.view.put(Column::About, key, keys::event_entry(number, found.is_some()));
            if let (Some(subject), Some(found)) = (subject, &found) {
                self.measure(subject, found)?;
            }
            self.tally.early += u64::from(subject.is_none());
        }
        Ok(InsertOutcome::New)
    }

    /// Adds a measurement of a stored record, if it counts by itself. Of several by one signer, that of the lowest
    /// event id is kept.
    pub(super) fn measure(&mut self, number: u64, found: &Measurement) -> Result<()> {
        let row = self.row(number)?;
        let (id, task) = (row.summary.id, row.summary.task_id);
        // The goal decides nothing here.
        if row.subject(Goal::Minimize).ignores(found).is_some() {
            return Ok(());
        }
        let (node, class) = (found.node, keys::class(&found.class));
        let (place, mark_key) = (keys::rank(&id, &node), keys::work_of(&node, &class, number));
        let mark = self.view.get(Column::WorksOf, &mark_key)?.map(|mark| WorkMark::decode(&mark)).transpose()?;
        let mut work = Work::of(found);
        let at = match mark {
            Some(WorkMark::Measured(at)) => {
                let old = self.view.get(Column::Works, &keys::work(number, at, place, &node))?;
                let old = Work::decode(&old.ok_or(Damage::Value("a signer's work is missing"))?)?;
                if old.event_id <= work.event_id {
                    return Ok(());
                }
                work.contribution = old.contribution;
                self.list_measurement(task, node, &old, false)?;
                at
            }
            Some(WorkMark::Published(_)) => return Ok(()),
            None => tier(self.level(&node, &class)?),
        };
        self.list_measurement(task, node, &work, true)?;
        self.view.put(Column::WorksOf, mark_key, WorkMark::Measured(at).encode());
        self.view.put(Column::Works, keys::work(number, at, place, &node), work.encode());
        // Where new keys flood a record, nearly all of them are outside the window.
        let outside = at == UNKNOWN && self.cache.cutoffs.get(&number).is_some_and(|cutoff| place > *cutoff);
        if !outside {
            self.unjudged.insert(number);
        }
        self.measured_anew(number, node, at);
        Ok(())
    }

    /// Counts a measurement among what its signer did, or no longer.
    pub(super) fn list_measurement(&mut self, task: TaskId, node: NodeId, work: &Work, listed: bool) -> Result<()> {
        for task in [None, Some(task)] {
            let state = self.node(task, node)?;
            state.verifications = recount(state.verifications, !listed, listed);
            let key = keys::measured(task.as_ref(), &node, work.timestamp, &work.event_id);
            if listed {
                self.view.put(Column::Measured, key, Vec::new());
            } else {
                self.view.delete(Column::Measured, key);
            }
        }
        Ok(())
    }

    /// Takes over the events that were stored before their record. They count from now on, and belong to the record's
    /// task, whatever task they claimed. The change log has the claimed task.
    pub(super) fn attach_early_events(&mut self, row: &RecordRow) -> Result<()> {
        if self.tally.early == 0 {
            return Ok(());
        }
        let (prefix, task) = (row.summary.id.0, row.summary.task_id);
        let mut from: Option<Vec<u8>> = None;
        loop {
            let mut some = Vec::new();
            self.view.walk(Column::About, &prefix, from.as_deref(), KeyOrder::Ascending, &mut |key, value| {
                if from.as_deref() != Some(key) {
                    some.push((key.to_vec(), keys::number_at(value, 0)?, keys::is_measurement(value)));
                }
                Ok(if some.len() < EVENTS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            for (key, number, measures) in &some {
                if *measures && let Some(found) = measurement(&lookup::event(&self.view, *number)?) {
                    self.measure(row.number(), &found)?;
                }
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
            let Some((last, ..)) = some.pop() else { return Ok(()) };
            // Rather than of each signer: there may be any number.
            self.recheck_all(row.number());
            from = Some(last);
        }
    }

    /// The task that an event claimed when it was stored before its record.
    pub(super) fn claimed_task(&self, number: u64) -> Result<Option<TaskId>> {
        let line = self.view.get(Column::Log, &keys::number(number))?;
        match line.map(|line| LogEntry::decode(&line)).transpose()? {
            Some(LogEntry::Other(Kind::Control, _, task)) => Ok(task),
            _ => Err(Damage::NoEntry { column: Column::Log.name(), number }.into()),
        }
    }
}
