//! Drops what an operator does not want to carry.

use std::collections::BTreeSet;

use spore_protocol::{Kind, NodeId, ObjectId, TaskId};

use super::RoomReport;
use crate::{
    columns::Column,
    db::KeyReader,
    error::{Result, StoreError},
    keys, lookup,
    progress::{Stage, Watch, notify},
    store::Store,
    types::WhyDropped,
    values,
    write::{DropRules, MAX_DROPPED},
};

/// What an operator wants dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    Signer(NodeId),
    Task(TaskId),
    Object(Kind, ObjectId),
}

impl Store {
    /// Drops what an operator does not want, as far as nothing else depends on it: children, verdicts, and the weight
    /// of signers. The report counts what is kept.
    ///
    /// # Errors
    /// As [`Store::make_room`].
    pub fn drop_unwanted(&self, unwanted: Unwanted, watch: &mut Watch<'_>) -> Result<RoomReport> {
        if self.read_only() {
            return Err(StoreError::ReadOnly);
        }
        let rules = DropRules {
            why: WhyDropped::Operator,
            own: BTreeSet::new(),
            pinned: BTreeSet::new(),
            before: u64::MAX,
            only_worthless: false,
            min_bytes: 0,
            keeps_known: false,
            most_dropped: MAX_DROPPED,
        };
        let mut report = RoomReport::default();
        if let Unwanted::Object(kind, id) = unwanted {
            notify(watch, Stage::Drop, 0, self.sequence())?;
            let number = lookup::number_of(&self.view(), kind, &id)?;
            self.drop_these(number.as_slice(), &rules, &mut report)?;
            return Ok(report);
        }
        let (mut from, mut seen) = (Some(u64::MAX), 0);
        while let Some(last) = from {
            let numbers = self.numbers_down_from(last)?;
            notify(watch, Stage::Drop, seen, self.sequence())?;
            seen += numbers.len() as u64;
            from = numbers.last().and_then(|number| number.checked_sub(1));
            let chosen = self.unwanted(&numbers, unwanted)?;
            self.drop_these(&chosen, &rules, &mut report)?;
        }
        Ok(report)
    }

    fn drop_these(&self, mut chosen: &[u64], rules: &DropRules, report: &mut RoomReport) -> Result<()> {
        while !chosen.is_empty() {
            let done = self.drop_numbers(chosen, rules)?;
            report.count_dropped(&done.freed);
            report.kept += done.looked_at.saturating_sub(done.freed.len()) as u64;
            chosen = chosen.get(done.looked_at..).unwrap_or_default();
        }
        Ok(())
    }

    fn unwanted(&self, numbers: &[u64], unwanted: Unwanted) -> Result<Vec<u64>> {
        let view = self.view();
        let mut chosen = Vec::new();
        for number in numbers {
            let Some(stored) = view.get(Column::Objects, &keys::number(*number))? else { continue };
            let object = values::decode_stored(&stored)?;
            let matches = match unwanted {
                Unwanted::Signer(signer) => object.signer() == signer,
                Unwanted::Object(kind, id) => object.kind() == kind && object.id() == id,
                Unwanted::Task(task) => lookup::change(&view, *number)?.task_id == Some(task),
            };
            if matches {
                chosen.push(*number);
            }
        }
        Ok(chosen)
    }
}
