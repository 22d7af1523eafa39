//! `causal_mask`: no attention to later positions.

use burn::tensor::Device;
use serde::Serialize;

use super::enforced::MASKED;
use super::flow::{Flow, Traced, first};
use super::shape::Rule;
use super::shard::BatchAxes;
use super::tensors::{DeviceValue, upload};
use super::{
    ArgumentKind, Backward, Builtin, ConstantPair, Forward, InputValues, Located, Malformed, Misuse, Operation,
    Parameter, Symbol, TableKey, Trace,
};
use crate::value::{ValueId, show};

/// The last two dimensions are queries and keys (`[.., t, t]`): where key > query, minus infinity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CausalMask(pub ValueId);

impl Operation for CausalMask {
    fn name(&self) -> &'static str {
        "causal_mask"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.0]
    }

    fn table(&self, at: Located<'_>) -> Option<TableKey> {
        let t = at.shape().last().copied().unwrap_or(1);
        Some(TableKey { operation: self.name(), rows: t, columns: t, number: 0 })
    }

    /// Of shape `[t, t]`: 0 and [`MASKED`] to add to the scores, 1 and 0 to multiply gradients by.
    fn make_table(&self, key: TableKey, device: &Device) -> Option<ConstantPair> {
        let t = key.rows;
        let allowed = |i: usize| i % t <= i / t;
        let fill = |yes: f32, no: f32| (0..t * t).map(|i| if allowed(i) { yes } else { no }).collect();
        let dims = [1, 1, 1, t, t];
        Some((upload(fill(0.0, MASKED), dims, device), upload(fill(1.0, 0.0), dims, device)))
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at)?.masked(at)
    }

    /// The last two dimensions are counted.
    fn works_on_shards(&self, at: Located<'_>, batch: &BatchAxes) -> bool {
        batch.are_aligned(at) && batch.of(at.id()).is_none_or(|axis| axis >= 2)
    }

    /// In evaluation, a later key is masked whatever its score: a sum with an infinite or huge score
    /// would let it through.
    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let (scores, (masked, allowed)) = (inputs.one()?, run.table()?);
        if run.is_training() {
            return Ok(scores + masked);
        }
        let dims = scores.dims();
        Ok(scores.mask_fill(allowed.lower_elem(0.5).expand(dims), MASKED))
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let (_, allowed) = run.table()?;
        run.add(self.0, grad * allowed);
        Ok(())
    }
}

/// Queries and keys in the last two dimensions, equally many.
fn check(shape: &[usize]) -> Rule<()> {
    match shape {
        [.., queries, keys] if queries == keys => Ok(()),
        _ => Err(Misuse::new(format!("causal_mask: {} must end in two equal extents (queries, keys)", show(shape)))),
    }
}

pub(super) fn causal_mask(trace: &dyn Trace, scores: &Symbol) -> Rule<Symbol> {
    check(&scores.shape)?;
    scores.float("causal_mask")?;
    trace.make(CausalMask(scores.id), scores.shape.clone())
}

pub(super) const BUILTINS: &[Builtin] =
    &[Builtin::function("causal_mask", &[Parameter::new("scores", ArgumentKind::Tensor)], |trace, arguments| {
        let (scores,): (Symbol,) = arguments.read()?;
        Ok(causal_mask(trace, &scores)?.into())
    })
    .documented(
        "`[.., t, t]` with minus infinity where the key (last dimension) is later than the query (the one before)",
        "causal_mask(matmul(x, x.transpose()))",
    )];

#[cfg(test)]
mod tests {
    use super::super::Softmax;
    use super::super::shape::complaint;
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn shape_rule_wants_as_many_keys_as_queries() {
        assert!(check(&[2, 4, 8, 8]).is_ok());
        assert!(complaint(check(&[2, 8, 9])).contains("two equal extents"));
    }

    #[test]
    fn masked_scores_vanish_in_a_softmax() {
        Case::new(&[(&[2, 2], &[0.0, 9.0, 1.0, 1.0])], |b, ids| {
            let masked = b.node(CausalMask(ids[0]), &[2, 2]);
            b.node(Softmax(masked, 1), &[2, 2])
        })
        .gives(&[1.0, 0.0, 0.5, 0.5])
        .gradient_checks();
    }
}
