//! Numbers of a script beside tensors, as in `2 * x`.

use burn::tensor::Tensor;
use serde::Serialize;

use super::flow::{Flow, Traced};
use super::{
    Backward, Builtin, Forward, InputValues, Located, Malformed, Misuse, Operation, Symbol, Trace, finite,
    tensors::DeviceValue,
};
use crate::value::ValueId;

/// A constant of one element, rank 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scalar(pub f64);

impl Operation for Scalar {
    fn name(&self) -> &'static str {
        "number"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        Vec::new()
    }

    fn flops(&self, _at: Located<'_>) -> u64 {
        0
    }

    fn causality(&self, _inputs: &[Flow], at: Located<'_>) -> Traced {
        Ok(Flow::of_numbers(std::iter::once(self.0), at))
    }

    fn forward(&self, _inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(Tensor::full([1; 5], self.0, run.device))
    }

    fn backward(&self, _grad: DeviceValue, _run: &mut Backward<'_>) -> Result<(), Malformed> {
        Ok(())
    }
}

/// A number as a value of the graph.
pub(super) fn scalar(trace: &dyn Trace, number: f64) -> Result<Symbol, Misuse> {
    trace.make(Scalar(finite("number", number)?), Vec::new())
}

pub(super) const BUILTINS: &[Builtin] = &[];
