//! Support for the tests of operations: graphs built by hand, run by the executor, and gradients
//! compared with finite differences.

use burn::tensor::Device;

use super::tensors::{padded, upload};
use super::{Op, ReadParam};
use crate::exec::Executor;
use crate::graph::{AdamW, Decay, Graph, GraphNode, Optimizer, Schedule};
use crate::value::{Init, Param, ParamId, Shape, ValueId};

/// Six numbers of both signs, shape `[2, 3]`.
pub(crate) const SIX: (&[usize], &[f32]) = (&[2, 3], &[0.3, -1.2, 2.0, 0.7, 1.5, -0.4]);

/// 1 to 6, shape `[2, 3]`.
pub(crate) const COUNTED: (&[usize], &[f32]) = (&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

/// Builds graphs by hand, shapes included.
pub(crate) struct Builder(Graph);

impl Builder {
    pub fn new(batch: usize, context: usize) -> Self {
        let rule = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, clip: 1.0 };
        let optimizer = Optimizer::AdamW(rule);
        let schedule = Schedule { shape: Decay::Constant, warmup: 0.0, cooldown: 0.0, floor: 0.0 };
        let (params, nodes, logits) = (vec![], vec![], ValueId(0));
        Self(Graph { batch, context, params, nodes, logits, optimizer, schedule })
    }

    pub fn node(&mut self, op: impl Into<Op>, shape: &[usize]) -> ValueId {
        self.0.nodes.push(GraphNode { op: op.into(), shape: shape.to_vec(), line: 0, enforced: None });
        ValueId::at(self.0.nodes.len() - 1)
    }

    pub fn param(&mut self, shape: &[usize], init: Init) -> ValueId {
        let name = format!("p{}", self.0.params.len());
        self.0.params.push(Param { name, shape: shape.to_vec(), init, lr_scale: 1.0, decay: true, optimizer: None });
        self.node(ReadParam(ParamId(self.0.params.len() as u32 - 1)), shape)
    }

    pub fn done(mut self, logits: ValueId) -> Graph {
        self.0.logits = logits;
        self.0
    }
}

/// A graph over parameters that have given values.
pub(crate) struct Case {
    inputs: Vec<(Shape, Vec<f32>)>,
    tokens: Vec<u8>,
    graph: Graph,
}

impl Case {
    /// The graph that `build` makes of parameters with these shapes and values. Its result is the
    /// value that `build` returns.
    pub fn new(inputs: &[(&[usize], &[f32])], build: impl FnOnce(&mut Builder, &[ValueId]) -> ValueId) -> Self {
        let mut builder = Builder::new(1, 3);
        let ids: Vec<ValueId> = inputs.iter().map(|(shape, _)| builder.param(shape, Init::Constant(0.0))).collect();
        let last = build(&mut builder, &ids);
        let inputs = inputs.iter().map(|(shape, values)| (shape.to_vec(), values.to_vec())).collect();
        Self { inputs, tokens: vec![2, 0, 1], graph: builder.done(last) }
    }

    fn executor(&self) -> Executor {
        let device = Device::flex();
        let mut executor = Executor::new(self.graph.clone(), device.clone(), 1);
        let upload = |(shape, values): &(Shape, Vec<f32>)| upload(values.clone(), padded(shape), &device);
        executor.set_params(self.inputs.iter().map(upload).collect());
        executor
    }

    fn run(&self) -> Vec<f32> {
        self.executor().try_logits(&self.tokens).unwrap()
    }

    /// Asserts the graph's result.
    #[track_caller]
    pub fn gives(&self, expected: &[f32]) -> &Self {
        let found = self.run();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{found:?} is not {expected:?}");
        }
        self
    }

    /// One pass in training: the result, and the gradients of `sum(weight * result)` for each
    /// parameter.
    pub fn train(&self, weights: &[f32]) -> (Vec<f32>, Vec<Vec<f32>>) {
        let (result, grads) = self.executor().gradients_of_sum(&self.tokens, weights);
        let numbers = |value: super::tensors::DeviceValue| value.try_into_vec_as::<f32>().unwrap();
        (numbers(result), grads.into_iter().map(|grad| numbers(grad.expect("a gradient"))).collect())
    }

    /// Compares the gradient of `sum(weight * result)` with central differences.
    #[track_caller]
    pub fn gradient_checks(&self) {
        let weigh = |i: usize| ((i * 37 % 11) as f32 - 4.0) / 5.0;
        let objective =
            |case: &Self| -> f64 { case.run().iter().enumerate().map(|(i, v)| f64::from(v * weigh(i))).sum() };
        let weights: Vec<f32> = (0..self.run().len()).map(weigh).collect();
        let (_, grads) = self.train(&weights);
        for (p, grad) in grads.into_iter().enumerate() {
            for (i, found) in grad.iter().enumerate() {
                let moved = |by: f32| {
                    let mut case =
                        Self { inputs: self.inputs.clone(), tokens: self.tokens.clone(), graph: self.graph.clone() };
                    case.inputs[p].1[i] += by;
                    objective(&case)
                };
                let expected = (moved(5e-3) - moved(-5e-3)) / 1e-2;
                let close = (f64::from(*found) - expected).abs() < 5e-3 * (1.0 + expected.abs());
                assert!(close, "parameter {p}[{i}]: {found}, by differences {expected}");
            }
        }
    }
}
