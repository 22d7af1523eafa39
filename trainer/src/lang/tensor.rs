//! A symbolic tensor as the script sees it: operators, `x.shape` and methods.
//!
//! The work is in [`ops`](super::ops); here arguments are unpacked and results handed back.

use std::fmt;

use starlark::environment::{Methods, MethodsBuilder};
use starlark::starlark_module;
use starlark::values::float::UnpackFloat;
use starlark::values::list_or_tuple::UnpackListOrTuple;
use starlark::values::none::NoneOr;
use starlark::values::tuple::AllocTuple;
use starlark::values::{Heap, StarlarkValue, UnpackValue, Value, ValueLike, starlark_value};

use super::error::Misuse;
pub(super) use super::handles::TensorValue;
use super::ops::{BinaryOp, Operand};
use super::shapes::show;
use crate::graph::{Binary, Reduce, Unary};

impl fmt::Display for TensorValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor{}", show(&self.0.shape))
    }
}

#[starlark_value(type = "tensor")]
impl<'v> StarlarkValue<'v> for TensorValue {
    fn get_methods() -> Option<&'static Methods> {
        Some(TENSOR_METHODS.methods())
    }

    fn minus(&self, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(TensorValue(self.0.unary("-", Unary::Neg)?)))
    }

    fn add(&self, rhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        Some(self.with_right(BinaryOp(Binary::Add, "+"), rhs, heap))
    }

    fn radd(&self, lhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        Some(self.with_left(BinaryOp(Binary::Add, "+"), lhs, heap))
    }

    fn sub(&self, rhs: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        self.with_right(BinaryOp(Binary::Sub, "-"), rhs, heap)
    }

    fn mul(&self, rhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        Some(self.with_right(BinaryOp(Binary::Mul, "*"), rhs, heap))
    }

    fn rmul(&self, lhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        Some(self.with_left(BinaryOp(Binary::Mul, "*"), lhs, heap))
    }

    fn div(&self, rhs: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        self.with_right(BinaryOp(Binary::Div, "/"), rhs, heap)
    }

    fn at(&self, _index: Value<'v>, _heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        Err(Misuse::new("a tensor has no [index]: use x.slice(axis, start, end)").into())
    }

    fn slice(
        &self,
        _start: Option<Value<'v>>,
        _stop: Option<Value<'v>>,
        _step: Option<Value<'v>>,
        _heap: Heap<'v>,
    ) -> starlark::Result<Value<'v>> {
        Err(Misuse::new("a tensor has no [start:end]: use x.slice(axis, start, end)").into())
    }
}

impl TensorValue {
    fn with_right<'v>(&self, op: BinaryOp, rhs: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        let made = self.0.session.binary(op, &Operand::Tensor(&self.0), &operand(op.1, rhs)?)?;
        Ok(heap.alloc(TensorValue(made)))
    }

    fn with_left<'v>(&self, op: BinaryOp, lhs: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        let made = self.0.session.binary(op, &operand(op.1, lhs)?, &Operand::Tensor(&self.0))?;
        Ok(heap.alloc(TensorValue(made)))
    }
}

/// A tensor or number out of the script.
pub(super) fn operand<'v>(what: &str, value: Value<'v>) -> starlark::Result<Operand<'v>> {
    if let Some(tensor) = value.downcast_ref::<TensorValue>() {
        return Ok(Operand::Tensor(&tensor.0));
    }
    match UnpackFloat::unpack_value(value)? {
        Some(number) => Ok(Operand::Number(number.0)),
        None => {
            Err(Misuse::new(format!("{what}: expected a tensor or a number, got {} {value}", value.get_type())).into())
        }
    }
}

/// A shape or order of axes: a list or tuple of integers.
pub(super) type Extents = UnpackListOrTuple<i64>;

starlark::methods_static!(TENSOR_METHODS = tensor_methods);

#[starlark_module]
fn tensor_methods(builder: &mut MethodsBuilder) {
    /// The extents, outermost dimension first.
    #[starlark(attribute)]
    fn shape<'v>(this: &TensorValue, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(AllocTuple(this.0.shape.iter().map(|extent| *extent as i64))))
    }

    fn reshape(this: &TensorValue, #[starlark(require = pos)] shape: Extents) -> starlark::Result<TensorValue> {
        Ok(TensorValue(this.0.reshape(&shape.items)?))
    }

    fn permute(this: &TensorValue, #[starlark(require = pos)] axes: Extents) -> starlark::Result<TensorValue> {
        Ok(TensorValue(this.0.permute(&axes.items)?))
    }

    fn transpose(
        this: &TensorValue,
        #[starlark(require = pos, default = -2)] a: i64,
        #[starlark(require = pos, default = -1)] b: i64,
    ) -> starlark::Result<TensorValue> {
        Ok(TensorValue(this.0.transpose(a, b)?))
    }

    fn slice(
        this: &TensorValue,
        axis: i64,
        start: i64,
        #[starlark(default = NoneOr::None)] end: NoneOr<i64>,
    ) -> starlark::Result<TensorValue> {
        Ok(TensorValue(this.0.slice(axis, start, end.into_option())?))
    }

    fn split(
        this: &TensorValue,
        parts: u32,
        #[starlark(default = -1)] axis: i64,
    ) -> starlark::Result<Vec<TensorValue>> {
        Ok(this.0.split(parts as usize, axis)?.into_iter().map(TensorValue).collect())
    }

    fn sum(this: &TensorValue, axis: i64, #[starlark(default = false)] keep: bool) -> starlark::Result<TensorValue> {
        Ok(TensorValue(this.0.reduce("sum", Reduce::Sum, axis, keep)?))
    }

    fn mean(this: &TensorValue, axis: i64, #[starlark(default = false)] keep: bool) -> starlark::Result<TensorValue> {
        Ok(TensorValue(this.0.reduce("mean", Reduce::Mean, axis, keep)?))
    }

    fn max(this: &TensorValue, axis: i64, #[starlark(default = false)] keep: bool) -> starlark::Result<TensorValue> {
        Ok(TensorValue(this.0.reduce("max", Reduce::Max, axis, keep)?))
    }
}
