//! Helpers over burn tensors that several operations and the executor need.
//!
//! Every value is a [`DeviceValue`], rank 5 with leading extents of 1, whatever rank it has in the graph:
//! NumPy's alignment at the last dimension is then burn's plain broadcasting, and no operation
//! needs a version for each rank. An axis of the graph is moved by the same amount ([`axis`]).
//! Extra dimensions of extent 1 cost nothing in a kernel.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::value::MAX_RANK;

/// A graph value on a device.
pub(crate) type DeviceValue = Tensor<MAX_RANK>;

/// Extents of a [`DeviceValue`].
pub(crate) type Dims = [usize; MAX_RANK];

/// The last axis.
pub(crate) const LAST: usize = MAX_RANK - 1;

/// A graph shape with leading ones.
pub(crate) fn padded(shape: &[usize]) -> Dims {
    let mut dims = [1; MAX_RANK];
    for (dim, extent) in dims.iter_mut().rev().zip(shape.iter().rev()) {
        *dim = *extent;
    }
    dims
}

/// The axis of a [`DeviceValue`] that is axis `axis` of a graph value of rank `rank`.
pub(crate) fn axis(axis: usize, rank: usize) -> usize {
    (axis + MAX_RANK).saturating_sub(rank).min(LAST)
}

/// The extent along one axis; 0 for an axis that does not exist.
pub(crate) fn extent(dims: &Dims, axis: usize) -> usize {
    dims.get(axis).copied().unwrap_or(0)
}

/// Zeros of the extents `dims`, but `len` along `axis`.
pub(crate) fn zeros(mut dims: Dims, axis: usize, len: usize, device: &Device) -> DeviceValue {
    if let Some(dim) = dims.get_mut(axis) {
        *dim = len;
    }
    Tensor::zeros(dims, device)
}

/// Host numbers as a value.
pub(crate) fn upload(values: Vec<f32>, dims: Dims, device: &Device) -> DeviceValue {
    Tensor::from_data(TensorData::new(values, dims), device)
}

/// Host bytes as integer indices.
pub(crate) fn upload_bytes(bytes: &[u8], device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = bytes.iter().map(|byte| i32::from(*byte)).collect();
    let len = ids.len();
    Tensor::from_data(TensorData::new(ids, [len]), device)
}

/// `[len, classes]` with a 1 at each id, else 0.
pub(crate) fn one_hot(ids: Tensor<1, Int>, classes: usize) -> Tensor<2> {
    let [len] = ids.dims();
    let device = ids.device();
    let columns = Tensor::<1, Int>::arange(0..classes as i64, &device).reshape([1, classes]);
    ids.reshape([len, 1]).expand([len, classes]).equal(columns.expand([len, classes])).float()
}

/// All dimensions but the last as one.
pub(crate) fn rows(x: DeviceValue) -> Tensor<2> {
    let [d0, d1, d2, d3, width] = x.dims();
    x.reshape([d0 * d1 * d2 * d3, width])
}

/// The last two dimensions of a value whose others are 1.
pub(crate) fn matrix(x: DeviceValue) -> Tensor<2> {
    let [.., height, width] = x.dims();
    x.reshape([height, width])
}

/// Sums a gradient over the dimensions along which its value was broadcast.
pub(crate) fn unbroadcast(grad: DeviceValue, dims: Dims) -> DeviceValue {
    let from = grad.dims();
    if from == dims {
        return grad;
    }
    if dims == [1, 1, 1, 1, from[LAST]] {
        return rows(grad).sum_dim(0).reshape(dims);
    }
    let mut grad = grad;
    for (axis, (have, want)) in from.iter().zip(&dims).enumerate() {
        if *want == 1 && *have != 1 {
            grad = grad.sum_dim(axis);
        }
    }
    grad
}
