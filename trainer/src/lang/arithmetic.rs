//! Functions of the language over single elements: of tensors, and of plain numbers too, so that
//! `sqrt(width)` works in a script's own arithmetic.

use std::num::NonZeroI32;

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::range::Range;

use super::error::Misuse;
use super::limits::RANGE_LENGTH;
use super::ops::{BinaryOp, Operand, finite};
use super::running;
use super::tensor::{TensorValue, operand};
use crate::graph::{Binary, Unary};

/// A function of one operand: a node for a tensor, the number itself for a number.
fn unary<'v>(
    name: &str,
    op: Unary,
    plain: fn(f64) -> f64,
    x: Value<'v>,
    eval: &mut Evaluator<'v, '_, '_>,
) -> starlark::Result<Value<'v>> {
    running(eval)?;
    match operand(name, x)? {
        Operand::Tensor(tensor) => Ok(eval.heap().alloc(TensorValue(tensor.unary(name, op)?))),
        Operand::Number(number) => Ok(eval.heap().alloc(finite(&format!("{name}({number})"), plain(number))?)),
    }
}

/// A function of two operands: a node if one of them is a tensor.
fn binary<'v>(
    op: BinaryOp,
    plain: fn(f64, f64) -> f64,
    a: Value<'v>,
    b: Value<'v>,
    eval: &mut Evaluator<'v, '_, '_>,
) -> starlark::Result<Value<'v>> {
    let session = running(eval)?;
    match (operand(op.1, a)?, operand(op.1, b)?) {
        (Operand::Number(a), Operand::Number(b)) => {
            Ok(eval.heap().alloc(finite(&format!("{}({a}, {b})", op.1), plain(a, b))?))
        }
        (a, b) => Ok(eval.heap().alloc(TensorValue(session.binary(op, &a, &b)?))),
    }
}

fn sigmoid_of(x: f64) -> f64 {
    (1.0 + (-x).exp()).recip()
}

#[starlark_module]
pub(super) fn functions_of_one(builder: &mut GlobalsBuilder) {
    fn exp<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        unary("exp", Unary::Exp, f64::exp, x, eval)
    }

    fn log<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        unary("log", Unary::Log, f64::ln, x, eval)
    }

    fn sqrt<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        unary("sqrt", Unary::Sqrt, f64::sqrt, x, eval)
    }

    fn square<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        unary("square", Unary::Square, |x| x * x, x, eval)
    }

    fn sin<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        unary("sin", Unary::Sin, f64::sin, x, eval)
    }

    fn cos<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        unary("cos", Unary::Cos, f64::cos, x, eval)
    }

    /// Also of integers, which stay integers.
    fn abs<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        match x.unpack_i32().and_then(i32::checked_abs) {
            Some(integer) => Ok(eval.heap().alloc(integer)),
            None => unary("abs", Unary::Abs, f64::abs, x, eval),
        }
    }
}

#[starlark_module]
pub(super) fn activations(builder: &mut GlobalsBuilder) {
    fn relu<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        unary("relu", Unary::Relu, |x| x.max(0.0), x, eval)
    }

    /// Of tensors only: the standard library has no error function for plain numbers.
    fn gelu<'v>(
        #[starlark(require = pos)] x: &TensorValue,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(x.0.unary("gelu", Unary::Gelu)?))
    }

    fn silu<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        unary("silu", Unary::Silu, |x| x * sigmoid_of(x), x, eval)
    }

    fn tanh<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        unary("tanh", Unary::Tanh, f64::tanh, x, eval)
    }

    fn sigmoid<'v>(
        #[starlark(require = pos)] x: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        unary("sigmoid", Unary::Sigmoid, sigmoid_of, x, eval)
    }
}

#[starlark_module]
pub(super) fn functions_of_two(builder: &mut GlobalsBuilder) {
    fn maximum<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        binary(BinaryOp(Binary::Max, "maximum"), f64::max, a, b, eval)
    }

    fn minimum<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        binary(BinaryOp(Binary::Min, "minimum"), f64::min, a, b, eval)
    }

    fn pow<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        binary(BinaryOp(Binary::Pow, "pow"), f64::powf, a, b, eval)
    }

    /// Subtraction and division with a number on the left, which operators cannot offer:
    /// Starlark asks only the left operand.
    fn sub<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        binary(BinaryOp(Binary::Sub, "sub"), |a, b| a - b, a, b, eval)
    }

    fn div<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        binary(BinaryOp(Binary::Div, "div"), |a, b| a / b, a, b, eval)
    }
}

#[starlark_module]
pub(super) fn sequences(builder: &mut GlobalsBuilder) {
    /// The standard `range`, bounded: `list(range(n))` must not fill the memory at one stroke.
    fn range(
        #[starlark(require = pos)] first: i32,
        #[starlark(require = pos)] second: Option<i32>,
        #[starlark(require = pos, default = 1)] step: i32,
    ) -> starlark::Result<Range> {
        let (start, stop) = second.map_or((0, first), |stop| (first, stop));
        let Some(step) = NonZeroI32::new(step) else {
            return Err(Misuse::new("range: the step is 0").into());
        };
        let length = (i64::from(stop) - i64::from(start)) / i64::from(step.get());
        if length > RANGE_LENGTH {
            return Err(Misuse::new(format!("range: {length} elements, the limit is {RANGE_LENGTH}")).into());
        }
        Ok(Range::new(start, stop, step))
    }
}
