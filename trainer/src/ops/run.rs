//! The view that an operation has of a running graph: its inputs, its place, and the sums of
//! gradients. The executor (`exec`) makes a view for each node and owns all state.

use burn::tensor::{Device, Int, Tensor};
use rand_chacha::ChaCha8Rng;

use super::enforced::Enforced;
use super::located::{Located, Malformed};
use super::shard::Shard;
use super::tensors::{DeviceValue, axis, padded};
use crate::value::{MAX_RANK, ParamId, ValueId};

/// A pair of constant tensors, such as cosines and sines.
pub(crate) type ConstantPair = (DeviceValue, DeviceValue);

const NO_TABLE: Malformed = Malformed("a node without its table");

/// The inputs of one operation. A value that nobody reads afterwards is the only reference to its
/// buffer, so that burn may write the result into it.
pub(crate) struct InputValues(Vec<DeviceValue>);

impl InputValues {
    pub fn new(values: Vec<DeviceValue>) -> Self {
        Self(values)
    }

    /// The only input.
    pub fn one(self) -> Result<DeviceValue, Malformed> {
        let [x] = <[DeviceValue; 1]>::try_from(self.0).map_err(|_| WRONG_COUNT)?;
        Ok(x)
    }

    /// Both inputs.
    pub fn two(self) -> Result<(DeviceValue, DeviceValue), Malformed> {
        let [a, b] = <[DeviceValue; 2]>::try_from(self.0).map_err(|_| WRONG_COUNT)?;
        Ok((a, b))
    }

    /// All three inputs.
    pub fn three(self) -> Result<(DeviceValue, DeviceValue, DeviceValue), Malformed> {
        let [a, b, c] = <[DeviceValue; 3]>::try_from(self.0).map_err(|_| WRONG_COUNT)?;
        Ok((a, b, c))
    }

    /// All inputs, in order.
    pub fn all(self) -> Vec<DeviceValue> {
        self.0
    }
}

const WRONG_COUNT: Malformed = Malformed("an operation with a wrong number of inputs");

/// One operation's forward pass.
pub(crate) struct Forward<'a> {
    pub at: Located<'a>,
    /// The input bytes, `batch * context` of them.
    pub tokens: &'a Tensor<1, Int>,
    /// The present values of all parameters.
    pub params: &'a [DeviceValue],
    /// The table whose key [`Operation::table`](super::Operation::table) gave.
    pub table: Option<&'a ConstantPair>,
    pub device: &'a Device,
    /// The source of dropout masks in training. None in evaluation, which drops nothing.
    pub dropout: Option<&'a mut ChaCha8Rng>,
    /// The part of the batch that the pass computes.
    pub shard: Shard,
    /// A tensor that the backward pass needs besides values, such as a norm's factor. The
    /// operation sets it here and finds it in [`Backward::take_kept`].
    pub kept: Option<DeviceValue>,
}

impl Forward<'_> {
    /// The extents of the result on the device.
    pub fn dims(&self) -> [usize; MAX_RANK] {
        padded(self.at.shape())
    }

    /// The device's axis for axis `a` of the result.
    pub fn axis(&self, a: usize) -> usize {
        axis(a, self.at.shape().len())
    }

    pub fn table(&self) -> Result<ConstantPair, Malformed> {
        self.table.cloned().ok_or(NO_TABLE)
    }

    /// Whether the pass is one of training.
    pub fn is_training(&self) -> bool {
        self.dropout.is_some()
    }

    /// The mask that the node must set. None in training.
    pub fn enforced(&self) -> Option<&Enforced> {
        self.at.enforced().filter(|_| !self.is_training())
    }
}

/// One operation's backward pass.
pub(crate) struct Backward<'a> {
    pub at: Located<'a>,
    /// The input bytes, `batch * context` of them.
    pub tokens: &'a Tensor<1, Int>,
    /// The values that the forward pass kept, by node.
    pub values: &'a [Option<DeviceValue>],
    /// Whether a gradient flows through each node.
    pub flows: &'a [bool],
    /// As in [`Forward::table`].
    pub table: Option<&'a ConstantPair>,
    /// As in [`Forward::kept`].
    pub kept: Option<DeviceValue>,
    pub sums: &'a mut GradientSums,
}

impl Backward<'_> {
    /// A value that [`Operation::saved`](super::Operation::saved) named.
    pub fn value(&self, id: ValueId) -> Result<DeviceValue, Malformed> {
        let value = self.values.get(id.index()).and_then(Option::as_ref);
        value.cloned().ok_or(Malformed("a value is read that was not made or not kept"))
    }

    /// The operation's own result, if [`Operation::saved`](super::Operation::saved) named it.
    pub fn result(&self) -> Result<DeviceValue, Malformed> {
        self.value(self.at.id())
    }

    /// Whether a gradient flows through the value to a parameter.
    pub fn flows(&self, id: ValueId) -> bool {
        self.flows.get(id.index()).copied().unwrap_or(false)
    }

    /// The extents of a value on the device.
    pub fn dims_of(&self, id: ValueId) -> Result<[usize; MAX_RANK], Malformed> {
        Ok(padded(self.at.shape_of(id)?))
    }

    /// The device's axis for axis `a` of the result.
    pub fn axis(&self, a: usize) -> usize {
        axis(a, self.at.shape().len())
    }

    pub fn table(&self) -> Result<ConstantPair, Malformed> {
        self.table.cloned().ok_or(NO_TABLE)
    }

    /// The tensor that the forward pass left in [`Forward::kept`].
    pub fn take_kept(&mut self) -> Result<DeviceValue, Malformed> {
        self.kept.take().ok_or(Malformed("a gradient without what its operation kept"))
    }

    /// Adds to the gradient of an input.
    pub fn add(&mut self, id: ValueId, grad: DeviceValue) {
        self.sums.add(id, grad);
    }

    /// Adds to the gradient of a parameter.
    pub fn add_to_param(&mut self, id: ParamId, grad: DeviceValue) {
        accumulate(self.sums.params.get_mut(id.0 as usize), grad);
    }
}

/// The gradients that a backward pass has summed so far.
pub(crate) struct GradientSums {
    pub nodes: Vec<Option<DeviceValue>>,
    pub params: Vec<Option<DeviceValue>>,
}

impl GradientSums {
    /// No gradients yet, for this many nodes and parameters.
    pub fn new(nodes: usize, params: usize) -> Self {
        Self { nodes: vec![None; nodes], params: vec![None; params] }
    }

    /// Adds to the gradient of a value.
    pub fn add(&mut self, id: ValueId, grad: DeviceValue) {
        accumulate(self.nodes.get_mut(id.index()), grad);
    }
}

fn accumulate(slot: Option<&mut Option<DeviceValue>>, grad: DeviceValue) {
    if let Some(slot) = slot {
        *slot = Some(match slot.take() {
            Some(sum) => sum + grad,
            None => grad,
        });
    }
}
