//! The numbers of values that follow from the script alone, such as masks made of `arange`.
//!
//! Only functions that every machine computes alike are followed, in double precision; all other
//! results are "unknown", written as NaN. Nothing rests on these numbers being those of the device:
//! where they show a mask, evaluation sets the masked elements ([`Enforced`](super::Enforced)).

use std::sync::{Arc, OnceLock};

use super::Fill;
use super::grid::NumberGrid;
use crate::ops::{BinaryFunction, UnaryFunction};

/// Most elements of a value that is followed: masks of a context of 2048.
pub(super) const MOST: usize = 1 << 22;
/// A number that added to a score makes its share 0, as minus infinity does.
pub(super) const FAR_BELOW: f64 = -1e4;
/// A number whose exponential is 0 in 32-bit floats.
const EXP_IS_ZERO: f64 = -150.0;

/// The last keys of the last two axes.
#[derive(Debug)]
pub(super) struct LastKeys {
    /// For each row the last column that is not masked. None where no row has a masked end.
    pub of_rows: Option<Arc<[i32]>>,
    /// For each column the last row that is not masked. None where no column has a masked end.
    pub of_columns: Option<Arc<[i32]>>,
    /// Whether the columns see less of the rows than the rows of the columns.
    pub columns_see_less: bool,
}

/// The numbers of a value.
#[derive(Debug)]
pub(super) struct Constant {
    grid: NumberGrid,
    /// Keys that are 0, far below and far above.
    masks: [OnceLock<Option<LastKeys>>; 3],
}

impl Constant {
    pub fn new(grid: NumberGrid) -> Arc<Self> {
        Arc::new(Self { grid, masks: Default::default() })
    }

    pub fn len(&self) -> usize {
        self.grid.numbers.len()
    }

    pub fn reshaped(&self, shape: &[usize]) -> Option<Arc<Self>> {
        Some(Self::new(NumberGrid { shape: shape.to_vec(), numbers: self.grid.numbers.clone() }))
    }

    pub fn permuted(&self, order: &[usize]) -> Option<Arc<Self>> {
        let shape: Option<Vec<usize>> = order.iter().map(|axis| self.grid.shape.get(*axis).copied()).collect();
        let strides = self.grid.strides();
        let strides: Option<Vec<usize>> = order.iter().map(|axis| strides.get(*axis).copied()).collect();
        Some(Self::new(self.grid.picked(&shape?, &strides?, 0)))
    }

    pub fn sliced(&self, axis: usize, start: usize, end: usize) -> Option<Arc<Self>> {
        let mut shape = self.grid.shape.clone();
        *shape.get_mut(axis)? = end.checked_sub(start)?;
        let strides = self.grid.strides();
        let first = start * strides.get(axis).copied()?;
        Some(Self::new(self.grid.picked(&shape, &strides, first)))
    }

    pub fn mapped(&self, function: UnaryFunction) -> Arc<Self> {
        let numbers = self.grid.numbers.iter().map(|x| unary(function, *x)).collect();
        Self::new(NumberGrid { shape: self.grid.shape.clone(), numbers })
    }

    pub fn combined(&self, other: &Self, function: BinaryFunction, shape: &[usize]) -> Option<Arc<Self>> {
        if crate::value::elements(shape) > MOST as u64 {
            return None;
        }
        let [a, b] = [&self.grid, &other.grid].map(|grid| grid.picked(shape, &grid.strides_for(shape), 0));
        let numbers = a.numbers.iter().zip(b.numbers.iter()).map(|(x, y)| binary(function, *x, *y)).collect();
        Some(Self::new(NumberGrid { shape: shape.to_vec(), numbers }))
    }

    /// The numbers of `a` where the condition's are not 0, else those of `b`.
    pub fn chosen(condition: &Self, a: &Self, b: &Self, shape: &[usize]) -> Option<Arc<Self>> {
        if crate::value::elements(shape) > MOST as u64 {
            return None;
        }
        let [condition, a, b] =
            [condition, a, b].map(|one| one.grid.picked(shape, &one.grid.strides_for(shape), 0).numbers);
        let pick = |(condition, (a, b)): (&f64, (&f64, &f64))| match *condition {
            unknown if unknown.is_nan() => f64::NAN,
            0.0 => *b,
            _ => *a,
        };
        let numbers = condition.iter().zip(a.iter().zip(b.iter())).map(pick).collect();
        Some(Self::new(NumberGrid { shape: shape.to_vec(), numbers }))
    }

    /// The last keys, where masked numbers stand for `fill` after a multiplication with `sign`.
    pub fn last_keys(&self, fill: Fill, sign: f64) -> Option<&LastKeys> {
        let [zeros, below, above] = &self.masks;
        match fill {
            Fill::Zero => zeros.get_or_init(|| self.find_last_keys(|x| x == 0.0)),
            Fill::MinusInfinity if sign > 0.0 => below.get_or_init(|| self.find_last_keys(|x| x <= FAR_BELOW)),
            Fill::MinusInfinity => above.get_or_init(|| self.find_last_keys(|x| x >= -FAR_BELOW)),
        }
        .as_ref()
    }

    fn find_last_keys(&self, is_masked: impl Fn(f64) -> bool) -> Option<LastKeys> {
        let [.., rows, columns] = self.grid.shape.as_slice() else { return None };
        let (mut of_rows, mut of_columns) = (vec![-1_i32; *rows], vec![-1_i32; *columns]);
        for matrix in self.grid.numbers.chunks(rows * columns) {
            for ((i, row), last) in matrix.chunks(*columns).enumerate().zip(&mut of_rows) {
                for ((j, x), last_row) in row.iter().enumerate().zip(&mut of_columns) {
                    if !is_masked(*x) {
                        *last = (*last).max(j as i32);
                        *last_row = (*last_row).max(i as i32);
                    }
                }
            }
        }
        let share = |last: &[i32], keys: usize| {
            let seen: i64 = last.iter().map(|last| i64::from(*last) + 1).sum();
            seen as f64 / (last.len() * keys).max(1) as f64
        };
        let (by_rows, by_columns) = (share(&of_rows, *columns), share(&of_columns, *rows));
        Some(LastKeys {
            of_rows: (by_rows < 1.0).then(|| of_rows.into()),
            of_columns: (by_columns < 1.0).then(|| of_columns.into()),
            columns_see_less: by_columns < by_rows,
        })
    }
}

fn unary(function: UnaryFunction, x: f64) -> f64 {
    use UnaryFunction::{Abs, Exp, Floor, Neg, Recip, Relu, Sign, Sqrt, Square};
    match function {
        Neg => -x,
        Abs => x.abs(),
        Square => x * x,
        // NaN is not below 0.
        Relu if x < 0.0 => 0.0,
        Relu => x,
        Sqrt => x.sqrt(),
        Recip => 1.0 / x,
        Floor => x.floor(),
        Sign if x == 0.0 => 0.0,
        Sign => x.signum(),
        Exp if x <= EXP_IS_ZERO => 0.0,
        _ => f64::NAN,
    }
}

/// Whether every machine's remainder of the number is the same.
fn is_whole(x: f64) -> bool {
    x.fract() == 0.0 && x.abs() < f64::from(1 << 24)
}

fn binary(function: BinaryFunction, x: f64, y: f64) -> f64 {
    match function {
        BinaryFunction::Add => x + y,
        BinaryFunction::Sub => x - y,
        BinaryFunction::Mul if x == 0.0 || y == 0.0 => 0.0,
        BinaryFunction::Mul => x * y,
        BinaryFunction::Div => x / y,
        BinaryFunction::Max if x >= y => x,
        BinaryFunction::Max if x < y => y,
        BinaryFunction::Min if x <= y => x,
        BinaryFunction::Min if x > y => y,
        BinaryFunction::Pow if x == 0.0 && y > 0.0 => 0.0,
        BinaryFunction::Less if x < y => 1.0,
        BinaryFunction::Less if x >= y => 0.0,
        BinaryFunction::LessEqual if x <= y => 1.0,
        BinaryFunction::LessEqual if x > y => 0.0,
        BinaryFunction::Equal if x.is_nan() || y.is_nan() => f64::NAN,
        BinaryFunction::Equal => f64::from(u8::from(x == y)),
        BinaryFunction::NotEqual if x.is_nan() || y.is_nan() => f64::NAN,
        BinaryFunction::NotEqual => f64::from(u8::from(x != y)),
        BinaryFunction::Mod if is_whole(x) && is_whole(y) => x - y * (x / y).floor(),
        BinaryFunction::Max
        | BinaryFunction::Min
        | BinaryFunction::Pow
        | BinaryFunction::Mod
        | BinaryFunction::Less
        | BinaryFunction::LessEqual => f64::NAN,
    }
}
