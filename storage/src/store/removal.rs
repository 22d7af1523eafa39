//! The batches that drop objects.

use super::{Store, WriterState};
use crate::{
    error::Result,
    types::InsertReport,
    write::{DropRules, InsertBatch, WriteCache},
};

impl Store {
    /// Drops those of these objects that the rules allow, in one write. Returns the bytes of each dropped one.
    pub(crate) fn drop_numbers(&self, numbers: &[u64], rules: &DropRules) -> Result<Vec<u64>> {
        let mut freed = Vec::new();
        if numbers.is_empty() {
            return Ok(freed);
        }
        let mut writer = self.writer();
        self.drop_batch(&mut writer, |batch| {
            for number in numbers {
                freed.extend(batch.drop_object(*number, rules)?);
            }
            Ok(())
        })?;
        self.settle_in_turn(writer);
        Ok(freed)
    }

    /// Drops the oldest pending records until the others take no more than these bytes. Returns how many it dropped.
    pub(crate) fn drop_pending(&self, max_bytes: u64) -> Result<u64> {
        let mut writer = self.writer();
        let report = self.drop_batch(&mut writer, |batch| batch.drop_oldest(u64::MAX, max_bytes))?;
        Ok(report.dropped_pending)
    }

    fn drop_batch(
        &self,
        writer: &mut WriterState,
        change: impl FnOnce(&mut InsertBatch<'_>) -> Result<()>,
    ) -> Result<InsertReport> {
        // Cached values are of objects that may be dropped.
        writer.cache = WriteCache::default();
        let mut batch = InsertBatch::new(&self.inner.db)?;
        change(&mut batch)?;
        let mut report = InsertReport::default();
        let finished = self.finish(batch, Vec::new(), writer, &mut report);
        writer.cache = WriteCache::default();
        finished?;
        Ok(report)
    }
}
