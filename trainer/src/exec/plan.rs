//! When each value of a graph is computed, kept and dropped.
//!
//! Everything is known before the first step: through which nodes gradients flow, which values
//! the backward pass reads again, and after which node, forward or backward, each value is used
//! for the last time. The executor drops a value right there, so
//! that burn can reuse its buffer, or write the next result into it.

use crate::graph::{Binary, Graph, Node, Op, Reduce, Unary, ValueId};

/// A graph's schedule. All vectors have one entry for each node.
#[derive(Debug)]
pub(super) struct Plan {
    /// The node depends on a parameter through operations that pass gradients on.
    pub grad: Vec<bool>,
    /// The backward pass reads this node's value.
    pub saved: Vec<bool>,
    /// The last reader of each value in the forward pass ([`Graph::last_use`]).
    pub last_use: Vec<u32>,
    /// Values whose last reader in the backward pass is this node.
    pub drop_backward: Vec<Vec<usize>>,
}

impl Plan {
    pub fn new(graph: &Graph) -> Self {
        let count = graph.nodes.len();
        let mut plan = Self {
            grad: Vec::with_capacity(count),
            saved: vec![false; count],
            last_use: graph.last_use(),
            drop_backward: vec![Vec::new(); count],
        };
        for node in &graph.nodes {
            let passes = match &node.op {
                Op::Param(_) => true,
                Op::Detach(_) => false,
                op => op.inputs().into_iter().any(|id| get(&plan.grad, index(id))),
            };
            plan.grad.push(passes);
        }
        plan.save(graph);
        plan
    }

    /// Fills `saved` and `drop_backward`: the backward pass runs from the last node to the first,
    /// so the lowest reader is the last one.
    fn save(&mut self, graph: &Graph) {
        for (i, node) in graph.nodes.iter().enumerate() {
            if !get(&self.grad, i) {
                continue;
            }
            for value in backward_reads(i, node, &self.grad) {
                let first = !get(&self.saved, value);
                if let (true, Some(drops)) = (first, self.drop_backward.get_mut(i)) {
                    drops.push(value);
                }
                if let Some(slot) = self.saved.get_mut(value) {
                    *slot = true;
                }
            }
        }
    }
}

/// A value's place in the vectors.
pub(super) fn index(id: ValueId) -> usize {
    id.0 as usize
}

fn get(flags: &[bool], i: usize) -> bool {
    flags.get(i).copied().unwrap_or(false)
}

/// The values that the gradient of node `i` is computed from; see `backward.rs`.
fn backward_reads(i: usize, node: &Node, grad: &[bool]) -> Vec<usize> {
    let flows = |id: &ValueId| get(grad, index(*id));
    match &node.op {
        Op::Unary(Unary::Neg, _) => vec![],
        Op::Unary(Unary::Exp | Unary::Sqrt | Unary::Relu | Unary::Tanh | Unary::Sigmoid | Unary::Recip, _) => vec![i],
        Op::Unary(_, x) => vec![index(*x)],
        Op::Binary(Binary::Add | Binary::Sub, ..) => vec![],
        Op::Binary(Binary::Mul, a, b) | Op::Matmul(a, b) => {
            let mut reads = Vec::new();
            if flows(a) {
                reads.push(index(*b));
            }
            if flows(b) {
                reads.push(index(*a));
            }
            reads
        }
        Op::Binary(Binary::Div, _, b) => {
            if flows(b) {
                vec![index(*b), i]
            } else {
                vec![index(*b)]
            }
        }
        Op::Binary(Binary::Max | Binary::Min, a, b) => vec![index(*a), index(*b)],
        Op::Binary(Binary::Pow, a, b) => {
            if flows(b) {
                vec![index(*a), index(*b), i]
            } else {
                vec![index(*a), index(*b)]
            }
        }
        Op::Reduce(Reduce::Max, x, _) => vec![index(*x), i],
        Op::Softmax(..) | Op::RmsNorm { .. } | Op::LayerNorm { .. } => vec![i],
        _ => vec![],
    }
}
