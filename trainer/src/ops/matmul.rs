//! `matmul`: matrix products over the last two dimensions.

use serde::Serialize;

use super::binary::factors;
use super::enforced::{Masked, finite, without_negative_zeros};
use super::flow::{Flow, Leak, Traced, product};
use super::reshape::{Reshape, reshape};
use super::shape::{Rule, broadcast};
use super::shard::BatchAxes;
use super::tensors::{DeviceValue, Dims, matrix, rows, unbroadcast};
use super::{
    ArgumentKind, Backward, Builtin, Forward, InputValues, Located, Malformed, Misuse, Operation, Parameter, Symbol,
    Trace,
};
use crate::value::{MAX_RANK, ValueId, elements, show};

/// The product over the last two dimensions; leading ones broadcast. Both ranks are at least 2.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Matmul(pub ValueId, pub ValueId);

/// True when `b` is one matrix for all of `a`: then all rows of `a` are one tall matrix, and one
/// large product replaces a batch of small ones.
fn folds(b: &Dims) -> bool {
    b.iter().take(MAX_RANK - 2).all(|extent| *extent == 1)
}

fn multiplied(a: DeviceValue, b: DeviceValue) -> DeviceValue {
    let ([d0, d1, d2, d3, _], b_dims) = (a.dims(), b.dims());
    if !folds(&b_dims) {
        return a.matmul(b);
    }
    let [.., width] = b_dims;
    rows(a).matmul(matrix(b)).reshape([d0, d1, d2, d3, width])
}

impl Operation for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.0, &mut self.1]
    }

    /// `2 * m * k * n` for each matrix.
    fn flops(&self, at: Located<'_>) -> u64 {
        let inner = at.shape_of(self.0).ok().and_then(|shape| shape.last()).copied().unwrap_or(0);
        elements(at.shape()).saturating_mul(2).saturating_mul(inner as u64)
    }

    fn saved(&self, _at: Located<'_>, flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
        factors(self.0, self.1, flows)
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        let [a, b] = inputs else { return Err(Leak::new(at, "has a wrong number of inputs")) };
        product(a, b, at)
    }

    /// Sequences on the rows of the left or the columns of the right stay there.
    fn works_on_shards(&self, at: Located<'_>, batch: &BatchAxes) -> bool {
        let (left, right) = (batch.of(self.0), batch.of(self.1));
        match batch.of(at.id()) {
            Some(1) => (left, right) == (Some(1), None),
            Some(0) => (left, right) == (None, Some(0)),
            _ => batch.are_aligned(at),
        }
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let (a, b) = inputs.two()?;
        let Some(mask) = run.enforced() else { return Ok(multiplied(a, b)) };
        let rank = |id: ValueId| run.at.shape_of(id).map(<[usize]>::len);
        let (a, b) = match mask.of {
            Masked::Left => (mask.set(a, rank(self.0)?), finite(b)),
            Masked::Right => (finite(a), mask.set(b, rank(self.1)?)),
            Masked::Result => return Err(Malformed("a product whose result is masked")),
        };
        Ok(without_negative_zeros(multiplied(a, b)))
    }

    /// `grad b^T` and `a^T grad`.
    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let Matmul(a, b) = *self;
        let (a_dims, b_dims) = (run.dims_of(a)?, run.dims_of(b)?);
        if folds(&b_dims) {
            let grad = rows(grad);
            if run.flows(a) {
                let b = matrix(run.value(b)?);
                run.add(a, grad.clone().matmul(b.transpose()).reshape(a_dims));
            }
            if run.flows(b) {
                let a = rows(run.value(a)?);
                run.add(b, a.transpose().matmul(grad).reshape(b_dims));
            }
            return Ok(());
        }
        if run.flows(a) {
            let product = grad.clone().matmul(run.value(b)?.transpose());
            run.add(a, unbroadcast(product, a_dims));
        }
        if run.flows(b) {
            let product = run.value(a)?.transpose().matmul(grad);
            run.add(b, unbroadcast(product, b_dims));
        }
        Ok(())
    }
}

/// `[.., m, k] x [.., k, n]` to `[.., m, n]`; leading dimensions broadcast.
fn shape(a: &[usize], b: &[usize]) -> Rule {
    let both = format!("matmul: {} x {}", show(a), show(b));
    let ([lead_a @ .., m, inner_a], [lead_b @ .., inner_b, n]) = (a, b) else {
        return Err(Misuse::new(format!("{both}: both must have at least two dimensions; reshape() the smaller one")));
    };
    if inner_a != inner_b {
        return Err(Misuse::new(format!(
            "{both}: inner dimensions {inner_a} and {inner_b} differ; the last dimension of the left must equal the second to last of the right: transpose() or reshape() one of them"
        )));
    }
    let mut shape = broadcast("matmul", lead_a, lead_b).map_err(|_| {
        Misuse::new(format!("{both}: leading dimensions {} and {} do not broadcast", show(lead_a), show(lead_b)))
    })?;
    shape.extend([*m, *n]);
    Ok(shape)
}

/// The product. A matrix on the right takes all rows of the left at once: `[b,t,c] x [c,n]` is
/// recorded as `[b*t,c] x [c,n]`.
pub(super) fn matmul(trace: &dyn Trace, a: &Symbol, b: &Symbol) -> Rule<Symbol> {
    a.float("matmul")?;
    b.float("matmul")?;
    let shape = shape(&a.shape, &b.shape)?;
    if let ([rows @ .., inner], [_, _]) = (a.shape.as_slice(), b.shape.as_slice())
        && rows.len() > 1
    {
        let rows = i64::try_from(elements(rows)).unwrap_or(i64::MAX);
        let flat = matmul(trace, &reshape(trace, a, &[rows, *inner as i64])?, b)?;
        return trace.make(Reshape(flat.id), shape);
    }
    trace.make(Matmul(a.id, b.id), shape)
}

const AB: &[Parameter] =
    &[Parameter::new("a", ArgumentKind::Tensor).by_position(), Parameter::new("b", ArgumentKind::Tensor).by_position()];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("matmul", AB, |trace, arguments| {
    let (a, b): (Symbol, Symbol) = arguments.read()?;
    Ok(matmul(trace, &a, &b)?.into())
})
.documented(
    "the matrix product of `[.., m, k]` and `[.., k, n]`: `[.., m, n]`. Leading dimensions broadcast",
    "matmul(x, x.transpose())",
)];

#[cfg(test)]
mod tests {
    use super::super::shape::complaint;
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn shape_rule_checks_inner_and_leading_dimensions() {
        assert_eq!(shape(&[8, 64, 96], &[96, 10]).unwrap(), [8, 64, 10]);
        assert_eq!(shape(&[2, 4, 5, 6], &[2, 1, 6, 7]).unwrap(), [2, 4, 5, 7]);
        assert_eq!(
            complaint(shape(&[8, 64, 96], &[128, 96])),
            "matmul: [8,64,96] x [128,96]: inner dimensions 96 and 128 differ; the last dimension of the left must equal the second to last of the right: transpose() or reshape() one of them"
        );
        assert_eq!(
            complaint(shape(&[2, 5, 6], &[3, 6, 7])),
            "matmul: [2,5,6] x [3,6,7]: leading dimensions [2] and [3] do not broadcast"
        );
        assert!(complaint(shape(&[6], &[6, 7])).contains("at least two dimensions"));
    }

    #[test]
    fn products_are_right_plain_folded_and_batched() {
        let a: (&[usize], &[f32]) = (&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let b: (&[usize], &[f32]) = (&[3, 2], &[0.5, -1.0, 0.25, 2.0, 1.0, 0.0]);
        Case::new(&[a, b], |g, ids| g.node(Matmul(ids[0], ids[1]), &[2, 2]))
            .gives(&[4.0, 3.0, 9.25, 6.0])
            .gradient_checks();
        // One matrix for a batch of two, from the right and from the left.
        let batch: (&[usize], &[f32]) = (&[2, 1, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        Case::new(&[batch, b], |g, ids| g.node(Matmul(ids[0], ids[1]), &[2, 1, 2]))
            .gives(&[4.0, 3.0, 9.25, 6.0])
            .gradient_checks();
        let tall: (&[usize], &[f32]) = (&[2, 3, 1], &[1.0, 0.0, 1.0, 2.0, 1.0, 0.0]);
        Case::new(&[a, tall], |g, ids| g.node(Matmul(ids[0], ids[1]), &[2, 2, 1]))
            .gives(&[4.0, 10.0, 4.0, 13.0])
            .gradient_checks();
        // A matrix for each of the batch.
        Case::new(&[batch, tall], |g, ids| g.node(Matmul(ids[0], ids[1]), &[2, 1, 1]))
            .gives(&[4.0, 13.0])
            .gradient_checks();
    }
}
