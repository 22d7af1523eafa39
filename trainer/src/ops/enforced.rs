//! Masks that evaluation enforces, so that the proof of causality holds to the bit.
//!
//! The proof ([`flow`](super::flow)) lets a query leave out the keys whose weights are 0. On a device
//! a weight may be 0 only almost: `exp` of a small number, a share beside scores that all are far
//! below. And `0 * x` is NaN for an infinite `x`, and has the sign of `x`. So in evaluation, an
//! operation that the proof relies on sets the masked elements itself. Training goes without:
//! nothing that it computes is a prediction.

use std::sync::Arc;

use burn::tensor::{Bool, Int, Tensor, TensorData};

use super::tensors::{DeviceValue, axis};
use crate::value::MAX_RANK;

/// The largest magnitude that a value may have beside weights of 0. Anything beyond, also what is no
/// number, counts as 0: a product with 0 must be 0 in every format that a device computes with.
const FINITE: f32 = 1e30;

/// A mask that a node sets in evaluation: elements whose index along the axis `keys` exceeds
/// `last[index along queries]` are `fill`.
#[derive(Clone, Debug, PartialEq)]
pub struct Enforced {
    /// The tensor that is masked. The axes are its own.
    pub of: Masked,
    pub queries: usize,
    pub keys: usize,
    /// For each query the last key that stays; -1 where none does.
    pub last: Arc<[i32]>,
    pub fill: Fill,
}

/// The tensor of a node that is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masked {
    /// The first input of a matrix product.
    Left,
    /// The second input of a matrix product.
    Right,
    /// The result.
    Result,
}

/// The constant of masked elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// [`MASKED`].
    MinusInfinity,
    Zero,
}

/// Stands for minus infinity: `exp` of it is 0 in any softmax, and unlike an infinity it is
/// allowed in WGSL and makes no NaN out of a gradient of 0.
pub(super) const MASKED: f32 = -1e30;

impl Fill {
    fn number(self) -> f32 {
        match self {
            Self::MinusInfinity => MASKED,
            Self::Zero => 0.0,
        }
    }
}

impl Enforced {
    /// The value, of this rank in the graph, with its masked elements set.
    pub fn set(&self, x: DeviceValue, rank: usize) -> DeviceValue {
        let dims = x.dims();
        let (device, queries, keys) = (x.device(), axis(self.queries, rank), axis(self.keys, rank));
        let along = |axis: usize, numbers: Vec<i32>| {
            let mut dims = [1; MAX_RANK];
            dims.iter_mut().skip(axis).take(1).for_each(|extent| *extent = numbers.len());
            Tensor::<MAX_RANK, Int>::from_data(TensorData::new(numbers, dims), &device)
        };
        let extent = dims.get(keys).copied().unwrap_or(1);
        let index = along(keys, (0..extent as i32).collect());
        let last = along(queries, self.last.to_vec());
        let mut matrix = [1; MAX_RANK];
        for (slot, (i, extent)) in matrix.iter_mut().zip(dims.iter().enumerate()) {
            if i == queries || i == keys {
                *slot = *extent;
            }
        }
        let masked: Tensor<MAX_RANK, Bool> = index.expand(matrix).greater(last.expand(matrix));
        x.mask_fill(masked.expand(dims), self.fill.number())
    }
}

/// The value with 0 for all that a product with 0 would not make 0.
pub(super) fn finite(x: DeviceValue) -> DeviceValue {
    let beyond = x.clone().abs().lower_elem(FINITE).bool_not();
    x.mask_fill(beyond, 0.0)
}

/// The value with each 0 positive: which sign a sum of zeros has may depend on what they were multiplied with.
pub(super) fn without_negative_zeros(x: DeviceValue) -> DeviceValue {
    let zero = x.clone().equal_elem(0.0);
    x.mask_fill(zero, 0.0)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::super::tensors::upload;
    use super::*;

    fn numbers(x: DeviceValue) -> Vec<f32> {
        x.try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn masked_elements_are_set_whatever_they_were() {
        let device = Device::flex();
        let x = vec![1.0, f32::NAN, f32::INFINITY, 4.0, 5.0, -f32::INFINITY];
        let mask = |queries, keys, last: &[i32]| Enforced {
            of: Masked::Result,
            queries,
            keys,
            last: last.into(),
            fill: Fill::Zero,
        };
        let x = upload(x, [1, 1, 1, 2, 3], &device);
        assert_eq!(numbers(mask(0, 1, &[0, 1]).set(x.clone(), 2)), [1.0, 0.0, 0.0, 4.0, 5.0, 0.0]);
        assert_eq!(numbers(mask(1, 0, &[0, -1, -1]).set(x, 2)), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn values_beside_weights_of_zero_are_finite_and_sums_forget_signs() {
        let x = vec![f32::NAN, f32::INFINITY, -3e38, 2.0, -0.0, 1e-45];
        let x = upload(x, [1, 1, 1, 2, 3], &Device::flex());
        let found = numbers(without_negative_zeros(finite(x)));
        assert_eq!(found, [0.0, 0.0, 0.0, 2.0, 0.0, 1e-45]);
        assert!(found.iter().all(|number| number.is_sign_positive()));
    }
}
