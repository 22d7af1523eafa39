//! The rules that every operation has, for the tracer, the planner and the executor.

use burn::tensor::Device;

use super::flow::{Flow, Traced};
use super::located::{Located, Malformed};
use super::run::{Backward, ConstantPair, Forward, InputValues};
use super::shard::BatchAxes;
use super::tensors::DeviceValue;
use crate::value::{ValueId, elements};

/// Floating-point operations for an element of a softmax, a norm, a rotation or an elementwise
/// function such as `exp`: a rough mean over them.
pub(crate) const HEAVY_FLOPS: u64 = 5;

/// The rules of one operation.
pub(crate) trait Operation {
    /// The name of the function or the family, for messages.
    fn name(&self) -> &'static str;

    /// The values that the operation reads, in order. A value that is read twice stands twice.
    fn inputs_mut(&mut self) -> Vec<&mut ValueId>;

    /// Floating-point operations of the forward pass. One for each element of the result unless
    /// the operation says otherwise.
    fn flops(&self, at: Located<'_>) -> u64 {
        elements(at.shape())
    }

    /// Whether the result takes memory of its own. A reshape shares its input's.
    fn allocates(&self) -> bool {
        true
    }

    /// Whether a gradient flows through the operation to a parameter, given whether one flows
    /// through any of its inputs.
    fn carries_gradient(&self, through_inputs: bool) -> bool {
        through_inputs
    }

    /// The values that [`backward`](Self::backward) reads: inputs, or the operation's own result
    /// ([`Located::id`]). `flows` says whether a gradient flows through an input.
    fn saved(&self, _at: Located<'_>, _flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
        Vec::new()
    }

    /// The constant tensors that the operation needs, if any. Nodes with equal keys share one table.
    fn table(&self, _at: Located<'_>) -> Option<TableKey> {
        None
    }

    /// Makes the table of a key that [`table`](Self::table) gave.
    fn make_table(&self, _key: TableKey, _device: &Device) -> Option<ConstantPair> {
        None
    }

    /// The bytes that the result may depend on, given those of the inputs (tokens included). The
    /// claim may be too large, never too small.
    ///
    /// # Errors
    /// [`Leak`](super::flow::Leak) when no claim of this kind is true.
    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced;

    /// Whether the operation makes a shard of its result out of the same shard of its inputs, its rules applied to
    /// their shapes. The graph is proved causal.
    fn works_on_shards(&self, at: Located<'_>, batch: &BatchAxes) -> bool {
        batch.are_aligned(at)
    }

    /// Computes the value. `inputs` holds the operation's inputs in order, without tokens.
    ///
    /// # Errors
    /// [`Malformed`] when the graph breaks a rule of tracing.
    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed>;

    /// Adds the gradients of the inputs ([`Backward::add`]), given the value's own gradient.
    ///
    /// # Errors
    /// [`Malformed`] when the graph breaks a rule of tracing.
    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed>;
}

/// The numbers that determine a table of constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableKey {
    /// The operation's name.
    pub operation: &'static str,
    pub rows: usize,
    pub columns: usize,
    /// Bits of a number of the operation, such as the base of a rotation; else 0.
    pub number: u64,
}
