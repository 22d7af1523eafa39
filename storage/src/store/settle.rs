//! The batches that write the effects of changed levels, after the batch that changed them.

use std::sync::{MutexGuard, TryLockError};

use super::{Store, WriterState};
use crate::{error::Result, types::InsertReport, write::InsertBatch};

impl Store {
    /// Brings everything up to date with changed levels, in as many batches as it takes.
    pub(super) fn settle_rest(&self, writer: &mut WriterState) -> Result<()> {
        while writer.unsettled {
            self.settle_some(writer)?;
        }
        Ok(())
    }

    /// Writes one batch of the effects of changed levels.
    fn settle_some(&self, writer: &mut WriterState) -> Result<()> {
        let cache = std::mem::take(&mut writer.cache);
        let mut batch = InsertBatch::after(&self.inner.db, cache)?;
        batch.settle_left()?;
        writer.unsettled = false;
        let settled = self.finish(batch, Vec::new(), writer, &mut InsertReport::default());
        writer.unsettled |= settled.is_err();
        settled
    }

    /// As [`Store::settle_rest`], but lets waiting writers in between two batches. Does nothing while another insertion
    /// does it: that one goes on until nothing is left. When a batch fails, the next insertion tries again.
    pub(super) fn settle_in_turn<'a>(&'a self, mut writer: MutexGuard<'a, WriterState>) {
        let settling = match self.inner.settling.try_lock() {
            Ok(settling) => settling,
            Err(TryLockError::Poisoned(settling)) => settling.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        while writer.unsettled {
            if let Err(error) = self.settle_some(&mut writer) {
                tracing::warn!(%error, "could not write all effects of changed levels");
                break;
            }
            if writer.unsettled {
                drop(writer);
                writer = self.writer();
            }
        }
        drop(settling);
        drop(writer);
    }
}
