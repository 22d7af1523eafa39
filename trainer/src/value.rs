//! Ids, shapes and trainable tensors: the words that the operations ([`ops`](crate::ops)) and the
//! graph ([`graph`](crate::graph)) share. Plain data.

use serde::Serialize;

use crate::optimizer::Optimizer;

/// Most dimensions of any value.
pub const MAX_RANK: usize = 5;

/// A tensor's extents, outermost dimension first. A scalar has rank 0.
pub type Shape = Vec<usize>;

/// Index of a [`GraphNode`](crate::ops::GraphNode) in [`Graph::nodes`](crate::graph::Graph::nodes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The id of the node at this position. Tracing bounds the number of nodes far below 2^32.
    pub(crate) fn at(position: usize) -> Self {
        Self(u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// The position in vectors that have an entry for each node.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Index of a [`Param`] in [`Graph::params`](crate::graph::Graph::params).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ParamId(pub u32);

/// A trainable tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Unique within the graph. Not part of the graph's identity.
    pub name: String,
    /// Rank 1 to [`MAX_RANK`].
    pub shape: Shape,
    /// The values before the first step.
    pub init: Init,
    /// Multiplies the optimizer's learning rate for this tensor; at least 0.
    pub lr_scale: f64,
    /// Whether weight decay applies.
    pub decay: bool,
    /// A rule of its own. None for that of the graph.
    pub optimizer: Option<Optimizer>,
}

/// Initial values of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Every element has this value.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform in `-limit..limit`.
    Uniform(f64),
}

/// Number of elements of a shape; 1 for a scalar's empty one. Saturates: the result is compared
/// with limits and never addresses memory.
pub(crate) fn elements(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |product, extent| product.saturating_mul(*extent as u64))
}

/// A shape as messages show it: `[8,64,96]`.
pub(crate) fn show(shape: &[usize]) -> String {
    let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", extents.join(","))
}
