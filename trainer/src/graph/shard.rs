//! The graph of a shard: the same operations over an equal part of the batch's sequences.
//!
//! A causal graph computes each sequence apart, so the gradient of the batch is the sum of its
//! shards' gradients. Their number follows from the graph alone, never from the machine: the order
//! of the sums, and so each result, is the same for any number of threads.

use super::Graph;
use crate::ops::shard::BatchAxes;
use crate::ops::{Located, Malformed};

/// Most shards of a batch. More threads than that would wait. Each shard costs one sum over all
/// parameters and makes its products smaller.
const MOST: usize = 8;
/// Fewest bytes of text in a shard: below, calling an operation costs more than computing it.
const LEAST_BYTES: usize = 64;
/// Fewest bytes of a shard for each 2^20 elements of parameters, so that sums over parameters stay a small part of
/// the shard's products, which are a multiple of `bytes * parameters`.
const LEAST_BYTES_BY_SIZE: u64 = 32;

impl Graph {
    /// The graph of one shard, and the number of shards. None for a graph whose batch is best computed as one.
    ///
    /// The number is a power of two, so that the mean over shards is exact.
    pub(crate) fn shard(&self) -> Option<(Self, usize)> {
        let wanted = self.wanted_shards();
        if wanted < 2 {
            return None;
        }
        let batch = BatchAxes { axes: self.batch_axes()?, count: wanted };
        Some((self.cut(&batch).ok()?, wanted))
    }

    fn wanted_shards(&self) -> usize {
        let by_size = self.num_params().saturating_mul(LEAST_BYTES_BY_SIZE) >> 20;
        let least = usize::try_from(by_size).unwrap_or(usize::MAX).max(LEAST_BYTES);
        let fits = |count: &usize| {
            self.batch.is_multiple_of(*count) && (self.batch / count).saturating_mul(self.context) >= least
        };
        std::iter::successors(Some(MOST), |count| Some(count / 2))
            .take_while(|count| *count > 1)
            .find(fits)
            .unwrap_or(1)
    }

    /// The graph over a shard.
    fn cut(&self, batch: &BatchAxes) -> Result<Self, Malformed> {
        let mut cut = self.clone();
        cut.batch /= batch.count.max(1);
        for (i, node) in cut.nodes.iter_mut().enumerate() {
            let at = Located::new(&self.nodes, i);
            if !node.op.rules().works_on_shards(at, batch) {
                return Err(Malformed("an operation over the whole batch"));
            }
            node.shape = batch.shard_shape(at.id(), at.shape())?;
            // Only evaluation enforces, and it computes whole batches.
            node.enforced = None;
        }
        Ok(cut)
    }
}
