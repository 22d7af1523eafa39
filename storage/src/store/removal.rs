//! The batches that drop objects.

use std::time::{Duration, Instant};

use super::{Store, WriterState};
use crate::{
    error::Result,
    types::{InsertReport, WhyDropped},
    write::{DropRules, InsertBatch, WriteCache},
};

/// Time after which a batch drops no more, so that other writers wait no longer. A single object takes a fraction of a
/// millisecond, but one whose parent has many children may take more.
const BATCH_TIME: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_millis(50) };

/// What a batch did.
#[derive(Debug, Default)]
pub(crate) struct DroppedBatch {
    /// The bytes of each dropped object.
    pub freed: Vec<u64>,
    /// How many of the objects were looked at. The batch's time was over before the others.
    pub looked_at: usize,
}

impl Store {
    /// Drops those of these objects that the rules allow, in one write, until its time is over. Looks at one at least.
    pub(crate) fn drop_numbers(&self, numbers: &[u64], rules: &DropRules) -> Result<DroppedBatch> {
        let mut done = DroppedBatch::default();
        if numbers.is_empty() {
            return Ok(done);
        }
        let mut writer = self.writer();
        let until = Instant::now() + BATCH_TIME;
        self.drop_batch(&mut writer, |batch| {
            for number in numbers {
                done.freed.extend(batch.drop_object(*number, rules)?);
                done.looked_at += 1;
                if Instant::now() >= until {
                    break;
                }
            }
            Ok(())
        })?;
        self.settle_in_turn(writer);
        Ok(done)
    }

    /// Drops the oldest pending records until the others take no more than these bytes, but no more than `limit` of them.
    /// Returns how many it dropped, and whether there are more.
    pub(crate) fn drop_pending(&self, max_bytes: u64, limit: usize) -> Result<(u64, bool)> {
        let (mut writer, mut more) = (self.writer(), false);
        let report = self.drop_batch(&mut writer, |batch| {
            more = batch.drop_some_oldest(max_bytes, limit)?;
            Ok(())
        })?;
        Ok((report.dropped_pending, more))
    }

    /// Forgets the oldest dropped objects of each reason until no more than `most` are remembered, but no more than
    /// `limit` of them. Returns whether there are more.
    pub(crate) fn forget_dropped(&self, most: u64, limit: usize) -> Result<bool> {
        let (mut writer, mut more) = (self.writer(), false);
        self.drop_batch(&mut writer, |batch| {
            for why in [WhyDropped::Room, WhyDropped::Operator] {
                more |= batch.forget_beyond(why, most, limit)?;
            }
            Ok(())
        })?;
        Ok(more)
    }

    fn drop_batch(
        &self,
        writer: &mut WriterState,
        change: impl FnOnce(&mut InsertBatch<'_>) -> Result<()>,
    ) -> Result<InsertReport> {
        // Cached values are of objects that may be dropped.
        writer.cache = WriteCache::default();
        let mut batch = InsertBatch::new(&self.inner.db)?;
        batch.rivals = std::mem::take(&mut writer.rivals);
        change(&mut batch)?;
        writer.rivals = std::mem::take(&mut batch.rivals);
        let mut report = InsertReport::default();
        let finished = self.finish(batch, Vec::new(), writer, &mut report);
        writer.cache = WriteCache::default();
        finished?;
        Ok(report)
    }
}
