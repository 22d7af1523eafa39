//! The flow of a matrix product.

use super::{Enforced, Fill, Flow, Ids, Mask, Masked, Traced};
use crate::ops::Located;

/// The product of `[.., m, k]` and `[.., k, n]`, which is the sum along `k` of the elementwise product
/// of `[.., m, k, 1]` and `[.., 1, k, n]`.
pub(crate) fn product(a: &Flow, b: &Flow, at: Located<'_>) -> Traced {
    let rank = at.shape().len() + 1;
    let mut ids = Ids::of(at);
    let (mask_a, mask_b) = (factor_mask(a, a.axes.len().checked_sub(1)), factor_mask(b, b.axes.len().checked_sub(2)));
    // The first operand whose masked keys are summed over. Its axes serve to enforce the mask.
    let (zeros, of) = match (&mask_a, &mask_b) {
        (Some((_, axes)), _) => (Some(*axes), Masked::Left),
        (None, Some((_, axes))) => (Some(*axes), Masked::Right),
        _ => (None, Masked::Left),
    };
    let mut left = Flow { mask: mask_a.map(|(mask, _)| mask).or_else(|| a.mask.clone()), ..a.clone() };
    left.axes.push(Vec::new());
    let right_mask = mask_b.map(|(mask, _)| mask).or_else(|| b.mask.clone());
    let mut right = Flow { mask: right_mask, ..b.clone() };
    let columns = right.axes.len().saturating_sub(2);
    right.axes.insert(columns, Vec::new());
    let (left, right) = left.aligned(right.with_new_ids(&mut ids), rank, &mut ids, at)?;
    let (mask, other) = match of {
        Masked::Right => (right.mask.clone(), left.mask.clone()),
        _ => (left.mask.clone(), right.mask.clone()),
    };
    let mut flow = left.with_terms_of(&right);
    let inner = rank.saturating_sub(2);
    let summed: Vec<u64> = flow.axis(inner).iter().map(|factor| factor.id).collect();
    let over_keys = |mask: &Mask| summed == [mask.keys] && mask.fill == Fill::Zero;
    match (mask.clone().filter(over_keys), zeros) {
        (Some(mask), Some((queries, keys))) => {
            flow.leave_out(&mask, at);
            flow.enforced = Some(Enforced { of, queries, keys, last: mask.last.clone(), fill: Fill::Zero });
        }
        // Zeros of a mask over other axes stay zeros in the sum.
        _ => {
            let apart = |mask: &Mask| !summed.contains(&mask.keys) && !summed.contains(&mask.queries);
            flow.mask = mask.or(other).filter(|mask| mask.fill == Fill::Zero && apart(mask));
        }
    }
    let enforced = flow.enforced.take();
    let mut joined = flow.reduced_along(inner, at)?;
    if inner < joined.axes.len() {
        joined.axes.remove(inner);
    }
    joined.enforced = enforced;
    Ok(joined)
}

/// The mask of an operand whose inner axis is nothing but masked keys, and the mask's axes.
fn factor_mask(flow: &Flow, inner: Option<usize>) -> Option<(Mask, (usize, usize))> {
    let usable = |mask: Mask| {
        let axes = flow.mask_axes(&mask)?;
        (mask.fill == Fill::Zero && Some(axes.1) == inner).then_some((mask, axes))
    };
    let of_numbers = || flow.mask_of_numbers(Fill::Zero, 1.0, inner).and_then(usable);
    flow.mask.clone().and_then(usable).or_else(of_numbers)
}
