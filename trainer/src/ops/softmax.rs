//! `softmax`: shares that sum to 1.

use burn::tensor::activation;
use serde::Serialize;

use super::flow::{Flow, Traced, first};
use super::operation::HEAVY_FLOPS;
use super::shape::{self, Rule};
use super::tensors::DeviceValue;
use super::{
    ArgumentKind, Backward, Builtin, DefaultValue, Forward, InputValues, Located, Malformed, Operation, Parameter,
    Symbol, Trace,
};
use crate::value::{ValueId, elements};

/// Softmax along one dimension.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Softmax(pub ValueId, pub usize);

impl Operation for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.0]
    }

    fn flops(&self, at: Located<'_>) -> u64 {
        elements(at.shape()).saturating_mul(HEAVY_FLOPS)
    }

    fn saved(&self, at: Located<'_>, _flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
        vec![at.id()]
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at)?.shares_along(self.1, at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(activation::softmax(inputs.one()?, run.axis(self.1)))
    }

    /// `y (g - sum(g y))`.
    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let (axis, y) = (run.axis(self.1), run.result()?);
        let weighted = grad * y.clone();
        let total = weighted.clone().sum_dim(axis);
        run.add(self.0, weighted - y * total);
        Ok(())
    }
}

pub(super) fn softmax(trace: &dyn Trace, x: &Symbol, axis: i64) -> Rule<Symbol> {
    let axis = shape::axis("softmax", axis, &x.shape)?;
    x.float("softmax")?;
    trace.make(Softmax(x.id, axis), x.shape.clone())
}

const PARAMETERS: &[Parameter] = &[
    Parameter::new("x", ArgumentKind::Tensor),
    Parameter::new("axis", ArgumentKind::Integer).or(DefaultValue::Integer(-1)),
];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("softmax", PARAMETERS, |trace, arguments| {
    let (x, axis): (Symbol, i64) = arguments.read()?;
    Ok(softmax(trace, &x, axis)?.into())
})
.documented("`exp(x)` divided by its sum along the axis: positive numbers that sum to 1", "softmax(x)")];

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, SIX};
    use super::*;

    #[test]
    fn shares_sum_to_one_along_either_axis() {
        let e: Vec<f32> = SIX.1.iter().map(|x| x.exp()).collect();
        let (first, second): (f32, f32) = (e[..3].iter().sum(), e[3..].iter().sum());
        let expected: Vec<f32> = e.iter().enumerate().map(|(i, x)| x / if i < 3 { first } else { second }).collect();
        Case::new(&[SIX], |b, ids| b.node(Softmax(ids[0], 1), &[2, 3])).gives(&expected).gradient_checks();
        let columns: Vec<f32> = (0..6).map(|i| e[i] / (e[i % 3] + e[i % 3 + 3])).collect();
        Case::new(&[SIX], |b, ids| b.node(Softmax(ids[0], 0), &[2, 3])).gives(&columns).gradient_checks();
    }
}
