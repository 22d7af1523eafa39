//! Control events and the verdicts that follow from them.
//!
//! An event may come before its record: it is stored and indexed by the record's id, and counts
//! when the record comes.

use spore_protocol::{ControlEvent, EventId, Kind, Signed, SignedObject, Verdict, reputation};

use super::Batch;
use crate::{
    columns::Column,
    db::Source,
    error::{Result, StoreError},
    keys::{self, Listing, Moment},
    read,
    types::Outcome,
    values::{self, Evidence, Row},
};

impl Batch<'_> {
    pub(super) fn insert_control(&mut self, event: &Signed<ControlEvent>) -> Result<Outcome> {
        let about = event.experiment_id();
        let subject =
            about.map(|record| read::number_of(&self.view, Kind::Experiment, &record.into())).transpose()?.flatten();
        let task = match subject {
            Some(number) => Some(self.row(number)?.summary.task_id),
            None => event.claimed_task(),
        };
        let number = self.store_object(&SignedObject::Control(event.clone()), task)?;
        self.tally.controls += 1;
        let moment = Moment { timestamp: event.timestamp, id: event.id(), number };
        self.enlist(Listing::Controls, &moment, Vec::new())?;
        if let Some(task) = task {
            self.enlist(Listing::TaskControls(task), &moment, Vec::new())?;
        }
        if let Some(record) = about {
            let key = keys::about(&record, event.timestamp, &EventId::from(event.id()));
            self.view.put(Column::About, key, Vec::new());
            self.tally.early += u64::from(subject.is_none());
        }
        self.unjudged.extend(subject);
        Ok(Outcome::New)
    }

    /// Takes in the events that were here before their record: now they count, and belong to the
    /// record's task, whatever they claimed.
    pub(super) fn adopt_events(&mut self, row: &Row) -> Result<()> {
        if self.tally.early == 0 {
            return Ok(());
        }
        for event in read::events_about(&self.view, &row.summary.id, usize::MAX)? {
            self.tally.early = self.tally.early.saturating_sub(1);
            let number = read::number_of(&self.view, Kind::Control, &event.id())?;
            let number = number.ok_or_else(|| StoreError::corrupt("an event has no number"))?;
            let moment = Moment { timestamp: event.timestamp, id: event.id(), number };
            self.unjudged.insert(row.number());
            let claimed = event.claimed_task();
            if claimed == Some(row.summary.task_id) {
                continue;
            }
            if let Some(claimed) = claimed {
                self.delist(Listing::TaskControls(claimed), &moment)?;
            }
            self.enlist(Listing::TaskControls(row.summary.task_id), &moment, Vec::new())?;
        }
        Ok(())
    }

    /// Brings a record's verdict, what counts verdicts and what it is worth up to date.
    pub(super) fn judge(&mut self, number: u64) -> Result<()> {
        let row = self.row(number)?.clone();
        let judgement = read::judgement(&self.view, &row)?;
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
    fn prove(&mut self, row: &Row, new: Evidence) -> Result<()> {
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
