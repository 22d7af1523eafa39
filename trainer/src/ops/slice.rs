//! `x.slice` and `x.split`: a part of one dimension.

use burn::tensor::Tensor;
use serde::Serialize;

use super::flow::{Flow, Traced, first};
use super::shape::{Rule, axis};
use super::shard::BatchAxes;
use super::tensors::{DeviceValue, extent, zeros};
use super::{
    ArgumentKind, Backward, Builtin, CallResult, DefaultValue, Forward, InputValues, Located, Malformed, Misuse,
    Operation, Parameter, Symbol, Trace,
};
use crate::value::{Shape, ValueId, show};

/// Elements `start..end` of one dimension.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slice {
    pub x: ValueId,
    pub axis: usize,
    pub start: usize,
    pub end: usize,
}

impl Operation for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.x]
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at)?.sliced(self.axis, self.start, self.end, at)
    }

    /// A slice of the batch itself names its extent.
    fn works_on_shards(&self, at: Located<'_>, batch: &BatchAxes) -> bool {
        batch.are_aligned(at) && batch.of(at.id()) != at.shape().len().checked_sub(self.axis + 1)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(inputs.one()?.narrow(run.axis(self.axis), self.start, self.end.saturating_sub(self.start)))
    }

    /// The gradient in its place, zeros around it.
    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let (dims, axis) = (run.dims_of(self.x)?, run.axis(self.axis));
        let (whole, device) = (extent(&dims, axis), grad.device());
        let mut parts = Vec::with_capacity(3);
        if self.start > 0 {
            parts.push(zeros(dims, axis, self.start, &device));
        }
        parts.push(grad);
        if self.end < whole {
            parts.push(zeros(dims, axis, whole - self.end, &device));
        }
        run.add(self.x, Tensor::cat(parts, axis));
        Ok(())
    }
}

/// The elements `start..end` of one dimension: the first index, the index after the last, and the
/// resulting shape. Negative bounds count from the dimension's end.
fn bounds(from: &[usize], along: usize, start: i64, end: Option<i64>) -> Rule<(usize, usize, Shape)> {
    let extent = from.get(along).copied().unwrap_or(0);
    let resolve = |bound: i64| if bound < 0 { bound + extent as i64 } else { bound };
    let (first, last) = (resolve(start), resolve(end.unwrap_or(extent as i64)));
    if first < 0 || last > extent as i64 || first >= last {
        return Err(Misuse::new(format!(
            "slice: {first}..{last} of dimension {along} of {}: choose 0 <= start < end <= {extent}",
            show(from)
        )));
    }
    let (first, last) = (first as usize, last as usize);
    let mut shape = from.to_vec();
    if let Some(out) = shape.get_mut(along) {
        *out = last - first;
    }
    Ok((first, last, shape))
}

fn slice(trace: &dyn Trace, x: &Symbol, along: i64, start: i64, end: Option<i64>) -> Rule<Symbol> {
    x.float("slice")?;
    let axis = axis("slice", along, &x.shape)?;
    let (start, end, shape) = bounds(&x.shape, axis, start, end)?;
    trace.make(Slice { x: x.id, axis, start, end }, shape)
}

/// Equal parts along one dimension.
fn split(trace: &dyn Trace, x: &Symbol, parts: usize, along: i64) -> Rule<Vec<Symbol>> {
    x.float("split")?;
    let along = axis("split", along, &x.shape)?;
    let extent = x.shape.get(along).copied().unwrap_or(1);
    if parts == 0 || !extent.is_multiple_of(parts) {
        return Err(Misuse::new(format!(
            "split: dimension {along} of {} has extent {extent}, which does not divide into {parts} parts",
            show(&x.shape)
        )));
    }
    let part = (extent / parts) as i64;
    (0..parts as i64).map(|i| slice(trace, x, along as i64, i * part, Some((i + 1) * part))).collect()
}

const BOUNDS: &[Parameter] = &[
    Parameter::new("axis", ArgumentKind::Integer),
    Parameter::new("start", ArgumentKind::Integer),
    Parameter::new("end", ArgumentKind::Integer).or(DefaultValue::Nothing),
];

const PARTS: &[Parameter] = &[
    Parameter::new("parts", ArgumentKind::Count),
    Parameter::new("axis", ArgumentKind::Integer).or(DefaultValue::Integer(-1)),
];

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin::method("slice", BOUNDS, |trace, arguments| {
        let (x, axis, start, end): (Symbol, i64, i64, Option<i64>) = arguments.read()?;
        Ok(slice(trace, &x, axis, start, end)?.into())
    })
    .documented(
        "the elements from `start` up to but not including `end` along one dimension. Negative bounds count from its end; without `end`, all the rest",
        "x.slice(2, 1, -1)",
    ),
    Builtin::method("split", PARTS, |trace, arguments| {
        let (x, parts, axis): (Symbol, usize, i64) = arguments.read()?;
        Ok(CallResult::Tensors(split(trace, &x, parts, axis)?))
    })
    .documented("a list of `parts` equal parts along one dimension", "x.split(2)[0]"),
];

#[cfg(test)]
mod tests {
    use super::super::shape::complaint;
    use super::super::testing::{Builder, COUNTED, Case};
    use super::*;

    #[test]
    fn bounds_count_from_the_end_too() {
        assert_eq!(bounds(&[4, 10], 1, 2, Some(-1)).unwrap(), (2, 9, vec![4, 7]));
        assert_eq!(bounds(&[4, 10], 1, -3, None).unwrap(), (7, 10, vec![4, 3]));
        assert_eq!(
            complaint(bounds(&[4, 10], 1, 5, Some(11))),
            "slice: 5..11 of dimension 1 of [4,10]: choose 0 <= start < end <= 10"
        );
        assert!(complaint(bounds(&[4, 10], 1, 5, Some(5))).contains("start < end"));
    }

    #[test]
    fn parts_of_a_dimension_keep_their_elements() {
        let slice = |start, end| {
            move |b: &mut Builder, ids: &[ValueId]| b.node(Slice { x: ids[0], axis: 1, start, end }, &[2, end - start])
        };
        Case::new(&[COUNTED], slice(1, 2)).gives(&[2.0, 5.0]).gradient_checks();
        Case::new(&[COUNTED], slice(0, 2)).gives(&[1.0, 2.0, 4.0, 5.0]).gradient_checks();
        Case::new(&[COUNTED], slice(0, 3)).gives(COUNTED.1).gradient_checks();
    }
}
