//! The place of an operation in a graph: its node, and the shapes and constants around it.

use super::enforced::Enforced;
use super::{Op, Scalar};
use crate::value::{Shape, ValueId};

/// One value of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphNode {
    /// The operation that computes it.
    pub op: Op,
    /// Its shape. Tracing has checked it.
    pub shape: Shape,
    /// The script's line, for messages. Not part of the graph's identity.
    pub line: u32,
    /// What evaluation sets so that the proof of causality holds. Follows from the graph, so it is no
    /// part of the graph's identity.
    pub enforced: Option<Enforced>,
}

/// The place of an operation in a graph.
#[derive(Clone, Copy)]
pub(crate) struct Located<'a> {
    nodes: &'a [GraphNode],
    index: usize,
}

impl<'a> Located<'a> {
    /// The node at `index` of `nodes`.
    pub fn new(nodes: &'a [GraphNode], index: usize) -> Self {
        Self { nodes, index }
    }

    /// The value that the operation computes.
    pub fn id(&self) -> ValueId {
        ValueId::at(self.index)
    }

    /// The values that the operation reads, in order.
    pub fn inputs(&self) -> Vec<ValueId> {
        self.nodes.get(self.index).map(|node| node.op.inputs()).unwrap_or_default()
    }

    /// The script's line.
    pub fn line(&self) -> u32 {
        self.nodes.get(self.index).map_or(0, |node| node.line)
    }

    /// The operation's name in messages.
    pub fn name(&self) -> &'static str {
        self.nodes.get(self.index).map_or("", |node| node.op.rules().name())
    }

    /// The mask that the node sets in evaluation.
    pub fn enforced(&self) -> Option<&'a Enforced> {
        self.nodes.get(self.index).and_then(|node| node.enforced.as_ref())
    }

    /// The shape of the value that the operation computes.
    pub fn shape(&self) -> &'a [usize] {
        self.nodes.get(self.index).map(|node| node.shape.as_slice()).unwrap_or_default()
    }

    /// The shape of another value of the graph.
    ///
    /// # Errors
    /// [`Malformed`] when there is no such value.
    pub fn shape_of(&self, id: ValueId) -> Result<&'a [usize], Malformed> {
        self.nodes.get(id.index()).map(|node| node.shape.as_slice()).ok_or(Malformed("no such value"))
    }

    /// The number that a value is, if it is a constant.
    pub fn constant(&self, id: ValueId) -> Option<f64> {
        match self.nodes.get(id.index()).map(|node| &node.op) {
            Some(Op::Scalar(Scalar(number))) => Some(*number),
            _ => None,
        }
    }
}

/// The graph breaks a rule that tracing guarantees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed graph: {0}")]
pub struct Malformed(pub &'static str);
