//! The graph that a train script is traced into: operations in order, their shapes, the
//! parameters, and how to train them.
//!
//! This is the border between the language (`lang/`, which builds a `Graph`) and the executor
//! (`exec/`, which runs one with burn). A `Graph` is plain data: it holds no tensor and knows no
//! device, and two scripts with one meaning give equal graphs, hence one [`Graph::hash`]. What an
//! operation means stands in [`ops`](crate::ops).
//!
//! All shapes are static. The batch and context sizes are the script's own choice.
//!
//! What tracing promises beyond the types: every node is used (the logits depend on it), nodes
//! stand in depth-first order from the logits, parameters in order of first use, all numbers are
//! finite, and no extent is 0.

mod causality;
mod description;
mod hash;
mod measure;
mod shard;

use serde::Serialize;

pub use crate::ops::{GraphNode, Op};
pub use crate::optimizer::{AdamW, Lion, Muon, Optimizer, Sgd};
pub use crate::value::{Init, MAX_RANK, Param, ParamId, Shape, ValueId};

/// A traced and checked experiment, ready to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Sequences in one training step.
    pub batch: usize,
    /// Bytes in one sequence that the model sees.
    pub context: usize,
    /// Trainable tensors in order of first use. Exactly one node reads each
    /// ([`ReadParam`](crate::ops::ReadParam)).
    pub params: Vec<Param>,
    /// Values in evaluation order: a node names only earlier nodes.
    pub nodes: Vec<GraphNode>,
    /// The value of shape `[batch, context, 256]`: unnormalised log-probabilities of the next byte.
    pub logits: ValueId,
    /// How parameters without a rule of their own ([`Param::optimizer`]) are updated.
    pub optimizer: Optimizer,
    /// Learning rates as multiples of [`Optimizer::lr`], over the run.
    pub schedule: Schedule,
}

/// Learning rate over a run of N steps, N known before the first one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Schedule {
    /// How the rate falls in the end.
    pub shape: Decay,
    /// Share of the run spent rising linearly from 0, 0.0..=1.0.
    pub warmup: f64,
    /// Share of the run spent falling, 0.0..=1.0 - warmup.
    pub cooldown: f64,
    /// Multiple of the peak at the very end, 0.0..=1.0.
    pub floor: f64,
}

/// The curve along which a learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// The rate stays at its peak.
    Constant,
    /// A straight line.
    Linear,
    /// Half a period of a cosine.
    Cosine,
}

impl Graph {
    /// The rule by which a parameter is updated.
    pub fn rule_of<'g>(&'g self, param: &'g Param) -> &'g Optimizer {
        param.optimizer.as_ref().unwrap_or(&self.optimizer)
    }
}
