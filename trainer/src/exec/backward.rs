//! Gradients backward through a [`Pass`].

use burn::tensor::Tensor;

use super::ExecError;
use super::forward::{self, LAST, Value, axis, padded};
use super::pass::{Pass, unary_gradient, unbroadcast};
use super::plan::index;
use crate::graph::{Binary, Node, Op, Reduce, Unary, ValueId};

impl Pass<'_> {
    /// Gradients of the parameters, given the loss's gradient with respect to the logits. Frees
    /// the kept values on the way. A parameter that the logits do not depend on has none.
    pub fn backward(&mut self, logits_gradient: Value) -> Result<Vec<Option<Value>>, ExecError> {
        let (graph, plan) = (self.setting.graph, self.setting.plan);
        let mut sums = Sums { nodes: vec![None; graph.nodes.len()], params: vec![None; graph.params.len()] };
        sums.add(graph.logits, logits_gradient);
        for (i, node) in graph.nodes.iter().enumerate().rev() {
            if !plan.grad.get(i).copied().unwrap_or(false) {
                continue;
            }
            if let Some(grad) = sums.nodes.get_mut(i).and_then(Option::take) {
                self.node_gradient(i, node, grad, &mut sums)?;
            }
            for value in plan.drop_backward.get(i).into_iter().flatten() {
                if let Some(slot) = self.values.get_mut(*value) {
                    *slot = None;
                }
            }
        }
        Ok(sums.params)
    }

    /// Hands node `i`'s gradient on to its inputs.
    fn node_gradient(&mut self, i: usize, node: &Node, grad: Value, sums: &mut Sums) -> Result<(), ExecError> {
        let this = ValueId(i as u32);
        match &node.op {
            Op::Tokens | Op::Scalar(_) | Op::Range(_) | Op::Detach(_) => {}
            Op::Param(id) => accumulate(sums.params.get_mut(id.0 as usize), grad),
            Op::Embedding { table, .. } => {
                let shape = padded(self.shape(*table)?);
                let picked = forward::one_hot(self.tokens.clone(), shape[LAST - 1]);
                sums.add(*table, picked.transpose().matmul(forward::rows(grad)).reshape(shape));
            }
            Op::Unary(op, x) => {
                let from = match op {
                    Unary::Neg => grad.clone(),
                    Unary::Exp | Unary::Sqrt | Unary::Relu | Unary::Tanh | Unary::Sigmoid | Unary::Recip => {
                        self.peek(this)?
                    }
                    _ => self.peek(*x)?,
                };
                sums.add(*x, unary_gradient(*op, from, grad));
            }
            Op::Binary(op, a, b) => self.binary_gradient(this, *op, (*a, *b), grad, sums)?,
            Op::Matmul(a, b) => self.matmul_gradient(*a, *b, grad, sums)?,
            Op::Reshape(x) => sums.add(*x, grad.reshape(padded(self.shape(*x)?))),
            Op::Permute(x, axes) => {
                let forward = forward::permutation(axes);
                let mut back = [0_isize; 5];
                for (to, from) in forward.iter().enumerate() {
                    if let Some(slot) = back.get_mut(*from as usize) {
                        *slot = to as isize;
                    }
                }
                sums.add(*x, grad.permute(back));
            }
            Op::Slice { x, axis: a, start, end } => {
                let dims = padded(self.shape(*x)?);
                sums.add(*x, unslice(grad, dims, self.axis(*x, *a)?, *start, *end));
            }
            Op::Concat(parts, a) => {
                let a = axis(*a, node.shape.len());
                let mut start = 0;
                for part in parts {
                    let extent = padded(self.shape(*part)?).get(a).copied().unwrap_or(0);
                    if self.flows(*part) {
                        sums.add(*part, grad.clone().narrow(a, start, extent));
                    }
                    start += extent;
                }
            }
            Op::Reduce(op, x, a) => self.reduce_gradient(this, *op, (*x, *a), grad, sums)?,
            Op::Softmax(x, a) => {
                let (a, y) = (self.axis(*x, *a)?, self.peek(this)?);
                let weighted = grad * y.clone();
                let total = weighted.clone().sum_dim(a);
                sums.add(*x, weighted - y * total);
            }
            Op::RmsNorm { x, .. } => {
                // r (g - y mean(g y)), with y = x r.
                let y = self.peek(this)?;
                let along = (grad.clone() * y.clone()).mean_dim(LAST);
                sums.add(*x, (grad - y * along) * self.extra(i)?);
            }
            Op::LayerNorm { x, .. } => {
                // r (g - mean(g) - y mean(g y)).
                let y = self.peek(this)?;
                let along = (grad.clone() * y.clone()).mean_dim(LAST);
                let mean = grad.clone().mean_dim(LAST);
                sums.add(*x, (grad - mean - y * along) * self.extra(i)?);
            }
            Op::CausalMask(x) => sums.add(*x, grad * self.table(i)?.1),
            Op::Rope { x, .. } => {
                let (cos, sin) = self.table(i)?;
                sums.add(*x, forward::rotate(grad, cos, sin.neg()));
            }
            Op::Shift { x, axis: a, by } => sums.add(*x, forward::shift_earlier(grad, self.axis(*x, *a)?, *by)),
            Op::Dropout { x, p } if *p > 0.0 => sums.add(*x, grad * self.extra(i)?),
            Op::Dropout { x, .. } => sums.add(*x, grad),
        }
        Ok(())
    }

    fn binary_gradient(
        &self,
        this: ValueId,
        op: Binary,
        (a, b): (ValueId, ValueId),
        grad: Value,
        sums: &mut Sums,
    ) -> Result<(), ExecError> {
        let scaled = |grad: Value, id: ValueId| -> Result<Value, ExecError> {
            Ok(match self.scalar(id) {
                Some(factor) => grad.mul_scalar(factor),
                None => grad * self.peek(id)?,
            })
        };
        let (mut to_a, mut to_b) = (None, None);
        match op {
            Binary::Add => (to_a, to_b) = (Some(grad.clone()), Some(grad)),
            Binary::Sub => {
                to_a = Some(grad.clone());
                to_b = self.flows(b).then(|| grad.neg());
            }
            Binary::Mul => {
                if self.flows(a) {
                    to_a = Some(scaled(grad.clone(), b)?);
                }
                if self.flows(b) {
                    to_b = Some(scaled(grad, a)?);
                }
            }
            Binary::Div => {
                let quotient = grad / self.peek(b)?;
                if self.flows(b) {
                    to_b = Some((quotient.clone() * self.peek(this)?).neg());
                }
                to_a = Some(quotient);
            }
            Binary::Max | Binary::Min => {
                // At equal values the first operand takes all of it.
                let (x, y) = (self.peek(a)?, self.peek(b)?);
                let dims = grad.dims();
                let (x, y) = (x.expand(dims), y.expand(dims));
                let second = if op == Binary::Max { x.lower(y) } else { x.greater(y) };
                to_a = Some(grad.clone().mask_fill(second.clone(), 0.0));
                to_b = Some(grad.mask_fill(second.bool_not(), 0.0));
            }
            Binary::Pow => {
                if self.flows(a) {
                    let base = self.peek(a)?;
                    to_a = Some(match self.scalar(b) {
                        Some(p) => grad.clone() * base.powf_scalar(p - 1.0).mul_scalar(p),
                        None => {
                            let p = self.peek(b)?;
                            grad.clone() * base.powf(p.clone().sub_scalar(1.0)) * p
                        }
                    });
                }
                if self.flows(b) {
                    to_b = Some(grad * self.peek(this)? * self.peek(a)?.log());
                }
            }
        }
        for (id, grad) in [(a, to_a), (b, to_b)] {
            if let (true, Some(grad)) = (self.flows(id), grad) {
                sums.add(id, unbroadcast(grad, padded(self.shape(id)?)));
            }
        }
        Ok(())
    }

    /// `grad b^T` and `a^T grad`.
    fn matmul_gradient(&self, a: ValueId, b: ValueId, grad: Value, sums: &mut Sums) -> Result<(), ExecError> {
        let (a_dims, b_dims) = (padded(self.shape(a)?), padded(self.shape(b)?));
        if forward::folds(&b_dims) {
            let grad = forward::rows(grad);
            if self.flows(a) {
                let b = forward::matrix(self.peek(b)?);
                sums.add(a, grad.clone().matmul(b.transpose()).reshape(a_dims));
            }
            if self.flows(b) {
                let a = forward::rows(self.peek(a)?);
                sums.add(b, a.transpose().matmul(grad).reshape(b_dims));
            }
            return Ok(());
        }
        if self.flows(a) {
            let product = grad.clone().matmul(self.peek(b)?.transpose());
            sums.add(a, unbroadcast(product, a_dims));
        }
        if self.flows(b) {
            let product = self.peek(a)?.transpose().matmul(grad);
            sums.add(b, unbroadcast(product, b_dims));
        }
        Ok(())
    }

    fn reduce_gradient(
        &self,
        this: ValueId,
        op: Reduce,
        (x, a): (ValueId, usize),
        grad: Value,
        sums: &mut Sums,
    ) -> Result<(), ExecError> {
        let (dims, a) = (padded(self.shape(x)?), self.axis(x, a)?);
        let extent = dims.get(a).copied().unwrap_or(1) as f64;
        let spread = match op {
            Reduce::Sum => grad.expand(dims),
            Reduce::Mean => grad.div_scalar(extent).expand(dims),
            Reduce::Max => {
                // Equal maxima share.
                let hit = self.peek(x)?.equal(self.peek(this)?.expand(dims)).float();
                let share = grad / hit.clone().sum_dim(a);
                hit * share
            }
        };
        sums.add(x, spread);
        Ok(())
    }

    fn flows(&self, id: ValueId) -> bool {
        self.setting.plan.grad.get(index(id)).copied().unwrap_or(false)
    }

    fn extra(&mut self, i: usize) -> Result<Value, ExecError> {
        let extra = self.extras.get_mut(i).and_then(Option::take);
        extra.ok_or(ExecError::Graph("a gradient without what its operation kept"))
    }
}

/// Gradients summed so far.
struct Sums {
    nodes: Vec<Option<Value>>,
    params: Vec<Option<Value>>,
}

impl Sums {
    fn add(&mut self, id: ValueId, grad: Value) {
        accumulate(self.nodes.get_mut(index(id)), grad);
    }
}

fn accumulate(slot: Option<&mut Option<Value>>, grad: Value) {
    if let Some(slot) = slot {
        *slot = Some(match slot.take() {
            Some(sum) => sum + grad,
            None => grad,
        });
    }
}

/// `grad` at `start..end` of `axis`, zeros around it.
fn unslice(grad: Value, dims: [usize; 5], axis: usize, start: usize, end: usize) -> Value {
    let extent = dims.get(axis).copied().unwrap_or(0);
    let device = grad.device();
    let zeros = |len: usize| {
        let mut dims = dims;
        if let Some(dim) = dims.get_mut(axis) {
            *dim = len;
        }
        Tensor::zeros(dims, &device)
    };
    let mut parts = Vec::with_capacity(3);
    if start > 0 {
        parts.push(zeros(start));
    }
    parts.push(grad);
    if end < extent {
        parts.push(zeros(extent - end));
    }
    Tensor::cat(parts, axis)
}
