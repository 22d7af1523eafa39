//! The verdicts on records, and what nodes earn by them.

use spore_protocol::{Verdict, reputation, verdict::Assessment};

use super::{InsertBatch, frontier::Places};
use crate::{
    columns::Column,
    db::KeyReader,
    error::Result,
    keys,
    lookup::{self, Examined},
    types::Judgement,
    values::{self, Awards, RecordRow, Verdicts},
};

impl InsertBatch<'_> {
    /// Judges records whose measurements or whose signers' levels changed, then brings up to date what nodes earned.
    pub(super) fn judge_all(&mut self) -> Result<()> {
        for number in std::mem::take(&mut self.unjudged) {
            self.judge(number)?;
        }
        while let Some(number) = self.unawarded.pop_first() {
            let row = self.row(number)?.clone();
            let examined = self.examine(&row)?;
            let local = examined.judge().local;
            self.replace_awards(&row, &examined, &local)?;
        }
        Ok(())
    }

    fn examine(&mut self, row: &RecordRow) -> Result<Examined> {
        let s = &row.summary;
        let level = self.level(&s.node_id, &keys::class(&s.class))?;
        let goal = self.task(&s.task_id)?.goal();
        lookup::examine(&self.view, row, goal, level)
    }

    /// Updates a record's verdicts, with the lists and counters that follow from them.
    fn judge(&mut self, number: u64) -> Result<()> {
        let row = self.row(number)?.clone();
        let examined = self.examine(&row)?;
        match examined.cutoff {
            Some(cutoff) => self.cache.cutoffs.insert(number, cutoff),
            None => self.cache.cutoffs.remove(&number),
        };
        let Judgement { local, global } = examined.judge();
        let (before, after) = (row.verdicts(), Verdicts { local: local.verdict, global: global.verdict });
        if before != after || local.support != row.summary.support {
            let places = Places::of(&row.summary);
            let s = &mut self.row_mut(number)?.summary;
            (s.verdict, s.global_verdict, s.support) = (after.local, after.global, local.support);
            self.note_disputes(&row, before, after);
            self.count_verdict(&row, before.local.holds(), after.local.holds())?;
            self.update_places(number, places)?;
            if before != after && self.levels.releveled.contains(&number) {
                self.moved.insert(row.summary.task_id);
            }
        }
        self.unawarded.remove(&number);
        self.replace_awards(&row, &examined, &local)
    }

    fn note_disputes(&mut self, row: &RecordRow, before: Verdicts, after: Verdicts) {
        for (global, before, after) in [(false, before.local, after.local), (true, before.global, after.global)] {
            let key = keys::dispute(global, &row.summary.id);
            match (before == Verdict::Disputed, after == Verdict::Disputed) {
                (false, true) => self.view.put(Column::Disputes, key, Vec::new()),
                (true, false) => self.view.delete(Column::Disputes, key),
                _ => {}
            }
        }
    }

    fn count_verdict(&mut self, row: &RecordRow, before: bool, after: bool) -> Result<()> {
        let s = &row.summary;
        self.tally.counted.reverify(before, after);
        if !s.stray {
            self.task(&s.task_id)?.counted.reverify(before, after);
            self.class(&s.task_id, &s.class)?.counted.reverify(before, after);
        }
        Ok(())
    }

    /// Replaces the deeds that follow from a record's local verdict.
    fn replace_awards(&mut self, row: &RecordRow, examined: &Examined, local: &Assessment) -> Result<()> {
        let series = keys::series(&row.summary.task_id, Some(&keys::class(&row.summary.class)), &row.moment());
        let advanced = local.verdict.holds() && self.view.has(Column::Series, &series)?;
        let new = Awards::of(&reputation::deeds(&examined.subject, local, advanced));
        let key = keys::number(row.number());
        let old = self.view.get(Column::Awards, &key)?;
        let old: Awards = old.map(|bytes| values::decode(&bytes)).transpose()?.unwrap_or_default();
        if old == new {
            return Ok(());
        }
        for award in old.0.difference(&new.0) {
            self.remove_award(award);
        }
        for award in new.0.difference(&old.0) {
            self.add_award(award)?;
        }
        if new == Awards::default() {
            self.view.delete(Column::Awards, key);
        } else {
            self.view.put(Column::Awards, key, values::encode(&new)?);
        }
        Ok(())
    }
}
