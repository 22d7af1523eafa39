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
/// Bytes of one element of a gradient.
const GRADIENT_BYTES: u64 = 4;

impl Graph {
    /// The graph of one shard, and the number of shards. None for a graph whose batch is best computed as one.
    ///
    /// The number is a power of two, so that the mean over shards is exact.
    pub(crate) fn shard(&self) -> Option<(Self, usize)> {
        let count = self.wanted_shards();
        Some((self.one_of(count)?, count))
    }

    /// The graph of one of `count` shards. None where the batch cannot be cut so.
    pub(crate) fn one_of(&self, count: usize) -> Option<Self> {
        if count < 2 || !self.batch.is_multiple_of(count) {
            return None;
        }
        let batch = BatchAxes { axes: self.batch_axes()?, count };
        // Logits that no sequence enters are whole in each shard, which has not as many targets.
        batch.of(self.logits)?;
        self.cut(&batch).ok()
    }

    /// The most shards that the batch and the sizes allow. The gradients of all shards take no more memory than the
    /// activations of the batch, so that adding them costs little time beside computing them, and a step needs at most
    /// twice the memory of a batch that is computed as one.
    fn wanted_shards(&self) -> usize {
        let (gradients, activations) = (self.num_params().saturating_mul(GRADIENT_BYTES), self.activation_bytes());
        let fits = |count: &usize| {
            self.batch.is_multiple_of(*count)
                && (self.batch / count).saturating_mul(self.context) >= LEAST_BYTES
                && gradients.saturating_mul(*count as u64) <= activations
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
