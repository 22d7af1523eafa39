//! Known answers: a device is tried before it trains for its class, because a broken driver or
//! kernel computes wrong numbers without a word, and the node would sign them.
//!
//! Products and reductions are compared with plain loops in 64-bit floats. [`STEPS`] steps of a small
//! model are compared with the same steps on the processor.

use burn::tensor::{Device, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use crate::exec::{ExecError, Executor};
use crate::{corpus, lang};

/// Extents (batch, rows, inner, columns) of the products that are tried, and whether the right matrix
/// lies in memory by columns: a few elements, odd sides, long inner sides, one that flex splits over
/// threads, and batches. Each shape costs a GPU the choice of a kernel, so they are few.
const PRODUCTS: [([usize; 4], bool); 8] = [
    ([1, 3, 5, 7], false),
    ([1, 64, 64, 64], false),
    ([1, 127, 129, 131], true),
    ([1, 33, 1027, 65], false),
    ([1, 1, 16_384, 3], true),
    ([1, 200, 201, 200], false),
    ([6, 17, 9, 5], false),
    ([4, 64, 16, 64], true),
];
/// Extents of the matrices that are reduced along both axes.
const REDUCED: [[usize; 2]; 2] = [[7, 1000], [129, 4097]];

/// Largest error of an element of a product of inner side k, as a multiple of `sum |a b| / sqrt(k)`.
/// Rounding to 32 bits stays below 1e-5. GPUs that multiply in 19 or 16 bits with a 10-bit mantissa
/// and add in 32 stay below 2e-3: their runs agree within the tolerance of their class. Fewer bits,
/// or sums of 16 bits, are beyond it.
const PRODUCT_TOLERANCE: f64 = 4e-3;
/// Largest error of a sum, as a multiple of the sum of magnitudes, and of an elementwise function,
/// relative. Graphics APIs allow exponentials a relative error of about 1e-6 here.
const SUM_TOLERANCE: f64 = 1e-4;
/// Training steps of the trial.
const STEPS: u64 = 20;
/// Largest difference of a step's loss, in nats, from the processor's. Another order of sums changes
/// it by less than 1e-5 in so few steps, short products by less than 1e-3.
const LOSS_TOLERANCE: f64 = 2e-3;
/// The model of the trial.
const SCRIPT: &str = include_str!("../../scripts/trial.star");
/// Bytes of generated text that the trial trains on.
const TEXT_BYTES: usize = 4096;

/// The known answers that a device gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    pub products: usize,
    pub reductions: usize,
    /// Training steps compared with the processor; 0 on the processor itself.
    pub steps: u64,
}

/// The device is not to be trusted with an experiment.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// What was computed, and how far the result is off.
    #[error("the device computes wrong numbers: {0}")]
    Wrong(String),
    #[error("the device failed while it was tried on known answers: {0}")]
    Device(String),
}

impl From<ExecError> for AnswerError {
    fn from(error: ExecError) -> Self {
        Self::Device(error.to_string())
    }
}

/// Tries a device. `steps`: with training steps, which need another device to compare with.
///
/// # Errors
/// [`AnswerError::Wrong`] for the first answer that is beyond its tolerance.
pub fn try_device(device: &Device, steps: bool) -> Result<Answers, AnswerError> {
    for (extents, transposed) in PRODUCTS {
        try_product(extents, transposed, device)?;
    }
    let mut reductions = 0;
    for extents in REDUCED {
        reductions += try_reductions(extents, device)?;
    }
    if steps {
        try_steps(device)?;
    }
    Ok(Answers { products: PRODUCTS.len(), reductions, steps: if steps { STEPS } else { 0 } })
}

/// A product of generated matrices. `transposed`: the right one lies in memory by columns.
fn try_product(extents: [usize; 4], transposed: bool, device: &Device) -> Result<(), AnswerError> {
    let [batch, rows, inner, columns] = extents;
    let (left, right) = (numbers(1, batch * rows * inner), numbers(2, batch * inner * columns));
    let a = Tensor::<3>::from_data(TensorData::new(left.clone(), [batch, rows, inner]), device);
    let b = if transposed {
        let stored = Tensor::<3>::from_data(TensorData::new(right.clone(), [batch, columns, inner]), device);
        stored.swap_dims(1, 2)
    } else {
        Tensor::<3>::from_data(TensorData::new(right.clone(), [batch, inner, columns]), device)
    };
    let found = read(a.matmul(b))?;
    let what = format!("the product of {batch} x [{rows}, {inner}] and [{inner}, {columns}]");
    let same_length = found.len() == batch * rows * columns;
    let at = |list: &[f32], index: usize| f64::from(list.get(index).copied().unwrap_or(f32::NAN));
    for (index, found) in found.into_iter().enumerate().filter(|_| same_length) {
        let (matrix, row, column) = (index / (rows * columns), index / columns % rows, index % columns);
        let (mut sum, mut magnitude) = (0.0, 0.0);
        for i in 0..inner {
            let place = if transposed {
                (matrix * columns + column) * inner + i
            } else {
                (matrix * inner + i) * columns + column
            };
            let term = at(&left, (matrix * rows + row) * inner + i) * at(&right, place);
            sum += term;
            magnitude += term.abs();
        }
        check(&what, found, sum, PRODUCT_TOLERANCE * magnitude / (inner as f64).sqrt())?;
    }
    if same_length { Ok(()) } else { Err(AnswerError::Wrong(format!("{what} has another shape"))) }
}

/// Sums, largest values, means, exponentials and a softmax of a generated matrix, along both axes.
/// Returns how many were tried.
fn try_reductions(extents: [usize; 2], device: &Device) -> Result<usize, AnswerError> {
    let [rows, columns] = extents;
    let values = numbers(3, rows * columns);
    let x = || Tensor::<2>::from_data(TensorData::new(values.clone(), [rows, columns]), device);
    for axis in [0, 1] {
        let lines = lines(&values, columns, axis);
        let what = |name: &str| format!("the {name} of a [{rows}, {columns}] matrix along axis {axis}");
        let sum = |line: &[f64]| line.iter().sum::<f64>();
        let spread = |line: &[f64]| SUM_TOLERANCE * line.iter().map(|v| v.abs()).sum::<f64>();
        check_lines(&what("sum"), read(x().sum_dim(axis))?, &lines, sum, spread)?;
        let mean = |line: &[f64]| sum(line) / line.len() as f64;
        check_lines(&what("mean"), read(x().mean_dim(axis))?, &lines, mean, |l| spread(l) / l.len() as f64)?;
        let most = |line: &[f64]| line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        check_lines(&what("largest value"), read(x().max_dim(axis))?, &lines, most, |_| 0.0)?;
        let exponentials = |line: &[f64]| line.iter().map(|v| v.exp()).sum::<f64>();
        let relative = |line: &[f64]| SUM_TOLERANCE * exponentials(line);
        check_lines(&what("sum of exponentials"), read(x().exp().sum_dim(axis))?, &lines, exponentials, relative)?;
        // Weighted by the values, so that a softmax along the wrong axis differs.
        let weighted = activation::softmax(x(), axis) * x();
        let softmax = |line: &[f64]| line.iter().map(|v| v.exp() * v).sum::<f64>() / exponentials(line);
        check_lines(&what("softmax"), read(weighted.sum_dim(axis))?, &lines, softmax, |_| SUM_TOLERANCE)?;
    }
    Ok(10)
}

/// [`STEPS`] training steps beside the processor's. The losses of all steps must agree.
fn try_steps(device: &Device) -> Result<(), AnswerError> {
    let graph = lang::trace(SCRIPT, &lang::Limits::default()).map_err(|e| AnswerError::Device(e.to_string()))?.graph;
    let text = corpus::generate(5, TEXT_BYTES);
    let mut known = Executor::new(graph.clone(), Device::flex(), 1);
    let mut tried = Executor::new(graph, device.clone(), 1);
    for step in 1..=STEPS {
        let batch = known.draw(&text);
        let expected = known.step(&batch, 1.0)?.read()?;
        let found = tried.step(&batch, 1.0)?.read()?;
        check(&format!("the loss of training step {step}"), found as f32, expected, LOSS_TOLERANCE)?;
    }
    Ok(())
}

/// The lines of a row-major matrix along an axis: its columns for axis 0, its rows for axis 1.
fn lines(values: &[f32], columns: usize, axis: usize) -> Vec<Vec<f64>> {
    let rows = values.chunks(columns).map(|row| row.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    if axis == 1 {
        return rows.collect();
    }
    let rows: Vec<_> = rows.collect();
    (0..columns).map(|column| rows.iter().filter_map(|row| row.get(column).copied()).collect()).collect()
}

fn check_lines(
    what: &str,
    found: Vec<f32>,
    lines: &[Vec<f64>],
    expected: impl Fn(&[f64]) -> f64,
    tolerance: impl Fn(&[f64]) -> f64,
) -> Result<(), AnswerError> {
    if found.len() != lines.len() {
        return Err(AnswerError::Wrong(format!("{what} has another shape")));
    }
    found.into_iter().zip(lines).try_for_each(|(found, line)| check(what, found, expected(line), tolerance(line)))
}

fn check(what: &str, found: f32, expected: f64, tolerance: f64) -> Result<(), AnswerError> {
    // Infinities and NaN are never within.
    let off = (f64::from(found) - expected).abs();
    if off <= tolerance.max(f64::from(f32::EPSILON)) {
        return Ok(());
    }
    Err(AnswerError::Wrong(format!(
        "{what} gave {found:.6} for {expected:.6} (allowed is a difference of {tolerance:.1e})"
    )))
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, AnswerError> {
    tensor.try_into_vec_as::<f32>().map_err(|error| AnswerError::Device(error.to_string()))
}

/// Numbers between -1 and 1 by a linear congruential generator, the same everywhere.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // 16 bits fit into the mantissa of every format that products may use, so inputs are exact in 32.
        (state >> 16) as f32 / 32_768.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_knows_the_answers() {
        let answers = try_device(&Device::flex(), true).unwrap();
        assert_eq!(answers, Answers { products: 8, reductions: 20, steps: STEPS });
    }

    #[test]
    fn wrong_number_is_refused_with_what_differed() {
        check("x", 1.5, 1.5, 0.0).unwrap();
        check("x", 1.501, 1.5, 0.01).unwrap();
        for wrong in [1.52, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.5] {
            let error = check("the sum of a matrix", wrong, 1.5, 0.01).unwrap_err().to_string();
            assert!(error.starts_with("the device computes wrong numbers: the sum of a matrix gave"), "{error}");
            assert!(error.contains("for 1.500000 (allowed is a difference of 1.0e-2)"), "{error}");
        }
    }

    /// Inputs and sums as a device with fewer bits has them.
    #[test]
    fn tolerance_of_products_admits_ten_bits_and_refuses_seven() {
        let short = |value: f64, bits: u32| {
            let step = 2_f64.powi(value.abs().max(1e-9).log2().floor() as i32 - bits as i32);
            (value / step).round() * step
        };
        for (bits, expected) in [(10, true), (7, false)] {
            let mut sound = true;
            for ([_, rows, inner, columns], _) in PRODUCTS.into_iter().filter(|([_, rows, ..], _)| *rows > 8) {
                let (left, right) = (numbers(1, rows * inner), numbers(2, inner * columns));
                for row in 0..rows.min(20) {
                    for column in 0..columns.min(20) {
                        let (mut sum, mut rough, mut magnitude) = (0.0, 0.0, 0.0);
                        for i in 0..inner {
                            let (a, b) = (f64::from(left[row * inner + i]), f64::from(right[i * columns + column]));
                            sum += a * b;
                            rough += short(a, bits) * short(b, bits);
                            magnitude += (a * b).abs();
                        }
                        let allowed = PRODUCT_TOLERANCE * magnitude / (inner as f64).sqrt();
                        sound &= check("x", rough as f32, sum, allowed).is_ok();
                    }
                }
            }
            assert_eq!(sound, expected, "{bits} bits");
        }
    }
}
