//! The names of the functions of single elements. What they compute stands with their operations.

use serde::Serialize;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnaryFunction {
    Neg,
    Exp,
    Log,
    Sqrt,
    Square,
    Abs,
    Relu,
    Gelu,
    Silu,
    Tanh,
    Sigmoid,
    Sin,
    Cos,
    Recip,
    Floor,
    Sign,
}

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BinaryFunction {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Pow,
    /// The remainder of a division, with the sign of the divisor.
    Mod,
    /// 1 where the first is below the second, else 0.
    Less,
    /// 1 where the first is not above the second, else 0.
    LessEqual,
    /// 1 where both are equal, else 0.
    Equal,
    /// 1 where both differ, else 0.
    NotEqual,
}
