//! Control events and the verdicts that follow from them.
//!
//! An event may come before its record: it is stored and indexed by the record's id, and counts
//! when the record comes.

use spore_protocol::{ControlEvent, EventId, RecordId, Signed, SignedObject, Verdict, verdict};

use super::Batch;
use crate::{columns::Column, error::Result, keys, read, types::Outcome, values::Facts};

impl Batch<'_> {
    pub(super) fn insert_control(&mut self, event: &Signed<ControlEvent>) -> Result<Outcome> {
        let id = EventId::from(event.id());
        let about = event.experiment_id();
        let facts = about.map(|record| read::facts(&self.view, &record)).transpose()?.flatten();
        let task = facts.as_ref().map(|facts| facts.task_id).or(event.claimed_task());
        self.store_object(&SignedObject::Control(event.clone()), task)?;
        self.tally.controls += 1;
        if let Some(task) = task {
            self.view.put(Column::Controls, keys::control(&task, event.timestamp, &id), Vec::new());
        }
        if let Some(record) = about {
            self.view.put(Column::About, keys::about(&record, event.timestamp, &id), Vec::new());
            if facts.is_some() {
                self.unjudged.insert(record);
            }
        }
        Ok(Outcome::New)
    }

    /// Takes in the events that were here before their record: now they count, and belong to the
    /// record's task, whatever they claimed.
    pub(super) fn adopt_events(&mut self, facts: &Facts) -> Result<()> {
        for event in read::events_about(&self.view, &facts.id)? {
            let id = EventId::from(event.id());
            if let Some(claimed) = event.claimed_task() {
                self.view.delete(Column::Controls, keys::control(&claimed, event.timestamp, &id));
            }
            self.view.put(Column::Controls, keys::control(&facts.task_id, event.timestamp, &id), Vec::new());
            self.unjudged.insert(facts.id);
        }
        Ok(())
    }

    /// Brings a record's verdict, and what counts verdicts, up to date.
    pub(super) fn judge(&mut self, id: &RecordId) -> Result<()> {
        let Some(facts) = read::facts(&self.view, id)? else { return Ok(()) };
        let events = read::events_about(&self.view, id)?;
        let judgement = verdict::judge(&facts.subject(), events.iter().map(|e| (e.id().into(), e.object())));
        let mut standing = read::standing(&self.view, id)?;
        let (before, after) = (standing.verdict, judgement.verdict);
        if before == after {
            return Ok(());
        }
        standing.verdict = after;
        self.put_standing(id, standing);
        if after == Verdict::Disputed {
            self.view.put(Column::Disputes, id.0.to_vec(), Vec::new());
        } else if before == Verdict::Disputed {
            self.view.delete(Column::Disputes, id.0.to_vec());
        }
        let recount = |count: u64| (count + u64::from(after.holds())).saturating_sub(u64::from(before.holds()));
        self.tally.verified = recount(self.tally.verified);
        if !standing.stray {
            let state = self.task(&facts.task_id)?;
            state.verified = recount(state.verified);
        }
        Ok(())
    }
}
