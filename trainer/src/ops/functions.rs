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
}
