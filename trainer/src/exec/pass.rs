//! One evaluation of a graph: values forward, then, in training, gradients backward.
//!
//! Reverse-mode differentiation is done here, over the graph, instead of by burn's recording
//! autodiff: the graph is known beforehand, so the backward pass can keep exactly what it reads
//! again ([`Plan`]), use closed forms (softmax, norms, cross-entropy, rotation) where a recorded
//! chain would keep and walk half a dozen intermediates, and let burn fuse or reuse the rest.
//! Tests hold every operation's gradient against finite differences.

use burn::tensor::{Device, Int, Tensor};
use rand_chacha::ChaCha8Rng;

use super::ExecError;
use super::forward::{self, LAST, Value, axis, padded};
use super::plan::{Plan, index};
use super::random::dropout_mask;
use crate::graph::{Binary, Graph, Node, Op, Unary, ValueId};

/// What a pass reads but does not change.
pub(super) struct Setting<'a> {
    pub graph: &'a Graph,
    pub plan: &'a Plan,
    pub params: &'a [Value],
    /// For each node the tables it needs: masks, rotations.
    pub tables: &'a [Option<(Value, Value)>],
    pub device: &'a Device,
}

/// Values of one pass.
pub(super) struct Pass<'a> {
    pub(super) setting: Setting<'a>,
    pub(super) tokens: Tensor<1, Int>,
    pub(super) values: Vec<Option<Value>>,
    /// What an operation's gradient needs besides values: a norm's factor, a dropout mask.
    pub(super) extras: Vec<Option<Value>>,
    /// Values that the backward pass reads are kept, dropout is on.
    training: bool,
}

impl<'a> Pass<'a> {
    /// `tokens` are `batch * context` byte values.
    pub fn new(setting: Setting<'a>, tokens: Tensor<1, Int>, training: bool) -> Self {
        let count = setting.graph.nodes.len();
        Self { setting, tokens, values: vec![None; count], extras: vec![None; count], training }
    }

    /// Runs all nodes and returns the logits, `[1, 1, batch, context, 256]`.
    pub fn forward(&mut self, dropout: &mut ChaCha8Rng) -> Result<Value, ExecError> {
        let graph = self.setting.graph;
        for (i, node) in graph.nodes.iter().enumerate() {
            // Tokens are integers and kept aside.
            if node.op == Op::Tokens {
                continue;
            }
            let value = self.evaluate(i, node, dropout)?;
            if let Some(slot) = self.values.get_mut(i) {
                *slot = Some(value);
            }
            for input in node.op.inputs() {
                if self.ends_with(i, input) {
                    self.values.get_mut(index(input)).map(Option::take);
                }
            }
        }
        self.read(graph.nodes.len(), graph.logits)
    }

    fn evaluate(&mut self, i: usize, node: &Node, dropout: &mut ChaCha8Rng) -> Result<Value, ExecError> {
        let device = self.setting.device;
        Ok(match &node.op {
            Op::Tokens => return Err(ExecError::Graph("tokens used as numbers")),
            Op::Param(id) => {
                let param = self.setting.params.get(id.0 as usize);
                param.cloned().ok_or(ExecError::Graph("no such parameter"))?
            }
            Op::Scalar(value) => Tensor::full([1; 5], *value, device),
            Op::Range(len) => forward::upload((0..*len).map(|k| k as f32).collect(), padded(&vec![*len]), device),
            Op::Embedding { table, .. } => {
                let table = forward::matrix(self.read(i, *table)?);
                table.select(0, self.tokens.clone()).reshape(padded(&node.shape))
            }
            Op::Unary(op, x) => forward::unary(*op, self.read(i, *x)?),
            Op::Binary(op, a, b) => self.binary(i, *op, *a, *b)?,
            Op::Matmul(a, b) => {
                let (a, b) = self.read_two(i, *a, *b)?;
                forward::matmul(a, b)
            }
            Op::Reshape(x) => self.read(i, *x)?.reshape(padded(&node.shape)),
            Op::Permute(x, axes) => self.read(i, *x)?.permute(forward::permutation(axes)),
            Op::Slice { x, axis: a, start, end } => {
                let a = self.axis(*x, *a)?;
                self.read(i, *x)?.narrow(a, *start, end.saturating_sub(*start))
            }
            Op::Concat(parts, a) => {
                let a = axis(*a, node.shape.len());
                // Parts are read as shared values: one may stand twice in the list.
                let parts: Result<Vec<Value>, _> = parts.iter().map(|part| self.peek(*part)).collect();
                Tensor::cat(parts?, a)
            }
            Op::Reduce(op, x, a) => {
                let a = self.axis(*x, *a)?;
                forward::reduce(*op, self.read(i, *x)?, a)
            }
            Op::Softmax(x, a) => {
                let a = self.axis(*x, *a)?;
                burn::tensor::activation::softmax(self.read(i, *x)?, a)
            }
            Op::RmsNorm { x, eps } => {
                let parts = forward::rms_norm(self.read(i, *x)?, *eps);
                self.keep_extra(i, parts)
            }
            Op::LayerNorm { x, eps } => {
                let parts = forward::layer_norm(self.read(i, *x)?, *eps);
                self.keep_extra(i, parts)
            }
            Op::CausalMask(x) => self.read(i, *x)? + self.table(i)?.0,
            Op::Rope { x, .. } => {
                let (cos, sin) = self.table(i)?;
                forward::rotate(self.read(i, *x)?, cos, sin)
            }
            Op::Shift { x, axis: a, by } => {
                let a = self.axis(*x, *a)?;
                forward::shift_later(self.read(i, *x)?, a, *by)
            }
            Op::Dropout { x, p } if self.training && *p > 0.0 => {
                let dims = padded(&node.shape);
                let mask = dropout_mask(*p, dims.iter().product(), dropout);
                let mask = forward::upload(mask, dims, device);
                let dropped = self.read(i, *x)? * mask.clone();
                self.keep_extra(i, (dropped, mask))
            }
            Op::Dropout { x, .. } | Op::Detach(x) => self.read(i, *x)?,
        })
    }

    fn binary(&mut self, i: usize, op: Binary, a: ValueId, b: ValueId) -> Result<Value, ExecError> {
        let commutes = matches!(op, Binary::Add | Binary::Mul | Binary::Max | Binary::Min);
        Ok(match (self.scalar(a), self.scalar(b)) {
            (_, Some(b)) => forward::binary_scalar(op, self.read(i, a)?, b),
            (Some(a), None) if commutes => forward::binary_scalar(op, self.read(i, b)?, a),
            _ => {
                let (a, b) = self.read_two(i, a, b)?;
                forward::binary(op, a, b)
            }
        })
    }

    /// The number, if the value is a constant one.
    pub(super) fn scalar(&self, id: ValueId) -> Option<f64> {
        match self.setting.graph.nodes.get(index(id)).map(|node| &node.op) {
            Some(Op::Scalar(value)) => Some(*value),
            _ => None,
        }
    }

    /// A value for `reader`: moved out if nobody reads it afterwards, so that burn may write into it.
    fn read(&mut self, reader: usize, id: ValueId) -> Result<Value, ExecError> {
        if self.ends_with(reader, id) {
            let slot = self.values.get_mut(index(id));
            return slot.and_then(Option::take).ok_or(ExecError::Graph("a value is read before it is made"));
        }
        self.peek(id)
    }

    /// Whether nobody needs the value after `reader`.
    fn ends_with(&self, reader: usize, id: ValueId) -> bool {
        let plan = self.setting.plan;
        let last = plan.last_use.get(index(id)).is_some_and(|last| *last as usize == reader);
        let kept = self.training && plan.saved.get(index(id)).copied().unwrap_or(true);
        last && !kept
    }

    fn read_two(&mut self, reader: usize, a: ValueId, b: ValueId) -> Result<(Value, Value), ExecError> {
        let first = if a == b { self.peek(a)? } else { self.read(reader, a)? };
        Ok((first, self.read(reader, b)?))
    }

    /// A shared handle of a value.
    pub(super) fn peek(&self, id: ValueId) -> Result<Value, ExecError> {
        let value = self.values.get(index(id)).and_then(Option::as_ref);
        value.cloned().ok_or(ExecError::Graph("a value is read that was not made or not kept"))
    }

    pub(super) fn table(&self, i: usize) -> Result<(Value, Value), ExecError> {
        self.setting.tables.get(i).cloned().flatten().ok_or(ExecError::Graph("a node without its table"))
    }

    /// The device axis of axis `a` of a graph value.
    pub(super) fn axis(&self, id: ValueId, a: usize) -> Result<usize, ExecError> {
        Ok(axis(a, self.shape(id)?.len()))
    }

    pub(super) fn shape(&self, id: ValueId) -> Result<&'a Vec<usize>, ExecError> {
        let node = self.setting.graph.nodes.get(index(id));
        node.map(|node| &node.shape).ok_or(ExecError::Graph("no such value"))
    }

    fn keep_extra(&mut self, i: usize, (value, extra): (Value, Value)) -> Value {
        let wanted = self.training && self.setting.plan.grad.get(i).copied().unwrap_or(false);
        if let (true, Some(slot)) = (wanted, self.extras.get_mut(i)) {
            *slot = Some(extra);
        }
        value
    }
}

/// The derivative of an elementwise function times `grad`; `x` is the input or, for functions
/// whose derivative is plainest in it, the output (see `Plan`).
pub(super) fn unary_gradient(op: Unary, x: Value, grad: Value) -> Value {
    match op {
        Unary::Neg => grad.neg(),
        Unary::Exp => grad * x,
        Unary::Log => grad / x,
        Unary::Sqrt => grad / x.mul_scalar(2.0),
        Unary::Square => grad * x.mul_scalar(2.0),
        Unary::Abs => grad * x.sign(),
        Unary::Relu => grad.mask_fill(x.lower_equal_scalar(0.0), 0.0),
        Unary::Gelu => {
            // Phi(x) + x phi(x), with the normal distribution's cdf and density.
            let cdf = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
            let density = x.clone().square().mul_scalar(-0.5).exp();
            let scale = std::f64::consts::FRAC_1_SQRT_2 * std::f64::consts::FRAC_2_SQRT_PI * 0.5;
            grad * (density * x).mul_scalar(scale).add(cdf)
        }
        Unary::Silu => {
            // s (1 + x (1 - s)) with s = sigmoid(x).
            let s = burn::tensor::activation::sigmoid(x.clone());
            let inner = (s.clone().neg().add_scalar(1.0) * x).add_scalar(1.0);
            grad * (s * inner)
        }
        Unary::Tanh => grad * x.square().neg().add_scalar(1.0),
        Unary::Sigmoid => {
            let rest = x.clone().neg().add_scalar(1.0);
            grad * (x * rest)
        }
        Unary::Sin => grad * x.cos(),
        Unary::Cos => grad * x.sin().neg(),
        Unary::Recip => grad * x.square().neg(),
    }
}

/// Sums a gradient over the dimensions along which its value was broadcast.
pub(super) fn unbroadcast(grad: Value, dims: [usize; 5]) -> Value {
    let from = grad.dims();
    if from == dims {
        return grad;
    }
    if dims == [1, 1, 1, 1, from[LAST]] {
        return forward::rows(grad).sum_dim(0).reshape(dims);
    }
    let mut grad = grad;
    for (axis, (have, want)) in from.iter().zip(&dims).enumerate() {
        if *want == 1 && *have != 1 {
            grad = grad.sum_dim(axis);
        }
    }
    grad
}
