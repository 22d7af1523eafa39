//! `where`: elements of one tensor or of another, by a condition.

use serde::Serialize;

use super::binary::lift;
use super::flow::{Flow, Leak, Traced};
use super::shape::{Rule, broadcast};
use super::tensors::{DeviceValue, unbroadcast};
use super::{
    ArgumentKind, Backward, Builtin, CallResult, Forward, InputValues, Located, Malformed, Misuse, Operand, Operation,
    Parameter, Symbol, Trace,
};
use crate::value::ValueId;

/// The elements of `a` where `condition` is not 0, else those of `b`. All broadcast as NumPy's do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Where {
    pub condition: ValueId,
    pub a: ValueId,
    pub b: ValueId,
}

impl Operation for Where {
    fn name(&self) -> &'static str {
        "where"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.condition, &mut self.a, &mut self.b]
    }

    fn saved(&self, _at: Located<'_>, _flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
        vec![self.condition]
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        let [condition, a, b] = inputs else { return Err(Leak::new(at, "has a wrong number of inputs")) };
        Flow::chosen([condition, a, b], at.constant(self.b), at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let (condition, a, b) = inputs.three()?;
        let dims = run.dims();
        let holds = condition.expand(dims).not_equal_elem(0.0);
        let result = b.expand(dims).mask_where(holds, a.expand(dims));
        match run.enforced() {
            Some(mask) => Ok(mask.set(result, run.at.shape().len())),
            None => Ok(result),
        }
    }

    /// No gradient flows to the condition.
    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let fails = run.value(self.condition)?.expand(grad.dims()).equal_elem(0.0);
        for (id, hidden) in [(self.a, fails.clone()), (self.b, fails.bool_not())] {
            if run.flows(id) {
                let dims = run.dims_of(id)?;
                run.add(id, unbroadcast(grad.clone().mask_fill(hidden, 0.0), dims));
            }
        }
        Ok(())
    }
}

/// The choice between two operands; one side may be a number, or both.
pub(super) fn choose(trace: &dyn Trace, condition: &Symbol, a: &Operand, b: &Operand) -> Rule<Symbol> {
    condition.float("where")?;
    let (a, b) = (lift(trace, "where", a)?, lift(trace, "where", b)?);
    let shape = broadcast("where", &broadcast("where", &condition.shape, &a.shape)?, &b.shape)?;
    trace.make(Where { condition: condition.id, a: a.id, b: b.id }, shape)
}

const PARAMETERS: &[Parameter] = &[
    Parameter::new("condition", ArgumentKind::Operand).by_position(),
    Parameter::new("a", ArgumentKind::Operand).by_position(),
    Parameter::new("b", ArgumentKind::Operand).by_position(),
];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("where", PARAMETERS, |trace, arguments| {
    let (condition, a, b): (Operand, Operand, Operand) = arguments.read()?;
    match condition {
        Operand::Tensor(condition) => Ok(choose(trace, &condition, &a, &b)?.into()),
        number => {
            let chosen = if number.number() == Some(0.0) { b } else { a };
            match (&chosen, chosen.number()) {
                (Operand::Tensor(tensor), _) => Ok(CallResult::Tensor(tensor.clone())),
                (_, Some(number)) => Ok(CallResult::Number(number)),
                _ => Err(Misuse::new("where: the choice is neither a tensor nor a number")),
            }
        }
    }
})
.documented(
    "the elements of `a` where `condition` is not 0, else those of `b`. All three broadcast, and may be numbers. A condition made of `arange` is a mask: `where(ge(i, j), scores, -1e30)`, with queries `i` before keys `j`",
    "where(gt(x, 0), x, 0)",
)];

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, SIX};
    use super::super::{Binary, BinaryFunction, Scalar};
    use super::*;

    #[test]
    fn elements_come_from_one_side_or_the_other() {
        let row: (&[usize], &[f32]) = (&[3], &[10.0, 20.0, 30.0]);
        Case::new(&[SIX, row], |b, ids| {
            let zero = b.node(Scalar(0.0), &[]);
            let condition = b.node(Binary(BinaryFunction::Less, zero, ids[0]), &[2, 3]);
            b.node(Where { condition, a: ids[0], b: ids[1] }, &[2, 3])
        })
        .gives(&[0.3, 20.0, 2.0, 0.7, 1.5, 30.0])
        .gradient_checks();
    }

    #[test]
    fn elements_that_are_not_chosen_do_not_matter() {
        let broken: (&[usize], &[f32]) = (&[2, 3], &[f32::NAN, 1.0, f32::INFINITY, 2.0, f32::NAN, 3.0]);
        let case = Case::new(&[broken], |b, ids| {
            let finite = b.node(Binary(BinaryFunction::LessEqual, ids[0], ids[0]), &[2, 3]);
            let zero = b.node(Scalar(0.0), &[]);
            let large = b.node(Scalar(100.0), &[]);
            let numbers = b.node(Where { condition: finite, a: ids[0], b: zero }, &[2, 3]);
            b.node(Binary(BinaryFunction::Min, numbers, large), &[2, 3])
        });
        case.gives(&[0.0, 1.0, 100.0, 2.0, 0.0, 3.0]);
    }
}
