//! What a graph costs, known before anything is allocated, and how long each value lives.
//!
//! All counts saturate: they are compared with limits, never used to address memory.

use super::{Graph, Shape, ValueId};
use crate::ops::{HEAVY_FLOPS, Located};
use crate::value::elements;

/// Bytes of one element.
const FLOAT_BYTES: u64 = 4;

impl Graph {
    /// Elements of all trainable tensors.
    pub fn num_params(&self) -> u64 {
        self.params.iter().fold(0, |sum, param| sum.saturating_add(elements(&param.shape)))
    }

    /// Floating-point operations of one training step, estimated:
    /// `3 * (sum of node_flops + 5 * logits)` and the update, `12 * num_params` with AdamW. The 3 is one forward pass
    /// and a backward pass of twice its cost; `5 * logits` is the loss.
    pub fn flops_per_step(&self) -> u64 {
        let forward = (0..self.nodes.len()).fold(0_u64, |sum, index| sum.saturating_add(self.node_flops(index)));
        let loss = self.elements_of(self.logits).saturating_mul(HEAVY_FLOPS);
        let update = self.params.iter().map(|param| self.rule_of(param).flops(&param.shape));
        let update = update.fold(0_u64, u64::saturating_add);
        forward.saturating_add(loss).saturating_mul(3).saturating_add(update)
    }

    /// Bytes of the values that one training step makes, as 32-bit floats, with the loss's
    /// log-probabilities. Parameters and reshapes take no memory of their own. The sum is about
    /// what the backward pass keeps, and so the peak of a step beside the weights.
    pub fn activation_bytes(&self) -> u64 {
        let values = self.nodes.iter().filter(|node| node.op.rules().allocates());
        let sum = values.fold(self.elements_of(self.logits), |sum, node| sum.saturating_add(elements(&node.shape)));
        sum.saturating_mul(FLOAT_BYTES)
    }

    /// For each node, the index of the last node that reads it. After that node has run, the value
    /// may be dropped. The logits live to the end (`nodes.len()`), and a node that no other reads
    /// has its own index.
    pub fn last_use(&self) -> Vec<usize> {
        let mut last: Vec<usize> = (0..self.nodes.len()).collect();
        for (reader, node) in self.nodes.iter().enumerate() {
            for input in node.op.inputs() {
                if let Some(slot) = last.get_mut(input.index()) {
                    *slot = reader;
                }
            }
        }
        if let Some(slot) = last.get_mut(self.logits.index()) {
            *slot = self.nodes.len();
        }
        last
    }

    /// Floating-point operations of one node's forward pass, as its operation counts them
    /// ([`Operation::flops`](crate::ops::Operation::flops)).
    pub fn node_flops(&self, index: usize) -> u64 {
        let Some(node) = self.nodes.get(index) else { return 0 };
        node.op.rules().flops(Located::new(&self.nodes, index))
    }

    /// The shape of a value of this graph.
    pub fn shape_of(&self, id: ValueId) -> Option<&Shape> {
        self.nodes.get(id.index()).map(|node| &node.shape)
    }

    fn elements_of(&self, id: ValueId) -> u64 {
        self.shape_of(id).map_or(0, |shape| elements(shape))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AdamW, Decay, GraphNode, Init, Op, Optimizer, Param, ParamId, Schedule};
    use super::*;
    use crate::ops::{Embedding, Matmul, Permute, ReadParam, Reshape, Unary, UnaryFunction};

    /// tokens -> embedding [2,4,8] -> reshape [8,8] -> relu -> x table transposed [8,256] -> [2,4,256].
    fn graph() -> Graph {
        let node = |op: Op, shape: &[usize]| GraphNode { op, shape: shape.to_vec(), line: 1, enforced: None };
        Graph {
            batch: 2,
            context: 4,
            params: vec![Param {
                name: "table".to_owned(),
                shape: vec![256, 8],
                init: Init::Normal(0.02),
                lr_scale: 1.0,
                decay: true,
                optimizer: None,
            }],
            nodes: vec![
                node(ReadParam(ParamId(0)).into(), &[256, 8]),
                node(Op::Tokens, &[2, 4]),
                node(Embedding { table: ValueId(0), tokens: ValueId(1) }.into(), &[2, 4, 8]),
                node(Reshape(ValueId(2)).into(), &[8, 8]),
                node(Unary(UnaryFunction::Relu, ValueId(3)).into(), &[8, 8]),
                node(Permute(ValueId(0), vec![1, 0]).into(), &[8, 256]),
                node(Matmul(ValueId(4), ValueId(5)).into(), &[8, 256]),
                node(Reshape(ValueId(6)).into(), &[2, 4, 256]),
            ],
            logits: ValueId(7),
            optimizer: Optimizer::AdamW(AdamW {
                lr: 1e-3,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                clip: 1.0,
            }),
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
