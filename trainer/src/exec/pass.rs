//! One evaluation of a graph: values forward, then, in training, gradients backward.
//!
//! Reverse-mode differentiation is done here, over the graph, instead of by burn's recording
//! autodiff: the graph is known beforehand, so the backward pass can keep exactly what it reads
//! again ([`LifetimePlan`]), use closed forms (softmax, norms, cross-entropy, rotation) where a recorded
//! chain would keep and walk half a dozen intermediates, and let burn fuse or reuse the rest.
//! What each operation computes stands in [`ops`](crate::ops), where tests hold every gradient
//! against finite differences. A pass owns the values and decides when each is dropped.

use burn::tensor::{Device, Int, Tensor};
use rand_chacha::ChaCha8Rng;

use super::ExecError;
use super::plan::LifetimePlan;
use crate::graph::{Graph, GraphNode, Op, ValueId};
use crate::ops::shard::Shard;
use crate::ops::tensors::DeviceValue;
use crate::ops::{Backward, ConstantPair, Forward, GradientSums, InputValues, Located, Malformed};

/// What a pass reads but does not change.
pub(super) struct Environment<'a> {
    pub graph: &'a Graph,
    pub plan: &'a LifetimePlan,
    /// The present values of the parameters.
    pub params: &'a [DeviceValue],
    /// For each node the constant tensors that it needs: masks, rotations.
    pub tables: &'a [Option<ConstantPair>],
    pub device: &'a Device,
}

/// Values of one pass.
pub(super) struct Pass<'a> {
    environment: Environment<'a>,
    tokens: Tensor<1, Int>,
    pub(super) values: Vec<Option<DeviceValue>>,
    /// What an operation's gradient needs besides values: a norm's factor, a dropout mask.
    pub(super) kept: Vec<Option<DeviceValue>>,
    /// In training, the part of the batch: values that the backward pass reads are kept, and dropout is on.
    training: Option<Shard>,
}

impl<'a> Pass<'a> {
    /// `tokens` are `batch * context` byte values; `training` is the shard of the batch that they are, in training.
    pub fn new(environment: Environment<'a>, tokens: Tensor<1, Int>, training: Option<Shard>) -> Self {
        let count = environment.graph.nodes.len();
        Self { environment, tokens, values: vec![None; count], kept: vec![None; count], training }
    }

    /// Runs all nodes and returns the logits, `[1, 1, batch, context, 256]`.
    pub fn forward(&mut self, dropout: &mut ChaCha8Rng) -> Result<DeviceValue, ExecError> {
        let graph = self.environment.graph;
        for (i, node) in graph.nodes.iter().enumerate() {
            // Tokens are integers and kept apart from the values.
            if node.op == Op::Tokens {
                continue;
            }
            let inputs = node.op.inputs();
            let value = self.evaluate(i, node, &inputs, dropout)?;
            if let Some(slot) = self.values.get_mut(i) {
                *slot = Some(value);
            }
            for input in inputs {
                if self.ends_with(i, input) {
                    self.values.get_mut(input.index()).map(Option::take);
                }
            }
        }
        Ok(self.read(graph.nodes.len(), graph.logits)?)
    }

    fn evaluate(
        &mut self,
        i: usize,
        node: &GraphNode,
        inputs: &[ValueId],
        dropout: &mut ChaCha8Rng,
    ) -> Result<DeviceValue, Malformed> {
        let inputs = self.inputs(i, inputs)?;
        let mut run = Forward {
            at: Located::new(&self.environment.graph.nodes, i),
            tokens: &self.tokens,
            params: self.environment.params,
            table: self.environment.tables.get(i).and_then(Option::as_ref),
            device: self.environment.device,
            dropout: self.training.map(|_| dropout),
            shard: self.training.unwrap_or(Shard::WHOLE),
            kept: None,
        };
        let value = node.op.rules().forward(inputs, &mut run)?;
        let kept = run.kept.filter(|_| self.training.is_some() && self.environment.plan.flows(i));
        if let Some(slot) = self.kept.get_mut(i) {
            *slot = kept;
        }
        Ok(value)
    }

    /// The values that node `reader` reads, without tokens.
    fn inputs(&mut self, reader: usize, ids: &[ValueId]) -> Result<InputValues, Malformed> {
        let mut values = Vec::with_capacity(ids.len());
        let mut rest = ids;
        while let [id, later @ ..] = rest {
            rest = later;
            if self.environment.graph.nodes.get(id.index()).is_some_and(|node| node.op == Op::Tokens) {
                continue;
            }
            // A value that the same node reads again must stay for that.
            values.push(if later.contains(id) { self.peek(*id)? } else { self.read(reader, *id)? });
        }
        Ok(InputValues::new(values))
    }

    /// A value for `reader`: moved out if nobody reads it afterwards, so that burn may write into it.
    fn read(&mut self, reader: usize, id: ValueId) -> Result<DeviceValue, Malformed> {
        if self.ends_with(reader, id) {
            let slot = self.values.get_mut(id.index());
            return slot.and_then(Option::take).ok_or(Malformed("a value is read before it is made"));
        }
        self.peek(id)
    }

    /// A value that stays.
    fn peek(&self, id: ValueId) -> Result<DeviceValue, Malformed> {
        let value = self.values.get(id.index()).and_then(Option::as_ref);
        value.cloned().ok_or(Malformed("a value is read before it is made"))
    }

    /// Whether nobody needs the value after `reader`.
    fn ends_with(&self, reader: usize, id: ValueId) -> bool {
        let plan = self.environment.plan;
        let last = plan.last_use.get(id.index()).is_some_and(|last| *last == reader);
        let saved = self.training.is_some() && plan.saved.get(id.index()).copied().unwrap_or(true);
        last && !saved
    }

    /// Gradients of the parameters, given the loss's gradient with respect to the logits. Frees
    /// the kept values on the way. A parameter that the logits do not depend on has none.
    pub fn backward(&mut self, logits_gradient: DeviceValue) -> Result<Vec<Option<DeviceValue>>, ExecError> {
        let (graph, plan) = (self.environment.graph, self.environment.plan);
        let mut sums = GradientSums::new(graph.nodes.len(), graph.params.len());
        sums.add(graph.logits, logits_gradient);
        for (i, node) in graph.nodes.iter().enumerate().rev() {
            if !plan.flows(i) {
                continue;
            }
            let kept = self.kept.get_mut(i).and_then(Option::take);
            if let Some(grad) = sums.nodes.get_mut(i).and_then(Option::take) {
                let mut run = Backward {
                    at: Located::new(&graph.nodes, i),
                    tokens: &self.tokens,
                    values: &self.values,
                    flows: &plan.grad,
                    table: self.environment.tables.get(i).and_then(Option::as_ref),
                    kept,
                    sums: &mut sums,
                };
                node.op.rules().backward(grad, &mut run)?;
            }
            for value in plan.drop_backward.get(i).into_iter().flatten() {
                if let Some(slot) = self.values.get_mut(value.index()) {
                    *slot = None;
                }
            }
        }
        Ok(sums.params)
    }
}
