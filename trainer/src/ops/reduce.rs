//! `x.sum`, `x.mean` and `x.max`: one dimension reduced.

use serde::Serialize;

use super::flow::{Flow, Traced, first};
use super::reshape::Reshape;
use super::shape::{self, Rule};
use super::tensors::{DeviceValue, extent};
use super::{
    ArgumentKind, Arguments, Backward, Builtin, CallResult, DefaultValue, Forward, InputValues, Located, Malformed,
    Operation, Parameter, Symbol, Trace,
};
use crate::value::{Shape, ValueId, elements};

/// A dimension reduced; it stays with extent 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reduce(pub Reduction, pub ValueId, pub usize);

/// The way in which elements become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    Sum,
    Mean,
    Max,
}

impl Operation for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.1]
    }

    /// One for each element of the input.
    fn flops(&self, at: Located<'_>) -> u64 {
        at.shape_of(self.1).map_or(0, elements)
    }

    fn saved(&self, at: Located<'_>, _flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
        match self.0 {
            Reduction::Sum | Reduction::Mean => vec![],
            Reduction::Max => vec![self.1, at.id()],
        }
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at)?.reduced_along(self.2, at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let (x, axis) = (inputs.one()?, run.axis(self.2));
        Ok(match self.0 {
            Reduction::Sum => x.sum_dim(axis),
            Reduction::Mean => x.mean_dim(axis),
            Reduction::Max => x.max_dim(axis),
        })
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let (dims, axis) = (run.dims_of(self.1)?, run.axis(self.2));
        let spread = match self.0 {
            Reduction::Sum => grad.expand(dims),
            Reduction::Mean => grad.div_scalar(extent(&dims, axis).max(1) as f64).expand(dims),
            Reduction::Max => {
                // Equal maxima share the gradient.
                let hit = run.value(self.1)?.equal(run.result()?.expand(dims)).float();
                let share = grad / hit.clone().sum_dim(axis);
                hit * share
            }
        };
        run.add(self.1, spread);
        Ok(())
    }
}

/// The same shape with one extent set to 1.
fn reduced(from: &[usize], along: usize) -> Shape {
    from.iter().enumerate().map(|(i, extent)| if i == along { 1 } else { *extent }).collect()
}

/// The shape without one dimension.
fn without(from: &[usize], along: usize) -> Shape {
    from.iter().enumerate().filter(|(i, _)| *i != along).map(|(_, extent)| *extent).collect()
}

fn reduce(trace: &dyn Trace, what: &str, reduction: Reduction, x: &Symbol, axis: i64, keep: bool) -> Rule<Symbol> {
    x.float(what)?;
    let axis = shape::axis(what, axis, &x.shape)?;
    let kept = trace.make(Reduce(reduction, x.id, axis), reduced(&x.shape, axis))?;
    if keep {
        return Ok(kept);
    }
    trace.make(Reshape(kept.id), without(&x.shape, axis))
}

fn call(trace: &dyn Trace, arguments: Arguments, what: &str, reduction: Reduction) -> Rule<CallResult> {
    let (x, axis, keep): (Symbol, i64, bool) = arguments.read()?;
    Ok(reduce(trace, what, reduction, &x, axis, keep)?.into())
}

const AXIS: &[Parameter] = &[
    Parameter::new("axis", ArgumentKind::Integer),
    Parameter::new("keep", ArgumentKind::Flag).or(DefaultValue::Flag(false)),
];

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin::method("sum", AXIS, |trace, arguments| call(trace, arguments, "sum", Reduction::Sum)).documented(
        "the sum along one dimension, which disappears, or stays with extent 1 if `keep` is `True`",
        "x.sum(-1)",
    ),
    Builtin::method("mean", AXIS, |trace, arguments| call(trace, arguments, "mean", Reduction::Mean))
        .documented("the mean along one dimension; `keep` as for `sum`", "x.mean(-1, keep=True)"),
    Builtin::method("max", AXIS, |trace, arguments| call(trace, arguments, "max", Reduction::Max))
        .documented("the largest element along one dimension; `keep` as for `sum`", "x.max(-1)"),
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, Case, SIX};
    use super::*;

    #[test]
    fn shape_rules_keep_or_drop_the_dimension() {
        assert_eq!(reduced(&[2, 3, 4], 1), [2, 1, 4]);
        assert_eq!(without(&[2, 3, 4], 1), [2, 4]);
    }

    #[test]
    fn reductions_match_numbers_by_hand() {
        let reduce = |reduction, axis, shape: &'static [usize]| {
            move |b: &mut Builder, ids: &[ValueId]| b.node(Reduce(reduction, ids[0], axis), shape)
        };
        Case::new(&[SIX], reduce(Reduction::Sum, 1, &[2, 1])).gives(&[1.1, 1.8]).gradient_checks();
        Case::new(&[SIX], reduce(Reduction::Sum, 0, &[1, 3])).gives(&[1.0, 0.3, 1.6]).gradient_checks();
        Case::new(&[SIX], reduce(Reduction::Mean, 0, &[1, 3])).gives(&[0.5, 0.15, 0.8]).gradient_checks();
        Case::new(&[SIX], reduce(Reduction::Max, 1, &[2, 1])).gives(&[2.0, 1.5]).gradient_checks();
    }
}
