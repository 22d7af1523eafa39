//! `x.cumsum`: running sums along one dimension.

use serde::Serialize;

use super::flow::{Flow, Traced, first};
use super::shape::{self, Rule};
use super::tensors::DeviceValue;
use super::{
    ArgumentKind, Backward, Builtin, Forward, InputValues, Located, Malformed, Operation, Parameter, Symbol, Trace,
};
use crate::value::ValueId;

/// For each element the sum of those up to it along a dimension, itself included.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CumulativeSum(pub ValueId, pub usize);

impl Operation for CumulativeSum {
    fn name(&self) -> &'static str {
        "cumsum"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.0]
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at)?.accumulated(self.1, at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(inputs.one()?.cumsum(run.axis(self.1)))
    }

    /// Each element is in its own sum and in all later ones.
    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let axis = run.axis(self.1);
        run.add(self.0, grad.flip([axis]).cumsum(axis).flip([axis]));
        Ok(())
    }
}

fn cumsum(trace: &dyn Trace, x: &Symbol, axis: i64) -> Rule<Symbol> {
    x.float("cumsum")?;
    let axis = shape::axis("cumsum", axis, &x.shape)?;
    trace.make(CumulativeSum(x.id, axis), x.shape.clone())
}

pub(super) const BUILTINS: &[Builtin] =
    &[Builtin::method("cumsum", &[Parameter::new("axis", ArgumentKind::Integer)], |trace, arguments| {
        let (x, axis): (Symbol, i64) = arguments.read()?;
        Ok(cumsum(trace, &x, axis)?.into())
    })
    .documented(
        "for each element the sum of those up to it along one dimension, itself included. Along the context, each position sees itself and earlier ones",
        "x.cumsum(1)",
    )];

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, COUNTED, Case};
    use super::*;

    #[test]
    fn sums_run_along_one_dimension() {
        let along = |axis| move |b: &mut Builder, ids: &[ValueId]| b.node(CumulativeSum(ids[0], axis), &[2, 3]);
        Case::new(&[COUNTED], along(1)).gives(&[1.0, 3.0, 6.0, 4.0, 9.0, 15.0]).gradient_checks();
        Case::new(&[COUNTED], along(0)).gives(&[1.0, 2.0, 3.0, 5.0, 7.0, 9.0]).gradient_checks();
    }
}
