//! `concat`: tensors joined along one dimension.

use burn::tensor::Tensor;
use serde::Serialize;

use super::flow::{Flow, Traced};
use super::shape::{self, Rule};
use super::tensors::{DeviceValue, extent};
use super::{
    ArgumentKind, Backward, Builtin, DefaultValue, Forward, InputValues, Located, Malformed, Misuse, Operation,
    Parameter, Symbol, Trace,
};
use crate::value::{ValueId, show};

/// Values joined along one dimension.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Concat(pub Vec<ValueId>, pub usize);

impl Operation for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        self.0.iter_mut().collect()
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        let extents = self.0.iter().map(|id| at.shape_of(*id).ok().and_then(|shape| shape.get(self.1)).copied());
        let extents: Vec<usize> = extents.map(|extent| extent.unwrap_or(1)).collect();
        Flow::concatenated(inputs, &extents, self.1, at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(Tensor::cat(inputs.all(), run.axis(self.1)))
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let (axis, mut start) = (run.axis(self.1), 0);
        for part in &self.0 {
            let len = extent(&run.dims_of(*part)?, axis);
            if run.flows(*part) {
                run.add(*part, grad.clone().narrow(axis, start, len));
            }
            start += len;
        }
        Ok(())
    }
}

/// Joined along one dimension; all others must agree.
fn joined(shapes: &[&[usize]], along: usize) -> Rule {
    let Some((first, rest)) = shapes.split_first() else { return Err(empty()) };
    let mut shape = first.to_vec();
    for other in rest {
        let fits = other.len() == first.len()
            && first.iter().zip(other.iter()).enumerate().all(|(i, (a, b))| i == along || a == b);
        if !fits {
            return Err(Misuse::new(format!(
                "concat: {} and {} differ outside axis {along}; all other extents must agree",
                show(first),
                show(other)
            )));
        }
        if let (Some(out), Some(more)) = (shape.get_mut(along), other.get(along)) {
            *out += more;
        }
    }
    Ok(shape)
}

fn empty() -> Misuse {
    Misuse::new("concat: the list is empty; give at least one tensor")
}

fn concat(trace: &dyn Trace, parts: &[Symbol], axis: i64) -> Rule<Symbol> {
    for part in parts {
        part.float("concat")?;
    }
    let axis = shape::axis("concat", axis, &parts.first().ok_or_else(empty)?.shape)?;
    let shapes: Vec<&[usize]> = parts.iter().map(|part| part.shape.as_slice()).collect();
    let shape = joined(&shapes, axis)?;
    trace.make(Concat(parts.iter().map(|part| part.id).collect(), axis), shape)
}

const PARAMETERS: &[Parameter] = &[
    Parameter::new("tensors", ArgumentKind::Tensors),
    Parameter::new("axis", ArgumentKind::Integer).or(DefaultValue::Integer(-1)),
];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("concat", PARAMETERS, |trace, arguments| {
    let (parts, axis): (Vec<Symbol>, i64) = arguments.read()?;
    Ok(concat(trace, &parts, axis)?.into())
})
.documented(
    "the tensors of a list joined along one dimension; their other extents must agree",
    "concat([x, x], axis=0)",
)];

#[cfg(test)]
mod tests {
    use super::super::shape::complaint;
    use super::super::testing::{COUNTED, Case};
    use super::*;

    #[test]
    fn shape_rule_adds_up_one_dimension() {
        assert_eq!(joined(&[&[2, 3], &[2, 5]], 1).unwrap(), [2, 8]);
        assert_eq!(
            complaint(joined(&[&[2, 3], &[4, 5]], 1)),
            "concat: [2,3] and [4,5] differ outside axis 1; all other extents must agree"
        );
        assert!(complaint(joined(&[], 0)).contains("list is empty"));
    }

    #[test]
    fn concat_joins_tensors_and_accepts_one_twice() {
        let y: (&[usize], &[f32]) = (&[2, 1], &[7.0, 8.0]);
        Case::new(&[COUNTED, y], |b, ids| b.node(Concat(vec![ids[0], ids[1], ids[1]], 1), &[2, 5]))
            .gives(&[1.0, 2.0, 3.0, 7.0, 7.0, 4.0, 5.0, 6.0, 8.0, 8.0])
            .gradient_checks();
    }
}
