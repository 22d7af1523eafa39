//! A symbolic tensor as the script sees it: operators, `x.shape` and methods.
//!
//! [`ops`](crate::ops) does the work. This file unpacks operands and packs results.

use std::fmt;

use starlark::values::tuple::AllocTuple;
use starlark::values::{Heap, StarlarkValue, Value, starlark_value};

pub(super) use super::handles::TensorValue;
use super::library::{method, methods, operand};
use crate::ops::{BinaryFunction, Misuse, Operand, Symbol, UnaryFunction, binary, unary};
use crate::value::show;

/// The name of the one attribute that is no method.
const SHAPE: &str = "shape";

impl fmt::Display for TensorValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor{}", show(&self.symbol.shape))
    }
}

#[starlark_value(type = "tensor")]
impl<'v> StarlarkValue<'v> for TensorValue {
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        if attribute == SHAPE {
            return Some(heap.alloc(AllocTuple(self.symbol.shape.iter().map(|extent| *extent as i64))));
        }
        method(attribute, &self.symbol).map(|method| heap.alloc(method))
    }

    fn dir_attr(&self) -> Vec<String> {
        methods().chain([SHAPE]).map(str::to_owned).collect()
    }

    fn minus(&self, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        Ok(self.alloc(unary(&self.session, "-", UnaryFunction::Neg, &self.symbol)?, heap))
    }

    fn add(&self, rhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        Some(self.with_right("+", BinaryFunction::Add, rhs, heap))
    }

    fn radd(&self, lhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        Some(self.with_left("+", BinaryFunction::Add, lhs, heap))
    }

    fn sub(&self, rhs: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        self.with_right("-", BinaryFunction::Sub, rhs, heap)
    }

    fn mul(&self, rhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        Some(self.with_right("*", BinaryFunction::Mul, rhs, heap))
    }

    fn rmul(&self, lhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        Some(self.with_left("*", BinaryFunction::Mul, lhs, heap))
    }

    fn div(&self, rhs: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        self.with_right("/", BinaryFunction::Div, rhs, heap)
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
    fn with_right<'v>(
        &self,
        sign: &str,
        function: BinaryFunction,
        right: Value<'v>,
        heap: Heap<'v>,
    ) -> starlark::Result<Value<'v>> {
        let (left, right) = (Operand::Tensor(self.symbol.clone()), operand(sign, right)?);
        Ok(self.alloc(binary(&self.session, sign, function, &left, &right)?, heap))
    }

    fn with_left<'v>(
        &self,
        sign: &str,
        function: BinaryFunction,
        left: Value<'v>,
        heap: Heap<'v>,
    ) -> starlark::Result<Value<'v>> {
        let (left, right) = (operand(sign, left)?, Operand::Tensor(self.symbol.clone()));
        Ok(self.alloc(binary(&self.session, sign, function, &left, &right)?, heap))
    }

    fn alloc<'v>(&self, symbol: Symbol, heap: Heap<'v>) -> Value<'v> {
        heap.alloc(TensorValue { symbol, session: self.session.clone() })
    }
}
