//! The operations of the language on symbolic tensors: check shapes, add nodes.
//!
//! Operators, methods and functions of the language all come through here, so that there is one
//! rule and one message for each operation.

use super::error::Misuse;
use super::session::Session;
use super::shapes::{self, show};
use crate::graph::{Binary, Init, Op, Param, Reduce, Shape, Unary, ValueId};

type Made = Result<Tensor, Misuse>;

/// A value of the graph that is being built: its index and shape, no numbers.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) id: ValueId,
    pub(super) shape: Shape,
    /// The input bytes are integers, which only `embedding()` takes.
    pub(super) is_tokens: bool,
    pub(super) session: Session,
}

/// A tensor, or a number that becomes a scalar next to one.
pub(super) enum Operand<'t> {
    Tensor(&'t Tensor),
    Number(f64),
}

/// Which of the elementwise functions of two operands, and its name in messages.
#[derive(Clone, Copy)]
pub(super) struct BinaryOp(pub(super) Binary, pub(super) &'static str);

impl Session {
    /// Adds a node.
    pub(super) fn make(&self, op: Op, shape: Shape) -> Made {
        let id = self.declared().push(op, shape.clone())?;
        Ok(Tensor { id, shape, is_tokens: false, session: self.clone() })
    }

    /// The input bytes, shape `[batch, context]`.
    pub(super) fn tokens(&self, batch: usize, context: usize) -> Made {
        let tokens = self.make(Op::Tokens, vec![batch, context])?;
        Ok(Tensor { is_tokens: true, ..tokens })
    }

    /// A trainable tensor.
    pub(super) fn param(&self, param: Param) -> Made {
        let shape = param.shape.clone();
        let id = self.declared().push_param(param)?;
        Ok(Tensor { id, shape, is_tokens: false, session: self.clone() })
    }

    /// A number as a value of the graph.
    pub(super) fn scalar(&self, value: f64) -> Made {
        self.make(Op::Scalar(finite("number", value)?), Vec::new())
    }

    /// One of two operands as a value of the graph.
    fn lift(&self, what: &str, operand: &Operand<'_>) -> Made {
        match operand {
            Operand::Tensor(tensor) => {
                tensor.float(what)?;
                Ok((*tensor).clone())
            }
            Operand::Number(number) => self.scalar(*number),
        }
    }

    /// An elementwise function of two operands, broadcast.
    pub(super) fn binary(&self, op: BinaryOp, a: &Operand<'_>, b: &Operand<'_>) -> Made {
        if let (Binary::Div, Operand::Number(1.0), Operand::Tensor(b)) = (op.0, a, b) {
            return b.unary(op.1, Unary::Recip);
        }
        let (a, b) = (self.lift(op.1, a)?, self.lift(op.1, b)?);
        let shape = shapes::broadcast(op.1, &a.shape, &b.shape)?;
        self.make(Op::Binary(op.0, a.id, b.id), shape)
    }
}

impl Tensor {
    /// Refuses the tokens where numbers are wanted.
    pub(super) fn float(&self, what: &str) -> Result<(), Misuse> {
        if self.is_tokens {
            return Err(Misuse::new(format!(
                "{what}: tokens are integers; turn them into vectors with embedding(table, tokens) first"
            )));
        }
        Ok(())
    }

    /// Refuses tensors without dimensions, such as a lone number.
    fn last_dimension(&self, what: &str) -> Result<usize, Misuse> {
        self.float(what)?;
        self.shape
            .last()
            .copied()
            .ok_or_else(|| Misuse::new(format!("{what}: the tensor has no dimensions; reshape([1]) it first")))
    }

    fn same_shape(&self, what: &str, op: Op) -> Made {
        self.float(what)?;
        self.session.make(op, self.shape.clone())
    }

    pub(super) fn unary(&self, what: &str, op: Unary) -> Made {
        self.same_shape(what, Op::Unary(op, self.id))
    }

    /// The product over the last two dimensions. A matrix on the right takes all rows of the
    /// left at once: `[b,t,c] x [c,n]` runs as `[b*t,c] x [c,n]`.
    pub(super) fn matmul(&self, other: &Tensor) -> Made {
        self.float("matmul")?;
        other.float("matmul")?;
        let shape = shapes::matmul(&self.shape, &other.shape)?;
        if let ([rows @ .., inner], [_, _]) = (self.shape.as_slice(), other.shape.as_slice())
            && rows.len() > 1
        {
            let rows = i64::try_from(shapes::elements(rows)).unwrap_or(i64::MAX);
            let flat = self.reshape(&[rows, *inner as i64])?.matmul(other)?;
            return self.session.make(Op::Reshape(flat.id), shape);
        }
        self.session.make(Op::Matmul(self.id, other.id), shape)
    }

    pub(super) fn reshape(&self, wanted: &[i64]) -> Made {
        self.float("reshape")?;
        let shape = shapes::reshape(&self.shape, wanted)?;
        self.session.make(Op::Reshape(self.id), shape)
    }

    pub(super) fn permute(&self, axes: &[i64]) -> Made {
        self.float("permute")?;
        let (order, shape) = shapes::permute(&self.shape, axes)?;
        self.session.make(Op::Permute(self.id, order), shape)
    }

    pub(super) fn transpose(&self, a: i64, b: i64) -> Made {
        self.float("transpose")?;
        let (a, b) = (shapes::axis("transpose", a, &self.shape)?, shapes::axis("transpose", b, &self.shape)?);
        let mut order: Vec<i64> = (0..self.shape.len() as i64).collect();
        order.swap(a, b);
        self.permute(&order)
    }

    pub(super) fn slice(&self, axis: i64, start: i64, end: Option<i64>) -> Made {
        self.float("slice")?;
        let axis = shapes::axis("slice", axis, &self.shape)?;
        let (start, end, shape) = shapes::slice(&self.shape, axis, start, end)?;
        self.session.make(Op::Slice { x: self.id, axis, start, end }, shape)
    }

    /// Equal parts along one dimension.
    pub(super) fn split(&self, parts: usize, axis: i64) -> Result<Vec<Tensor>, Misuse> {
        self.float("split")?;
        let along = shapes::axis("split", axis, &self.shape)?;
        let extent = self.shape.get(along).copied().unwrap_or(1);
        if parts == 0 || !extent.is_multiple_of(parts) {
            return Err(Misuse::new(format!(
                "split: dimension {along} of {} has extent {extent}, which does not divide into {parts} parts",
                show(&self.shape)
            )));
        }
        let part = (extent / parts) as i64;
        (0..parts as i64).map(|i| self.slice(along as i64, i * part, Some((i + 1) * part))).collect()
    }

    /// Reduced over one dimension, which goes unless it is kept with extent 1.
    pub(super) fn reduce(&self, what: &str, op: Reduce, axis: i64, keep: bool) -> Made {
        self.float(what)?;
        let axis = shapes::axis(what, axis, &self.shape)?;
        let kept = self.session.make(Op::Reduce(op, self.id, axis), shapes::reduced(&self.shape, axis))?;
        if keep {
            return Ok(kept);
        }
        self.session.make(Op::Reshape(kept.id), shapes::without(&self.shape, axis))
    }

    pub(super) fn softmax(&self, axis: i64) -> Made {
        let axis = shapes::axis("softmax", axis, &self.shape)?;
        self.same_shape("softmax", Op::Softmax(self.id, axis))
    }

    pub(super) fn rms_norm(&self, eps: f64) -> Made {
        self.last_dimension("rms_norm")?;
        self.same_shape("rms_norm", Op::RmsNorm { x: self.id, eps: positive("rms_norm: eps", eps)? })
    }

    pub(super) fn layer_norm(&self, eps: f64) -> Made {
        self.last_dimension("layer_norm")?;
        self.same_shape("layer_norm", Op::LayerNorm { x: self.id, eps: positive("layer_norm: eps", eps)? })
    }

    pub(super) fn causal_mask(&self) -> Made {
        shapes::causal_mask(&self.shape)?;
        self.same_shape("causal_mask", Op::CausalMask(self.id))
    }

    pub(super) fn rope(&self, base: f64) -> Made {
        shapes::rope(&self.shape)?;
        self.same_shape("rope", Op::Rope { x: self.id, base: positive("rope: base", base)? })
    }

    pub(super) fn shift(&self, by: i64, axis: i64) -> Made {
        let axis = shapes::axis("shift", axis, &self.shape)?;
        let extent = self.shape.get(axis).copied().unwrap_or(0);
        let by = usize::try_from(by).ok().filter(|by| *by < extent).ok_or_else(|| {
            Misuse::new(format!(
                "shift: by {by} along dimension {axis} of {}: choose 0..{}; values only move later",
                show(&self.shape),
                extent.saturating_sub(1)
            ))
        })?;
        if by == 0 {
            self.float("shift")?;
            return Ok(self.clone());
        }
        self.same_shape("shift", Op::Shift { x: self.id, axis, by })
    }

    pub(super) fn dropout(&self, p: f64) -> Made {
        self.float("dropout")?;
        if !(0.0..1.0).contains(&p) {
            return Err(Misuse::new(format!("dropout: p is {p}; choose 0 <= p < 1")));
        }
        if p == 0.0 {
            return Ok(self.clone());
        }
        self.same_shape("dropout", Op::Dropout { x: self.id, p })
    }

    pub(super) fn detach(&self) -> Made {
        self.same_shape("detach", Op::Detach(self.id))
    }

    /// Rows of this table `[256, width]` picked by the tokens.
    pub(super) fn embedding(&self, tokens: &Tensor) -> Made {
        self.float("embedding")?;
        if !tokens.is_tokens {
            return Err(Misuse::new(
                "embedding: the second argument must be the tokens that train() gives to the model: embedding(table, tokens)",
            ));
        }
        let width = shapes::embedding(&self.shape)?;
        let mut shape = tokens.shape.clone();
        shape.push(width);
        self.session.make(Op::Embedding { table: self.id, tokens: tokens.id }, shape)
    }

    /// `x W (+ b)` with new parameters `name.weight` `[in, out]` and `name.bias` `[out]`.
    pub(super) fn linear(&self, name: &str, out: usize, bias: bool, init: Option<Init>, lr_scale: f64) -> Made {
        let width = self.last_dimension("linear")?;
        let init = init.unwrap_or(Init::Normal((width as f64).sqrt().recip()));
        let param = |suffix: &str, shape: Shape, init, decay| Param {
            name: format!("{name}.{suffix}"),
            shape,
            init,
            lr_scale,
            decay,
        };
        let weight = self.session.param(param("weight", vec![width, out], init, true))?;
        let row = if self.shape.len() == 1 { self.reshape(&[1, -1])? } else { self.clone() };
        let product = row.matmul(&weight)?;
        let product = if self.shape.len() == 1 { product.reshape(&[-1])? } else { product };
        if !bias {
            return Ok(product);
        }
        let bias = self.session.param(param("bias", vec![out], Init::Constant(0.0), false))?;
        self.session.binary(BinaryOp(Binary::Add, "linear"), &Operand::Tensor(&product), &Operand::Tensor(&bias))
    }

    /// `[batch, context, heads * width]` to `[batch, heads, context, width]`.
    pub(super) fn split_heads(&self, heads: usize) -> Made {
        let [batch, context, width] = self.shape.as_slice() else {
            return Err(Misuse::new(format!("split_heads: {} must be [batch, context, width]", show(&self.shape))));
        };
        if heads == 0 || width % heads != 0 {
            return Err(Misuse::new(format!(
                "split_heads: width {width} of {} does not divide into {heads} heads",
                show(&self.shape)
            )));
        }
        self.reshape(&[*batch as i64, *context as i64, heads as i64, -1])?.transpose(1, 2)
    }

    /// `[batch, heads, context, width]` to `[batch, context, heads * width]`.
    pub(super) fn merge_heads(&self) -> Made {
        let [batch, _, context, _] = self.shape.as_slice() else {
            return Err(Misuse::new(format!(
                "merge_heads: {} must be [batch, heads, context, width]",
                show(&self.shape)
            )));
        };
        self.transpose(1, 2)?.reshape(&[*batch as i64, *context as i64, -1])
    }

    /// Causal attention of these queries over keys and values, `[batch, heads, context, width]`
    /// each; one head of keys and values serves all queries. Scores are scaled by
    /// `1/sqrt(width)` unless told otherwise (Vaswani et al. 2017).
    pub(super) fn attention(&self, keys: &Tensor, values: &Tensor, scale: Option<f64>) -> Made {
        for (tensor, which) in [(self, "q"), (keys, "k"), (values, "v")] {
            if tensor.shape.len() != 4 {
                return Err(Misuse::new(format!(
                    "attention: {which} is {}, it must be [batch, heads, context, width]: split_heads() first",
                    show(&tensor.shape)
                )));
            }
        }
        let width = self.last_dimension("attention")?;
        let scale = scale.unwrap_or_else(|| (width as f64).sqrt().recip());
        let add_place = |error: Misuse| {
            Misuse::new(format!(
                "attention: q {}, k {}, v {}: {error}",
                show(&self.shape),
                show(&keys.shape),
                show(&values.shape)
            ))
        };
        // Scaling the queries touches context * width numbers, the scores context * context.
        let queries =
            self.session.binary(BinaryOp(Binary::Mul, "attention"), &Operand::Tensor(self), &Operand::Number(scale))?;
        let scores = queries.matmul(&keys.transpose(2, 3)?).map_err(add_place)?;
        let weights = scores.causal_mask().map_err(add_place)?.softmax(-1)?;
        weights.matmul(values).map_err(add_place)
    }
}

/// Joins tensors along one dimension.
pub(super) fn concat(session: &Session, parts: &[&Tensor], axis: i64) -> Made {
    for part in parts {
        part.float("concat")?;
    }
    let Some(first) = parts.first() else {
        return Err(Misuse::new("concat: the list is empty; give at least one tensor"));
    };
    let axis = shapes::axis("concat", axis, &first.shape)?;
    let all: Vec<&[usize]> = parts.iter().map(|part| part.shape.as_slice()).collect();
    let shape = shapes::concat(&all, axis)?;
    session.make(Op::Concat(parts.iter().map(|part| part.id).collect(), axis), shape)
}

/// Refuses NaN, infinities and what the tensors' 32-bit floats would turn into one.
pub(super) fn finite(what: &str, value: f64) -> Result<f64, Misuse> {
    if (value as f32).is_finite() {
        return Ok(value);
    }
    let also = if value.is_finite() { ", as a 32-bit float too" } else { "" };
    Err(Misuse::new(format!("{what} is {value:?}; it must be finite{also}")))
}

/// Refuses what is not a finite number above 0.
pub(super) fn positive(what: &str, value: f64) -> Result<f64, Misuse> {
    if finite(what, value)? > 0.0 {
        return Ok(value);
    }
    Err(Misuse::new(format!("{what} is {value}; it must be above 0")))
}
