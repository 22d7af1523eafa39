//! What a graph costs, told before anything is allocated, and how long each value lives.
//!
//! All counts saturate: they are compared with limits, never used to address memory.

use super::{Graph, Op, Shape, ValueId};

/// Bytes of one element.
const FLOAT_BYTES: u64 = 4;
/// AdamW's operations for one element: two moments, their correction, decay and the update.
const OPTIMIZER_FLOPS: u64 = 12;
/// Operations of softmax, a norm, an activation or a rotation for one element, roughly.
const HEAVY_FLOPS: u64 = 5;

impl Graph {
    /// Elements of all trainable tensors.
    pub fn num_params(&self) -> u64 {
        self.params.iter().fold(0, |sum, param| sum.saturating_add(elements(&param.shape)))
    }

    /// Floating-point operations of one training step, estimated:
    /// `3 * (sum of node_flops + 5 * logits) + 12 * num_params`, where 3 is one forward pass and
    /// a backward pass of twice its cost, and `5 * logits` is the loss.
    pub fn flops_per_step(&self) -> u64 {
        let forward = (0..self.nodes.len()).fold(0_u64, |sum, index| sum.saturating_add(self.node_flops(index)));
        let loss = self.elements_of(self.logits).saturating_mul(HEAVY_FLOPS);
        forward.saturating_add(loss).saturating_mul(3).saturating_add(self.num_params().saturating_mul(OPTIMIZER_FLOPS))
    }

    /// Bytes of the values that one training step makes, as 32-bit floats, parameters excepted
    /// and reshapes for nothing, with the loss's log-probabilities: about what the backward pass
    /// keeps, and so the peak of a step beside the weights.
    pub fn activation_bytes(&self) -> u64 {
        let values = self.nodes.iter().filter(|node| !matches!(node.op, Op::Param(_) | Op::Reshape(_)));
        let sum = values.fold(self.elements_of(self.logits), |sum, node| sum.saturating_add(elements(&node.shape)));
        sum.saturating_mul(FLOAT_BYTES)
    }

    /// For each node, the index of the last node that reads it: after that one has run, the value
    /// may be dropped. The logits live to the end (`nodes.len()`), and a node that nothing reads
    /// has its own index.
    pub fn last_use(&self) -> Vec<u32> {
        let mut last: Vec<u32> = (0..self.nodes.len()).map(index).collect();
        for (reader, node) in self.nodes.iter().enumerate() {
            for input in node.op.inputs() {
                if let Some(slot) = last.get_mut(input.0 as usize) {
                    *slot = index(reader);
                }
            }
        }
        if let Some(slot) = last.get_mut(self.logits.0 as usize) {
            *slot = index(self.nodes.len());
        }
        last
    }

    /// Floating-point operations of one node's forward pass: `2 * m * k * n` for each matrix of a
    /// product; 5 for an element of a softmax, norm, rotation or function; 1 for an element of
    /// anything else that computes or moves; 0 for sources and reshapes.
    pub fn node_flops(&self, index: usize) -> u64 {
        let Some(node) = self.nodes.get(index) else { return 0 };
        let out = elements(&node.shape);
        match &node.op {
            Op::Tokens | Op::Param(_) | Op::Scalar(_) | Op::Range(_) | Op::Reshape(_) | Op::Detach(_) => 0,
            Op::Matmul(a, _) => {
                let inner = self.shape_of(*a).and_then(|shape| shape.last()).copied().unwrap_or(0);
                out.saturating_mul(2).saturating_mul(inner as u64)
            }
            Op::Unary(..) | Op::Softmax(..) | Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::Rope { .. } => {
                out.saturating_mul(HEAVY_FLOPS)
            }
            Op::Reduce(_, x, _) => self.elements_of(*x),
            Op::Embedding { .. }
            | Op::Binary(..)
            | Op::Permute(..)
            | Op::Slice { .. }
            | Op::Concat(..)
            | Op::CausalMask(_)
            | Op::Shift { .. }
            | Op::Dropout { .. } => out,
        }
    }

    /// The shape of a value of this graph.
    pub fn shape_of(&self, id: ValueId) -> Option<&Shape> {
        self.nodes.get(id.0 as usize).map(|node| &node.shape)
    }

    fn elements_of(&self, id: ValueId) -> u64 {
        self.shape_of(id).map_or(0, |shape| elements(shape))
    }
}

/// Number of elements of a shape; 1 for a scalar's empty one.
fn elements(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |product, extent| product.saturating_mul(*extent as u64))
}

/// Graphs have far fewer nodes than `u32` counts; the limits of tracing see to it.
fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{AdamW, Decay, Init, Node, Param, ParamId, Schedule, Unary};
    use super::*;

    /// tokens -> embedding [2,4,8] -> reshape [8,8] -> relu -> x table transposed [8,256] -> [2,4,256].
    fn graph() -> Graph {
        let node = |op, shape: &[usize]| Node { op, shape: shape.to_vec(), line: 1 };
        Graph {
            batch: 2,
            context: 4,
            params: vec![Param {
                name: "table".to_owned(),
                shape: vec![256, 8],
                init: Init::Normal(0.02),
                lr_scale: 1.0,
                decay: true,
            }],
            nodes: vec![
                node(Op::Param(ParamId(0)), &[256, 8]),
                node(Op::Tokens, &[2, 4]),
                node(Op::Embedding { table: ValueId(0), tokens: ValueId(1) }, &[2, 4, 8]),
                node(Op::Reshape(ValueId(2)), &[8, 8]),
                node(Op::Unary(Unary::Relu, ValueId(3)), &[8, 8]),
                node(Op::Permute(ValueId(0), vec![1, 0]), &[8, 256]),
                node(Op::Matmul(ValueId(4), ValueId(5)), &[8, 256]),
                node(Op::Reshape(ValueId(6)), &[2, 4, 256]),
            ],
            logits: ValueId(7),
            optimizer: AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, clip: 1.0 },
            schedule: Schedule { shape: Decay::Constant, warmup: 0.0, cooldown: 0.0, floor: 1.0 },
        }
    }

    #[test]
    fn costs_follow_the_formula() {
        let graph = graph();
        assert_eq!(graph.num_params(), 2048);
        let forward = 64 + 64 * 5 + 2048 + 2 * 8 * 8 * 256;
        assert_eq!(graph.flops_per_step(), 3 * (forward + 5 * 2048) + 12 * 2048);
        assert_eq!(graph.activation_bytes(), 4 * (8 + 64 + 64 + 2048 + 2048 + 2048));
    }

    #[test]
    fn values_live_until_their_last_reader_and_logits_to_the_end() {
        assert_eq!(graph().last_use(), [5, 2, 3, 4, 6, 6, 7, 8]);
    }
}
