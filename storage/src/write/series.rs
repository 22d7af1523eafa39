//! The best-so-far series: of a task and of each of its classes, the keeps that are better than all before them in
//! (timestamp, id) order.
//!
//! A record that arrives late with an early timestamp may enter in the middle. It removes later entries that are not
//! better than it.

use std::{collections::HashMap, ops::ControlFlow};

use super::InsertBatch;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::Result,
    keys::{self, ClassKey},
    values::{self, RecordRow},
};

/// The last entry of each series that was read, as its key and metric. Most records arrive in order, and are compared
/// with this entry only.
pub(super) type Tails = HashMap<Vec<u8>, Option<(Vec<u8>, f64)>>;

impl InsertBatch<'_> {
    /// Puts a keep that joined its task's tree into a series, if it is better than all before it.
    pub(super) fn enter_series(&mut self, row: &RecordRow, class: Option<&ClassKey>) -> Result<()> {
        let (s, moment) = (&row.summary, row.moment());
        let goal = self.task(&s.task_id)?.goal();
        let view = keys::view(&s.task_id, class);
        let key = keys::series(&s.task_id, class, &moment);
        let (tail, after_tail) = match self.tail(&view)? {
            Some((tail, metric)) => (Some(metric), tail.as_slice() < key.as_slice()),
            None => (None, true),
        };
        let before = if after_tail { tail } else { self.metric_before(&view, &key)? };
        if before.is_some_and(|before| !goal.better(s.metric, before)) {
            return Ok(());
        }
        let mut beaten = Vec::new();
        if !after_tail {
            self.view.walk(Column::Series, &view, Some(&key), KeyOrder::Ascending, &mut |later, value| {
                if goal.better(f64::from_bits(values::number(value)?), s.metric) {
                    return Ok(ControlFlow::Break(()));
                }
                beaten.push(later.to_vec());
                Ok(ControlFlow::Continue(()))
            })?;
        }
        for later in beaten {
            if class.is_some() {
                self.rejudge_if_verified(keys::last_number(&later)?)?;
            }
            self.view.delete(Column::Series, later);
        }
        self.view.put(Column::Series, key.clone(), s.metric.to_bits().to_be_bytes().to_vec());
        if after_tail {
            self.cache.tails.insert(view, Some((key, s.metric)));
        } else {
            // The last entry itself may have been removed.
            self.cache.tails.remove(&view);
        }
        if class.is_some() {
            self.rejudge_if_verified(row.number())?;
        }
        Ok(())
    }

    /// Judges a record again that entered or left its class's series, because that may count in its publisher's
    /// reputation.
    pub(super) fn rejudge_if_verified(&mut self, number: u64) -> Result<()> {
        if self.row(number)?.summary.verdict.holds() {
            self.unjudged.insert(number);
        }
        Ok(())
    }

    fn tail(&mut self, view: &[u8]) -> Result<Option<(Vec<u8>, f64)>> {
        if let Some(tail) = self.cache.tails.get(view) {
            return Ok(tail.clone());
        }
        let tail = match self.view.first(Column::Series, view, None, KeyOrder::Descending)? {
            Some((key, value)) => Some((key, f64::from_bits(values::number(&value)?))),
            None => None,
        };
        self.cache.tails.insert(view.to_vec(), tail.clone());
        Ok(tail)
    }

    fn metric_before(&self, view: &[u8], key: &[u8]) -> Result<Option<f64>> {
        let before = self.view.first(Column::Series, view, Some(key), KeyOrder::Descending)?;
        before.map(|(_, value)| values::number(&value).map(f64::from_bits)).transpose()
    }
}
