//! A batch in shards: each shard's loss and gradients on its own, added in a fixed tree.
//!
//! The number of shards follows from the graph ([`Graph::shard`]), the tree from their number.
//! Which lane computes a shard, and when, changes no bit. With fewer lanes than shards this is
//! gradient accumulation: only the shards that are being computed hold activations, and a tree of
//! `n` leaves holds at most one sum for each lane and each of its `log2 n` levels.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Tensor};

use super::lanes::Lanes;
use super::plan::LifetimePlan;
use super::{ExecError, tables};
use crate::graph::Graph;
use crate::ops::tensors::DeviceValue;
use crate::ops::{ConstantPair, Malformed};

/// How a graph's steps are computed.
pub(super) struct Shards {
    /// The graph of each shard. None for a batch that is computed as one, by the whole graph.
    pub part: Option<PlannedGraph>,
    /// Shards of the batch: a power of two.
    pub count: usize,
    pub lanes: Lanes,
}

/// A graph with its schedule and its constants.
pub(super) struct PlannedGraph {
    pub graph: Graph,
    pub plan: LifetimePlan,
    pub tables: Vec<Option<ConstantPair>>,
}

impl PlannedGraph {
    pub fn new(graph: Graph, device: &Device) -> Self {
        Self { plan: LifetimePlan::new(&graph), tables: tables(&graph, device), graph }
    }
}

/// Most lanes. Updating parameters takes more of them than there are shards.
const MOST_LANES: usize = 16;

impl Shards {
    /// Shards for a processor. A graphics device computes a batch as one.
    pub fn new(graph: &Graph, device: &Device) -> Self {
        if *device != Device::flex() {
            return Self { part: None, count: 1, lanes: Lanes::NONE };
        }
        let lanes = Lanes::new(MOST_LANES);
        match graph.shard() {
            Some((part, count)) => Self { part: Some(PlannedGraph::new(part, device)), count, lanes },
            None => Self { part: None, count: 1, lanes },
        }
    }
}

/// The loss and the gradients of some shards.
pub(super) struct Partial {
    /// Sum over the shards of their mean cross-entropies.
    pub loss: Tensor<1>,
    /// For each parameter the sum over the shards, of the gradient of the whole batch's mean.
    pub grads: Vec<Option<DeviceValue>>,
}

impl Partial {
    fn plus(self, later: Self) -> Self {
        let sums = self.grads.into_iter().zip(later.grads).map(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        });
        Self { loss: self.loss + later.loss, grads: sums.collect() }
    }
}

/// The tree of sums over `count` leaves, a power of two. Node 1 is the root, node `n` has the children `2 n` and
/// `2 n + 1`, and leaf `i` is node `count + i`.
struct Sums {
    count: usize,
    nodes: Mutex<Vec<Option<Partial>>>,
}

impl Sums {
    fn new(count: usize) -> Self {
        Self { count, nodes: Mutex::new((0..2 * count).map(|_| None).collect()) }
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Option<Partial>>> {
        // A sum is taken out or put in as a whole.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a leaf, and each sum that it completes.
    fn add(&self, leaf: usize, partial: Partial) {
        let (mut node, mut sum) = (self.count + leaf, partial);
        while node > 1 {
            let mut nodes = self.nodes();
            let Some(sibling) = nodes.get_mut(node ^ 1).and_then(Option::take) else {
                if let Some(slot) = nodes.get_mut(node) {
                    *slot = Some(sum);
                }
                return;
            };
            drop(nodes);
            sum = if node.is_multiple_of(2) { sum.plus(sibling) } else { sibling.plus(sum) };
            node /= 2;
        }
        if let Some(root) = self.nodes().get_mut(1) {
            *root = Some(sum);
        }
    }

    fn root(self) -> Option<Partial> {
        let nodes = self.nodes.into_inner().unwrap_or_else(PoisonError::into_inner);
        nodes.into_iter().nth(1).flatten()
    }
}

/// Computes all shards on the lanes and adds them.
///
/// # Errors
/// The first that a shard gives.
pub(super) fn summed(
    lanes: &Lanes,
    count: usize,
    shard: &(dyn Fn(usize) -> Result<Partial, ExecError> + Sync),
) -> Result<Partial, ExecError> {
    // A batch that is one shard is left to burn's own threads.
    let lanes = if count > 1 { lanes } else { &Lanes::NONE };
    let (sums, failed) = (Sums::new(count), Mutex::new(None));
    lanes.run(count, &|index| match shard(index) {
        Ok(partial) => sums.add(index, partial),
        Err(error) => *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => sums.root().ok_or(ExecError::Graph(Malformed("a batch without shards"))),
    }
}

#[cfg(test)]
mod tests;
