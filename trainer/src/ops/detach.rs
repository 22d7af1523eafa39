//! `detach`: a value through which no gradient flows.

use serde::Serialize;

use super::flow::{Flow, Traced, first};
use super::shape::Rule;
use super::tensors::DeviceValue;
use super::{
    ArgumentKind, Backward, Builtin, Forward, InputValues, Located, Malformed, Operation, Parameter, Symbol, Trace,
};
use crate::value::ValueId;

/// The value, through which no gradient flows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detach(pub ValueId);

impl Operation for Detach {
    fn name(&self) -> &'static str {
        "detach"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.0]
    }

    fn flops(&self, _at: Located<'_>) -> u64 {
        0
    }

    fn carries_gradient(&self, _through_inputs: bool) -> bool {
        false
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at).cloned()
    }

    fn forward(&self, inputs: InputValues, _run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        inputs.one()
    }

    fn backward(&self, _grad: DeviceValue, _run: &mut Backward<'_>) -> Result<(), Malformed> {
        Ok(())
    }
}

fn detach(trace: &dyn Trace, x: &Symbol) -> Rule<Symbol> {
    x.float("detach")?;
    trace.make(Detach(x.id), x.shape.clone())
}

pub(super) const BUILTINS: &[Builtin] =
    &[Builtin::function("detach", &[Parameter::new("x", ArgumentKind::Tensor)], |trace, arguments| {
        let (x,): (Symbol,) = arguments.read()?;
        Ok(detach(trace, &x)?.into())
    })
    .documented("`x`, but no gradient flows through it", "x * detach(x)")];

#[cfg(test)]
mod tests {
    use super::super::testing::Case;
    use super::super::{Binary, BinaryFunction};
    use super::*;

    #[test]
    fn no_gradient_flows_and_values_may_be_used_twice() {
        // x * detach(x) + x: the gradient is detach(x) + 1.
        let case = Case::new(&[(&[2], &[3.0, -2.0])], |b, ids| {
            let still = b.node(Detach(ids[0]), &[2]);
            let product = b.node(Binary(BinaryFunction::Mul, ids[0], still), &[2]);
            b.node(Binary(BinaryFunction::Add, product, ids[0]), &[2])
        });
        case.gives(&[12.0, 2.0]);
        let (_, grads) = case.train(&[1.0, 1.0]);
        assert_eq!(grads, [[4.0, -1.0]]);
    }
}
