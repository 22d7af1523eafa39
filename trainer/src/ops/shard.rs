//! Shards: equal parts of a batch, each computed apart.
//!
//! The proof of causality ([`flow`](super::flow)) knows the axis along which a value holds the
//! sequences of the batch. A shard of a value is a run of that axis. An operation says whether it
//! makes the shard of its result out of the shards of its inputs
//! ([`Operation::works_on_shards`](super::Operation::works_on_shards)).

use super::{Located, Malformed};
use crate::value::{Shape, ValueId};

/// The shard that a pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 0.
    pub index: usize,
    /// Shards of the batch.
    pub count: usize,
}

impl Shard {
    /// The only one.
    pub const WHOLE: Self = Self { index: 0, count: 1 };
}

/// For each value of a graph the axis of the batch, counted from the last one (0). None for a value that no sequence
/// of the batch enters.
#[derive(Clone, Debug)]
pub(crate) struct BatchAxes {
    pub axes: Vec<Option<usize>>,
    /// Shards of the batch, at least 1. Each batch axis is a multiple of it.
    pub count: usize,
}

impl BatchAxes {
    /// The axis of a value.
    pub fn of(&self, id: ValueId) -> Option<usize> {
        self.axes.get(id.index()).copied().flatten()
    }

    /// Whether the result's sequences are those of each input, and no other input has an extent along their axis.
    /// This is enough for operations that align their inputs at the last axis and do not name the batch's.
    pub fn are_aligned(&self, at: Located<'_>) -> bool {
        let own = self.of(at.id());
        at.inputs().into_iter().all(|input| match (own, self.of(input)) {
            (_, Some(axis)) => own == Some(axis),
            (None, None) => true,
            (Some(own), None) => at.shape_of(input).is_ok_and(|shape| extent_from_last(shape, own) <= 1),
        })
    }

    /// Whether the result and this input both hold sequences, on whatever axis, or none of them does.
    pub fn follow(&self, input: ValueId, at: Located<'_>) -> bool {
        self.of(input).is_some() == self.of(at.id()).is_some()
    }

    /// The shape of one shard of a value.
    ///
    /// # Errors
    /// [`Malformed`] when the batch axis is no multiple of the number of shards.
    pub fn shard_shape(&self, id: ValueId, shape: &[usize]) -> Result<Shape, Malformed> {
        let mut shape = shape.to_vec();
        let Some(axis) = self.of(id) else { return Ok(shape) };
        match shape.iter_mut().rev().nth(axis) {
            Some(extent) if extent.is_multiple_of(self.count) => *extent /= self.count,
            _ => return Err(Malformed("a batch axis that cannot be cut")),
        }
        Ok(shape)
    }
}

/// The extent along an axis counted from the last; 1 for one that does not exist.
fn extent_from_last(shape: &[usize], axis: usize) -> usize {
    shape.iter().rev().nth(axis).copied().unwrap_or(1)
}
