//! Operations forward, on burn tensors.
//!
//! Every value is a [`Value`], rank 5 with leading extents of 1, whatever rank it has in the graph:
//! NumPy's alignment at the last dimension is then burn's plain broadcasting, and no operation
//! needs a version for each rank. An axis of the graph is moved by the same amount ([`axis`]).
//! Extra dimensions of extent 1 cost nothing in a kernel.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use crate::graph::{Binary, MAX_RANK, Reduce, Shape, Unary};

/// A graph value on a device.
pub(super) type Value = Tensor<MAX_RANK>;

/// The last axis.
pub(super) const LAST: usize = MAX_RANK - 1;

/// Stands for minus infinity in masked attention scores: `exp` of it is 0 in any softmax, and
/// unlike an infinity it is allowed in WGSL and makes no NaN out of a gradient of 0.
pub(super) const MASKED: f32 = -1e30;

/// A graph shape with leading ones.
pub(super) fn padded(shape: &Shape) -> [usize; MAX_RANK] {
    let mut dims = [1; MAX_RANK];
    for (dim, extent) in dims.iter_mut().rev().zip(shape.iter().rev()) {
        *dim = *extent;
    }
    dims
}

/// The axis of a [`Value`] that is axis `axis` of a graph value of rank `rank`.
pub(super) fn axis(axis: usize, rank: usize) -> usize {
    (axis + MAX_RANK - rank).min(LAST)
}

/// `axes` of a permutation, leading ones staying in front.
pub(super) fn permutation(axes: &[usize]) -> [isize; MAX_RANK] {
    let offset = MAX_RANK - axes.len().min(MAX_RANK);
    let mut all = [0, 1, 2, 3, 4];
    for (slot, from) in all.iter_mut().skip(offset).zip(axes) {
        *slot = (*from + offset) as isize;
    }
    all
}

/// Host numbers as a value.
pub(super) fn upload(values: Vec<f32>, dims: [usize; MAX_RANK], device: &Device) -> Value {
    Tensor::from_data(TensorData::new(values, dims), device)
}

/// Host bytes as integer indices.
pub(super) fn upload_bytes(bytes: &[u8], device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = bytes.iter().map(|byte| i32::from(*byte)).collect();
    let len = ids.len();
    Tensor::from_data(TensorData::new(ids, [len]), device)
}

/// `[len, classes]` with a 1 at each id, else 0.
pub(super) fn one_hot(ids: Tensor<1, Int>, classes: usize) -> Tensor<2> {
    let [len] = ids.dims();
    let device = ids.device();
    let columns = Tensor::<1, Int>::arange(0..classes as i64, &device).reshape([1, classes]);
    ids.reshape([len, 1]).expand([len, classes]).equal(columns.expand([len, classes])).float()
}

pub(super) fn unary(op: Unary, x: Value) -> Value {
    match op {
        Unary::Neg => x.neg(),
        Unary::Exp => x.exp(),
        Unary::Log => x.log(),
        Unary::Sqrt => x.sqrt(),
        Unary::Square => x.square(),
        Unary::Abs => x.abs(),
        Unary::Relu => activation::relu(x),
        Unary::Gelu => activation::gelu(x),
        Unary::Silu => x.clone() * activation::sigmoid(x),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => activation::sigmoid(x),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Recip => x.recip(),
    }
}

pub(super) fn binary(op: Binary, a: Value, b: Value) -> Value {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Max => a.max_pair(b),
        Binary::Min => a.min_pair(b),
        Binary::Pow => a.powf(b),
    }
}

/// [`binary`] with a constant on the right.
pub(super) fn binary_scalar(op: Binary, a: Value, b: f64) -> Value {
    match op {
        Binary::Add => a.add_scalar(b),
        Binary::Sub => a.sub_scalar(b),
        Binary::Mul => a.mul_scalar(b),
        Binary::Div => a.div_scalar(b),
        Binary::Max => a.clamp_min(b),
        Binary::Min => a.clamp_max(b),
        Binary::Pow => a.powf_scalar(b),
    }
}

/// True when `b` is one matrix for all of `a`: then all rows of `a` are one tall matrix, and one
/// large product replaces a batch of small ones.
pub(super) fn folds(b: &[usize; MAX_RANK]) -> bool {
    b.iter().take(MAX_RANK - 2).all(|extent| *extent == 1)
}

/// All dimensions but the last as one.
pub(super) fn rows(x: Value) -> Tensor<2> {
    let [d0, d1, d2, d3, width] = x.dims();
    x.reshape([d0 * d1 * d2 * d3, width])
}

/// The last two dimensions of a value whose others are 1.
pub(super) fn matrix(x: Value) -> Tensor<2> {
    let [.., height, width] = x.dims();
    x.reshape([height, width])
}

pub(super) fn matmul(a: Value, b: Value) -> Value {
    let ([d0, d1, d2, d3, _], b_dims) = (a.dims(), b.dims());
    if !folds(&b_dims) {
        return a.matmul(b);
    }
    let [.., width] = b_dims;
    rows(a).matmul(matrix(b)).reshape([d0, d1, d2, d3, width])
}

pub(super) fn reduce(op: Reduce, x: Value, axis: usize) -> Value {
    match op {
        Reduce::Sum => x.sum_dim(axis),
        Reduce::Mean => x.mean_dim(axis),
        Reduce::Max => x.max_dim(axis),
    }
}

/// The normalised value and the factor `1 / sqrt(mean(x^2) + eps)`.
pub(super) fn rms_norm(x: Value, eps: f64) -> (Value, Value) {
    let scale = x.clone().square().mean_dim(LAST).add_scalar(eps).sqrt().recip();
    (x * scale.clone(), scale)
}

/// The normalised value and the factor `1 / sqrt(variance + eps)`.
pub(super) fn layer_norm(x: Value, eps: f64) -> (Value, Value) {
    let mean = x.clone().mean_dim(LAST);
    rms_norm(x - mean, eps)
}

/// For `[.., t, t]`: 0 and [`MASKED`] to add to the scores, and 1 and 0 to multiply gradients by.
pub(super) fn causal_masks(t: usize, device: &Device) -> (Value, Value) {
    let allowed = |i: usize| i % t <= i / t;
    let fill = |yes: f32, no: f32| (0..t * t).map(|i| if allowed(i) { yes } else { no }).collect();
    let dims = [1, 1, 1, t, t];
    (upload(fill(0.0, MASKED), dims, device), upload(fill(1.0, 0.0), dims, device))
}

/// Cosines and sines of `position * base^(-2 pair / width)`, `[context, width / 2]`.
pub(super) fn rope_tables(context: usize, width: usize, base: f64, device: &Device) -> (Value, Value) {
    let half = width / 2;
    let angle = |i: usize| (i / half) as f64 * base.powf(-2.0 * (i % half) as f64 / width as f64);
    let table = |f: fn(f64) -> f64| (0..context * half).map(|i| f(angle(i)) as f32).collect();
    let dims = [1, 1, 1, context, half];
    (upload(table(f64::cos), dims, device), upload(table(f64::sin), dims, device))
}

/// Pairs `(i, i + width/2)` turned by their angle; by its opposite with `-sin`.
pub(super) fn rotate(x: Value, cos: Value, sin: Value) -> Value {
    let [.., width] = x.dims();
    let half = width / 2;
    let (a, b) = (x.clone().narrow(LAST, 0, half), x.narrow(LAST, half, half));
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    Tensor::cat(vec![first, a * sin + b * cos], LAST)
}

/// Values moved `by` places later along `axis`, zeros coming in.
pub(super) fn shift_later(x: Value, axis: usize, by: usize) -> Value {
    let mut dims = x.dims();
    let extent = dims.get(axis).copied().unwrap_or(0);
    if by == 0 {
        return x;
    }
    if by >= extent {
        return x.zeros_like();
    }
    if let Some(dim) = dims.get_mut(axis) {
        *dim = by;
    }
    let zeros = Tensor::zeros(dims, &x.device());
    Tensor::cat(vec![zeros, x.narrow(axis, 0, extent - by)], axis)
}

/// The transpose of [`shift_later`]: values moved earlier, zeros coming in at the end.
pub(super) fn shift_earlier(x: Value, axis: usize, by: usize) -> Value {
    let mut dims = x.dims();
    let extent = dims.get(axis).copied().unwrap_or(0);
    if by == 0 {
        return x;
    }
    if by >= extent {
        return x.zeros_like();
    }
    if let Some(dim) = dims.get_mut(axis) {
        *dim = by;
    }
    let zeros = Tensor::zeros(dims, &x.device());
    Tensor::cat(vec![x.narrow(axis, by, extent - by), zeros], axis)
}
