//! The graph that a train script is traced into: operations in order, their shapes, the
//! parameters, and how to train them.
//!
//! This is the border between the language (`lang/`, which builds a `Graph`) and the executor
//! (`exec/`, which runs one with burn). A `Graph` is plain data: it holds no tensor, knows no
//! device, and two scripts with one meaning give equal graphs, hence one [`Graph::hash`].
//!
//! All shapes are static. The batch and context sizes are the script's own choice.
//!
//! What tracing promises beyond the types: every node is used (it reaches the logits), nodes stand
//! in depth-first order from the logits, parameters in order of first use, all numbers are finite,
//! and no extent is 0.

mod hash;
mod measure;

use serde::{Deserialize, Serialize};

/// Most dimensions of any value.
pub const MAX_RANK: usize = 5;

/// A tensor's extent, outermost dimension first. Scalars have rank 0 and become `[1]` in burn.
pub type Shape = Vec<usize>;

/// Index of a [`Node`] in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub u32);

/// Index of a [`Param`] in [`Graph::params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ParamId(pub u32);

/// A traced and checked experiment, ready to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Sequences in one training step.
    pub batch: usize,
    /// Bytes in one sequence that the model sees.
    pub context: usize,
    /// Trainable tensors in order of first use; each has exactly one [`Op::Param`] node.
    pub params: Vec<Param>,
    /// Values in evaluation order: a node names only earlier nodes.
    pub nodes: Vec<Node>,
    /// The value of shape `[batch, context, 256]`: unnormalised log-probabilities of the next byte.
    pub logits: ValueId,
    /// How the parameters are updated.
    pub optimizer: AdamW,
    /// Learning rate as a multiple of [`AdamW::lr`], over the run.
    pub schedule: Schedule,
}

/// A trainable tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Unique within the graph. Not part of the graph's identity.
    pub name: String,
    /// Its shape, rank 1 to [`MAX_RANK`].
    pub shape: Shape,
    /// Its values before the first step.
    pub init: Init,
    /// Multiplies the optimizer's learning rate for this tensor.
    pub lr_scale: f64,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// Initial values of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Every element the same.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform in `-limit..limit`.
    Uniform(f64),
}

/// One value of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What computes it.
    pub op: Op,
    /// Its shape, already checked.
    pub shape: Shape,
    /// The script's line, for messages. Not part of the graph's identity.
    pub line: u32,
}

/// An operation over earlier values. Float tensors throughout, but for `Tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// The input bytes as integers 0..=255, shape `[batch, context]`. Only [`Op::Embedding`] takes it.
    Tokens,
    /// A parameter's present value.
    Param(ParamId),
    /// A constant of one element.
    Scalar(f64),
    /// `0, 1, .. len-1` as floats, shape `[len]`.
    Range(usize),
    /// Rows of `table` (`[rows, width]`) picked by the tokens: `[batch, context, width]`.
    Embedding { table: ValueId, tokens: ValueId },
    /// Elementwise, one input.
    Unary(Unary, ValueId),
    /// Elementwise, two inputs, broadcast as NumPy does (aligned at the last dimension).
    Binary(Binary, ValueId, ValueId),
    /// Matrix product over the last two dimensions; leading ones broadcast. Ranks of at least 2.
    Matmul(ValueId, ValueId),
    /// The same elements in another shape.
    Reshape(ValueId),
    /// Dimensions in another order: output dimension `i` is input dimension `axes[i]`.
    Permute(ValueId, Vec<usize>),
    /// Elements `start..end` of one dimension.
    Slice { x: ValueId, axis: usize, start: usize, end: usize },
    /// Joined along one dimension.
    Concat(Vec<ValueId>, usize),
    /// Reduced over one dimension, which stays with extent 1.
    Reduce(Reduce, ValueId, usize),
    /// Softmax over one dimension.
    Softmax(ValueId, usize),
    /// Normalised over the last dimension by its root mean square: `x / sqrt(mean(x^2) + eps)`.
    RmsNorm { x: ValueId, eps: f64 },
    /// Normalised over the last dimension to mean 0 and variance 1.
    LayerNorm { x: ValueId, eps: f64 },
    /// The last two dimensions are queries and keys (`[.., t, t]`): where key > query, `-inf`.
    CausalMask(ValueId),
    /// Rotary position embedding over `[batch, heads, context, width]`, `width` even; pairs are
    /// `(i, i + width/2)`; angle of pair `i` at position `p` is `p * base^(-2i/width)`.
    Rope { x: ValueId, base: f64 },
    /// Values moved `by` positions later along `axis`, zeros coming in at the front.
    Shift { x: ValueId, axis: usize, by: usize },
    /// Elements zeroed with this probability in training, the rest scaled by `1/(1-p)`.
    Dropout { x: ValueId, p: f64 },
    /// The value, through which no gradient flows.
    Detach(ValueId),
}

impl Op {
    /// The values that this operation reads, in order; one that is read twice stands twice.
    pub fn inputs(&self) -> Vec<ValueId> {
        let mut inputs = Vec::new();
        let mut copy = self.clone();
        copy.for_each_input(|id| inputs.push(*id));
        inputs
    }

    /// Visits each value that this operation reads, to renumber it.
    pub fn for_each_input(&mut self, mut visit: impl FnMut(&mut ValueId)) {
        match self {
            Op::Tokens | Op::Param(_) | Op::Scalar(_) | Op::Range(_) => {}
            Op::Embedding { table, tokens } => {
                visit(table);
                visit(tokens);
            }
            Op::Binary(_, a, b) | Op::Matmul(a, b) => {
                visit(a);
                visit(b);
            }
            Op::Concat(parts, _) => parts.iter_mut().for_each(visit),
            Op::Unary(_, x)
            | Op::Reshape(x)
            | Op::Permute(x, _)
            | Op::Slice { x, .. }
            | Op::Reduce(_, x, _)
            | Op::Softmax(x, _)
            | Op::RmsNorm { x, .. }
            | Op::LayerNorm { x, .. }
            | Op::CausalMask(x)
            | Op::Rope { x, .. }
            | Op::Shift { x, .. }
            | Op::Dropout { x, .. }
            | Op::Detach(x) => visit(x),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unary {
    Neg,
    Exp,
    Log,
    Sqrt,
    Square,
    Abs,
    Relu,
    Gelu,
    Silu,
    Tanh,
    Sigmoid,
    Sin,
    Cos,
    Recip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    Sum,
    Mean,
    Max,
}

/// AdamW (Loshchilov & Hutter 2019) with decoupled weight decay and gradient clipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Largest global norm of all gradients together; 0 is no limit.
    pub clip: f64,
}

/// Learning rate over a run of N steps, N known before the first one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub shape: Decay,
    /// Share of the run spent rising linearly from 0, 0.0..=1.0.
    pub warmup: f64,
    /// Share of the run spent falling, 0.0..=1.0 - warmup.
    pub cooldown: f64,
    /// Multiple of the peak at the very end, 0.0..=1.0.
    pub floor: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    Constant,
    Linear,
    Cosine,
}
