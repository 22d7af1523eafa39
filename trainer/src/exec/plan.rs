//! When each value of a graph is computed, kept and dropped.
//!
//! Everything is known before the first step: through which nodes gradients flow, which values
//! the backward pass reads again, and after which node, forward or backward, each value is used
//! for the last time. The executor drops a value right there, so that burn can reuse its buffer,
//! or write the next result into it.

use crate::graph::{Graph, ValueId};
use crate::ops::Located;

/// A graph's schedule. All vectors have one entry for each node.
#[derive(Debug)]
pub(super) struct LifetimePlan {
    /// The node depends on a parameter through operations that pass gradients on.
    pub grad: Vec<bool>,
    /// The backward pass reads this node's value.
    pub saved: Vec<bool>,
    /// The last reader of each value in the forward pass ([`Graph::last_use`]).
    pub last_use: Vec<usize>,
    /// Values whose last reader in the backward pass is this node.
    pub drop_backward: Vec<Vec<ValueId>>,
}

impl LifetimePlan {
    pub fn new(graph: &Graph) -> Self {
        let count = graph.nodes.len();
        let mut plan = Self {
            grad: Vec::with_capacity(count),
            saved: vec![false; count],
            last_use: graph.last_use(),
            drop_backward: vec![Vec::new(); count],
        };
        for node in &graph.nodes {
            let through_inputs = node.op.inputs().into_iter().any(|id| is_set(&plan.grad, id));
            plan.grad.push(node.op.rules().carries_gradient(through_inputs));
        }
        plan.save(graph);
        plan
    }

    /// Whether a gradient flows through this node.
    pub fn flows(&self, node: usize) -> bool {
        self.grad.get(node).copied().unwrap_or(false)
    }

    /// Fills `saved` and `drop_backward`. The backward pass runs from the last node to the first,
    /// so the lowest reader is the last one.
    fn save(&mut self, graph: &Graph) {
        for (i, node) in graph.nodes.iter().enumerate() {
            if !self.flows(i) {
                continue;
            }
            let reads = node.op.rules().saved(Located::new(&graph.nodes, i), &|id| is_set(&self.grad, id));
            for value in reads {
                let first = !is_set(&self.saved, value);
                if let (true, Some(drops)) = (first, self.drop_backward.get_mut(i)) {
                    drops.push(value);
                }
                if let Some(slot) = self.saved.get_mut(value.index()) {
                    *slot = true;
                }
            }
        }
    }
}

fn is_set(flags: &[bool], id: ValueId) -> bool {
    flags.get(id.index()).copied().unwrap_or(false)
}
