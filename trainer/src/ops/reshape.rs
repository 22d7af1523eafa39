//! `x.reshape`: the same elements in another shape.

use serde::Serialize;

use super::flow::{Flow, Traced, first};
use super::shape::Rule;
use super::shard::BatchAxes;
use super::tensors::DeviceValue;
use super::{
    ArgumentKind, Backward, Builtin, Forward, InputValues, Located, Malformed, Misuse, Operation, Parameter, Symbol,
    Trace,
};
use crate::value::{Shape, ValueId, elements, show};

/// The same elements in another shape, which is the node's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reshape(pub ValueId);

impl Operation for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.0]
    }

    fn flops(&self, _at: Located<'_>) -> u64 {
        0
    }

    fn allocates(&self) -> bool {
        false
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at)?.reshaped(at)
    }

    fn works_on_shards(&self, at: Located<'_>, batch: &BatchAxes) -> bool {
        batch.follow(self.0, at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(inputs.one()?.reshape(run.dims()))
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let dims = run.dims_of(self.0)?;
        run.add(self.0, grad.reshape(dims));
        Ok(())
    }
}

/// The wanted shape, of which one extent may be -1 and follows from the rest.
fn shape(from: &[usize], wanted: &[i64]) -> Rule {
    let shown: Vec<String> = wanted.iter().map(i64::to_string).collect();
    let both = format!("reshape: {} to [{}]", show(from), shown.join(","));
    let total = elements(from);
    if wanted.iter().filter(|extent| **extent == -1).count() > 1 {
        return Err(Misuse::new(format!("{both}: only one extent may be -1")));
    }
    if let Some(bad) = wanted.iter().find(|extent| **extent < 1 && **extent != -1) {
        return Err(Misuse::new(format!(
            "{both}: extent {bad} is not allowed; extents are at least 1, or one of them -1"
        )));
    }
    let known = wanted
        .iter()
        .filter(|extent| **extent > 0)
        .fold(1_u64, |product, extent| product.saturating_mul(*extent as u64));
    let inferred = total / known;
    let shape: Shape =
        wanted.iter().map(|extent| if *extent == -1 { inferred as usize } else { *extent as usize }).collect();
    if elements(&shape) != total {
        return Err(Misuse::new(format!(
            "{both}: {total} elements cannot become {}; the product of the extents must stay {total}",
            if wanted.contains(&-1) { format!("a multiple of {known}") } else { known.to_string() }
        )));
    }
    Ok(shape)
}

pub(super) fn reshape(trace: &dyn Trace, x: &Symbol, wanted: &[i64]) -> Rule<Symbol> {
    x.float("reshape")?;
    trace.make(Reshape(x.id), shape(&x.shape, wanted)?)
}

pub(super) const BUILTINS: &[Builtin] = &[Builtin::method(
    "reshape",
    &[Parameter::new("shape", ArgumentKind::Extents).by_position()],
    |trace, arguments| {
        let (x, wanted): (Symbol, Vec<i64>) = arguments.read()?;
        Ok(reshape(trace, &x, &wanted)?.into())
    },
)
.documented(
    "the same elements, in the same order, in another shape. One extent may be -1; it follows from the others",
    "x.reshape([8, -1])",
)];

#[cfg(test)]
mod tests {
    use super::super::shape::complaint;
    use super::super::testing::{COUNTED, Case};
    use super::*;

    #[test]
    fn shape_rule_infers_one_extent() {
        assert_eq!(shape(&[2, 3, 4], &[6, -1]).unwrap(), [6, 4]);
        assert_eq!(shape(&[2, 3], &[3, 2]).unwrap(), [3, 2]);
        assert_eq!(
            complaint(shape(&[2, 3], &[4, 2])),
            "reshape: [2,3] to [4,2]: 6 elements cannot become 8; the product of the extents must stay 6"
        );
        assert!(complaint(shape(&[2, 3], &[4, -1])).contains("a multiple of 4"));
        assert!(complaint(shape(&[2, 3], &[-1, -1])).contains("only one extent may be -1"));
        assert!(complaint(shape(&[2, 3], &[0, 6])).contains("extent 0 is not allowed"));
        assert!(complaint(shape(&[2], &[i64::MAX, i64::MAX])).contains("cannot become"));
    }

    #[test]
    fn reshape_keeps_the_order_of_elements() {
        Case::new(&[COUNTED], |b, ids| b.node(Reshape(ids[0]), &[3, 1, 2])).gives(COUNTED.1).gradient_checks();
    }
}
