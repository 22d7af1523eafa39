//! `shift`: values moved to later positions.

use burn::tensor::Tensor;
use serde::Serialize;

use super::flow::{Flow, Traced, first};
use super::shape::{self, Rule};
use super::tensors::{DeviceValue, extent, zeros};
use super::{
    ArgumentKind, Backward, Builtin, DefaultValue, Forward, InputValues, Located, Malformed, Misuse, Operation,
    Parameter, Symbol, Trace,
};
use crate::value::{ValueId, show};

/// Values moved `by` positions later along `axis`, zeros coming in at the front.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shift {
    pub x: ValueId,
    pub axis: usize,
    pub by: usize,
}

impl Operation for Shift {
    fn name(&self) -> &'static str {
        "shift"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.x]
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at)?.shifted(self.axis, self.by, at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(moved(inputs.one()?, run.axis(self.axis), self.by, ShiftDirection::Later))
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let axis = run.axis(self.axis);
        run.add(self.x, moved(grad, axis, self.by, ShiftDirection::Earlier));
        Ok(())
    }
}

/// The direction in which values move. Each is the transpose of the other.
enum ShiftDirection {
    Later,
    Earlier,
}

/// Values moved `by` places along `axis`, zeros coming in where they leave.
fn moved(x: DeviceValue, axis: usize, by: usize, direction: ShiftDirection) -> DeviceValue {
    let dims = x.dims();
    let extent = extent(&dims, axis);
    if by == 0 {
        return x;
    }
    if by >= extent {
        return x.zeros_like();
    }
    let zeros = zeros(dims, axis, by, &x.device());
    match direction {
        ShiftDirection::Later => Tensor::cat(vec![zeros, x.narrow(axis, 0, extent - by)], axis),
        ShiftDirection::Earlier => Tensor::cat(vec![x.narrow(axis, by, extent - by), zeros], axis),
    }
}

fn shift(trace: &dyn Trace, x: &Symbol, by: i64, along: i64) -> Rule<Symbol> {
    let axis = shape::axis("shift", along, &x.shape)?;
    let extent = x.shape.get(axis).copied().unwrap_or(0);
    let by = usize::try_from(by).ok().filter(|by| *by < extent).ok_or_else(|| {
        Misuse::new(format!(
            "shift: by {by} along dimension {axis} of {}: choose 0..{}; values only move later",
            show(&x.shape),
            extent.saturating_sub(1)
        ))
    })?;
    x.float("shift")?;
    if by == 0 {
        return Ok(x.clone());
    }
    trace.make(Shift { x: x.id, axis, by }, x.shape.clone())
}

const PARAMETERS: &[Parameter] = &[
    Parameter::new("x", ArgumentKind::Tensor),
    Parameter::new("by", ArgumentKind::Integer).or(DefaultValue::Integer(1)),
    Parameter::new("axis", ArgumentKind::Integer).or(DefaultValue::Integer(1)),
];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("shift", PARAMETERS, |trace, arguments| {
    let (x, by, axis): (Symbol, i64, i64) = arguments.read()?;
    Ok(shift(trace, &x, by, axis)?.into())
})
.documented(
    "the values moved `by` places later along one dimension, with zeros in front. Along the context, each position sees the one `by` before it",
    "shift(x)",
)];

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, COUNTED, Case};
    use super::*;

    #[test]
    fn shift_moves_values_later_and_fills_with_zeros() {
        let shift = |axis, by| move |b: &mut Builder, ids: &[ValueId]| b.node(Shift { x: ids[0], axis, by }, &[2, 3]);
        Case::new(&[COUNTED], shift(1, 1)).gives(&[0.0, 1.0, 2.0, 0.0, 4.0, 5.0]).gradient_checks();
        Case::new(&[COUNTED], shift(0, 1)).gives(&[0.0, 0.0, 0.0, 1.0, 2.0, 3.0]).gradient_checks();
        Case::new(&[COUNTED], shift(1, 0)).gives(COUNTED.1).gradient_checks();
        Case::new(&[COUNTED], shift(0, 5)).gives(&[0.0; 6]).gradient_checks();
    }
}
