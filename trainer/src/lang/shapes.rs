//! The shape rule of each operation: from the operands' shapes to the result's, or to a sentence
//! that names the shapes and says what to do.
//!
//! Pure functions over extents. They allocate no tensor and know nothing of scripts or lines:
//! the interpreter adds the line when the complaint reaches it.

use super::error::Misuse;
use crate::graph::Shape;

type Rule<T = Shape> = Result<T, Misuse>;

/// A shape as the messages show it: `[8,64,96]`.
pub(super) fn show(shape: &[usize]) -> String {
    let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", extents.join(","))
}

/// Number of elements, saturating: only ever compared with limits.
pub(super) fn elements(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |product, extent| product.saturating_mul(*extent as u64))
}

/// Resolves an axis that may count from the end (`-1` is the last) against a rank.
pub(super) fn axis(what: &str, axis: i64, shape: &[usize]) -> Rule<usize> {
    let rank = shape.len() as i64;
    let resolved = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&resolved) {
        return Ok(resolved as usize);
    }
    Err(Misuse::new(format!(
        "{what}: axis {axis} does not exist in {}, which has rank {rank}: use {}..{}",
        show(shape),
        -rank,
        rank - 1
    )))
}

/// NumPy's broadcasting: aligned at the last dimension, extents equal or 1.
pub(super) fn broadcast(what: &str, a: &[usize], b: &[usize]) -> Rule {
    let rank = a.len().max(b.len());
    let extent = |shape: &[usize], from_end: usize| {
        shape.len().checked_sub(from_end + 1).and_then(|i| shape.get(i)).copied().unwrap_or(1)
    };
    let mut joined = vec![0; rank];
    for (from_end, out) in joined.iter_mut().rev().enumerate() {
        let (x, y) = (extent(a, from_end), extent(b, from_end));
        *out = match (x, y) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            (x, y) => {
                return Err(Misuse::new(format!(
                    "{what}: {} and {} do not broadcast: counted from the last dimension, number {} is {x} against {y}; extents must be equal or 1: reshape() or slice() one of them",
                    show(a),
                    show(b),
                    from_end + 1
                )));
            }
        };
    }
    Ok(joined)
}

/// `[.., m, k] x [.., k, n]` to `[.., m, n]`; leading dimensions broadcast.
pub(super) fn matmul(a: &[usize], b: &[usize]) -> Rule {
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

/// The wanted shape, of which one extent may be -1 and is worked out from the rest.
pub(super) fn reshape(from: &[usize], wanted: &[i64]) -> Rule {
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

/// The order of dimensions, checked to be a permutation, and the shape it gives.
pub(super) fn permute(from: &[usize], axes: &[i64]) -> Rule<(Vec<usize>, Shape)> {
    let order = axes.iter().map(|a| axis("permute", *a, from)).collect::<Rule<Vec<usize>>>()?;
    let mut seen = order.clone();
    seen.sort_unstable();
    if seen.len() != from.len() || seen.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Misuse::new(format!(
            "permute: {} needs each of its {} axes exactly once, got {}",
            show(from),
            from.len(),
            show(&order)
        )));
    }
    let shape = order.iter().filter_map(|i| from.get(*i)).copied().collect();
    Ok((order, shape))
}

/// Elements `start..end` of one dimension; negative bounds count from its end.
pub(super) fn slice(from: &[usize], along: usize, start: i64, end: Option<i64>) -> Rule<(usize, usize, Shape)> {
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

/// Joined along one dimension; all others must agree.
pub(super) fn concat(shapes: &[&[usize]], along: usize) -> Rule {
    let Some((first, rest)) = shapes.split_first() else {
        return Err(Misuse::new("concat: the list is empty; give at least one tensor"));
    };
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

/// The same shape with one extent set to 1.
pub(super) fn reduced(from: &[usize], along: usize) -> Shape {
    from.iter().enumerate().map(|(i, extent)| if i == along { 1 } else { *extent }).collect()
}

/// The shape without one dimension.
pub(super) fn without(from: &[usize], along: usize) -> Shape {
    from.iter().enumerate().filter(|(i, _)| *i != along).map(|(_, extent)| *extent).collect()
}

/// Queries and keys in the last two dimensions, equally many.
pub(super) fn causal_mask(shape: &[usize]) -> Rule<()> {
    match shape {
        [.., queries, keys] if queries == keys => Ok(()),
        _ => Err(Misuse::new(format!("causal_mask: {} must end in two equal extents (queries, keys)", show(shape)))),
    }
}

/// `[batch, heads, context, width]` with an even width.
pub(super) fn rope(shape: &[usize]) -> Rule<()> {
    match shape {
        [_, _, _, width] if width % 2 == 0 => Ok(()),
        [_, _, _, width] => Err(Misuse::new(format!(
            "rope: {} has width {width}, which is odd; the width of a head must be even",
            show(shape)
        ))),
        _ => Err(Misuse::new(format!(
            "rope: {} must be [batch, heads, context, width]: split_heads() first",
            show(shape)
        ))),
    }
}

/// Width of the rows that a table of bytes holds.
pub(super) fn embedding(table: &[usize]) -> Rule<usize> {
    match table {
        [256, width] => Ok(*width),
        _ => Err(Misuse::new(format!(
            "embedding: the table is {}; tokens are bytes, so it must be [256, width]",
            show(table)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint<T: std::fmt::Debug>(result: Rule<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn broadcast_aligns_at_the_last_dimension() {
        assert_eq!(broadcast("+", &[8, 64, 96], &[96]).unwrap(), [8, 64, 96]);
        assert_eq!(broadcast("+", &[8, 1, 96], &[64, 1]).unwrap(), [8, 64, 96]);
        assert_eq!(broadcast("+", &[], &[3]).unwrap(), [3]);
        assert_eq!(
            complaint(broadcast("+", &[8, 64, 96], &[95])),
            "+: [8,64,96] and [95] do not broadcast: counted from the last dimension, number 1 is 96 against 95; extents must be equal or 1: reshape() or slice() one of them"
        );
    }

    #[test]
    fn matmul_checks_inner_and_leading_dimensions() {
        assert_eq!(matmul(&[8, 64, 96], &[96, 10]).unwrap(), [8, 64, 10]);
        assert_eq!(matmul(&[2, 4, 5, 6], &[2, 1, 6, 7]).unwrap(), [2, 4, 5, 7]);
        assert_eq!(
            complaint(matmul(&[8, 64, 96], &[128, 96])),
            "matmul: [8,64,96] x [128,96]: inner dimensions 96 and 128 differ; the last dimension of the left must equal the second to last of the right: transpose() or reshape() one of them"
        );
        assert_eq!(
            complaint(matmul(&[2, 5, 6], &[3, 6, 7])),
            "matmul: [2,5,6] x [3,6,7]: leading dimensions [2] and [3] do not broadcast"
        );
        assert!(complaint(matmul(&[6], &[6, 7])).contains("at least two dimensions"));
    }

    #[test]
    fn reshape_infers_one_extent() {
        assert_eq!(reshape(&[2, 3, 4], &[6, -1]).unwrap(), [6, 4]);
        assert_eq!(reshape(&[2, 3], &[3, 2]).unwrap(), [3, 2]);
        assert_eq!(
            complaint(reshape(&[2, 3], &[4, 2])),
            "reshape: [2,3] to [4,2]: 6 elements cannot become 8; the product of the extents must stay 6"
        );
        assert!(complaint(reshape(&[2, 3], &[4, -1])).contains("a multiple of 4"));
        assert!(complaint(reshape(&[2, 3], &[-1, -1])).contains("only one extent may be -1"));
        assert!(complaint(reshape(&[2, 3], &[0, 6])).contains("extent 0 is not allowed"));
        assert!(complaint(reshape(&[2], &[i64::MAX, i64::MAX])).contains("cannot become"));
    }

    #[test]
    fn permute_wants_each_axis_once() {
        assert_eq!(permute(&[2, 3, 4], &[0, 2, -2]).unwrap(), (vec![0, 2, 1], vec![2, 4, 3]));
        assert_eq!(
            complaint(permute(&[2, 3], &[0, 0])),
            "permute: [2,3] needs each of its 2 axes exactly once, got [0,0]"
        );
        assert!(complaint(permute(&[2, 3], &[0])).contains("exactly once"));
        assert!(complaint(permute(&[2, 3], &[0, 2])).contains("axis 2 does not exist in [2,3]"));
    }

    #[test]
    fn slice_counts_from_the_end_too() {
        assert_eq!(slice(&[4, 10], 1, 2, Some(-1)).unwrap(), (2, 9, vec![4, 7]));
        assert_eq!(slice(&[4, 10], 1, -3, None).unwrap(), (7, 10, vec![4, 3]));
        assert_eq!(
            complaint(slice(&[4, 10], 1, 5, Some(11))),
            "slice: 5..11 of dimension 1 of [4,10]: choose 0 <= start < end <= 10"
        );
        assert!(complaint(slice(&[4, 10], 1, 5, Some(5))).contains("start < end"));
    }

    #[test]
    fn concat_adds_up_one_dimension() {
        assert_eq!(concat(&[&[2, 3], &[2, 5]], 1).unwrap(), [2, 8]);
        assert_eq!(
            complaint(concat(&[&[2, 3], &[4, 5]], 1)),
            "concat: [2,3] and [4,5] differ outside axis 1; all other extents must agree"
        );
        assert!(complaint(concat(&[], 0)).contains("list is empty"));
    }

    #[test]
    fn reductions_keep_or_drop_the_dimension() {
        assert_eq!(reduced(&[2, 3, 4], 1), [2, 1, 4]);
        assert_eq!(without(&[2, 3, 4], 1), [2, 4]);
    }

    #[test]
    fn layers_say_which_shape_they_need() {
        assert!(causal_mask(&[2, 4, 8, 8]).is_ok());
        assert!(complaint(causal_mask(&[2, 8, 9])).contains("two equal extents"));
        assert!(rope(&[2, 4, 8, 16]).is_ok());
        assert!(complaint(rope(&[2, 4, 8, 15])).contains("must be even"));
        assert!(complaint(rope(&[2, 8, 16])).contains("split_heads() first"));
        assert_eq!(embedding(&[256, 32]).unwrap(), 32);
        assert!(complaint(embedding(&[255, 32])).contains("must be [256, width]"));
    }
}
