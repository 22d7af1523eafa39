//! The best-so-far series: of a task and of each of its classes, the keeps that hold locally and are better than all of
//! these before them in (timestamp, id) order.
//!
//! A record that arrives late with an early timestamp may enter in the middle. It removes later entries that are not
//! better than it. When a record no longer holds, those behind it that it kept out enter: up to the next entry, the
//! keeps that hold are looked at in the order of time.

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
    /// A comparable keep begins to hold locally, or no longer does.
    pub(super) fn update_series(&mut self, row: &RecordRow, holds: bool) -> Result<()> {
        let class = keys::class(&row.summary.class);
        for class in [None, Some(&class)] {
            let task = &row.summary.task_id;
            let (series, moment) = (keys::series(task, class, &row.moment()), keys::view(task, class).len());
            let key = [&keys::confirmed(task, class), series.get(moment..).unwrap_or_default()].concat();
            if holds {
                self.view.put(Column::Series, key, metric_bytes(row.summary.metric));
                self.enter_series(row, class)?;
            } else {
                self.view.delete(Column::Series, key.clone());
                self.leave_series(row, class, &series, &key)?;
            }
        }
        Ok(())
    }

    /// Removes a record from a series, and puts in the records that it kept out. `confirmed` is its key among the keeps
    /// that hold.
    fn leave_series(&mut self, row: &RecordRow, class: Option<&ClassKey>, key: &[u8], confirmed: &[u8]) -> Result<()> {
        if !self.view.has(Column::Series, key)? {
            return Ok(());
        }
        let task = &row.summary.task_id;
        let (view, all) = (keys::view(task, class), keys::confirmed(task, class));
        let goal = self.task(task)?.goal();
        self.view.delete(Column::Series, key.to_vec());
        self.cache.tails.remove(&view);
        let mut best = self.metric_before(&view, key)?;
        let end = self.view.first(Column::Series, &view, Some(key), KeyOrder::Ascending)?.map(|(key, _)| key);
        let mut entering = Vec::new();
        self.view.walk(Column::Series, &all, Some(confirmed), KeyOrder::Ascending, &mut |other, value| {
            let other = [&view, other.get(all.len()..).unwrap_or_default()].concat();
            if end.as_ref().is_some_and(|end| *end <= other) {
                return Ok(ControlFlow::Break(()));
            }
            let metric = f64::from_bits(values::number(value)?);
            if best.is_none_or(|best| goal.better(metric, best)) {
                best = Some(metric);
                entering.push((other, value.to_vec()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for (other, value) in entering {
            if class.is_some() {
                self.unawarded.insert(keys::last_number(&other)?);
            }
            self.view.put(Column::Series, other, value);
        }
        if class.is_some() {
            self.unawarded.insert(row.number());
        }
        Ok(())
    }

    /// Puts a keep into a series, if it is better than all before it.
    fn enter_series(&mut self, row: &RecordRow, class: Option<&ClassKey>) -> Result<()> {
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
                self.unawarded.insert(keys::last_number(&later)?);
            }
            self.view.delete(Column::Series, later);
        }
        self.view.put(Column::Series, key.clone(), metric_bytes(s.metric));
        if after_tail {
            self.cache.tails.insert(view, Some((key, s.metric)));
        } else {
            // The last entry itself may have been removed.
            self.cache.tails.remove(&view);
        }
        if class.is_some() {
            self.unawarded.insert(row.number());
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

fn metric_bytes(metric: f64) -> Vec<u8> {
    metric.to_bits().to_be_bytes().to_vec()
}
